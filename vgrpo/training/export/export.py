"""A run's adapter as another tool reads it, or the whole pipeline with the adapter in it, with a model card."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from vgrpo.models.loading import load_policy
from vgrpo.models.lora_export import Format, export_lora
from vgrpo.models.settings import MemoryConfig
from vgrpo.pages.card import write_card
from vgrpo.support.checks import require
from vgrpo.support.folders import require_folder
from vgrpo.training.export.weights import adapter_folder
from vgrpo.training.settings.config_files import load_yaml
from vgrpo.training.settings.stages import Curriculum

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
USAGE = {
    "diffusers": "`pipeline.load_lora_weights(FOLDER)`, at a scale of 1.",
    "peft": "`PeftModel.from_pretrained(network, FOLDER)` of peft, or vgrpo's `--lora FOLDER`.",
    "comfyui": "Put the file into ComfyUI's `models/loras`, and load it at strength 1.",
    "kohya": "Any tool that reads the LoRA files of sd-scripts (A1111, Forge, ComfyUI), at strength 1.",
    "merged": "`DiffusionPipeline.from_pretrained(FOLDER)`.",
}


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """How a run's adapter is written."""

    format: Format = "diffusers"
    """Whose names the layers have. All have the adapter's full strength at a scale of 1."""
    merge: bool = False
    """Write the whole pipeline with the adapter in its weights instead."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the numbers in the file."""
    iteration: int | None = None
    """The checkpoint whose weights are written; None is the newest."""
    best: bool = False
    """Write the weights that scored best on the way, of a run with --eval.every."""
    output_dir: Path | None = None
    """Gets the files; None is export-FORMAT/ (or merged/) in the run's folder, with -best or the iteration if asked for."""

    def __post_init__(self) -> None:
        require(
            not self.merge or self.format == "diffusers",
            f"--format {self.format}: with --merge no adapter is written, but a whole pipeline of diffusers; leave one out",
        )
        require(not self.best or self.iteration is None, f"--iteration {self.iteration} --best: name one of the two")
        known = self.iteration is None or 1 <= self.iteration < 10**9
        require(known, f"--iteration {self.iteration}: must be that of a checkpoint, at least 1; leave it out for the newest")

    def target(self, run: Path) -> Path:
        name = "merged" if self.merge else f"export-{self.format}"
        name += "-best" if self.best else "" if self.iteration is None else f"-{self.iteration:06d}"
        return self.output_dir or run / name


def export(run: Path, config: ExportConfig) -> Path:
    """Write the files and the card; returns the folder. Raises FileNotFoundError for a folder without an adapter, or without
    the checkpoint."""
    if not (run / "config.yaml").is_file():
        raise FileNotFoundError(f"{run} is not a run's folder: it holds no config.yaml")
    settings = load_yaml(run / "config.yaml")
    if isinstance(settings, Curriculum):
        stages = ", ".join(settings.folder_name(index) for index in range(len(settings.stages)))
        raise ValueError(f"{run} holds several stages; name one of {stages}, the last of which has the final adapter")
    require(settings.finetune == "lora", f"{run}: trained without an adapter; pipeline/ in it is what diffusers loads")
    target = config.target(run)
    with adapter_folder(run, config.iteration, settings.lora.alpha / settings.lora.rank, best=config.best) as lora:
        require_folder(target, "--output-dir")
        if config.merge:
            _merge(settings.model_settings, lora, target, DTYPES[config.dtype])
        else:
            export_lora(lora, target, config.format, DTYPES[config.dtype], run.resolve().name)
    write_card(run, target, USAGE["merged" if config.merge else config.format], config.iteration, best=config.best)
    return target


def _merge(settings: Any, lora: Path, target: Path, dtype: torch.dtype) -> None:
    """In fp32, so that a small change of a weight is not lost before it is rounded once, also where the run quantised them. On
    the CPU: a network that was quantised to fit into a GPU does not fit there in fp32."""
    whole = MemoryConfig(weights="fp32")
    settings = replace(settings, device="cpu", precision="fp32", compile=False, attention=None, memory=whole)
    pipeline = load_policy(settings, lora=lora, full=True).pipeline
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    if dtype != torch.float32:
        pipeline.to(dtype)
    pipeline.save_pretrained(target)
