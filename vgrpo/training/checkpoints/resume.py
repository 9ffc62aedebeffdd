"""Going on with a run: in what state its folder is, and which settings may have changed."""

from pathlib import Path
from typing import Any, Literal

FINISHED = "finished"
"""A file that says that a run has come to its end."""
State = Literal["fresh", "begun", "stopped", "finished"]

FREE = (
    "output_dir",
    "num_iterations",
    "checkpoint_every",
    "keep_checkpoints",
    "trackers",
    "monitor",
    "stop_on_alarm",
    "device",
    "reward_device",
    "reward_timeout",
    "reward_workers",
    "compile",
    "attention",
    "memory.gradient_checkpointing",
    "memory.vae_slicing",
    "memory.vae_tiling",
    "memory.offload_encoders",
    "memory.offload_rewards",
    "memory.offload_copies",
    "memory.prompt_cache",
    "memory.shard",
    "memory.gather",
    "lora.init",  # read at the start only, and a moved curriculum finds it elsewhere
    "eval.every",
    "eval.sample_every",
    "eval.num_sample_prompts",
    "eval.batch_size",
    "rollout.batch_size",
    "update.micro_batch_size",
    "update.max_bad_steps",
)
"""What a resumed run may have otherwise: how long it goes on, what it writes down, and where and how it computes. Every other
setting decides what is learned, or with which scores of the start the final ones are compared. So does `memory.weights`, as it
rounds the frozen weights."""


def state_of(folder: Path) -> State:
    """fresh: no run is here; begun: killed before its first checkpoint; stopped: can go on; finished: nothing is left to do.

    Whether a process is at work there, its lock tells. A curriculum has the checkpoints of its stages.
    """
    if not (folder / "config.yaml").is_file():
        return "fresh"
    if (folder / FINISHED).is_file():
        return "finished"
    places = (folder / "checkpoints", *folder.glob("stage-*/checkpoints"))
    return "stopped" if any(any(place.glob("*iteration-*")) for place in places) else "begun"


def newest_run(runs: Path = Path("runs")) -> Path:
    """The unfinished run that was last at work. Raises FileNotFoundError, saying what there is, if there is none."""
    folders = [path.parent for path in runs.glob("*/config.yaml")]
    unfinished = [folder for folder in folders if state_of(folder) in ("begun", "stopped")]
    if not unfinished:
        there = f"all {len(folders)} runs under {runs}/ are finished" if folders else f"there is no run under {runs}/"
        raise FileNotFoundError(f"--resume auto: {there}; start one, or name another by --output-dir")
    return max(unfinished, key=_last_written)


def _last_written(folder: Path) -> float:
    paths = [folder / name for name in ("config.yaml", "metrics.jsonl", "checkpoints", "curriculum.json")]
    paths += folder.glob("stage-*/metrics.jsonl")
    return max(path.stat().st_mtime for path in paths if path.exists())


def check_changes(saved: dict[str, Any], now: dict[str, Any], *, allow: bool) -> list[str]:
    """Compare settings as config.yaml holds them; returns the changes, in words.

    Raises ValueError for one that decides what is learned, unless `allow`.
    """
    changes = compare(saved, now)
    bound = [words for name, words in changes.items() if not is_free(name, now)]
    if bound and not allow:
        raise ValueError(
            f"--resume: these settings differ from those that the run was made with, and they decide what is learned: "
            f"{'; '.join(bound)}. Leave them as they were, add --allow-changes to go on with the new ones, or start a new run "
            "in another folder"
        )
    return list(changes.values())


def compare(saved: dict[str, Any], now: dict[str, Any]) -> dict[str, str]:
    """The settings that differ, by dotted name, each as `name: old -> new`. Another algorithm is one change, not all of its
    settings'."""
    old, new = _flat(saved), _flat(now)
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name, UNSET) != new.get(name, UNSET)]
    if "objective.name" in changed:
        changed = [name for name in changed if name == "objective.name" or not name.startswith("objective.")]
    return {name: f"{name}: {old.get(name, UNSET)} -> {new.get(name, UNSET)}" for name in changed}


UNSET = "(not set)"  # by a version that does not know the setting


def is_free(name: str, settings: dict[str, Any]) -> bool:
    """Whether a resumed run may have another value of this setting."""
    if name == "num_iterations":  # a learning rate that falls to the end is another one with another end
        return settings.get("update", {}).get("lr_schedule") != "linear"
    return name in FREE


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names; lists and tuples alike."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return found
