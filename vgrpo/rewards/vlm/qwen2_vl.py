"""Qwen2-VL (arXiv:2409.12191) as published reward models use it: it reads pictures and a question, and a head scores what it
has made of some marked tokens of the question.

Needs no torchvision: pictures are cut into patches here. Positions are counted along the sequence, as those models were
trained; the language model's own are in three dimensions.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor, nn

from vgrpo.core.images import from_pil
from vgrpo.models.precision import on_bf16_gpu
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.rewards.downloads import fetch
from vgrpo.support.textfiles import read_text

PATCH, MERGE, FRAMES = 14, 2, 2  # pixels of a patch's side, patches of a token's side, frames that share a patch
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # of CLIP
OLD_NAMES = {r"visual\.(.*)": r"visual.\1", r"model\.(.*)": r"language_model.\1"}
"""Of weights that were saved before transformers 4.52, as those of the reward models were; the rest is the head's."""


class Patches(NamedTuple):
    values: Tensor  # [N, 3 FRAMES PATCH^2]
    grid: tuple[int, int, int]  # patches in time, height and width

    @property
    def num_tokens(self) -> int:
        return math.prod(self.grid) // MERGE**2


def fitting_sides(height: int, width: int, least: int, most: int) -> tuple[int, int]:
    """Sides in multiples of a token's, with an area in `least` to `most` pixels, and nearly the same shape."""
    step = PATCH * MERGE
    sides = max(step, round(height / step) * step), max(step, round(width / step) * step)
    if math.prod(sides) > most:
        factor = math.sqrt(height * width / most)
        return max(step, int(height / factor / step) * step), max(step, int(width / factor / step) * step)
    if math.prod(sides) < least:
        factor = math.sqrt(least / (height * width))
        return math.ceil(height * factor / step) * step, math.ceil(width * factor / step) * step
    return sides


def cut(frames: Sequence[Image.Image], least: int, most: int) -> Patches:
    """One picture, or the frames of a video, in patches; an odd last frame stands twice."""
    height, width = fitting_sides(frames[0].height, frames[0].width, least, most)
    scaled = [from_pil(frame.resize((width, height), Image.Resampling.BICUBIC)) for frame in frames]
    pixels = torch.stack([*scaled, *scaled[-1:] * (-len(scaled) % FRAMES)])
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    grid = len(pixels) // FRAMES, height // PATCH, width // PATCH
    cells = ((pixels - mean) / std).reshape(grid[0], FRAMES, 3, grid[1] // MERGE, MERGE, PATCH, grid[2] // MERGE, MERGE, PATCH)
    return Patches(cells.permute(0, 3, 6, 4, 7, 2, 1, 5, 8).reshape(math.prod(grid), -1), grid)


def filled(question: str, prompt: str) -> str:
    """The question about one prompt, whose text can be no mark and no picture."""
    return question.replace("{prompt}", prompt.replace("<|", "< |"))


def own_question(source: str | None, default: str, marks: tuple[str, ...], reward: str) -> str:
    """The text of `question.txt` in a folder of weights, or the default. Raises ValueError for one without its places."""
    path = Path(source or "") / "question.txt"
    if source is None or not path.is_file():
        return default
    question = read_text(path)
    if "{prompt}" not in question or any(question.count(mark) != 1 for mark in marks):
        raise ValueError(
            f"reward {reward}: {path} must hold {{prompt}}, and once each {', '.join(marks)}, where ratings belong"
        )
    return question


def without_peft(state: dict[str, Tensor], scale: float) -> dict[str, Tensor]:
    """The weights of a network that peft had wrapped, by the network's own names, its LoRA merged: W + scale B A."""
    state = {name.removeprefix("base_model.model."): value for name, value in state.items() if "original_module." not in name}
    state = {name.replace("modules_to_save.default.", ""): value for name, value in state.items()}
    plain = {name.replace("base_layer.", ""): value for name, value in state.items() if ".lora_" not in name}
    for name, down in state.items():
        layer, found, rest = name.partition(".lora_A.default")
        if found:
            change = scale * state[f"{layer}.lora_B.default{rest}"].float() @ down.float()
            weight = plain[f"{layer}.weight"]
            plain[f"{layer}.weight"] = (weight.float() + change).to(weight.dtype)
    if any(".lora_embedding_" in name for name in state):
        raise ValueError("a LoRA on the words' embedding is not known here")
    return plain


def network(state: dict[str, Tensor], base: str, reward: str, path: Path) -> Any:
    """A Qwen2-VL without its language head, of the config at `base`, with as many words as the weights have.

    Raises ValueError if the weights are of another architecture.
    """
    from transformers import Qwen2VLConfig, Qwen2VLModel

    config: Any = fetch(Qwen2VLConfig, base, reward, "2 kB")
    words = state.get("language_model.embed_tokens.weight")
    config.text_config.vocab_size = 0 if words is None else len(words)
    try:
        with without_loading_chatter():
            model, found = Qwen2VLModel.from_pretrained(None, config=config, state_dict=state, output_loading_info=True)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"reward {reward}: {path} holds another architecture's weights: {error}") from error
    left = sorted(found["missing_keys"]) + sorted(found["unexpected_keys"])
    if left:
        raise ValueError(
            f"reward {reward}: {path} holds another architecture's weights: {left[0]} and {len(left) - 1} more differ"
        )
    return model


