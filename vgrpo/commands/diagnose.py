"""`vgrpo diagnose`: measurements, a table, a plot, a recommendation."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from vgrpo.analysis.diagnose.diagnosis import diagnosis
from vgrpo.analysis.diagnose.measure import PROBE_COUNTS, Subject
from vgrpo.commands.options import parse, take_name
from vgrpo.commands.screen import Screen
from vgrpo.core.seeds import seed_of
from vgrpo.core.types import Prompt
from vgrpo.models.defaults import defaults_of
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import add_lora, freeze
from vgrpo.models.policy import Policy
from vgrpo.models.settings import LoraConfig, ModelSettings
from vgrpo.models.supported import edits_pictures
from vgrpo.prompts.sources import training_prompts
from vgrpo.sampling.draw import draw_groups
from vgrpo.sampling.settings import OwnSampling, Sampling
from vgrpo.support.checks import require, require_within
from vgrpo.support.folders import require_folder
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.rollouts.settings import MOST_IMAGES

DESCRIPTION = "Measure how noisy a model's surrogate likelihood is on its own images, before training it."


@dataclass(frozen=True, kw_only=True)
class DiagnoseConfig(ModelSettings, OwnSampling):
    """Measure how noisy a model's surrogate likelihood is, before training it."""

    output_dir: Path = Path("diagnosis")
    """Gets diagnosis.json and diagnosis.png."""
    prompts: str = "sprites"
    """`sprites`, or a file: .txt, one prompt a line, or .jsonl, .json, .csv or .tsv with the text in `prompt`, `prompts`,
    `caption` or `text`."""
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
        self.check()
        require(self.lr > 0, f"lr={self.lr}: the learning rate must be above 0")
        require(self.num_prompts >= 1, f"num_prompts={self.num_prompts}: at least 1")
        require(self.group_size >= 2, f"group_size={self.group_size}: at least 2 images to compare within a group")
        require_within(self, lr=(0, 1000), num_prompts=(1, 10_000), group_size=(2, 10_000), num_timesteps=(1, 10_000))
        total = self.num_prompts * self.group_size
        require(
            8 <= total <= MOST_IMAGES, f"num_prompts times group_size is {total:,}: must lie in 8 to {MOST_IMAGES:,} images"
        )
        require(
            self.num_timesteps >= max(PROBE_COUNTS),
            f"num_timesteps={self.num_timesteps}: at least {max(PROBE_COUNTS)}, the most pairs that are tried",
        )


def run(words: list[str]) -> None:
    words, model = take_name(words, "sprites")
    default = DiagnoseConfig(model=model)
    config = parse(DiagnoseConfig, words, prog="vgrpo diagnose MODEL", description=DESCRIPTION, default=default)
    _print(diagnose(config), config)


@out_of_memory_while("measuring")
def diagnose(config: DiagnoseConfig) -> dict[str, Any]:
    """Measure, write diagnosis.json and diagnosis.png; returns what diagnosis.json holds."""
    from vgrpo.analysis.diagnose.plots import plot  # first of all, so that a missing matplotlib is noticed now

    require_folder(config.output_dir, "--output-dir")
    sources = edits_pictures(config.model, config.adapter)
    prompts = training_prompts(config.prompts, config.seed, sources=sources)(0, config.num_prompts)
    policy = load_policy(config)
    own = defaults_of(policy)
    sampling = config.resolved(own)
    subject = _subject(config, policy, prompts, sampling)
    with policy.attention():  # gradient checkpointing computes the forward again in the backward
        found = diagnosis(subject, config.num_timesteps, config.lr)
    drawn = {name: getattr(sampling, name) for name in own._fields}
    found = {"model": config.model} | drawn | found
    config.output_dir.mkdir(parents=True, exist_ok=True)
    (config.output_dir / "diagnosis.json").write_text(json.dumps(found, indent=2) + "\n")
    plot(found, config.output_dir / "diagnosis.png")
    return found


def _subject(config: DiagnoseConfig, policy: Policy, prompts: list[Prompt], sampling: Sampling) -> Subject:
    freeze(policy)
    rollout = draw_groups(
        policy,
        prompts,
        config.seed,
        "diagnose",
        group_size=config.group_size,
        sampling=sampling,
    )
    add_lora(policy, config.lora, seed_of(config.seed, "lora"))
    return Subject(
        policy=policy, rollout=rollout, guidance=sampling.guidance, micro_batch_size=config.batch_size, seed=config.seed
    )


def _print(found: dict[str, Any], config: DiagnoseConfig) -> None:
    screen = Screen()
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
    screen.print(table)
    for name, value in found["gradient"].items():
        screen.print(f"gradient norm against surrogate, {name}: R^2 {value['r2']:.3f}")
    best = found["recommended"]
    screen.print(
        f"recommended: --objective.num-probes {best['num_probes']:.0f} --objective.ratio-clip {best['ratio_clip']:g} "
        f"(for several steps per rollout at lr {config.lr:g})\n{config.output_dir}/diagnosis.png, diagnosis.json"
    )
