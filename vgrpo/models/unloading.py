"""Text encoders that leave memory once all texts of a run are encoded on disk, and are loaded again for one that is not."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vgrpo.models.networks import load_network
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.text_store import ENCODERS


@dataclass(frozen=True, kw_only=True)
class Unloaded:
    """What it takes to load an encoder again."""

    name: str
    kind: type[torch.nn.Module]
    dtype: torch.dtype
    device: torch.device


def unload_encoders(pipeline: Any) -> list[Unloaded]:
    """Free what the text encoders of a pipeline hold that was loaded from a folder, and say how it comes back. Their modules
    stay, on torch's meta device: others ask for their configs."""
    unloaded = []
    for name in ENCODERS:
        encoder = getattr(pipeline, name, None)
        if isinstance(encoder, torch.nn.Module):
            weight = next(encoder.parameters())
            unloaded.append(Unloaded(name=name, kind=type(encoder), dtype=weight.dtype, device=weight.device))
            encoder.to("meta")
    return unloaded


def load_encoders(pipeline: Any, unloaded: list[Unloaded]) -> None:
    """The encoders back in their places. Raises ValueError if their files are damaged by now."""
    folder = Path(pipeline.config._name_or_path)
    with without_loading_chatter(bars=False):
        for each in unloaded:
            encoder = load_network(each.kind, folder / each.name, each.dtype)
            setattr(pipeline, each.name, encoder.to(each.device).requires_grad_(False))
