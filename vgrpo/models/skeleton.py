"""Pipelines without weights: every part at its real size on torch's meta device, from a folder's configs or from the published
ones, so that a job can be sized before anything is downloaded."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import torch

from vgrpo.models.hub import fetch_configs, is_hub_id
from vgrpo.models.loading import make_policy, model_folder
from vgrpo.models.policy import Policy
from vgrpo.models.published import PUBLISHED


def published(name: str, dtype: torch.dtype = torch.bfloat16, device: str = "meta", **settings: Any) -> Policy:
    """A policy around a published model of `PUBLISHED`; on a real device its network has random weights. `settings` are those
    of `make_policy`."""
    preset, parts = PUBLISHED[name], {}
    for part, (path, config) in preset.parts.items():
        with torch.device(device if part in ("transformer", "unet") else "meta"):
            parts[part] = _build(path, config)
    return _policy(preset.pipeline, parts, dtype, settings)


def num_weights(name: str) -> int:
    """Of all parts of a published model."""
    with torch.device("meta"):
        parts = [_build(path, config) for path, config in PUBLISHED[name].parts.values()]
    return sum(weight.numel() for part in parts for weight in part.parameters())


def _build(path: str, config: dict[str, Any]) -> Any:
    cls = _load(path)
    return cls(cls.config_class(**config)) if path.startswith("transformers.") else cls(**config)


def from_folder(name: str, dtype: torch.dtype = torch.bfloat16, **settings: Any) -> Policy:
    """A policy around a model's folder or hub id, of which it reads configs only. `settings` are those of `make_policy`."""
    folder = model_folder(name)
    if is_hub_id(name):
        folder = fetch_configs(name)
    index = json.loads((folder / "model_index.json").read_text())
    found = {part: ".".join(index[part]) for part in index if (folder / part / "config.json").is_file()}
    found.pop("safety_checker", None)  # nobody trains behind one
    with torch.device("meta"):
        parts = {part: _from_config(_load(path), folder / part) for part, path in found.items()}
    return _policy(index["_class_name"], parts, dtype, settings)


def _from_config(cls: Any, folder: Path) -> Any:
    if cls.__module__.startswith("transformers."):
        return cls(cls.config_class.from_pretrained(folder))
    return cls.from_config(cls.load_config(folder))


def _policy(kind: str, parts: dict[str, Any], dtype: torch.dtype, settings: dict[str, Any]) -> Policy:
    """The pipeline's own class around its parts, with nothing for those that have no weights."""
    from diffusers import DDPMScheduler

    cls = _load(f"diffusers.{kind}")
    parameters = inspect.signature(cls.__init__).parameters
    needed = [name for name, parameter in parameters.items() if name != "self" and parameter.default is parameter.empty]
    rest: dict[str, Any] = dict.fromkeys(needed) | parts
    if "unet" in parts:
        rest["scheduler"] = DDPMScheduler(steps_offset=1, clip_sample=False)
    if "requires_safety_checker" in parameters:
        rest["requires_safety_checker"] = False
    policy = make_policy(cls(**rest), **settings)
    torch.nn.Module.to(policy.module, dtype)  # diffusers' own warns of parts that it would load as fp32
    return policy


def _load(path: str) -> Any:
    module, name = path.rsplit(".", 1)
    return getattr(importlib.import_module(module), name)
