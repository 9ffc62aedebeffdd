"""HPSv3 (arXiv:2508.03789): Qwen2-VL-7B with a small network that reads a normal distribution of people's preference, its mean
and the logarithm of its deviation, from the token <|Reward|> of its question.

Published: the weights (MizzenAI/HPSv3), pictures of at most 256 tokens, and the mean as the score. The question that it was
trained with is its authors'; the one here is in our words. Put theirs into a `question.txt` beside the weights, with {prompt}
where the prompt belongs and <|Reward|> where the rating does, to have their scores.
"""

from typing import Any

import torch
from torch import Tensor, nn

from vgrpo.core.images import to_pil
from vgrpo.core.types import Prompt
from vgrpo.models.precision import device_of
from vgrpo.rewards.downloads import beside, fetch, fetch_file, load_state, read_state, renamed
from vgrpo.rewards.vlm.qwen2_vl import OLD_NAMES, Reader, cut, filled, network, own_question

HUB, FILE, BASE = "MizzenAI/HPSv3", "HPSv3.safetensors", "Qwen/Qwen2-VL-7B-Instruct"
MARK = "<|Reward|>"
AREA = 256 * 28**2  # pixels, of every picture
BATCH = 8
QUESTION = """An image was generated for this text: {prompt}
Rate from 0 to 10 how much people would prefer it, by how good it looks (sound shapes, sharpness, detail, beauty) and how well
it shows what the text says (things, their number and attributes, style, setting).
Rating: <|Reward|>
"""


class HPSv3:
    """Images [B, 3, H, W] and prompts to the mean preference [B], about -5 to 15.

    `source` is a folder with HPSv3.safetensors and, if it holds a config.json too, Qwen2-VL's config and tokenizer.
    """

    __name__ = "hpsv3"

    def __init__(self, source: str | None, device: str) -> None:
        from transformers import AutoTokenizer

        path = fetch_file(source or HUB, (FILE,), "hpsv3")
        state = read_state(path)
        base = beside(source, "config.json", BASE)
        head = score_head(state)
        load_state(
            head,
            {key.removeprefix("rm_head."): value.float() for key, value in state.items() if "rm_head." in key},
            "hpsv3",
            path,
        )
        tokenizer: Any = fetch(AutoTokenizer, base, "hpsv3", "7 MB")
        self.device = device_of(device)
        self.reader = Reader(
            network(renamed(state, OLD_NAMES), base, "hpsv3", path), head, tokenizer, (MARK,), "image", self.device
        )
        self.model, self.head = self.reader.model, head
        self.question = own_question(source, QUESTION, (MARK,), "hpsv3")

    def __call__(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        return self.distribution(images, prompts)[:, 0]

    def distribution(self, images: Tensor, prompts: list[Prompt]) -> Tensor:
        """Mean and deviation of people's preference, [B, 2]."""
        texts, parts = [filled(self.question, prompt.text) for prompt in prompts], []
        for start in range(0, len(images), BATCH):
            pictures = [cut([to_pil(image)], AREA, AREA) for image in images[start : start + BATCH]]
            parts.append(self.reader(pictures, texts[start : start + BATCH])[:, 0])
        mean, log_deviation = torch.cat(parts).unbind(1)
        return torch.stack([mean, log_deviation.exp()], 1)


def score_head(state: dict[str, Tensor]) -> nn.Sequential:
    """The published head, as wide as its weights are."""
    sizes = [state[f"rm_head.{place}.weight"].shape for place in (0, 3, 5) if f"rm_head.{place}.weight" in state]
    if len(sizes) != 3:
        raise ValueError(
            f"reward hpsv3: the weights hold no rm_head.0, rm_head.3 and rm_head.5; are they the published {FILE}?"
        )
    (first, width), (second, _), (outputs, _) = sizes
    layers = (
        nn.Linear(width, first),
        nn.ReLU(),
        nn.Dropout(0.05),
        nn.Linear(first, second),
        nn.ReLU(),
        nn.Linear(second, outputs),
    )
    return nn.Sequential(*layers)


def hpsv3(source: str | None, device: str) -> HPSv3:
    return HPSv3(source, device)
