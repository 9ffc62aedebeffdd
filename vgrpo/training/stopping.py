"""How a run ends before its end: what is saved, and what a person is told."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vgrpo.rewards.registry import RewardError
from vgrpo.support.disk import cause
from vgrpo.support.interrupts import StopRequested
from vgrpo.support.memory_errors import GpuMemoryError
from vgrpo.training import checkpoint
from vgrpo.training.events import RunStopped
from vgrpo.training.optimizer import BadStepsError
from vgrpo.training.run import Run


@contextmanager
def saved_on_stop(run: Run) -> Iterator[None]:
    """Whatever stops the run inside, a checkpoint of the last whole iteration is on the disk afterwards, if the disk lets it.

    A second Ctrl-C asks to leave at once: then it is the last one that was due.
    """
    try:
        yield
    except (StopRequested, RewardError, GpuMemoryError, BadStepsError) as error:
        _tell(run, str(error), _save(run))
        raise
    except KeyboardInterrupt:
        _tell(run, "left at once", _last(run))
        raise
    except OSError as error:
        saved = _save(run) or _last(run)
        _tell(run, cause(error), saved)
        raise OSError(error.errno or 0, f"{cause(error)}. {_way_on(run, saved)}") from error


def _save(run: Run) -> Path | None:
    """A checkpoint of the last whole iteration: a new one, or the last if weights are between two iterations."""
    try:
        if run.whole:
            run.save_checkpoint()
        run.writer.finish()
    except OSError:
        return _last(run)
    return _last(run)


def _last(run: Run) -> Path | None:
    folder = run.folder / "checkpoints"
    found = checkpoint.all_of(folder) if folder.is_dir() else []
    return found[-1] if found else None


def _tell(run: Run, reason: str, saved: Path | None) -> None:
    run.events.emit(RunStopped(folder=run.folder, reason=reason, checkpoint=saved))


def _way_on(run: Run, saved: Path | None) -> str:
    last = f"the last checkpoint is {saved}" if saved else "there is no checkpoint yet"
    return f"{last}; go on with vgrpo train {run.folder}/config.yaml --resume"
