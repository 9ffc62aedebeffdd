"""Which pipelines can be trained: those with an adapter here, and any other of diffusers' with an adapter of the user's."""

import importlib
from pathlib import Path
from typing import Any

from vgrpo.models.bundled import INDEX, bundled_models
from vgrpo.models.classes import networks_of, pipeline_class
from vgrpo.models.folder import lacking
from vgrpo.models.hub import fetch_index, is_hub_id
from vgrpo.models.index import read_index, read_parts
from vgrpo.models.policy import Policy
from vgrpo.support.dotted import load_dotted

ADAPTERS = {
    "StableDiffusion3Pipeline": "vgrpo.models.adapters.sd3:SD3Policy",
    "FluxPipeline": "vgrpo.models.adapters.flux:FluxPolicy",
    "FluxKontextPipeline": "vgrpo.models.adapters.flux_kontext:FluxKontextPolicy",
    "Flux2Pipeline": "vgrpo.models.adapters.flux2:Flux2Policy",
    "Flux2KleinPipeline": "vgrpo.models.adapters.flux2_klein:Flux2KleinPolicy",
    "QwenImagePipeline": "vgrpo.models.adapters.qwen_image:QwenImagePolicy",
    "SanaPipeline": "vgrpo.models.adapters.sana:SanaPolicy",
    "QwenImageEditPipeline": "vgrpo.models.adapters.qwen_image_edit:QwenImageEditPolicy",
    "ZImagePipeline": "vgrpo.models.adapters.z_image:ZImagePolicy",
    "WanPipeline": "vgrpo.models.adapters.wan:WanPolicy",
    "StableDiffusionPipeline": "vgrpo.models.adapters.unet:StableDiffusionPolicy",
    "StableDiffusionXLPipeline": "vgrpo.models.adapters.unet:SDXLPolicy",
}
OwnAdapter = str | type[Policy] | None
"""A user's adapter, as my_file:MyPolicy or as the class."""


def adapter_of(kind: str, own: OwnAdapter = None) -> type[Policy]:
    """The adapter for a pipeline's class, a user's own before ours.

    Raises TypeError if there is none, ValueError for an own one that cannot be found or is no Policy.
    """
    if own is None and kind not in ADAPTERS:
        raise TypeError(f"a {kind} cannot be trained yet: {_way_out()}")
    if own is None:
        module, name = ADAPTERS[kind].split(":")
        found: Any = getattr(importlib.import_module(module), name)
    else:
        found = load_dotted(own, "adapter") if isinstance(own, str) else own
    if not isinstance(found, type) or not issubclass(found, Policy):
        raise ValueError(f"adapter {own}: not a subclass of vgrpo.models.policy.Policy; docs/models.md shows one")
    missing = sorted(getattr(found, "__abstractmethods__", ()))
    if missing:
        raise ValueError(f"adapter {own}: the class leaves out {', '.join(missing)}; docs/models.md shows one")
    return found


def model_folder(name: str, adapter: OwnAdapter = None) -> Path:
    """The folder of a model named on the command line, checked without loading it. Of a model on the hub it may hold no more
    than model_index.json yet: `vgrpo.models.hub` fetches the rest.

    Raises FileNotFoundError or ValueError, saying what a model is, if it is not a supported pipeline's; PermissionError if it
    is gated.
    """
    here = bundled_models().get(name, Path(name))
    if here.is_file():
        raise ValueError(
            f"--model {name} is a file; make a folder of it once: vgrpo convert {name} --output-dir FOLDER [--base MODEL]"
        )
    folder = fetch_index(name).parent if is_hub_id(name) else here
    index = folder / INDEX
    if not index.is_file():
        raise FileNotFoundError(
            f"--model {name}: no {index}, so this is not a diffusers pipeline folder; give "
            f"{', '.join(bundled_models())}, a folder that `pipeline.save_pretrained` wrote, or a model of the hub as ORG/NAME"
        )
    kind = read_index(folder)["_class_name"]
    if adapter is None and kind not in ADAPTERS:
        raise ValueError(f"--model {name} is a {kind[:80]}; {_way_out()}")
    if adapter is not None and pipeline_class(kind) is None:
        raise ValueError(f"--model {name} is a {kind[:80]}, which diffusers does not have; an adapter needs one that it has")
    read_parts(folder)
    return folder


def check_model(name: str, adapter: OwnAdapter = None) -> Path:
    """`model_folder`; the user's adapter is there too, and of a model on this machine nothing is missing, else
    FileNotFoundError, and nothing could run code, else ValueError."""
    folder = model_folder(name, adapter)
    index = read_index(folder)
    policy = adapter_of(index["_class_name"], adapter)
    policy.check_index(index)
    trained = policy.network
    if trained not in networks_of(folder):
        raise ValueError(f"--model {name}: {folder / INDEX} names no {trained}, the part that would be trained")
    missing = [] if is_hub_id(name) else lacking(folder)
    if missing:
        raise FileNotFoundError(
            f"--model {name}: {folder} lacks {', '.join(missing)}; copy what is missing there, or save the pipeline again"
        )
    return folder


def edits_pictures(name: str, adapter: OwnAdapter = None, pipeline: Any = None) -> bool:
    """Whether a model, or the pipeline in memory, takes a source image with every prompt. Raises what `model_folder` does."""
    kind = read_index(model_folder(name, adapter))["_class_name"] if pipeline is None else type(pipeline).__name__
    return adapter_of(kind, adapter).takes_image


def _way_out() -> str:
    return f"supported are {', '.join(ADAPTERS)}. For another give your own, --adapter my_file:MyPolicy; see docs/models.md"
