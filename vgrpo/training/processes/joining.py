"""How the processes of a run come together, and how they part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore, rendezvous  # type: ignore[attr-defined]

from vgrpo.core.processes import ALONE, PeerError, Processes
from vgrpo.support.checks import require
from vgrpo.support.code import code_digest
from vgrpo.support.interrupts import EXIT_RESUMABLE, StopRequested
from vgrpo.support.launched import launched
from vgrpo.training.processes.life_signs import LifeSigns
from vgrpo.training.processes.peers import Peers

MEETING = timedelta(minutes=10)
"""How long processes wait for the others at the start, which may load from a slow disk."""
PATIENCE = timedelta(hours=2)
"""How long a live process is waited for, such as one that draws sample pictures or whose reward does not answer."""


@contextmanager
def joined() -> Iterator[Processes]:
    """The processes that were launched together, as torchrun does; one that was not is alone.

    An error in one ends all: the others raise PeerError, which names its rank, within a minute. Raises PeerError if they do not
    come together, or run different code.
    """
    place = launched()
    if place.size == 1:
        yield ALONE
        return
    peers, fails = _meet(), True
    assert peers.signs is not None
    try:
        peers.require_same("versions of vgrpo, or of the packages that compute,", code_digest().encode())
        yield peers
        dist.barrier()
        fails = False
    except BaseException as error:
        peers.signs.tell(error)
        raise
    finally:
        peers.signs.stop()
        if not (fails and torch.cuda.is_available()):  # with a lost process nccl might wait for it; the end frees all
            dist.destroy_process_group()


@contextmanager
def said_once(processes: Processes) -> Iterator[None]:
    """Of an error that process 0 ends with, too, let it alone speak: the others leave with the same status in silence."""
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        signs = processes.signs if isinstance(processes, Peers) else None
        if signs is not None and signs.said_by_first(error):
            raise SystemExit(EXIT_RESUMABLE if isinstance(error, StopRequested) else 1) from error
        raise


def _meet() -> Peers:
    """Begin torch's process group: gloo for what is on CPUs, nccl for what is on GPUs, each of which has one process."""
    place, backend = launched(), "gloo"
    if torch.cuda.is_available():
        there = torch.cuda.device_count()
        require(place.local_rank < there, f"LOCAL_RANK={place.local_rank}: this machine has {there} GPUs, one for each process")
        torch.cuda.set_device(place.local_rank)
        backend = "cpu:gloo,cuda:nccl"
    try:
        store, rank, size = next(rendezvous("env://", timeout=MEETING))
        store.set_timeout(MEETING)
        signs = LifeSigns(_own_store(), rank, size)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        dist.barrier()
    except RuntimeError as error:
        why = " ".join(str(error).split())[:300]
        raise PeerError(f"rank {place.rank}: the {place.size} processes did not come together: {why}") from error
    signs.start()
    return Peers(signs=signs)


def _own_store() -> Store:
    """A connection of its own to the store at which the processes meet: a thread uses it, while another waits in the first."""
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    store = TCPStore(address, port, is_master=False, wait_for_workers=False, timeout=timedelta(seconds=20))
    # After a restart by torchrun the store still holds what the processes before said.
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    number = store.add(f"vgrpo/{attempt}/joined/{launched().rank}", 1)  # a program may train several times
    return PrefixStore(f"vgrpo/{attempt}/{number}", store)
