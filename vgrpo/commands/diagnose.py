"""`vgrpo diagnose`: measurements, a table, a plot, a recommendation."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from vgrpo.analysis.diagnose.measure import (
    PROBE_COUNTS,
    TECHNIQUES,
    Subject,
    gradient_norms,
    loss_by_time,
    ratio_moves,
    variation,
)
from vgrpo.core.seeds import seed_of
from vgrpo.models.attention import suitable_attention
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig, ModelSettings
from vgrpo.objectives import VGRPO
from vgrpo.prompts.sources import training_prompts
from vgrpo.sampling.draw import draw_groups
from vgrpo.sampling.settings import Sampling
from vgrpo.support.checks import require
from vgrpo.support.memory_errors import out_of_memory_while

GRADIENTS = ("all three", "not normalised", "v-prediction", "eps-prediction", "none, v-prediction")
NEARLY = 1.25  # a number of pairs is enough if the variation within groups is at most so many times that of 16


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig(ModelSettings, Sampling):
    """Measure how noisy a model's surrogate likelihood is, before training it."""

    output_dir: Path = Path("diagnosis")
    """Gets diagnosis.json and diagnosis.png."""
    prompts: str = "sprites"
    """`sprites`, or a file: .txt, one prompt a line, .jsonl or .csv with `prompt`."""
    num_prompts: int = 16
    group_size: int = 8
    num_timesteps: int = 40
    """Points of the schedule that t is drawn from."""
    lr: float = 3e-4
    """Learning rate of the step that the clip range is measured on."""
    lora: LoraConfig = field(default_factory=LoraConfig)
    """The adapter whose gradient is measured."""
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_prompts >= 1, f"num_prompts={self.num_prompts}: at least 1")
        require(self.group_size >= 2, f"group_size={self.group_size}: at least 2 images to compare within a group")
        require(self.num_prompts * self.group_size >= 8, "num_prompts times group_size must be at least 8 images")
        require(
            self.num_timesteps >= max(PROBE_COUNTS),
            f"num_timesteps={self.num_timesteps}: at least {max(PROBE_COUNTS)}, the most pairs that are tried",
        )


@out_of_memory_while("measuring")
def diagnose(model: str, config: DiagnoseConfig) -> dict[str, Any]:
    """Measure, write diagnosis.json and diagnosis.png, print a table; returns what diagnosis.json holds."""
    from vgrpo.analysis.diagnose.plots import plot  # first of all, so that a missing matplotlib is noticed now

    subject = _subject(model, config)
    with suitable_attention(subject.policy.device):  # gradient checkpointing computes the forward again in the backward
        found = {"model": model} | _measure(subject, config)
    found["recommended"] = recommend(found)
    config.output_dir.mkdir(parents=True, exist_ok=True)
    (config.output_dir / "diagnosis.json").write_text(json.dumps(found, indent=2) + "\n")
    plot(found, config.output_dir / "diagnosis.png")
    _print(found, config)
    return found


def _measure(subject: Subject, config: DiagnoseConfig) -> dict[str, Any]:
    objectives = {name: VGRPO(num_timesteps=config.num_timesteps, **changes) for name, changes in TECHNIQUES.items()}
    counts = {n: VGRPO(num_timesteps=config.num_timesteps, num_probes=n) for n in PROBE_COUNTS}
    moves = ratio_moves(subject, objectives["all three"], config.lr)
    num_images = config.num_prompts * config.group_size
    return {
        "num_images": num_images,
        "loss_by_time": loss_by_time(subject),
        "variation": {name: variation(subject, objective, name) for name, objective in objectives.items()},
        "variation_by_num_probes": {str(n): variation(subject, counts[n], str(n)) for n in PROBE_COUNTS},
        "gradient": {name: gradient_norms(subject, objectives[name], name, min(64, num_images)) for name in GRADIENTS},
        "ratio_move": {"lr": config.lr, "median": moves.quantile(0.5).item(), "p90": moves.quantile(0.9).item()},
    }


def _subject(model: str, config: DiagnoseConfig) -> Subject:
    prompts = training_prompts(config.prompts, config.seed)(0, config.num_prompts)
    policy = load_policy(replace(config, model=model))
    for part in policy.pipeline.components.values():
        if hasattr(part, "requires_grad_"):
            part.requires_grad_(False)
    rollout = draw_groups(
        policy,
        prompts,
        config.seed,
        "diagnose",
        group_size=config.group_size,
        sampling=config,
    )
    add_lora(policy, config.lora, seed_of(config.seed, "lora"))
    return Subject(
        policy=policy, rollout=rollout, guidance=config.guidance, micro_batch_size=config.batch_size, seed=config.seed
    )


def recommend(found: dict[str, Any]) -> dict[str, float]:
    """The fewest pairs whose variation within groups is nearly that of 16, and the clip range that leaves nine in ten ratios
    of one optimiser step alone."""
    within = {int(n): value["within"] for n, value in found["variation_by_num_probes"].items()}
    enough = min(n for n, value in within.items() if value <= NEARLY * within[max(within)])
    return {"num_probes": enough, "ratio_clip": float(f"{min(max(found['ratio_move']['p90'], 1e-4), 0.2):.1g}")}


def _print(found: dict[str, Any], config: DiagnoseConfig) -> None:
    console = Console()
    table = Table(title=f"coefficient of variation of the surrogate, {found['model']}, {found['num_images']} images")
    for name in ("", "all images", "within groups"):
        table.add_column(name, justify="right" if name else "left")
    for name, value in found["variation"].items():
        table.add_row(name, f"{value['overall']:.3f}", f"{value['within']:.3f}")
    table.add_section()
    for number, value in found["variation_by_num_probes"].items():
        table.add_row(
            f"all three, {number} pair{'' if number == '1' else 's'}", f"{value['overall']:.3f}", f"{value['within']:.3f}"
        )
    console.print(table)
    for name, value in found["gradient"].items():
        console.print(f"gradient norm against surrogate, {name}: R^2 {value['r2']:.3f}")
    best = found["recommended"]
    console.print(
        f"recommended: --objective.num-probes {best['num_probes']:.0f} --objective.ratio-clip {best['ratio_clip']:g} "
        f"(for several steps per rollout at lr {config.lr:g})\n{config.output_dir}/diagnosis.png, diagnosis.json"
    )
