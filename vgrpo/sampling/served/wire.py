"""What a training run asks of a rollout worker, and what it is told.

The weights are a safetensors file with the trained tensors, and are called by the hash of its bytes: images cannot be drawn by
other weights than those that were asked for, whoever was restarted in between. What is drawn is named by seed. The answer is a
safetensors file with latents and images in fp32: rounded to 8 bits, images would score otherwise than those of a run without
workers.
"""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from vgrpo.core.seeds import Seed
from vgrpo.core.solvers import SAMPLERS
from vgrpo.core.types import Prompt
from vgrpo.models.policy import Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.sampling.settings import Sampling
from vgrpo.support.code import code_digest
from vgrpo.support.http.strict import strict_json
from vgrpo.support.http.tensors import pack, unpack
from vgrpo.support.json_files import to_json

KIND = "vgrpo rollout"
UNKNOWN_WEIGHTS = 409
"""The status of an order whose weights the worker has not got."""
LONGEST_PROMPT = 10_000
"""Letters."""
LORA = ("rank", "alpha", "targets")
"""What an adapter's form depends on."""
BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Whole numbers by their bytes."""


@dataclass(frozen=True, kw_only=True)
class Order:
    """Images to draw: B of them."""

    weights: str
    """The hash of the weights' file."""
    seed: Seed
    """What names the iteration."""
    texts: list[str]
    """Of the groups."""
    images: list[tuple[int, int, int]]
    """B: which of the texts, the number of its group in the iteration, and which of the group's noises it starts from."""
    sampling: Sampling


def order_to_json(order: Order) -> bytes:
    return to_json(dataclasses.asdict(order)).encode()


def order_from_json(body: bytes | bytearray, max_images: int) -> Order:
    """Raises ValueError, saying why, for what `order_to_json` did not write."""
    content = strict_json(bytes(body))
    names = {field.name for field in dataclasses.fields(Order)}
    if not isinstance(content, dict) or set(content) != names:
        raise ValueError(f"an order must hold {', '.join(sorted(names))}, and nothing else")
    weights, seed, texts, images = (content[name] for name in ("weights", "seed", "texts", "images"))
    if not isinstance(weights, str) or not _is_list(seed, int | str) or not _is_list(texts, str):
        raise ValueError("`weights` must be a text, `seed` a list of numbers and texts, `texts` a list of texts")
    if any(len(text) > LONGEST_PROMPT for text in texts):
        raise ValueError(f"a text of more than {LONGEST_PROMPT:,} letters")
    if not _is_list(images, list) or not all(len(image) == 3 and _is_list(image, int) for image in images):
        raise ValueError("`images` must be a list of three numbers each")
    if not 1 <= len(images) <= max_images:
        raise ValueError(f"{len(images):,} images; 1 to {max_images:,} are drawn at once")
    if not all(0 <= text < len(texts) for text, _, _ in images):
        raise ValueError(f"an image of a text that is not among the {len(texts)}")
    rows = [(text, group, noise) for text, group, noise in images]
    return Order(weights=weights, seed=tuple(seed), texts=texts, images=rows, sampling=_sampling(content["sampling"]))


def _is_list(value: Any, kind: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, kind) and not isinstance(item, bool) for item in value)


def _sampling(content: Any) -> Sampling:
    names = [field.name for field in dataclasses.fields(Sampling)]
    if not isinstance(content, dict) or set(content) != set(names):
        raise ValueError(f"`sampling` must hold {', '.join(names)}, and nothing else")
    if content["solver"] not in SAMPLERS:
        raise ValueError(f"no solver {str(content['solver'])[:40]!r}; there are {', '.join(SAMPLERS)}")
    numbers = [value for name, value in content.items() if name != "solver"]
    if not all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in numbers):
        raise ValueError("`sampling` must hold numbers")
    for name in ("num_steps", "batch_size"):
        if not isinstance(content[name], int | None):
            raise ValueError(f"{name}={content[name]}: must be a whole number")
    return Sampling(**content)


def pack_images(weights: str, latents: Tensor, images: Tensor) -> bytes:
    return pack({"latents": latents.float(), "images": images.float()}, weights)


def unpack_images(body: bytes, weights: str, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Latents of `shape` [B, *D] and images [B, 3, H, W]. Raises ValueError for others, or of other weights than these."""
    tensors, drawn_by = unpack(body)
    if drawn_by != weights:
        raise ValueError(f"images of the weights {str(drawn_by)[:40]}, where {weights} were asked for")
    latents, images = tensors.get("latents"), tensors.get("images")
    if latents is None or images is None or latents.dtype != torch.float32 or images.dtype != torch.float32:
        raise ValueError("the answer must hold `latents` and `images` in fp32")
    if latents.shape != shape or images.shape[:2] != (shape[0], 3) or images.dim() != 4:
        raise ValueError(f"latents {list(latents.shape)} and images {list(images.shape)} for {list(shape)}")
    return latents, images


def pack_weights(values: Mapping[str, Tensor], lora: LoraConfig) -> bytes:
    """The trained tensors of an adapter by their names in the network, fp32."""
    return pack(values, {name: getattr(lora, name) for name in LORA})


def unpack_weights(body: bytes | bytearray) -> tuple[dict[str, Tensor], LoraConfig]:
    """Raises ValueError for what `pack_weights` did not write."""
    values, form = unpack(body)
    if not isinstance(form, dict) or set(form) != set(LORA) or not all(type(form[name]) is int for name in ("rank", "alpha")):
        raise ValueError(f"the note must hold {', '.join(LORA)}")
    targets = form["targets"]
    if targets is not None and not _is_list(targets, str):
        raise ValueError("`targets` must be a list of texts")
    return values, LoraConfig(rank=form["rank"], alpha=form["alpha"], targets=None if targets is None else tuple(targets))


def name_of_weights(body: bytes | bytearray) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


def likeness(policy: Policy) -> dict[str, Any]:
    """What must be the same in a worker as in the run for it to draw the same images, but for the hardware."""
    parts = {"network": policy.module, "autoencoder": policy.pipeline.vae}
    return {
        "code": code_digest(),
        "precision": str(policy.autocast or torch.float32).removeprefix("torch."),
        "latent_shape": list(policy.latent_shape),
        "max_sequence_length": policy.max_sequence_length,
    } | {name: _digest(module) for name, module in parts.items()}


def _digest(module: torch.nn.Module) -> str:
    """Of the frozen weights, by their names, types and shapes and the sums of their bits as whole numbers, which are exact."""
    lines = []
    for name, value in module.named_parameters():
        if ".lora_" not in name:
            for part in _parts(value.detach()):
                bits = part.reshape(-1).view(BITS[part.element_size()]).sum(dtype=torch.int64).item()
                lines.append(f"{name.replace('.base_layer', '')} {part.dtype} {list(part.shape)} {bits}\n")
    return hashlib.blake2b("".join(sorted(lines)).encode(), digest_size=16).hexdigest()


def _parts(value: Tensor) -> list[Tensor]:
    """A weight that torchao rounded is numbers, scales and more, which are tensors of their own; any other is one."""
    if not is_traceable_wrapper_subclass(value):
        return [value]
    names, _ = value.__tensor_flatten__()
    return [part for name in names for part in _parts(getattr(value, name))]


def prompts_of(order: Order) -> list[Prompt]:
    """Of the images, B."""
    return [Prompt(text=order.texts[text]) for text, _, _ in order.images]
