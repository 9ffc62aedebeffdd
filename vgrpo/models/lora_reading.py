"""A LoRA's file from any tool as the weights of our layers, at its full strength.

What is read is one dict: `LAYER.lora_A.weight` [rank, in] and `LAYER.lora_B.weight` [out, rank], with the layers' names in
diffusers and alpha / rank folded into B. A file without an alpha means alpha = rank.
"""

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vgrpo.models.lora_files import PEFT_WEIGHTS, damaged, read_lora, read_settings
from vgrpo.models.lora_names import Place, held_by_name
from vgrpo.models.policy import Policy
from vgrpo.models.quiet import without_loading_chatter

DOWN, UP = ".lora_A.weight", ".lora_B.weight"
FORMS = {".lora_down.weight": DOWN, ".lora.down.weight": DOWN, ".lora_up.weight": UP, ".lora.up.weight": UP}
"""Other tools' endings, and ours."""
ALPHA = ".alpha"


class ForeignKeysError(ValueError):
    """A file holds what is no LoRA of the trained network's layers."""


def read_adapter(policy: Policy, path: Path, option: str) -> dict[str, Tensor]:
    """The network's adapter in a file. Raises ForeignKeysError, naming the first key, for what is not of its layers or no
    LoRA, also by the rules of diffusers' own loader; ValueError for a damaged file.
    """
    state, settings = read_lora(path, option), _settings(policy, path, option)
    try:
        return _adapter(policy, state, settings, path, option)
    except ForeignKeysError as foreign:
        converted = _by_diffusers(policy, state)
        if converted is None:
            raise
        try:
            return _adapter(policy, converted, settings, path, option)
        except ForeignKeysError:
            raise foreign from None


def _settings(policy: Policy, path: Path, option: str) -> dict[str, Any]:
    """Of the network's adapter. Raises ValueError for a kind of adapter that is more than two matrices per layer."""
    settings, prefix = read_settings(path, option), f"{policy.network}."
    if path.name != PEFT_WEIGHTS:
        settings = {key.removeprefix(prefix): value for key, value in settings.items() if key.startswith(prefix)}
    if settings.get("use_dora"):
        raise ValueError(f"{option} {path}: a DoRA, which has more than two matrices per layer; give a plain LoRA")
    return settings


def _adapter(policy: Policy, state: dict[str, Tensor], settings: dict[str, Any], path: Path, option: str) -> dict[str, Tensor]:
    """Raises ForeignKeysError."""
    layers = held_by_name(type(policy.pipeline).__name__, policy.network, policy.module)
    found: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        base, ending = _split(key)
        if base not in layers or ending not in (DOWN, UP, ALPHA):
            raise ForeignKeysError(
                f"{option} {path}: {key[:120]} is no LoRA of a layer of the {type(policy.module).__name__}; it is of another "
                "model, or of a part that is not trained, such as a text encoder"
            )
        found.setdefault(base, {})[ending] = value
    adapter: dict[str, Tensor] = {}
    for base, parts in found.items():
        if not _is_pair(parts):
            raise damaged(path, option, f"{base} has no two matrices of one rank")
        for name, place in layers[base]:
            down, up = _share(parts[DOWN], parts[UP], place)
            weight: Any = policy.module.get_submodule(name).weight
            if weight.dim() == 2:  # others have a layer of one pixel as a convolution
                down, up = down.flatten(1), up.flatten(1)
            if (len(up), down.shape[1]) != tuple(weight.shape[:2]):
                raise ForeignKeysError(
                    f"{option} {path}: {base} is for a layer of {down.shape[1]} numbers in and {len(up)} out, and {name} has "
                    f"{weight.shape[1]} and {len(weight)}; it is of another model"
                )
            if len(layers[base]) > 1 and not (down.any() or up.any()):
                continue  # a layer without an adapter in one that others share
            scale = _scale(parts.get(ALPHA), settings, name, len(parts[DOWN]), path, option)
            adapter[name + DOWN], adapter[name + UP] = down.contiguous(), (up * scale).contiguous()
    return adapter


def _is_pair(parts: dict[str, Tensor]) -> bool:
    down, up, alpha = (parts.get(name) for name in (DOWN, UP, ALPHA))
    if down is None or up is None or min(down.dim(), up.dim()) < 2 or (alpha is not None and alpha.numel() != 1):
        return False
    return len(down) == up.shape[1] > 0


def _split(key: str) -> tuple[str, str]:
    """A layer's name and its part, DOWN, UP or ALPHA."""
    key = key.replace(".default.weight", ".weight")  # peft, where an adapter is saved with its name
    for ending, ours in ({DOWN: DOWN, UP: UP, ALPHA: ALPHA} | FORMS).items():
        if key.endswith(ending):
            return key.removesuffix(ending), ours
    return key, ""


def _share(down: Tensor, up: Tensor, place: Place) -> tuple[Tensor, Tensor]:
    """A layer's matrices in those of an original layer [R, in] and [out, R]: its rows, and where each layer has ranks of its
    own, these alone."""
    unit = len(up) // sum(place.sizes)
    start = unit * sum(place.sizes[: place.part])
    up = place.reordered(down, up[start : start + unit * place.sizes[place.part]])
    count = len(place.sizes)
    if len(down) % count == 0:
        own = slice(place.part * len(down) // count, (place.part + 1) * len(down) // count)
        others = torch.ones(len(down), dtype=torch.bool)
        others[own] = False
        if not up[:, others].any():
            return down[own], up[:, own]
    return down, up


def _scale(alpha: Tensor | None, settings: dict[str, Any], layer: str, rank: int, path: Path, option: str) -> float:
    """What the product of a layer's matrices is multiplied with. peft's patterns may give a layer an alpha of its own; they are
    compared as names, since a stranger's regular expression may take for ever."""
    if alpha is not None:
        return float(alpha) / rank
    patterns = settings.get("alpha_pattern") or {}
    if not isinstance(patterns, dict):
        raise damaged(path, option, f"its alpha_pattern is {patterns!r}")
    own = [value for name, value in patterns.items() if f".{layer}".endswith("." + name.strip("^$"))]
    value = own[0] if own else settings.get("lora_alpha", rank)
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise damaged(path, option, f"its alpha is {value!r}")
    return float(value) / (math.sqrt(rank) if settings.get("use_rslora") else rank)


def _by_diffusers(policy: Policy, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
    """The file as diffusers' own loader of this pipeline understands it; None if it does not, or with an alpha beside."""
    from diffusers.utils import convert_unet_state_dict_to_peft

    loader: Any = type(policy.pipeline)
    try:
        with without_loading_chatter():
            converted, *others = loader.lora_state_dict(dict(state), return_alphas=True, return_lora_metadata=True)
            converted = convert_unet_state_dict_to_peft(converted)
    except Exception:  # another library's code over a stranger's names; the caller says what is wrong
        return None
    return None if any(others) else converted
