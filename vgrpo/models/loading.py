"""Models: one file per architecture, an adapter from a diffusers pipeline to the small interface the trainer needs."""

import importlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from vgrpo.models.hub import fetch_index, fetch_pipeline, is_hub_id, lacking, read_index
from vgrpo.models.policy import Policy
from vgrpo.models.quiet import without_no_news

ADAPTERS = {
    "StableDiffusion3Pipeline": "vgrpo.models.adapters.sd3:SD3Policy",
    "FluxPipeline": "vgrpo.models.adapters.flux:FluxPolicy",
    "Flux2Pipeline": "vgrpo.models.adapters.flux2:Flux2Policy",
    "QwenImagePipeline": "vgrpo.models.adapters.qwen_image:QwenImagePolicy",
    "SanaPipeline": "vgrpo.models.adapters.sana:SanaPolicy",
    "WanPipeline": "vgrpo.models.adapters.wan:WanPolicy",
    "StableDiffusionPipeline": "vgrpo.models.adapters.unet:StableDiffusionPolicy",
    "StableDiffusionXLPipeline": "vgrpo.models.adapters.unet:SDXLPolicy",
}
SUPPORTED = tuple(ADAPTERS)


def model_folder(name: str) -> Path:
    """The folder of a model named on the command line, checked without loading it. Of a model on the hub it may hold no more
    than model_index.json yet: `vgrpo.models.hub` fetches the rest.

    Raises FileNotFoundError or ValueError, saying what a model is, if it is not a supported pipeline's; PermissionError if it
    is gated.
    """
    if is_hub_id(name):
        folder = fetch_index(name).parent
    else:
        folder = Path(__file__).parents[1] / "worlds/sprites/base" if name == "sprites" else Path(name)
    index = folder / "model_index.json"
    if not index.is_file():
        raise FileNotFoundError(
            f"--model {name}: no {index}, so this is not a diffusers pipeline folder; give `sprites`, a folder that "
            "`pipeline.save_pretrained` wrote, or a model of the hub as ORG/NAME"
        )
    kind = read_index(folder).get("_class_name")
    if kind not in SUPPORTED:
        raise ValueError(f"--model {name} is a {kind}; supported are {', '.join(SUPPORTED)}. To add one, see docs/models.md")
    return folder


def check_model(name: str) -> Path:
    """`model_folder`; of a model on this machine also that nothing is missing, else FileNotFoundError."""
    folder = model_folder(name)
    missing = [] if is_hub_id(name) else lacking(folder)
    if missing:
        raise FileNotFoundError(
            f"--model {name}: {folder} lacks {', '.join(missing)}; copy what is missing there, or save the pipeline again"
        )
    return folder


def load_pipeline(
    name: str, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32, network_dtype: torch.dtype | None = None
) -> Any:
    """Load a pipeline by name, folder or hub id onto a device, its network in a type of its own if one is given. The
    autoencoder stays fp32: it is small, and images show rounding.

    Raises what `check_model` does, and ValueError for damaged weights.
    """
    folder = check_model(name)
    if is_hub_id(name):
        folder = fetch_pipeline(name)
    parts = read_index(folder)
    absent = ["safety_checker"] if "safety_checker" in parts else []  # nobody trains behind one
    if parts["_class_name"] == "StableDiffusion3Pipeline":  # runs without its T5, but must be told that there is none
        absent += [part for part in ("text_encoder_3", "tokenizer_3") if parts.get(part) in (None, [None, None])]
    network = "unet" if "unet" in parts else "transformer"
    dtypes = {"default": dtype, "vae": torch.float32, network: network_dtype or dtype}
    with without_no_news(bars=name != "sprites"):
        from diffusers import DiffusionPipeline

        try:
            return DiffusionPipeline.from_pretrained(folder, torch_dtype=dtypes, **dict.fromkeys(absent)).to(device)
        except SafetensorError as error:
            raise ValueError(f"--model {name}: damaged weights in {folder} ({error}); copy or download them again") from error


def make_policy(
    pipeline: Any,
    *,
    max_sequence_length: int | None = None,
    resolution: int | None = None,
    num_frames: int | None = None,
    autocast: torch.dtype | None = None,
) -> Policy:
    """The adapter for a pipeline in memory; what is None is the pipeline's own. Raises TypeError for an unsupported class,
    ValueError for a resolution or a number of frames that the architecture cannot draw."""
    kind = type(pipeline).__name__
    if kind not in ADAPTERS:
        raise TypeError(f"a {kind} cannot be trained yet; supported are {', '.join(SUPPORTED)}")
    pipeline.set_progress_bar_config(disable=True)
    module, name = ADAPTERS[kind].split(":")
    adapter = getattr(importlib.import_module(module), name)
    if max_sequence_length is None:
        max_sequence_length = adapter.default_length(pipeline)
    policy: Policy = adapter(
        pipeline=pipeline,
        max_sequence_length=max_sequence_length,
        resolution=resolution,
        num_frames=num_frames,
        autocast=autocast,
    )
    _check_size(policy, resolution, num_frames)
    return policy


def _check_size(policy: Policy, resolution: int | None, num_frames: int | None) -> None:
    kind, step = type(policy.pipeline).__name__, policy.pixel_step
    if resolution is not None and (resolution < step or resolution % step):
        near = max(1, round(resolution / step)) * step
        raise ValueError(f"resolution={resolution}: a {kind} draws multiples of {step} pixels per side; {near} is the nearest")
    if num_frames is None:
        return
    frame_step = policy.frame_step
    if frame_step is None:
        raise ValueError(f"num_frames={num_frames}: a {kind} draws single images; leave it out")
    if num_frames < 1 or (num_frames - 1) % frame_step:
        near = max(0, round((num_frames - 1) / frame_step)) * frame_step + 1
        raise ValueError(f"num_frames={num_frames}: a {kind} draws {frame_step}k + 1 frames; {near} is the nearest")
