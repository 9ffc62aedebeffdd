"""How the tools that read LoRA files call a network's layers: by their model's original names, not by those of diffusers.

The rules are those that the readers publish. sd-scripts and musubi-tuner write `lora_unet_`, the original name with
underscores, `.lora_down.weight`, `.lora_up.weight` and `.alpha`. ComfyUI reads these, and also `diffusion_model.`, the original
name, `.lora_A.weight` and `.lora_B.weight`. peft has `base_model.model.` before the name of diffusers. Several layers of
diffusers may be one original layer, whose rows they share.
"""

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


class Place(NamedTuple):
    """Where a layer of diffusers is in the original network."""

    layer: str
    part: int = 0
    """Which of the layers that share the original one's rows."""
    sizes: tuple[int, ...] = (1,)
    """The rows of each, as multiples of a common number."""
    is_modulation: bool = False
    """Where such a layer makes a scale and a shift alone, the original makes them in the other order."""

    def reordered(self, down: Tensor, up: Tensor) -> Tensor:
        """`up` [out, rank] beside `down` [rank, in], with its rows as the other network has them."""
        is_scale_and_shift = self.is_modulation and len(up) == 2 * down.shape[1]
        return up.roll(len(up) // 2, dims=0) if is_scale_and_shift else up


Rule = tuple[re.Pattern[str], Place]
QKV = (1, 1, 1)


def _fused(where: str, names: str, layer: str, sizes: tuple[int, ...]) -> list[Rule]:
    """Layers that are one in the original. A `#` stands for a block's number."""
    return [(_pattern(f"{where}{name}"), Place(layer, part, sizes)) for part, name in enumerate(names.split())]


def _alone(where: str, names: dict[str, str], layer: str, *, is_modulation: bool = False) -> list[Rule]:
    return [(_pattern(where + name), Place(layer + own, is_modulation=is_modulation)) for name, own in names.items()]


def _pattern(name: str) -> re.Pattern[str]:
    return re.compile(re.escape(name).replace(r"\#", r"(\d+)"))


_SD3, _DOUBLE, _SINGLE, _WAN = "joint_blocks.#.", "double_blocks.#.", "single_blocks.#.", "blocks.#."
_SD3_MODULATION = {"linear": "adaLN_modulation.1"}
SD3 = [
    *_fused("transformer_blocks.#.attn.", "to_q to_k to_v", f"{_SD3}x_block.attn.qkv", QKV),
    *_fused("transformer_blocks.#.attn.", "add_q_proj add_k_proj add_v_proj", f"{_SD3}context_block.attn.qkv", QKV),
    *_fused("transformer_blocks.#.attn2.", "to_q to_k to_v", f"{_SD3}x_block.attn2.qkv", QKV),
    *_alone("transformer_blocks.#.", {"attn.to_out.0": "attn.proj", "attn2.to_out.0": "attn2.proj"}, f"{_SD3}x_block."),
    *_alone("transformer_blocks.#.", {"ff.net.0.proj": "mlp.fc1", "ff.net.2": "mlp.fc2"}, f"{_SD3}x_block."),
    *_alone("transformer_blocks.#.", {"attn.to_add_out": "attn.proj"}, f"{_SD3}context_block."),
    *_alone("transformer_blocks.#.ff_context.", {"net.0.proj": "mlp.fc1", "net.2": "mlp.fc2"}, f"{_SD3}context_block."),
    *_alone("transformer_blocks.#.norm1.", _SD3_MODULATION, f"{_SD3}x_block.", is_modulation=True),
    *_alone("transformer_blocks.#.norm1_context.", _SD3_MODULATION, f"{_SD3}context_block.", is_modulation=True),
]
DOUBLE = [
    *_fused("transformer_blocks.#.attn.", "to_q to_k to_v", f"{_DOUBLE}img_attn.qkv", QKV),
    *_fused("transformer_blocks.#.attn.", "add_q_proj add_k_proj add_v_proj", f"{_DOUBLE}txt_attn.qkv", QKV),
    *_alone("transformer_blocks.#.attn.", {"to_out.0": "img_attn.proj", "to_add_out": "txt_attn.proj"}, _DOUBLE),
]
FLUX = [
    *DOUBLE,
    *_alone("transformer_blocks.#.ff.", {"net.0.proj": "img_mlp.0", "net.2": "img_mlp.2"}, _DOUBLE),
    *_alone("transformer_blocks.#.ff_context.", {"net.0.proj": "txt_mlp.0", "net.2": "txt_mlp.2"}, _DOUBLE),
    *_fused("single_transformer_blocks.#.", "attn.to_q attn.to_k attn.to_v proj_mlp", f"{_SINGLE}linear1", (1, 1, 1, 4)),
    *_alone("single_transformer_blocks.#.", {"proj_out": "linear2"}, _SINGLE),
]
FLUX2 = [
    *DOUBLE,
    *_alone("transformer_blocks.#.ff.", {"linear_in": "img_mlp.0", "linear_out": "img_mlp.2"}, _DOUBLE),
    *_alone("transformer_blocks.#.ff_context.", {"linear_in": "txt_mlp.0", "linear_out": "txt_mlp.2"}, _DOUBLE),
    *_alone("single_transformer_blocks.#.attn.", {"to_qkv_mlp_proj": "linear1", "to_out": "linear2"}, _SINGLE),
]
_WAN_ATTENTION = {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "o"}
_Z_FEED_FORWARD = ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3")
WAN = [
    *_alone("blocks.#.attn1.", _WAN_ATTENTION, f"{_WAN}self_attn."),
    *_alone("blocks.#.attn2.", _WAN_ATTENTION, f"{_WAN}cross_attn."),
    *_alone("blocks.#.ffn.", {"net.0.proj": "0", "net.2": "2"}, f"{_WAN}ffn."),
]

Z_IMAGE = [
    rule
    for where in ("layers.#.", "noise_refiner.#.", "context_refiner.#.")
    for rule in (
        *_fused(f"{where}attention.", "to_q to_k to_v", f"{where}attention.qkv", QKV),
        *_alone(where, {"attention.to_out.0": "attention.out"}, where),
        *_alone(where, {name: name for name in (*_Z_FEED_FORWARD, "adaLN_modulation.0")}, where),
    )
]


def _by_rules(rules: list[Rule]) -> Callable[[str], Place | None]:
    def place(module: str) -> Place | None:
        for pattern, found in rules:
            match = pattern.fullmatch(module)
            if match:
                return found._replace(layer=found.layer.replace("#", match.group(1)))
        return None

    return place


def _sdxl(module: str) -> Place | None:
    """Blocks are numbered through, each with two layers on the way down and three on the way up."""
    match = re.fullmatch(r"(down|mid|up)_blocks?\.(?:(\d+)\.)?attentions\.(\d+)\.(.+)", module)
    if match is None:
        return None
    way, block, layer, rest = match[1], int(match[2] or 0), int(match[3]), match[4]
    number = {
        "down": f"input_blocks.{3 * block + layer + 1}",
        "mid": "middle_block",
        "up": f"output_blocks.{3 * block + layer}",
    }
    return Place(f"{number[way]}.1.{rest}")


PLACES: dict[str, Callable[[str], Place | None]] = {
    "StableDiffusion3Pipeline": _by_rules(SD3),
    "FluxPipeline": _by_rules(FLUX),
    "FluxKontextPipeline": _by_rules(FLUX),
    "Flux2Pipeline": _by_rules(FLUX2),
    "Flux2KleinPipeline": _by_rules(FLUX2),
    "QwenImagePipeline": Place,  # the original names are those of diffusers
    "QwenImageEditPipeline": Place,
    "WanPipeline": _by_rules(WAN),
    "ZImagePipeline": _by_rules(Z_IMAGE),
    "StableDiffusionPipeline": Place,  # sd-scripts has a U-Net of its own with the names of diffusers
    "StableDiffusionXLPipeline": _sdxl,
}
"""By the pipeline's class: where a layer is in the original, None for one that LoRA files do not name."""


def underscored(layer: str) -> str:
    return layer.replace(".", "_")


def held_by_name(kind: str, network: str, module: nn.Module) -> dict[str, list[tuple[str, Place]]]:
    """All names under which a file may hold weights of a network's layers, each with the layers that it holds, by their names
    in diffusers, and their places in it.

    `kind` is the pipeline's class, `network` the name of the trained part, which is `module`.
    """
    original = PLACES.get(kind, lambda name: None)
    found: dict[str, list[tuple[str, Place]]] = {}
    for name, layer in module.named_modules():
        if not isinstance(layer, nn.Linear | nn.Conv2d):
            continue
        own, there, flat = Place(name), original(name), underscored(name)
        for alias in (name, f"{network}.{name}", f"base_model.model.{name}", f"lora_transformer_{flat}", f"lora_unet_{flat}"):
            found[alias] = [(name, own)]
        if there is not None and there != own:
            for alias in (f"diffusion_model.{there.layer}", f"lora_unet_{underscored(there.layer)}"):
                found.setdefault(alias, []).append((name, there))
        elif there == own:
            found[f"diffusion_model.{name}"] = [(name, own)]
    return found
