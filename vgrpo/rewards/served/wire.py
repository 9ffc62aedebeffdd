"""What a reward's client sends and its server answers.

A request is a safetensors file with 8-bit `images` [B, 3, H, W] and the prompts as JSON in its header; the answer is JSON with
`scores`, null where the reward failed. Both sides read what the other sends as if it meant harm.
"""

import json
import math
from dataclasses import dataclass
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.support.http.strict import strict_json

MOST_HEADER = 2**24
"""Bytes of a request's header, which holds the prompts."""
LONGEST_PROMPT = 10_000
"""Letters."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Of a request."""

    images: int = 4096
    pixels: int = 2**22
    """Of one image, width times height."""


def pack(images: Tensor, prompts: list[Prompt]) -> bytes:
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().byte().contiguous()
    texts = json.dumps([{"text": prompt.text, "metadata": prompt.metadata} for prompt in prompts], default=str)  # e.g. dates
    return save({"images": pixels}, {"prompts": texts})


def unpack(body: bytearray | bytes, limits: Limits | None = None) -> tuple[Tensor, list[Prompt]]:
    """Images in [0, 1] and their prompts. Raises ValueError, saying why, for what `pack` did not write."""
    limits, content = limits or Limits(), bytearray(body)
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(MOST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {size:,} bytes in a request of {len(content):,}; {MOST_HEADER:,} are allowed")
    header = strict_json(bytes(content[8 : 8 + size]))
    if not isinstance(header, dict) or set(header) != {"images", "__metadata__"}:
        raise ValueError("the header must hold `images` and `__metadata__`, and nothing else")
    shape = _shape(header["images"], len(content) - 8 - size, limits)
    prompts = _prompts(header["__metadata__"])
    if len(prompts) != shape[0]:
        raise ValueError(f"{len(prompts)} prompts for {shape[0]} images")
    pixels = torch.frombuffer(content, dtype=torch.uint8, offset=8 + size)
    return pixels.view(shape).float() / 255, prompts


def _shape(entry: Any, num_bytes: int, limits: Limits) -> list[int]:
    shape = entry.get("shape") if isinstance(entry, dict) and entry.get("dtype") == "U8" else None
    if not isinstance(shape, list) or len(shape) != 4 or not all(type(side) is int and 0 < side < 2**31 for side in shape):
        raise ValueError("`images` must be 8-bit, of shape [B, 3, H, W]")
    count, channels, height, width = shape
    if channels != 3:
        raise ValueError(f"images of {channels} channels; 3 are needed")
    if count > limits.images or height * width > limits.pixels:
        raise ValueError(
            f"{count:,} images of {width:,} x {height:,} pixels; {limits.images:,} of {limits.pixels:,} pixels at most"
        )
    if entry.get("data_offsets") != [0, num_bytes] or math.prod(shape) != num_bytes:
        raise ValueError(f"{num_bytes:,} bytes of pixels for the shape {shape}")
    return shape


def _prompts(metadata: Any) -> list[Prompt]:
    text = metadata.get("prompts") if isinstance(metadata, dict) else None
    items = strict_json(text.encode()) if isinstance(text, str) else None
    if not isinstance(items, list):
        raise ValueError("`prompts` must be a list, as JSON in the header's metadata")
    return [_prompt(item) for item in items]


def _prompt(item: Any) -> Prompt:
    if not isinstance(item, dict) or set(item) != {"text", "metadata"}:
        raise ValueError("a prompt must hold `text` and `metadata`, and nothing else")
    text, metadata = item["text"], item["metadata"]
    if not isinstance(text, str) or len(text) > LONGEST_PROMPT or not isinstance(metadata, dict):
        raise ValueError(f"a prompt's `text` must be text of at most {LONGEST_PROMPT:,} letters, its `metadata` a mapping")
    return Prompt(text=text, metadata=metadata)


def scores_of(answer: Any, count: int) -> Tensor:
    """Scores [B] of a server's answer, NaN for null. Raises ValueError for anything but one finite number or null per image."""
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise ValueError("the answer has no list of `scores`")
    if len(scores) != count:
        raise ValueError(f"{len(scores)} scores for {count} images")
    return torch.tensor([_score(score) for score in scores])


def _score(score: Any) -> float:
    if score is None:
        return math.nan
    largest = torch.finfo(torch.float32).max
    if type(score) not in (int, float) or not -largest <= score <= largest:
        raise ValueError(f"the score {str(score)[:60]!r} is no finite number")
    return float(score)
