"""curriculum.json: every reward and monitor of any stage on held-out prompts, before the first stage and after each."""

from contextlib import closing
from pathlib import Path
from typing import Any

from vgrpo.evaluation.core import judge_model, mean_over_tags
from vgrpo.evaluation.pictures import pictures_of
from vgrpo.models.loading import load_policy
from vgrpo.rewards.frames import show_to
from vgrpo.rewards.loading import load_rewards
from vgrpo.rewards.panel import Panel
from vgrpo.support.json_files import read_json, write_json
from vgrpo.training.config import Config
from vgrpo.training.stages import Curriculum
from vgrpo.training.task import calling
from vgrpo.training.task_prompts import main_prompts


class ScoreTable:
    """A row per reward and prompts; a column for the base model and one for each stage.

    Held-out prompts of several stages are drawn once for all their rewards, as the first of these stages evaluates.
    """

    def __init__(self, curriculum: Curriculum, folder: Path) -> None:
        self.path = folder / "curriculum.json"
        known: dict[str, Any] = read_json(self.path) if self.path.exists() else {"columns": [], "rows": []}
        self.columns: list[str] = known["columns"]
        self.rows: list[dict[str, Any]] = known["rows"]
        self.asked = _rewards_by_prompts(curriculum)

    def add(self, column: str, pipeline: Any) -> None:
        """Measure the pipeline as it is."""
        for prompts, (config, names) in self.asked.items():
            # Each time anew: they would fill the memory that a stage needs.
            panel = Panel.of(load_rewards(names, calling(config)))
            pictures = pictures_of(main_prompts(config).held_out, config.eval.num_images)
            with closing(panel):
                policy = load_policy(config.model_settings, pipeline)
                show_to(panel.rewards, policy)
                judged = judge_model(policy, pictures, panel, config.eval_sampling)
            for name, value in zip(names, mean_over_tags(judged.rewards, pictures), strict=True):
                self._row(name, prompts)["scores"][column] = None if value != value else round(value, 4)
        if column not in self.columns:
            self.columns.append(column)
        write_json(self.path, self.content())

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


def _rewards_by_prompts(curriculum: Curriculum) -> dict[str, tuple[Config, list[str]]]:
    """By the name of held-out prompts: the first stage that is evaluated on them, and the rewards of all that are."""
    asked: dict[str, tuple[Config, list[str]]] = {}
    for config in (stage.config for stage in curriculum.stages):
        prompts = config.eval_prompts or config.prompts
        if main_prompts(config).held_out:
            names = asked.setdefault(prompts, (config, []))[1]
            names.extend(name for name in (*config.reward, *config.monitor) if name not in names)
    return asked
