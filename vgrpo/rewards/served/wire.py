"""What a reward's client sends and its server answers.

A request is a safetensors file with 8-bit `images` [B, 3, H, W] and the prompts as JSON in its header. The source pictures of
prompts that edit one are `source.0`, `source.1` and so on, [3, h, w]. The answer is JSON with `scores`, null where there is
none, and the numbers of the images from which the reward `abstained`; on others without a score it failed. Both sides read what
the other sends as if it meant harm.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from vgrpo.core.images import from_pil, open_picture, to_pil
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
    sources = list(dict.fromkeys(prompt.image for prompt in prompts if prompt.image is not None))
    tensors = {"images": _bytes(images)}
    tensors |= {f"source.{index}": _bytes(from_pil(open_picture(path))) for index, path in enumerate(sources)}
    entries = [
        {"text": prompt.text, "metadata": prompt.metadata}
        | ({} if prompt.image is None else {"source": sources.index(prompt.image)})
        for prompt in prompts
    ]
    return save(tensors, {"prompts": json.dumps(entries, default=str)})  # a date becomes text


def _bytes(images: Tensor) -> Tensor:
    return (images.detach().float().cpu().clamp(0, 1) * 255).round().byte().contiguous()


def unpack(body: bytearray | bytes, limits: Limits | None = None, folder: Path | None = None) -> tuple[Tensor, list[Prompt]]:
    """Images in [0, 1] and their prompts. Source pictures are written to `folder`; without one they are refused.

    Raises ValueError, saying why, for what `pack` did not write.
    """
    limits, content = limits or Limits(), bytearray(body)
    size = int.from_bytes(content[:8], "little")
    if len(content) < 8 or size > min(MOST_HEADER, len(content) - 8):
        raise ValueError(f"a header of {size:,} bytes in a request of {len(content):,}; {MOST_HEADER:,} are allowed")
    header = strict_json(bytes(content[8 : 8 + size]))
    names = _names(header)
    shapes = {name: _shape(name, header[name], limits) for name in names}
    begins = _begins({name: header[name].get("data_offsets") for name in names}, shapes, len(content) - 8 - size)
    pixels = torch.frombuffer(content, dtype=torch.uint8, offset=8 + size)
    found = {name: pixels[begins[name] :][: math.prod(shape)].view(shape).float() / 255 for name, shape in shapes.items()}
    images = found.pop("images")
    prompts = _prompts(header["__metadata__"], _written(list(found.values()), folder))
    if len(prompts) != len(images):
        raise ValueError(f"{len(prompts)} prompts for {len(images)} images")
    return images, prompts


def _names(header: Any) -> list[str]:
    """Of the tensors: `images`, and the sources in order."""
    names = set(header) - {"__metadata__"} if isinstance(header, dict) else set[str]()
    known = ["images", *(f"source.{index}" for index in range(len(names) - 1))]
    if names != set(known) or "__metadata__" not in header:
        raise ValueError("the header must hold `images`, `source.0` and so on, and `__metadata__`, and nothing else")
    return known


def _shape(name: str, entry: Any, limits: Limits) -> list[int]:
    """Of a tensor of pixels. Raises ValueError for other kinds, and for one that is too large."""
    shape = entry.get("shape") if isinstance(entry, dict) and entry.get("dtype") == "U8" else None
    axes = ["B", "3", "H", "W"] if name == "images" else ["3", "H", "W"]
    good = isinstance(shape, list) and len(shape) == len(axes) and all(type(n) is int and 0 < n < 2**31 for n in shape)
    if not isinstance(shape, list) or not good:
        raise ValueError(f"`{name}` must be 8-bit, of shape [{', '.join(axes)}]")
    count, channels, height, width = shape if len(shape) == 4 else [1, *shape]
    if channels != 3:
        raise ValueError(f"`{name}` of {channels} channels; 3 are needed")
    if count > limits.images or height * width > limits.pixels:
        raise ValueError(
            f"{count:,} images of {width:,} x {height:,} pixels; {limits.images:,} of {limits.pixels:,} pixels at most"
        )
    return shape


def _begins(offsets: dict[str, Any], shapes: dict[str, list[int]], num_bytes: int) -> dict[str, int]:
    """Where each tensor begins. Raises ValueError unless they fill the bytes, each behind the one before."""
    begins, end = dict[str, int](), 0
    if all(isinstance(pair, list) and len(pair) == 2 and all(type(n) is int for n in pair) for pair in offsets.values()):
        for name in sorted(offsets, key=lambda name: offsets[name]):
            begins[name] = end
            if offsets[name] != [end, end + math.prod(shapes[name])]:
                break
            end += math.prod(shapes[name])
    if end != num_bytes or len(begins) != len(shapes):
        raise ValueError(f"{num_bytes:,} bytes of pixels for the shapes {list(shapes.values())}")
    return begins


def _written(sources: list[Tensor], folder: Path | None) -> list[Path]:
    """Files with source pictures [3, h, w], which are read as any prompt's is."""
    if sources and folder is None:
        raise ValueError("source pictures, for which there is no place")
    paths = [Path(str(folder)) / f"{index}.png" for index in range(len(sources))]
    for source, path in zip(sources, paths, strict=True):
        to_pil(source).save(path)
    return paths


def _prompts(metadata: Any, sources: list[Path]) -> list[Prompt]:
    text = metadata.get("prompts") if isinstance(metadata, dict) else None
    items = strict_json(text.encode()) if isinstance(text, str) else None
    if not isinstance(items, list):
        raise ValueError("`prompts` must be a list, as JSON in the header's metadata")
    return [_prompt(item, sources) for item in items]


def _prompt(item: Any, sources: list[Path]) -> Prompt:
    if not isinstance(item, dict) or not {"text", "metadata"} <= set(item) <= {"text", "metadata", "source"}:
        raise ValueError("a prompt must hold `text` and `metadata`, perhaps `source`, and nothing else")
    source = item.get("source", -1)
    if "source" in item and (type(source) is not int or not 0 <= source < len(sources)):
        raise ValueError(f"a prompt's `source` must be the number of one of {len(sources)} source pictures")
    text, metadata = item["text"], item["metadata"]
    if not isinstance(text, str) or len(text) > LONGEST_PROMPT or not isinstance(metadata, dict):
        raise ValueError(f"a prompt's `text` must be text of at most {LONGEST_PROMPT:,} letters, its `metadata` a mapping")
    return Prompt(text=text, metadata=metadata, image=sources[source] if "source" in item else None)


def scores_of(answer: Any, count: int) -> Tensor:
    """Scores [B] of a server's answer: NaN where the reward abstained, infinite where it failed. Raises ValueError for anything
    but one finite number or null per image."""
    scores = answer.get("scores") if isinstance(answer, dict) else None
    if not isinstance(scores, list):
        raise ValueError("the answer has no list of `scores`")
    if len(scores) != count:
        raise ValueError(f"{len(scores)} scores for {count} images")
    silent = answer.get("abstained", [])
    rows = range(count)
    if not isinstance(silent, list) or any(
        type(row) is not int or row not in rows or scores[row] is not None for row in silent
    ):
        raise ValueError("`abstained` must hold the numbers of images without a score")
    values = torch.tensor([_score(score) for score in scores])
    values[torch.tensor(silent, dtype=torch.long)] = math.nan
    return values


def _score(score: Any) -> float:
    if score is None:
        return math.inf
    largest = torch.finfo(torch.float32).max
    if type(score) not in (int, float) or not -largest <= score <= largest:
        raise ValueError(f"the score {str(score)[:60]!r} is no finite number")
    return float(score)
