"""An adapter as the tools other than diffusers want it: their names for its layers, their names for its two matrices."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from vgrpo.models.lora_files import PEFT_SETTINGS, PEFT_WEIGHTS, PIPELINE, WEIGHTS, read_header
from vgrpo.models.lora_names import PLACES, Place, underscored
from vgrpo.models.lora_reading import ALPHA, DOWN, UP
from vgrpo.support.checks import require
from vgrpo.support.files import whole
from vgrpo.support.json_files import write_json

Format = Literal["diffusers", "comfyui", "kohya", "peft"]
KOHYA = {DOWN: ".lora_down.weight", UP: ".lora_up.weight"}


class Pair(NamedTuple):
    """A layer's matrices, [rank, in] and [out, rank]; their product is added to its weight."""

    down: Tensor
    up: Tensor


def export_lora(folder: Path, target: Path, form: Format, dtype: torch.dtype, name: str) -> Path:
    """Write the adapter that a run saved into its lora/ as `form` has it, into the folder `target`; returns the file.

    Files of tools without a name of their own are called `name`. Raises ValueError for a form that has no names for the
    architecture's layers.
    """
    header, state = read_header(folder / WEIGHTS), load_file(folder / WEIGHTS)
    prefix = f"{next(iter(state)).partition('.')[0]}."
    layers = {
        key.removeprefix(prefix).removesuffix(DOWN): Pair(value, state[key.removesuffix(DOWN) + UP])
        for key, value in state.items()
        if key.endswith(DOWN)
    }
    if form == "diffusers":
        written, file = {f"{prefix}{key}": value for key, value in _plain(layers).items()}, WEIGHTS
    elif form == "peft":
        written, file = {f"base_model.model.{key}": value for key, value in _plain(layers).items()}, PEFT_WEIGHTS
    else:
        written, file = _original(layers, header.get(PIPELINE, ""), form), f"{name}.safetensors"
    target.mkdir(parents=True, exist_ok=True)
    with whole(target / file) as draft:
        save_file({key: value.to(dtype).contiguous() for key, value in written.items()}, draft, metadata=header)
    if form == "peft":
        write_json(target / PEFT_SETTINGS, _peft_settings(layers))
    return target / file


def _plain(layers: dict[str, Pair]) -> dict[str, Tensor]:
    return {f"{name}{ending}": value for name, pair in layers.items() for ending, value in zip((DOWN, UP), pair, strict=True)}


def _original(layers: dict[str, Pair], kind: str, form: Format) -> dict[str, Tensor]:
    """By the names of the original network."""
    known = ", ".join(PLACES)
    require(kind in PLACES, f"--format {form}: no names are published for a {kind}'s layers, only for {known}; take diffusers")
    written: dict[str, Tensor] = {}
    with_underscores = form == "kohya" or kind.startswith("StableDiffusionPipeline") or kind.startswith("StableDiffusionXL")
    for name, pair in _joined(layers, kind).items():
        if with_underscores:
            base = f"lora_unet_{underscored(name)}"
            written |= {
                base + KOHYA[DOWN]: pair.down,
                base + KOHYA[UP]: pair.up,
                base + ALPHA: torch.tensor(float(len(pair.down))),
            }
        else:
            written |= {f"diffusion_model.{name}{DOWN}": pair.down, f"diffusion_model.{name}{UP}": pair.up}
    return written


def _joined(layers: dict[str, Pair], kind: str) -> dict[str, Pair]:
    """The layers of the original network. One that several of diffusers share has the ranks of all, each for its own rows."""
    shares: dict[str, dict[int, Pair]] = {}
    sizes: dict[str, tuple[int, ...]] = {}
    for name, pair in layers.items():
        place: Place | None = PLACES[kind](name)
        require(place is not None, f"the layer {name} has no published name outside diffusers; export with --format diffusers")
        assert place is not None
        shares.setdefault(place.layer, {})[place.part] = Pair(pair.down, place.reordered(*pair))
        sizes[place.layer] = place.sizes
    return {name: _one(parts, sizes[name]) for name, parts in shares.items()}


def _one(parts: dict[int, Pair], sizes: tuple[int, ...]) -> Pair:
    """One pair whose product has each part's product in its rows, 0 in those of a part without an adapter."""
    if len(sizes) == 1:
        return parts[0]
    part, pair = next(iter(parts.items()))
    rank, unit = len(pair.down), len(pair.up) // sizes[part]
    empty = [Pair(torch.zeros_like(pair.down), pair.up.new_zeros(unit * size, rank)) for size in sizes]
    pairs = [parts.get(index, empty[index]) for index in range(len(sizes))]
    return Pair(torch.cat([each.down for each in pairs]), torch.block_diag(*(each.up for each in pairs)))


def _peft_settings(layers: dict[str, Pair]) -> dict[str, Any]:
    rank = len(next(iter(layers.values())).down)
    return {
        "peft_type": "LORA",
        "base_model_name_or_path": None,
        "r": rank,
        "lora_alpha": rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "inference_mode": True,
        "target_modules": sorted(layers),
    }