class Reader:
    """The network with its head and its tokenizer, to which the marks are added. It reads what is an "image" or a "video"."""

    def __init__(
        self, model: Any, head: nn.Module, tokenizer: Any, marks: tuple[str, ...], kind: str, device: torch.device
    ) -> None:
        dtype = torch.bfloat16 if on_bf16_gpu(device) else torch.float32
        self.model: nn.Module = model.to(device, dtype).eval().requires_grad_(False)
        self.head = head.to(device, torch.float32).eval().requires_grad_(False)
        self.tokenizer, self.kind, self.device = tokenizer, kind, device
        tokenizer.padding_side = "right"
        tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
        self.marks = torch.tensor(tokenizer.convert_tokens_to_ids(list(marks)), device=device)

    @torch.no_grad()
    def __call__(self, pictures: list[Patches], texts: list[str]) -> Tensor:
        """What the head says at every mark, [B, marks, N] in fp32, for B pictures and the questions about them."""
        asked = [self._asked(text, picture.num_tokens) for text, picture in zip(texts, pictures, strict=True)]
        tokens = self.tokenizer(asked, padding=True, return_tensors="pt").to(self.device)
        ids = tokens.input_ids
        pixels = torch.cat([picture.values for picture in pictures]).to(self.device, next(self.model.parameters()).dtype)
        grid = torch.tensor([picture.grid for picture in pictures], device=self.device)
        names = ("pixel_values", "image_grid_thw") if self.kind == "image" else ("pixel_values_videos", "video_grid_thw")
        places = torch.arange(ids.shape[1], device=self.device).expand(3, len(ids), -1)
        states = self.model(
            input_ids=ids,
            attention_mask=tokens.attention_mask,
            position_ids=places,
            use_cache=False,
            **dict(zip(names, (pixels, grid), strict=True)),
        ).last_hidden_state
        marked = states[torch.isin(ids, self.marks)].unflatten(0, (len(ids), len(self.marks)))
        answer: Tensor = self.head(marked.float())
        return answer

    def _asked(self, text: str, num_tokens: int) -> str:
        """The conversation as the model was trained on it, with as many places for the picture as it has tokens."""
        content = [{"type": self.kind, self.kind: ""}, {"type": "text", "text": text}]
        message = [{"role": "user", "content": content}]
        chat: str = self.tokenizer.apply_chat_template(message, tokenize=False, add_generation_prompt=True)
        return chat.replace(f"<|{self.kind}_pad|>", f"<|{self.kind}_pad|>" * num_tokens)
