"""A model from its name, its folder or a pipeline in memory to the small interface that the trainer needs."""

from pathlib import Path
from typing import Any

import torch

from vgrpo.models.attention import choose_attention
from vgrpo.models.bundled import is_bundled
from vgrpo.models.classes import absent_parts, networks_of
from vgrpo.models.compiled import compile_blocks
from vgrpo.models.finite import check_finite
from vgrpo.models.hub import fetch_pipeline, is_hub_id
from vgrpo.models.lora import load_lora
from vgrpo.models.lora_files import check_lora_file, lora_file
from vgrpo.models.memory import fit
from vgrpo.models.networks import damaged, load_network
from vgrpo.models.policy import Policy
from vgrpo.models.precision import allow_tf32, autocast_dtype, device_of, frozen_dtype, on_bf16_gpu
from vgrpo.models.quantised import check_quantised, is_quantised, loading_options, to_int8
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.resolution import Resolution, sides_of
from vgrpo.models.schedulers import check_scheduler
from vgrpo.models.settings import MemoryConfig, ModelSettings
from vgrpo.models.supported import OwnAdapter, adapter_of, check_model
from vgrpo.models.text_store import text_encoders
from vgrpo.support.folders import require_folder
from vgrpo.support.memory_errors import out_of_memory_while

NETWORKS = ("unet", "transformer")
"""How pipelines call the part that is trained."""
WHOLE = MemoryConfig()


@out_of_memory_while("loading the model")
def load_policy(
    settings: ModelSettings, pipeline: Any = None, lora: Path | None = None, *, full: bool = False, sharded: bool = False
) -> Policy:
    """The model that the settings name, or a pipeline in memory, as training and drawing see it.

    `lora` is a folder with an adapter to draw with. With `full` the whole network will be trained, so it is never rounded,
    not even where it starts. With `sharded` it stays in the CPU's memory, from where its parts are spread. Raises
    FileNotFoundError for what is not there, ValueError for what cannot be loaded, drawn or chosen, and for weights that are no
    numbers.
    """
    settings.check()
    if lora is not None:
        check_lora_file(lora_file(lora, "--lora"), "--lora")
    if settings.memory.prompt_cache is not None:
        require_folder(settings.memory.prompt_cache, "--memory.prompt-cache")
    check_quantised(settings.memory.weights, full=full)
    device = device_of(settings.device) if pipeline is None else None
    if device is not None:
        frozen = frozen_dtype(settings.memory.weights, on_bf16_gpu(device), full=full)
        network = torch.float32 if full else None
        pipeline = load_pipeline(
            settings.model, device, frozen, network, adapter=settings.adapter, memory=settings.memory, sharded=sharded
        )
    policy = make_policy(
        pipeline,
        max_sequence_length=settings.max_sequence_length,
        resolution=settings.resolution,
        num_frames=settings.num_frames,
        adapter=settings.adapter,
    )
    if is_quantised(settings.memory.weights) and not getattr(policy.module, "is_quantized", False):
        weights = settings.memory.weights
        raise ValueError(f"memory.weights={weights}: a pipeline in memory stays as it is; quantise it when you load it")
    policy.autocast = autocast_dtype(settings.precision, device or policy.device)
    allow_tf32(settings.precision, device or policy.device)
    check_finite(pipeline)
    if lora is not None:
        load_lora(policy, lora, settings.model)
    fit(policy, settings.memory)
    if settings.attention is not None:
        choose_attention(policy.module, settings.attention)
    if settings.compile:
        compile_blocks(policy.module)
    return policy


