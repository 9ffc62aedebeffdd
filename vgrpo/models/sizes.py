"""Published parts at their real size on torch's meta device, which holds shapes and no numbers; and how many weights they
have."""

import importlib
from typing import Any

import torch

from vgrpo.models.published import PUBLISHED


def build(path: str, config: dict[str, Any]) -> Any:
    """A part of `PUBLISHED` with fresh weights, on torch's default device."""
    module, name = path.rsplit(".", 1)
    cls = getattr(importlib.import_module(module), name)
    return cls(cls.config_class(**config)) if module == "transformers" else cls(**config)


def num_weights(name: str) -> int:
    """Of all parts of a published model."""
    with torch.device("meta"):
        parts = [build(path, config) for path, config in PUBLISHED[name].parts.values()]
    return sum(weight.numel() for part in parts for weight in part.parameters())
