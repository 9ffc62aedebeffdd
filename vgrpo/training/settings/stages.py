"""The settings of a curriculum: stages that go on from each other's weights."""

import re
from dataclasses import dataclass
from pathlib import Path

from vgrpo.support.checks import require
from vgrpo.training.settings.config import Config


@dataclass(frozen=True)
class Stage:
    """A run within a curriculum: a name for its folder, and a run's settings."""

    name: str
    config: Config


@dataclass(frozen=True, kw_only=True)
class Curriculum:
    """Runs one after the other, each with its own prompts, rewards and settings, on one adapter."""

    stages: tuple[Stage, ...]
    output_dir: Path | None = None
    """The folder of the stages' run folders; by default a new one under runs/."""

    def __post_init__(self) -> None:
        require(len(self.stages) >= 1, "stages is empty: a curriculum needs at least one")
        for number, stage in enumerate(self.stages, 1):
            config, first, where = stage.config, self.stages[0].config, f"stage {number}"
            require(
                re.fullmatch(r"[\w-]+", stage.name) is not None,
                f"{where} is called {stage.name!r}: its name becomes a folder's, so letters, digits, - and _ only",
            )
            require(config.output_dir is None, f"{where}: leave out output_dir, its folder is inside the curriculum's")
            require(config.finetune == "lora", f"{where}: finetune={config.finetune}, but stages hand on an adapter; use lora")
            for key in ("model", "lora", "memory", "device"):  # the model is loaded once
                require(
                    getattr(config, key) == getattr(first, key), f"{where}: `{key}` differs from stage 1's; all stages share it"
                )

    def folder_name(self, index: int) -> str:
        """Of the stage with this index, from 0: `stage-1-preference`."""
        return f"stage-{index + 1}-{self.stages[index].name}"
