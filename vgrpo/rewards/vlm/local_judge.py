"""A vision-language model on this machine as a judge: how probable `Yes` is as its answer (VQAScore, arXiv:2404.01291).

Any model that transformers loads as AutoModelForImageTextToText with a chat template.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgrpo.core.images import open_picture, to_pil
from vgrpo.core.types import Prompt
from vgrpo.models.hub import hub_errors
from vgrpo.models.precision import device_of, on_bf16_gpu
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.rewards.served.yes_or_no import word_of
from vgrpo.support.checks import require
from vgrpo.support.settings import from_dict
from vgrpo.support.textfiles import read_yaml


@dataclass(frozen=True, kw_only=True)
class LocalJudgeSettings:
    """A model, and a question of yes or no."""

    model: str
    """A folder, or ORG/NAME on the hub."""
    question: str
    pixels: int = 512
    """Side of the square that it sees."""
    batch_size: int = 8
    """Images at once."""

    def __post_init__(self) -> None:
        require(bool(self.model.strip()), "local_judge model: name a folder, or ORG/NAME on the hub")
        require("{prompt}" in self.question, "local_judge question: must hold {prompt}, which stands for the image's prompt")
        for name, most in {"pixels": 4096, "batch_size": 4096}.items():
            value = getattr(self, name)
            require(1 <= value <= most, f"local_judge {name}={value}: must lie in 1 to {most}")


class LocalJudge:
    """Images [B, 3, H, W] and prompts to P(yes) / (P(yes) + P(no)) [B], over all spellings that are one token."""

    __name__ = "local_judge"

    def __init__(self, settings: LocalJudgeSettings, device: str) -> None:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.settings, self.device = settings, device_of(device)
        dtype = torch.bfloat16 if on_bf16_gpu(self.device) else torch.float32
        try:
            with without_loading_chatter():
                self.processor: Any = AutoProcessor.from_pretrained(settings.model)
                model: Any = AutoModelForImageTextToText.from_pretrained(settings.model)
        except hub_errors() as error:
            raise FileNotFoundError(
                f"reward local_judge: no model at {settings.model}, neither as a folder nor in the hub's cache, and the hub "
                f"did not answer; with a network run `hf download {settings.model}`"
            ) from error
        self.model = model.to(self.device, dtype).eval().requires_grad_(False)
        if not getattr(self.processor, "chat_template", None):
            raise ValueError(f"reward local_judge: {settings.model} has no chat template; take an instruction-tuned model")
        self.processor.tokenizer.padding_side = "left"  # the answer's first word comes after the last token of each
        vocabulary = self.processor.tokenizer.get_vocab()
        self.words = {
            word: torch.tensor(
                sorted(index for token, index in vocabulary.items() if word_of(token) == word), device=self.device
            )
            for word in ("yes", "no")
        }
        if not all(len(words) for words in self.words.values()):
            raise ValueError(f"reward local_judge: the tokenizer of {settings.model} has no token for Yes and No; take another")

    @torch.no_grad()
    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        size = self.settings.batch_size
        parts = [self._score(images[at : at + size], prompts[at : at + size]) for at in range(0, len(images), size)]
        return torch.cat(parts)

    def _score(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        pictures = [self._pictures(image, prompt) for image, prompt in zip(images, prompts, strict=True)]
        texts = [self._asked(prompt.text, len(shown)) for prompt, shown in zip(prompts, pictures, strict=True)]
        inputs = self.processor(text=texts, images=pictures, padding=True, return_tensors="pt").to(self.device)
        for name, value in inputs.items():
            inputs[name] = value.to(self.model.dtype) if value.is_floating_point() else value
        logits = self.model(**inputs, logits_to_keep=1).logits[:, -1].float()
        yes, no = (logits[:, self.words[word]].logsumexp(1) for word in ("yes", "no"))
        return (yes - no).sigmoid()

    def _pictures(self, image: Tensor, prompt: Prompt) -> list[Image.Image]:
        """A source image comes first."""
        shown = [to_pil(image)] if prompt.image is None else [open_picture(prompt.image), to_pil(image)]
        return [picture.resize((self.settings.pixels,) * 2, Image.Resampling.BICUBIC) for picture in shown]

    def _asked(self, prompt: str, num_pictures: int) -> str:
        text = {"type": "text", "text": self.settings.question.replace("{prompt}", prompt)}
        message = [{"role": "user", "content": [{"type": "image"}] * num_pictures + [text]}]
        chat: str = self.processor.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return chat


def local_judge(source: str | None, device: str) -> LocalJudge:
    """From a YAML file. Raises ValueError or FileNotFoundError for a bad one, or for weights that are not there."""
    if source is None or not Path(source).is_file():
        kind = ValueError if source is None else FileNotFoundError
        raise kind(
            f"reward local_judge: no file {source or ''} of settings, as --reward local_judge=judge.yaml; see docs/rewards.md"
        )
    values = read_yaml(Path(source))
    missing = [name for name in ("model", "question") if name not in values]
    require(not missing, f"reward local_judge: {source} lacks {', '.join(missing)}")
    return LocalJudge(from_dict(LocalJudgeSettings, values, "local_judge "), device)
