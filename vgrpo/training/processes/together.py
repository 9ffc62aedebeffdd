"""What several processes do in step: start from the same, go on from the same, and notice if they no longer do."""

import json
import signal
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vgrpo.core.processes import PeerError, Processes
from vgrpo.core.types import Prompt
from vgrpo.models.lora import Adapter
from vgrpo.models.precision import Precision, chosen, device_of
from vgrpo.models.sharding import own_part
from vgrpo.support.checks import require
from vgrpo.support.interrupts import Interrupts, StopRequested
from vgrpo.support.lock import RunLock
from vgrpo.training.checkpoints.checkpoint import CheckpointWriter, Loaded, read_checkpoint
from vgrpo.training.checkpoints.state_files import DTYPES, Snapshot, parts_in, restored
from vgrpo.training.folder import RunFolder

TYPES = {name: dtype for dtype, name in DTYPES.items()}


class IdleWriter(CheckpointWriter):
    """Of a process that leaves the files to the first."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.saved, self.seconds_waited = folder, None, 0.0

    def save(self, state: dict[str, Any], iteration: int, *, wait: bool = False) -> Path:
        return self.folder

    def finish(self) -> None:
        return


def checkpoint_writer(folder: Path, keep: int, processes: Processes) -> CheckpointWriter:
    return CheckpointWriter(folder, keep) if processes.rank == 0 else IdleWriter(folder)


def check_several(num_prompts: int, device: str, processes: Processes) -> None:
    """Raise ValueError for settings with which several processes cannot share the work."""
    if processes.size == 1:
        return
    require(
        num_prompts >= processes.size,
        f"rollout.num_prompts={num_prompts}: a group is drawn in one process, so each of the {processes.size} "
        "needs a prompt; take more prompts, or fewer processes",
    )
    require(
        device in ("auto", "cpu", "cuda"),
        f"device={device}: each of the {processes.size} processes takes a GPU of its own; leave it auto",
    )


def check_same(settings: dict[str, object], prompts: Iterable[Prompt], processes: Processes) -> None:
    """Raises PeerError, naming the rank, if a process was started with other settings or finds other prompts."""
    processes.require_same("settings", json.dumps(settings, sort_keys=True, default=str).encode())
    texts = [(prompt.text, prompt.task, repr(prompt.metadata)) for prompt in prompts]
    processes.require_same("prompts, or their order,", repr(texts).encode())


def check_same_weights(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Raises PeerError, naming the rank, if the trained weights differ by a bit."""
    if processes.size > 1:
        # The sum of the bits as whole numbers is exact, so it does not depend on its order.
        sums = [own_part(parameter.detach()).view(torch.int32).sum(dtype=torch.int64) for parameter in parameters]
        processes.require_same("weights in training", torch.stack(sums).cpu().numpy().tobytes())


def agreed_precision(precision: Precision, device: str, pipeline: Any, processes: Processes) -> Precision:
    """On a CPU `auto` is tried out, and two processes may find different ones the faster; what the first finds holds."""
    if precision != "auto" or processes.size == 1:
        return precision
    place = device_of(device) if pipeline is None else pipeline.device
    found = processes.told(chosen("auto", place).encode())
    return "bf16" if found == b"bf16" else "fp32"


def check_together(interrupts: Interrupts, processes: Processes) -> None:
    """Raise StopRequested, in all processes at once, if one of them was asked to stop."""
    if processes.size == 1:
        interrupts.check()
        return
    number = processes.most(0 if interrupts.noted is None else signal.Signals[interrupts.noted].value)
    if number:
        raise StopRequested(signal.Signals(number).name)


def open_together(open_folder: Callable[[], RunFolder], processes: Processes) -> RunFolder:
    """The run's folder, as process 0 opens it. The others touch none, which may be on another machine, and are told what is
    there."""
    opened = None
    if processes.rank == 0:
        opened = open_folder()
        if processes.size == 1:
            return opened
    try:
        return _shared(opened, processes)
    except BaseException:
        if opened is not None:
            opened.abandon()
        raise


def adapter_of_first(read: Callable[[], Adapter | None], processes: Processes) -> Adapter | None:
    """The adapter that process 0 reads, if there is one, in every process: its file may be on that machine alone."""
    if processes.size == 1:
        return read()
    state = {"adapter": read()} if processes.rank == 0 else None
    found: Adapter | None = _handed_over(state, processes)["adapter"]
    return found


def _shared(opened: RunFolder | None, processes: Processes) -> RunFolder:
    """From what process 0 has opened, the same for each."""
    facts: dict[str, Any] = {}
    if opened is not None:
        loaded = opened.loaded
        checkpoint = None if loaded is None else [loaded.iteration, str(loaded.path)]
        facts = {"path": str(opened.path), "finished": opened.finished, "checkpoint": checkpoint}
        facts["in_parts"] = loaded is not None and bool(parts_in(loaded.path))
    facts = json.loads(processes.told(json.dumps(facts).encode()))
    state = None if opened is None or opened.loaded is None else opened.loaded.state
    if facts["checkpoint"] is not None and not facts["in_parts"]:
        state = _handed_over(state, processes)
    elif facts["checkpoint"] is not None and state is None:  # each process reads what it needs
        state = _read(Path(facts["checkpoint"][1]))
    if opened is not None:
        return opened
    path, loaded = Path(facts["path"]), None
    if state is not None:
        iteration, place = facts["checkpoint"]
        loaded = Loaded(state=state, iteration=iteration, path=Path(place), versions={}, damaged=[], notes=[])
    return RunFolder(path=path, lock=RunLock(path), loaded=loaded, finished=facts["finished"], made=[])


def _read(path: Path) -> dict[str, Any]:
    try:
        return read_checkpoint(path)
    except OSError as error:
        raise PeerError(f"{path} cannot be read by all processes; put it on a disk that all machines see ({error})") from error


def _handed_over(state: dict[str, Any] | None, processes: Processes) -> dict[str, Any]:
    """The state that process 0 has, tensor by tensor; no code is in what is sent."""
    snapshot = None if state is None else Snapshot(state)
    plan: dict[str, Any] = {}
    if snapshot is not None:
        shapes = {name: [DTYPES[tensor.dtype], list(tensor.shape)] for name, tensor in snapshot.tensors.items()}
        plan = {"rest": snapshot.rest, "tensors": shapes}
    plan = json.loads(processes.told(json.dumps(plan).encode()))
    tensors = {}
    for name, (kind, shape) in plan["tensors"].items():
        own = b"" if snapshot is None else snapshot.tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes()
        data = bytearray(processes.told(own))
        values = torch.frombuffer(data, dtype=TYPES[kind]) if data else torch.empty(0, dtype=TYPES[kind])
        tensors[name] = values.reshape(shape)
    found: dict[str, Any] = restored(plan["rest"], tensors) if state is None else state
    return found
