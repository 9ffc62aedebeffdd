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
    "tensorboard",
    "monitor",
    "stop_on_alarm",
    "device",
    "reward_device",
    "reward_timeout",
    "compile",
    "attention",
    "memory",
    "eval.sample_every",
    "eval.num_sample_prompts",
    "eval.batch_size",
    "rollout.batch_size",
    "update.micro_batch_size",
    "update.max_bad_steps",
)
"""What a resumed run may have otherwise: how long it goes on, what it writes down, and where and how it computes. Every other
setting decides what is learned."""


def state_of(folder: Path) -> State:
    """fresh: no run is here; begun: killed before its first checkpoint; stopped: can go on; finished: nothing is left to do."""
    if not (folder / "config.yaml").is_file():
        return "fresh"
    if not any((folder / "checkpoints").glob("*iteration-*")):
        return "begun"
    return "finished" if (folder / FINISHED).is_file() else "stopped"


def newest_run(runs: Path = Path("runs")) -> Path:
    """The run that was begun or stopped last. Raises FileNotFoundError if all there are, are finished."""
    found = [path.parent for path in runs.glob("*/config.yaml") if state_of(path.parent) in ("begun", "stopped")]
    if not found:
        raise FileNotFoundError(f"--resume auto: no unfinished run under {runs}/; name one by --output-dir")
    return max(found, key=lambda folder: (folder / "config.yaml").stat().st_mtime)


def check_changes(saved: dict[str, Any], now: dict[str, Any], *, allow: bool) -> list[str]:
    """Compare settings as config.yaml holds them; returns the changes, in words.

    Raises ValueError for one that decides what is learned, unless `allow`.
    """
    old, new = _flat(saved), _flat(now)
    changed = [name for name in dict.fromkeys([*old, *new]) if old.get(name) != new.get(name)]
    words = {name: f"{name}: {old.get(name)} -> {new.get(name)}" for name in changed}
    bound = [words[name] for name in changed if not _is_free(name)]
    if bound and not allow:
        raise ValueError(
            f"--resume: these settings differ from the run's config.yaml, and they decide what is learned: {'; '.join(bound)}. "
            "Leave them as they were, add --allow-changes to go on with the new ones, or start a new run in another folder"
        )
    return list(words.values())


def _is_free(name: str) -> bool:
    return any(name == free or name.startswith(f"{free}.") for free in FREE)


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names; lists and tuples alike."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = list(value) if isinstance(value, tuple) else value
    return found
