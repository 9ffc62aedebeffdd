"""How a run ends before its end: what is saved, and what a person is told."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress

from vgrpo.core.processes import PeerError
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.lanes import patience_after
from vgrpo.support.files import explain
from vgrpo.support.interrupts import StopRequested
from vgrpo.support.memory_errors import GpuMemoryError
from vgrpo.support.secrets import redact
from vgrpo.training.optimizer import BadStepsError
from vgrpo.training.record.events import RunStopped
from vgrpo.training.run import Run


@contextmanager
def saved_on_stop(run: Run) -> Iterator[None]:
    """Whatever stops the run inside, a checkpoint of the last whole iteration is on the disk afterwards, if the disk lets it.

    A second Ctrl-C asks to leave at once: then it is the last one that was due. Of several processes the first saves; on an
    end that all have agreed on the others wait for that, as a launcher ends all when one is gone. Spread weights are saved by
    all or not at all: then an end that all have not agreed on leaves what was saved before.
    """
    try:
        yield
    except (StopRequested, RewardError, GpuMemoryError, BadStepsError, PeerError) as error:
        agreed = isinstance(error, StopRequested | RewardError | BadStepsError)
        if agreed or not run.writer.asks_all:
            _save(run)
        _tell(run, str(error))
        if agreed:
            run.processes.wait_for_first()
        raise
    except KeyboardInterrupt:
        _tell(run, "left at once")
        raise
    except OSError as error:
        if not run.writer.asks_all:
            _save(run)
        saved = run.writer.saved
        reason = explain(error, run.folder, str(saved) if saved else None)
        _tell(run, reason)
        raise OSError(reason) from error


@contextmanager
def closed_after(run: Run) -> Iterator[None]:
    """Let go of the run's folder, after a second Ctrl-C without waiting for a reward."""
    kind: type[BaseException] | None = None
    try:
        yield
    except BaseException as error:
        kind = type(error)
        raise
    finally:
        run.close(patience_after(kind))


def watched(run: Run) -> AbstractContextManager[None]:
    """Forwards and backwards through spread weights wait for the other processes."""
    return nullcontext() if run.policy.spread is None else run.processes.watched()


def _save(run: Run) -> None:
    """A checkpoint of the last whole iteration, and its adapter, unless the weights are between two: then those before have to
    do."""
    with suppress(OSError):  # the disk is full or gone: what was saved before is all there is
        if run.whole:
            run.save_checkpoint()
    with suppress(OSError):  # also where the adapter could not be written
        run.writer.finish()


def _tell(run: Run, reason: str) -> None:
    run.events.emit(RunStopped(folder=run.folder, reason=redact(reason), checkpoint=run.writer.saved))
