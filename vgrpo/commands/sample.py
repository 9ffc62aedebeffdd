"""`vgrpo sample`: pictures from a model, with or without a LoRA."""

import json
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vgrpo.commands.options import parse
from vgrpo.core.images import to_pil
from vgrpo.models.defaults import defaults_of
from vgrpo.models.lengths import warn_of_cut_off
from vgrpo.models.loading import load_policy
from vgrpo.models.settings import ModelSettings
from vgrpo.models.sources import check_sources, with_image
from vgrpo.models.supported import edits_pictures
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.source_images import check_picture
from vgrpo.sampling.draw import all_noise, draw_images
from vgrpo.sampling.settings import OwnSampling
from vgrpo.support.checks import require
from vgrpo.support.folders import require_folder
from vgrpo.support.launched import launched
from vgrpo.support.memory_errors import out_of_memory_while


@dataclass(frozen=True, kw_only=True)
class SampleConfig(ModelSettings, OwnSampling):
    """Draw images for the prompts of a file."""

    prompts: Path
    """A file: .txt, one prompt a line, or .jsonl, .json, .csv or .tsv with the text in `prompt`, `prompts`, `caption` or
    `text`."""
    output_dir: Path
    """Gets 00000_00.png (prompt index, image index) and prompts.jsonl."""
    lora: Path | None = None
    """A run's lora/, or a LoRA of diffusers, peft or kohya: its folder or its .safetensors file."""
    image: Path | None = None
    """The source image of prompts without one, for models that edit a picture."""
    num_images: int = 4
    """Images per prompt."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check()
        require(1 <= self.num_images <= 10_000, f"--num-images {self.num_images}: must lie in 1 to 10,000")


@out_of_memory_while("drawing images")
@torch.no_grad()
def sample(config: SampleConfig) -> int:
    """Write the images and return how many; the noise of each is named by the seed, its prompt's index and its own. Of several
    processes each draws for every so many-th prompt."""
    prompts = read_prompts(config.prompts, sources=edits_pictures(config.model, config.adapter))
    if config.image is not None:
        check_picture(config.image, "--image")
        prompts = with_image(prompts, config.image.absolute())
    require_folder(config.output_dir, "--output-dir")
    policy = load_policy(config, lora=config.lora)
    check_sources(policy, prompts)
    warn_of_cut_off(policy, prompts)
    sampling = config.resolved(defaults_of(policy))
    config.output_dir.mkdir(parents=True, exist_ok=True)
    place = launched()
    mine = range(place.rank, len(prompts), place.size)
    if place.rank == 0:
        # str: a date is no JSON.
        lines = [json.dumps(prompt.metadata | {"prompt": prompt.text}, default=str) + "\n" for prompt in prompts]
        (config.output_dir / "prompts.jsonl").write_text("".join(lines))
    saving = list[Future[None]]()
    with ThreadPoolExecutor() as writers:  # PNGs are compressed while the next images are drawn
        for index in mine:
            noise = all_noise(policy, [(config.seed, "sample", index, member) for member in range(config.num_images)])
            _, images = draw_images(policy, [prompts[index]] * config.num_images, noise, sampling)
            _wait_for(saving)
            paths = [config.output_dir / f"{index:05d}_{member:02d}.png" for member in range(config.num_images)]
            saving = [writers.submit(_save, image, path) for image, path in zip(images, paths, strict=True)]
        _wait_for(saving)
    return len(mine) * config.num_images


def _save(image: Tensor, path: Path) -> None:
    to_pil(image).save(path)


def _wait_for(saving: list[Future[None]]) -> None:
    """Raises OSError for a picture that could not be written."""
    for each in saving:
        each.result()


def run(words: list[str]) -> None:
    config = parse(SampleConfig, words, prog="vgrpo sample", description="Draw images for the prompts of a file.")
    print(f"{sample(config)} images in {config.output_dir}")
