"""`vgrpo sample`: pictures from a model, with or without a LoRA."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch

from vgrpo.config import require
from vgrpo.images import to_pil
from vgrpo.models import Policy, load_pipeline, make_policy, model_folder
from vgrpo.prompts import read_prompts
from vgrpo.rollout import draw_images, named_noise
from vgrpo.samplers import Solver


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
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
    steps: int = 16
    solver: Solver = "dpm_solver_2m"
    guidance: float = 1.0
    seed: int = 0
    device: str = "cpu"
    max_sequence_length: int | None = None
    """T5 tokens; None is 256, and 0 for sprites."""
    resolution: int | None = None
    """Pixels per side; None is the model's own."""
    num_frames: int | None = None
    """Frames of a video, of which the final one is saved; None is the model's own."""


def lora_file(lora: Path) -> Path:
    """The weights in a LoRA folder. Raises FileNotFoundError if it holds none."""
    weights = lora / "pytorch_lora_weights.safetensors"
    if not weights.is_file():
        raise FileNotFoundError(f"--lora {lora}: no {weights.name} in it; give a run's lora/ folder")
    return weights


def load_policy(
    model: str,
    lora: Path | None,
    device: str,
    max_sequence_length: int | None,
    resolution: int | None = None,
    num_frames: int | None = None,
) -> Policy:
    """A model for sampling. Raises FileNotFoundError if the LoRA folder holds none, ValueError for a size it cannot draw."""
    if max_sequence_length is None:
        max_sequence_length = 0 if model == "sprites" else 256
    model_folder(model)
    if lora is not None:
        lora_file(lora)
    pipeline = load_pipeline(model, device)
    if lora is not None:
        pipeline.load_lora_weights(lora)
    return make_policy(pipeline, max_sequence_length=max_sequence_length, resolution=resolution, num_frames=num_frames)


@torch.no_grad()
def sample(config: SampleConfig) -> None:
    """Write the images; the noise of each is named by the seed, its prompt's index and its own."""
    require(config.num_images >= 1, f"--num-images {config.num_images}: must be at least 1")
    require(config.steps >= 1, f"--steps {config.steps}: must be at least 1")
    require(config.guidance >= 1, f"--guidance {config.guidance}: must be at least 1, which is no guidance")
    prompts = read_prompts(config.prompts)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    policy = load_policy(
        config.model, config.lora, config.device, config.max_sequence_length, config.resolution, config.num_frames
    )
    with (config.output_dir / "prompts.jsonl").open("w") as file:
        for index, prompt in enumerate(prompts):
            noise = [named_noise(policy, config.seed, "sample", index, member) for member in range(config.num_images)]
            _, images = draw_images(
                policy,
                [prompt] * config.num_images,
                torch.stack(noise),
                solver=config.solver,
                num_steps=config.steps,
                guidance=config.guidance,
            )
            for member, image in enumerate(images):
                to_pil(image).save(config.output_dir / f"{index:05d}_{member:02d}.png")
            file.write(json.dumps(prompt.metadata | {"prompt": prompt.text}) + "\n")
    print(f"{len(prompts) * config.num_images} images in {config.output_dir}")
