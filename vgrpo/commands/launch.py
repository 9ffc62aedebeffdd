"""`--gpus N`: the same command in N processes, started by torch's own launcher, `torchrun`."""

import os

import torch

from vgrpo.commands.words import UsageError
from vgrpo.support.interrupts import EXIT_RESUMABLE
from vgrpo.support.launched import launched

SIGNALS = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
"""What the launcher passes on to its processes."""
SECONDS_TO_SAVE = "600"
"""How long it lets them save before it kills them; torch's own 30 are few for a large model."""


def launch(count: str, command: str, words: list[str]) -> int:
    """Run `vgrpo COMMAND WORDS` in so many processes on this machine; returns the status of the first that failed, or 0.

    Raises UsageError for a number that this machine cannot serve.
    """
    if not (count.isdecimal() and 1 <= int(count) <= 1024):
        raise UsageError(f"--gpus {count}: give a number of GPUs")
    there = torch.cuda.device_count()
    if torch.cuda.is_available() and int(count) > there:
        raise UsageError(f"--gpus {count}: torch finds {there} here")
    if launched().size > 1:
        raise UsageError("--gpus starts processes, and this one was started with others already; leave it out")
    # Under `python -m` the current folder would come first among the places of modules. Torch sets up its logs when it is
    # imported; the processes speak for themselves.
    os.environ |= {"PYTHONSAFEPATH": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": SECONDS_TO_SAVE, "PET_SIGNALS_TO_HANDLE": SIGNALS}
    os.environ.setdefault("LOGLEVEL", "CRITICAL")
    if not torch.cuda.is_available():  # torch's launcher would give each one thread, whatever there is
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // int(count))))
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    options = ["--standalone", f"--nproc-per-node={count}"]
    try:
        run(parse_args([*options, "-m", "vgrpo", command, *words]))
    except ChildFailedError as error:
        statuses = [failure.exitcode for failure in error.failures.values()]
        return EXIT_RESUMABLE if EXIT_RESUMABLE in statuses else max(1, *statuses)
    except SignalException:
        return EXIT_RESUMABLE
    return 0
