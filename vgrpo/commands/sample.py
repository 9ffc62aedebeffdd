"""`vgrpo sample`: pictures from a model, with or without a LoRA."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from vgrpo.core.images import to_pil
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_pipeline, make_policy, model_folder
from vgrpo.models.memory import fit
from vgrpo.models.policy import Policy
from vgrpo.models.precision import Precision, autocast_dtype, device_of, frozen_dtype, on_bf16_gpu
from vgrpo.models.quiet import without_no_news
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.weight_sets import adapted
from vgrpo.prompts.sources import read_prompts
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.sampling.settings import Sampling
from vgrpo.support.checks import require
from vgrpo.support.memory_errors import out_of_memory_while


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """How a model is loaded to draw with it; the rules are those of training."""

    device: str = "auto"
    """auto is cuda where there is one."""
    precision: Precision = "auto"
    """Arithmetic of the network; auto is bf16 where the hardware has it."""
    max_sequence_length: int | None = None
    """Tokens of the longest text encoder; None is the pipeline's own default, and 0 for sprites."""
    resolution: int | None = None
    """Pixels per side; None is the model's own."""
    num_frames: int | None = None
    """Frames of a video, of which the final one counts; None is the model's own."""
    memory: MemoryConfig = field(default_factory=MemoryConfig)


@dataclass(frozen=True, kw_only=True)
class SampleConfig(DrawOptions, Sampling):
    """Draw images for the prompts of a file."""

    prompts: Path
    """A .txt file, one prompt a line, or .jsonl or .csv with `prompt`."""
    output_dir: Path
    """Gets 00000_00.png (prompt index, image index) and prompts.jsonl."""
    model: str = "sprites"
    """`sprites`, the folder of a diffusers pipeline, or its ORG/NAME on the hub."""
    lora: Path | None = None
    """A folder that `vgrpo train` or diffusers wrote."""
    num_images: int = 4
    """Images per prompt."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_images >= 1, f"--num-images {self.num_images}: must be at least 1")


def lora_file(lora: Path) -> Path:
    """The weights in a LoRA folder. Raises FileNotFoundError if it holds none."""
    weights = lora / "pytorch_lora_weights.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"--lora {lora}: no {weights.name} in it; give a run's lora/ folder")
    return weights


def _load_lora(pipeline: Any, lora: Path, model: str) -> None:
    """Raises ValueError for an adapter of another network: diffusers would leave it out, or most of it, and say little."""
    try:
        with without_no_news():
            pipeline.load_lora_weights(lora)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"--lora {lora} does not fit {model}; was it trained on another? {why}") from error
    network = getattr(pipeline, "unet", None) or pipeline.transformer
    if not adapted(network):
        raise ValueError(f"--lora {lora} has no weights for the {type(network).__name__} of {model}: it is of another model")


@out_of_memory_while("loading the model")
def load_policy(model: str, lora: Path | None, options: DrawOptions) -> Policy:
    """A model for sampling. Raises FileNotFoundError if the LoRA folder holds none, ValueError for a size it cannot draw."""
    length = options.max_sequence_length
    if length is None and model == "sprites":
        length = 0
    model_folder(model)
    if lora is not None:
        lora_file(lora)
    device = device_of(options.device)
    pipeline = load_pipeline(model, device, frozen_dtype(options.memory.weights, on_bf16_gpu(device)))
    if lora is not None:
        _load_lora(pipeline, lora, model)
    policy = make_policy(
        pipeline,
        max_sequence_length=length,
        resolution=options.resolution,
        num_frames=options.num_frames,
        autocast=autocast_dtype(options.precision, device),
    )
    fit(policy, options.memory)
    return policy


@out_of_memory_while("drawing images")
@torch.no_grad()
def sample(config: SampleConfig) -> None:
    """Write the images; the noise of each is named by the seed, its prompt's index and its own."""
    prompts = read_prompts(config.prompts)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    policy = load_policy(config.model, config.lora, config)
    warn_of_cut_off(policy, prompts)
    with (config.output_dir / "prompts.jsonl").open("w") as file:
        for index, prompt in enumerate(prompts):
            noise = [named_noise(policy, config.seed, "sample", index, member) for member in range(config.num_images)]
            _, images = draw_images(policy, [prompt] * config.num_images, torch.stack(noise), config)
            for member, image in enumerate(images):
                to_pil(image).save(config.output_dir / f"{index:05d}_{member:02d}.png")
            file.write(json.dumps(prompt.metadata | {"prompt": prompt.text}, default=str) + "\n")  # str: a date is no JSON
    print(f"{len(prompts) * config.num_images} images in {config.output_dir}")