def load_pipeline(
    name: str,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    network_dtype: torch.dtype | None = None,
    *,
    adapter: OwnAdapter = None,
    memory: MemoryConfig = WHOLE,
    sharded: bool = False,
) -> Any:
    """Load a pipeline by name, folder or hub id onto a device, its network in a type of its own if one is given. The
    autoencoder stays fp32: it is small, and images show rounding. `memory` says whether the network is quantised, and whether
    the text encoders stay behind, as a network does that will be spread over processes (`sharded`).

    Raises what `check_model` does, and ValueError for damaged weights.
    """
    folder = check_model(name, adapter)
    if is_hub_id(name):
        folder = fetch_pipeline(name)
    dtypes = {"vae": torch.float32} | dict.fromkeys(NETWORKS, network_dtype or dtype)
    networks: dict[str, Any] = dict.fromkeys(absent_parts(folder))
    with without_loading_chatter(bars=not is_bundled(folder)):
        for part, cls in networks_of(folder).items():
            own = dtypes.get(part, dtype)
            weights = memory.weights if part in NETWORKS else "auto"
            networks[part] = load_network(cls, folder / part, own, **loading_options(weights, own, device))
            if weights == "int8":
                to_int8(networks[part], device)
        pipeline = load_rest(folder, networks, {"default": dtype} | dtypes)
        behind = text_encoders(pipeline) if memory.offload_encoders else []
        if sharded:
            behind += [getattr(pipeline, name) for name in NETWORKS if hasattr(pipeline, name)]
        return _place(pipeline, device, behind)


def _place(pipeline: Any, device: str | torch.device, behind: list[torch.nn.Module]) -> Any:
    """Move what computes on a device there, and nothing that would not fit beside it: a quantised part was loaded there."""
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module) and not getattr(part, "is_quantized", False) and part not in behind:
            part.to(device)
    return pipeline


def load_rest(folder: Path, networks: dict[str, Any], dtypes: dict[str, torch.dtype]) -> Any:
    """The pipeline around its networks: tokenizers and the scheduler come from the folder too. The types are those that the
    networks have: without them diffusers makes fp32 of a network that keeps some of its layers in it."""
    from diffusers import DiffusionPipeline

    try:
        pipeline = DiffusionPipeline.from_pretrained(
            folder, torch_dtype=dtypes, local_files_only=True, use_safetensors=True, **networks
        )
    except Exception as error:  # as above
        raise damaged(folder, error) from error
    # Of a part that a pipeline can be without (Wan's transformer) diffusers loads its own, which is not quantised.
    pipeline.register_modules(**{name: part for name, part in networks.items() if part is not None})
    return pipeline


def make_policy(
    pipeline: Any,
    *,
    max_sequence_length: int | None = None,
    resolution: Resolution | None = None,
    num_frames: int | None = None,
    autocast: torch.dtype | None = None,
    adapter: OwnAdapter = None,
) -> Policy:
    """The adapter for a pipeline in memory; what is None is the pipeline's own. Text for the bundled model has length 0, as in
    its training.

    Raises TypeError for an unsupported class, ValueError for a resolution or a number of frames that the architecture cannot
    draw, and for a scheduler of another kind of network.
    """
    cls = adapter_of(type(pipeline).__name__, adapter)
    pipeline.set_progress_bar_config(disable=True)
    if max_sequence_length is None:
        bundled = is_bundled(getattr(pipeline.config, "_name_or_path", ""))
        max_sequence_length = 0 if bundled else cls.default_length(pipeline)
    policy = cls(
        pipeline=pipeline,
        max_sequence_length=max_sequence_length,
        resolution=resolution,
        num_frames=num_frames,
        autocast=autocast,
    )
    _check_size(policy, resolution, num_frames)
    if adapter is None:  # a user's own knows its convention itself
        check_scheduler(policy)
    return policy


def _check_size(policy: Policy, resolution: Resolution | None, num_frames: int | None) -> None:
    kind, step = type(policy.pipeline).__name__, policy.pixel_step
    sides = () if resolution is None else sides_of(resolution)
    if any(side % step for side in sides):
        height, width = (max(1, round(side / step)) * step for side in sides)
        near = height if isinstance(resolution, int) else f"{width}x{height}"
        raise ValueError(f"resolution={resolution}: a {kind} draws multiples of {step} pixels per side; {near} is the nearest")
    if num_frames is None:
        return
    frame_step = policy.frame_step
    if frame_step is None:
        raise ValueError(f"num_frames={num_frames}: a {kind} draws single images; leave it out")
    if num_frames < 1 or (num_frames - 1) % frame_step:
        near = max(0, round((num_frames - 1) / frame_step)) * frame_step + 1
        raise ValueError(f"num_frames={num_frames}: a {kind} draws {frame_step}k + 1 frames; {near} is the nearest")
