"""curriculum.json: every reward and monitor of any stage on held-out prompts, before the first stage and after each."""

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from vgrpo.core.processes import Processes
from vgrpo.evaluation.core import judge_shared, mean_over_tags
from vgrpo.evaluation.pictures import pictures_of
from vgrpo.models.loading import load_policy
from vgrpo.rewards.frames import show_to
from vgrpo.rewards.loading import load_rewards
from vgrpo.rewards.panel import Panel
from vgrpo.support.interrupts import Interrupts
from vgrpo.support.json_files import read_json, write_json
from vgrpo.training.processes.together import agreed_precision, check_together
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.stages import Curriculum
from vgrpo.training.tasks.prompts import main_prompts
from vgrpo.training.tasks.task import calling


class ScoreTable:
    """A row per reward and prompts; a column for the base model and one for each stage.

    Held-out prompts of several stages are drawn once for all their rewards, as the first of these stages evaluates. Several
    processes share the pictures; the first keeps the file, and all know what is in it.
    """

    def __init__(self, curriculum: Curriculum, folder: Path, pipeline: Any, processes: Processes) -> None:
        self.path, self.pipeline, self.processes = folder / "curriculum.json", pipeline, processes
        known: dict[str, Any] = {"columns": [], "rows": []}
        if processes.rank == 0 and self.path.exists():
            known = read_json(self.path)
        known = json.loads(processes.told(json.dumps(known).encode()))
        self.columns: list[str] = known["columns"]
        self.rows: list[dict[str, Any]] = known["rows"]
        self.asked = _rewards_by_prompts(curriculum, pipeline)

    def add(self, column: str) -> None:
        """Measure the pipeline as it is. A signal to one of the processes raises StopRequested in all of them, before the next
        pictures or after the column is kept."""
        with Interrupts() as interrupts:
            means = {prompts: self._means(*asked, interrupts) for prompts, asked in self.asked.items()}
            for prompts, values in means.items():
                for name, value in values.items():
                    self._row(name, prompts)["scores"][column] = None if value != value else round(value, 4)
            if column not in self.columns:
                self.columns.append(column)
            if self.processes.rank == 0:
                write_json(self.path, self.content())
            check_together(interrupts, self.processes)

    def _means(self, config: Config, names: list[str], interrupts: Interrupts) -> dict[str, float]:
        """By the name of the reward, NaN where it judged no picture."""
        processes, pipeline = self.processes, self.pipeline
        settings = config.model_settings
        settings = replace(settings, precision=agreed_precision(settings.precision, settings.device, pipeline, processes))
        pictures = pictures_of(main_prompts(config, pipeline=pipeline).held_out, config.eval.num_images)
        # Each time anew: they would fill the memory that a stage needs.
        with closing(Panel.of(load_rewards(names, calling(config)))) as panel:
            policy = load_policy(settings, pipeline)
            show_to(panel.rewards, policy)
            judged = judge_shared(
                policy,
                pictures,
                panel,
                config.eval_sampling,
                between=lambda _: check_together(interrupts, processes),
                processes=processes,
            )
        return dict(zip(names, mean_over_tags(judged.rewards, pictures), strict=True))

    def _row(self, reward: str, prompts: str) -> dict[str, Any]:
        row = next((row for row in self.rows if (row["reward"], row["prompts"]) == (reward, prompts)), None)
        if row is None:
            row = {"reward": reward, "prompts": prompts, "scores": {}}
            self.rows.append(row)
        return row

    def content(self) -> dict[str, Any]:
        return {"columns": self.columns, "rows": self.rows}

    def text(self) -> str:
        """For a terminal: the columns by their numbers."""
        names = [column.removeprefix("stage-").replace("-", " ", 1) for column in self.columns]
        labels = [f"{row['reward']}, {row['prompts']}" for row in self.rows]
        width = max(map(len, labels), default=0)
        lines = [f"held-out rewards, base model and after each stage: {', '.join(names[1:])}"]
        lines.append(" " * width + "".join(f"{name.split()[0]:>8}" for name in names))
        for label, row in zip(labels, self.rows, strict=True):
            scores = [row["scores"].get(column) for column in self.columns]
            lines.append(f"{label:{width}}" + "".join(f"{'failed' if s is None else f'{s:.3f}':>8}" for s in scores))
        return "\n".join(lines)


def _rewards_by_prompts(curriculum: Curriculum, pipeline: Any) -> dict[str, tuple[Config, list[str]]]:
    """By the name of held-out prompts: the first stage that is evaluated on them, and the rewards of all that are."""
    asked: dict[str, tuple[Config, list[str]]] = {}
    for config in (stage.config for stage in curriculum.stages):
        prompts = config.eval_prompts or config.prompts
        if main_prompts(config, pipeline=pipeline).held_out:
            names = asked.setdefault(prompts, (config, []))[1]
            names.extend(name for name in (*config.reward, *config.monitor) if name not in names)
    return asked
