"""A curriculum: runs one after the other on one adapter, with the rewards of all stages measured after each.

A stage is an ordinary run in a folder of its own that starts from the adapter the stage before saved, with a fresh optimiser.
"""

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from vgrpo.evaluation.core import judge_model, mean_over_tags
from vgrpo.models.loading import load_policy
from vgrpo.models.lora import check_init
from vgrpo.models.supported import check_model
from vgrpo.prompts.sources import evaluation_prompts, held_out_name, training_prompts
from vgrpo.rewards.registry import RewardError, load_reward
from vgrpo.support.files import write_whole
from vgrpo.support.memory_errors import GpuMemoryError
from vgrpo.training.config import Config
from vgrpo.training.config_files import save_yaml
from vgrpo.training.events import Listener
from vgrpo.training.loop import Result, train
from vgrpo.training.stages import Curriculum
from vgrpo.training.start import Given, new_folder


def train_curriculum(
    curriculum: Curriculum,
    *,
    pipeline: Any = None,
    resume: bool = False,
    quiet: bool = False,
    listeners: Iterable[Listener] = (),
) -> Result:
    """Run all stages, or go on with them; a pipeline in memory takes the place of the named model.

    Raises what `vgrpo.train` raises; all stages' prompts, rewards and the model are checked before the first.
    """
    _check(curriculum, has_pipeline=pipeline is not None)
    folder = _folder(curriculum, resume)
    console = Console(quiet=quiet, highlight=False)
    first = curriculum.stages[0].config
    pipeline = load_policy(first.model_settings, pipeline, full=first.finetune == "full").pipeline
    scores = Scores(curriculum, folder)
    if not scores.columns:
        console.print(f"run folder {folder}\nevaluating the base model on the rewards of all stages")
        scores.add("base", pipeline)
    last = len(curriculum.stages) - 1
    # A finished curriculum, resumed, repeats the end of its last stage, as a finished run does.
    for index in range(min(len(scores.columns) - 1, last), last + 1):
        name = curriculum.folder_name(index)
        console.print(f"\n[bold]stage {index + 1} of {last + 1}: {curriculum.stages[index].name}[/]")
        try:
            train(
                stage_config(curriculum, folder, index),
                Given(pipeline=pipeline),
                resume=_begun(folder / name),
                listeners=listeners,
            )
        except (KeyboardInterrupt, RewardError, GpuMemoryError):
            console.print(f"or, to go on with all stages,\n  vgrpo train {folder}/config.yaml --resume", soft_wrap=True)
            raise
        console.print("evaluating on the rewards of all stages")
        scores.add(name, pipeline)
        console.print(scores.table())
        if index < last:
            pipeline.unload_lora_weights()  # the next stage adds its own
    return Result(output_dir=folder, pipeline=pipeline, evaluation=scores.content())


def stage_config(curriculum: Curriculum, folder: Path, index: int) -> Config:
    """A stage's settings as it runs: in its folder, from the adapter of the stage before, with randomness of its own, so that
    stages on the same prompts take them in another order."""
    config = curriculum.stages[index].config
    before = config.lora.init if index == 0 else folder / curriculum.folder_name(index - 1) / "lora"
    return replace(
        config,
        output_dir=folder / curriculum.folder_name(index),
        seed=config.seed * len(curriculum.stages) + index,
        lora=replace(config.lora, init=before),
    )


def _check(curriculum: Curriculum, *, has_pipeline: bool) -> None:
    """What would otherwise fail hours later, at the start of a stage."""
    configs = [stage.config for stage in curriculum.stages]
    for config in configs:
        training_prompts(config.prompts, config.seed)
        evaluation_prompts(held_out_name(config.prompts, config.eval_prompts), config.eval.num_prompts)
    check_init(configs[0].lora)
    if not has_pipeline:
        check_model(configs[0].model, configs[0].adapter)
    for name in dict.fromkeys(name for config in configs for name in (*config.reward, *config.monitor)):
        load_reward(name, configs[0].device_of_rewards)


def _folder(curriculum: Curriculum, resume: bool) -> Path:
    if not resume:
        folder = new_folder(curriculum.output_dir, curriculum.stages[0].config.model)
        save_yaml(curriculum, folder / "config.yaml")
        return folder
    if curriculum.output_dir is None or not (curriculum.output_dir / "config.yaml").is_file():
        raise FileNotFoundError(f"nothing to resume: {curriculum.output_dir} holds no config.yaml; start without --resume")
    return curriculum.output_dir


def _begun(folder: Path) -> bool:
    """Whether a stage can be gone on with. What one left that was killed before its first checkpoint is cleared away."""
    if any((folder / "checkpoints").glob("iteration-*")):
        return True
    if folder.exists():
        shutil.rmtree(folder)
    return False


class Scores:
    """curriculum.json: for every reward and monitor of any stage its mean on held-out prompts, before the first stage and after
    each.

    Held-out prompts of several stages are drawn once for all their rewards, as the first of these stages evaluates.
    """

    def __init__(self, curriculum: Curriculum, folder: Path) -> None:
        self.path = folder / "curriculum.json"
        known: dict[str, Any] = json.loads(self.path.read_text()) if self.path.exists() else {"columns": [], "rows": []}
        self.columns: list[str] = known["columns"]
        self.rows: list[dict[str, Any]] = known["rows"]
        self.exams: dict[str, tuple[Config, list[str]]] = {}
        for config in (stage.config for stage in curriculum.stages):
            prompts = held_out_name(config.prompts, config.eval_prompts)
            if prompts is not None and config.eval.num_prompts:
                names = self.exams.setdefault(prompts, (config, []))[1]
                names.extend(name for name in (*config.reward, *config.monitor) if name not in names)

    def add(self, column: str, pipeline: Any) -> None:
        """Measure the pipeline as it is."""
        for prompts, (config, names) in self.exams.items():
            where = config.device_of_rewards
            rewards = [load_reward(name, where) for name in names]  # each time anew: they would fill the memory a stage needs
            held_out = evaluation_prompts(prompts, config.eval.num_prompts)
            policy = load_policy(config.model_settings, pipeline)
            values, _, jobs = judge_model(policy, held_out, rewards, config.eval, config.rollout.batch_size)
            for name, value in zip(names, mean_over_tags(values, jobs), strict=True):
                self._row(name, prompts)["scores"][column] = round(value, 4)
        if column not in self.columns:
            self.columns.append(column)
        write_whole(self.path, json.dumps(self.content(), indent=1))

    def _row(self, reward: str, prompts: str) -> dict[str, Any]:
        row = next((row for row in self.rows if (row["reward"], row["prompts"]) == (reward, prompts)), None)
        if row is None:
            row = {"reward": reward, "prompts": prompts, "scores": {}}
            self.rows.append(row)
        return row

    def content(self) -> dict[str, Any]:
        return {"columns": self.columns, "rows": self.rows}

    def table(self) -> Table:
        """A row per reward; a column for the base model and one for each stage so far, by its number."""
        names = [column.removeprefix("stage-").replace("-", " ", 1) for column in self.columns]
        table = Table(box=SIMPLE_HEAD, title=f"held-out rewards, base model and after each stage: {', '.join(names[1:])}")
        table.add_column("reward, prompts", no_wrap=True)
        for name in names:
            table.add_column(name.split()[0], justify="right", no_wrap=True)
        for row in self.rows:
            table.add_row(f"{row['reward']}, {row['prompts']}", *(f"{row['scores'][column]:.3f}" for column in self.columns))
        return table
