"""metrics.jsonl, the live display, and what one iteration's numbers boil down to."""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from torch import Tensor

from vgrpo.core.types import Batch, Rollout
from vgrpo.objectives.advantage import group_moments
from vgrpo.training.alarm import Watch
from vgrpo.training.config import Config


def summarise(
    rollout: Rollout,
    rewards: Tensor,
    batch: Batch,
    steps: Sequence[dict[str, Tensor]],
    clock: Sequence[float],
    reward_names: Sequence[str],
) -> dict[str, float]:
    """One line of metrics.jsonl. Rewards [B, R]; `clock` holds the times before and after each of three phases."""
    seconds = dict(zip(("rollout", "reward", "update"), (b - a for a, b in pairwise(clock)), strict=True))
    valid = rewards[~rewards.isnan().any(1)]
    _, group_std = group_moments(rewards.nanmean(1), rollout.group.cpu(), rollout.num_groups)
    # Minibatches hold whole groups in order, so the first pass over them lists the rows in order.
    surrogate = torch.cat([step["surrogate"].cpu() for step in steps])[: len(batch)]
    surrogate_mean, surrogate_std = group_moments(surrogate, batch.group.cpu(), rollout.num_groups)
    scale = surrogate.mean().abs().clamp(min=1e-12)
    line = {
        "reward/mean": valid.mean().item(),
        "reward/std": valid.mean(1).std().item(),
        "reward/failed": len(rewards) - len(valid),
        "reward/zero_std_groups": (group_std < 1e-6).float().mean().item(),
        "surrogate/mean": surrogate.mean().item(),
        "surrogate/cv_within": (surrogate_std.mean() / scale).item(),
        "surrogate/cv_between": (surrogate_mean.std(correction=0) / scale).item(),
        "ratio/first": steps[0]["ratio"].mean().item(),
        "grad_norm": sum(step["grad_norm"].item() for step in steps) / len(steps),
        **{f"seconds/{name}": value for name, value in seconds.items()},
        "seconds/total": clock[-1] - clock[0],
        "images_per_second": len(rewards) / (clock[-1] - clock[0]),
    }
    if rewards.shape[1] > 1:
        for name, column in zip(reward_names, rewards.unbind(1), strict=True):
            line[f"reward/{name}/mean"] = column.nanmean().item()
            line[f"reward/{name}/std"] = column[~column.isnan()].std().item()
    ratio = torch.cat([step["ratio"] for step in steps])
    line |= {"ratio/mean": ratio.mean().item(), "ratio/min": ratio.min().item(), "ratio/max": ratio.max().item()}
    for name in ("clip_share", "kl", "loss"):  # an algorithm without a clip has no share to report
        if name in steps[0]:
            line[name] = torch.cat([step[name] for step in steps]).mean().item()
    return line


class RunLog:
    """Writes metrics.jsonl and shows progress: iteration, reward now and at the start, images/s, time left."""

    def __init__(self, folder: Path, config: Config, *, start: int, quiet: bool) -> None:
        self.folder, self.config, self.start = folder, config, start
        self.console = Console(quiet=quiet, highlight=False)
        self.first: float | None = None
        self.recent: float | None = None
        self.watch, self.alarms = Watch(list(config.monitor)), list[str]()
        self.progress = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.events: Any = _tensorboard(folder) if config.tensorboard else None

    def __enter__(self) -> Self:
        path = self.folder / "metrics.jsonl"
        lines = path.read_text().splitlines() if path.exists() else []
        kept = [line for line in lines if json.loads(line)["iteration"] < self.start]
        path.write_text("".join(line + "\n" for line in kept))
        self.file = path.open("a")
        for line in kept:
            self._track(json.loads(line))
        self.say(f"run folder {self.folder}")
        self.progress.start()
        self.task = self.progress.add_task("train", total=self.config.num_iterations, completed=self.start, status="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.progress.stop()
        self.file.close()
        if self.events is not None:
            self.events.close()

    def _track(self, line: dict[str, float]) -> None:
        reward = line["reward/mean"]
        self.first = reward if self.first is None else self.first
        self.recent = reward if self.recent is None else 0.8 * self.recent + 0.2 * reward
        sounding = self.watch.add(line)
        for name in sounding:
            if name not in self.alarms:
                self.say(f"[bold red]alarm[/]: {name} falls while the reward is up, iteration {int(line['iteration']) + 1}")
        self.alarms = sounding

    def write(self, line: dict[str, float]) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        self._track(line)
        status = f"reward {self.recent:.3f} (start {self.first:.3f})  {line['images_per_second']:.0f} images/s"
        self.progress.update(self.task, advance=1, status=status)
        if self.events is not None:
            for name, value in line.items():
                self.events.add_scalar(name, value, line["iteration"])
        if not self.console.is_terminal and (int(line["iteration"]) + 1) % 5 == 0:
            self.say(f"iteration {int(line['iteration']) + 1}/{self.config.num_iterations}  {status}")

    def say(self, text: str) -> None:
        self.console.print(text)

    def stopped(self, path: Path) -> None:
        self.say(f"\nstopped; {path} holds everything so far. Go on with\n  vgrpo train {self.folder}/config.yaml --resume")

    def finished(self, evaluation: dict[str, Any], report: Path) -> None:
        """The closing table."""
        self.progress.stop()
        if evaluation:
            self.console.print(results_table(evaluation))
        weights = "lora" if self.config.finetune == "lora" else "pipeline"
        self.say(f"weights  {self.folder / weights}\nreport   {report}")


def results_table(evaluation: dict[str, Any]) -> Table:
    """Held-out scores before and after, by category."""
    table = Table(title=f"held-out, {evaluation['num_prompts']} prompts, {evaluation['num_images']} images")
    parts = [name for name in ("base", "tuned") if name in evaluation]
    metric = "reward" if evaluation[parts[0]]["strict"] is None else "strict"
    for name in ("", *parts, "change"):
        table.add_column(name, justify="right" if name else "left")

    def row(label: str, values: list[float], style: str = "") -> None:
        change = f"{values[-1] - values[0]:+.3f}" if len(values) > 1 else ""
        table.add_row(label, *(f"{value:.3f}" for value in values), change, style=style)

    for category in evaluation[parts[0]]["by_category"]:
        row(category, [evaluation[part]["by_category"][category][metric] for part in parts])
    table.add_section()
    row("reward", [evaluation[part]["reward"] for part in parts])
    if metric == "strict":
        row("strict", [evaluation[part]["strict"] for part in parts], "bold")
    return table


def _tensorboard(folder: Path) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError('tensorboard=True, but it is not installed; pip install "vgrpo[tensorboard]"') from error
    return SummaryWriter(str(folder / "tensorboard"))
