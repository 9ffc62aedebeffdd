"""Pipelines without weights: every part at its real size on torch's meta device, from a folder's configs or from the published
ones, so that a job can be sized before anything is downloaded."""

import inspect
from pathlib import Path
from typing import Any

import torch

from vgrpo.models.classes import networks_of, pipeline_class
from vgrpo.models.folder import check_code
from vgrpo.models.hub import fetch_configs, is_hub_id
from vgrpo.models.index import read_index
from vgrpo.models.loading import make_policy
from vgrpo.models.policy import Policy
from vgrpo.models.published import PUBLISHED
from vgrpo.models.sizes import build
from vgrpo.models.supported import OwnAdapter, model_folder


def published(name: str, dtype: torch.dtype = torch.bfloat16, device: str = "meta", **settings: Any) -> Policy:
    """A policy around a published model of `PUBLISHED`; on a real device its network has random weights. `settings` are those
    of `make_policy`."""
    preset, parts = PUBLISHED[name], {}
    for part, (path, config) in preset.parts.items():
        with torch.device(device if part in ("transformer", "unet") else "meta"):
            parts[part] = build(path, config)
    return _policy(preset.pipeline, {**parts, **preset.options}, dtype, settings)


def from_folder(name: str, dtype: torch.dtype = torch.bfloat16, *, adapter: OwnAdapter = None, **settings: Any) -> Policy:
    """A policy around a model's folder or hub id, of which it reads configs only. `settings` are those of `make_policy`."""
    folder = model_folder(name, adapter)
    if is_hub_id(name):
        folder = fetch_configs(name)
    check_code(folder)
    found = {part: cls for part, cls in networks_of(folder).items() if (folder / part / "config.json").is_file()}
    with torch.device("meta"):
        parts = {part: _from_config(cls, folder / part) for part, cls in found.items()}
    index = read_index(folder)
    options = {name: value for name, value in index.items() if isinstance(value, bool | int | float) and name[0] != "_"}
    return _policy(index["_class_name"], parts | options, dtype, settings | {"adapter": adapter}, folder)


def _from_config(cls: Any, folder: Path) -> Any:
    if cls.__module__.startswith("transformers."):
        return cls(cls.config_class.from_pretrained(folder))
    return cls.from_config(cls.load_config(folder))


def _policy(
    kind: str, parts: dict[str, Any], dtype: torch.dtype, settings: dict[str, Any], folder: Path | None = None
) -> Policy:
    """The pipeline's own class around its parts and options, with nothing for parts that have no weights."""
    from diffusers import DDPMScheduler

    cls = pipeline_class(kind)
    parameters = inspect.signature(cls.__init__).parameters
    needed = [name for name, parameter in parameters.items() if name != "self" and parameter.default is parameter.empty]
    rest: dict[str, Any] = dict.fromkeys(needed) | {name: value for name, value in parts.items() if name in parameters}
    if "unet" in parts:
        rest["scheduler"] = DDPMScheduler(steps_offset=1, clip_sample=False)
    if "requires_safety_checker" in parameters:
        rest["requires_safety_checker"] = False
    pipeline = cls(**rest)
    pipeline.register_to_config(_name_or_path=str(folder))  # as of a pipeline that is loaded: the bundled one has defaults
    policy = make_policy(pipeline, **settings)
    torch.nn.Module.to(policy.module, dtype)  # diffusers' own warns of parts that it would load as fp32
    return policy
