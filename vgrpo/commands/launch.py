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
MOST_ON_A_CPU = 4
"""Processes of `--gpus auto`: each holds the whole model, and there are as many groups in an iteration as prompts."""


def number_of_processes(given: str) -> int:
    """What `--gpus` asks for: a number, or `auto`, which is all GPUs, and where there is none a process for each core, as small
    networks have more of two processes than of one with two threads.

    Raises UsageError for a number that this machine cannot serve.
    """
    has_gpu, there = torch.cuda.is_available(), torch.cuda.device_count()
    if launched().size > 1:
        raise UsageError("--gpus starts processes, and this one was started with others already; leave it out")
    if given == "auto":
        return there if has_gpu else min(MOST_ON_A_CPU, torch.get_num_threads())
    if not (given.isdecimal() and 1 <= int(given) <= 1024):
        raise UsageError(f"--gpus {given}: give a number of GPUs, or auto for all there are")
    if has_gpu and int(given) > there:
        raise UsageError(f"--gpus {given}: torch finds {there} here")
    return int(given)


def launch(count: int, command: str, words: list[str]) -> int:
    """Run `vgrpo COMMAND WORDS` in so many processes on this machine; returns the status of the first that failed, or 0."""
    # Under `python -m` the current folder would come first among the places of modules. Torch sets up its logs when it is
    # imported; the processes speak for themselves.
    os.environ |= {"PYTHONSAFEPATH": "1", "TORCH_ELASTIC_SHUTDOWN_TIMEOUT": SECONDS_TO_SAVE, "PET_SIGNALS_TO_HANDLE": SIGNALS}
    os.environ.setdefault("LOGLEVEL", "CRITICAL")
    if not torch.cuda.is_available():  # torch's launcher would give each one thread, whatever there is
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, torch.get_num_threads() // count)))
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
