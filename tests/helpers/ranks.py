"""Functions run by several processes at once, with gloo between them."""

import multiprocessing
import os
import queue
import socket
import time
import traceback
from contextlib import suppress

import torch
import torch.distributed as dist


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def place(rank, size, port):
    """What a launcher puts into the environment."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _work(function, rank, size, port, results, args):
    torch.set_num_threads(1)
    os.environ.update(place(rank, size, port))
    try:
        results.put((rank, function(*args), None))
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        raise


def _with_gloo(function, *args):
    dist.init_process_group("gloo")
    answer = function(*args)
    dist.barrier()
    dist.destroy_process_group()
    return answer


def in_processes(size, function, *args):
    """What `function(*args)` returns in each of `size` processes that gloo joins, by rank."""
    return launched_processes(size, _with_gloo, function, *args)


def launched_processes(size, function, *args, timeout=500):
    """The same where nothing joins them yet. None for a process that was killed.

    The packages are imported once for all.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vgrpo.training.loop", "helpers.tiny"])
    results, port, until = context.Queue(), free_port(), time.monotonic() + timeout
    workers = [context.Process(target=_work, args=(function, rank, size, port, results, args)) for rank in range(size)]
    answers, failures = [None] * size, []
    try:
        for worker in workers:
            worker.start()
        while any(worker.is_alive() for worker in workers) or not results.empty():
            assert time.monotonic() < until, "the processes hang"
            with suppress(queue.Empty):
                rank, answers[rank], failure = results.get(timeout=0.2)
                failures += [failure] if failure else []
    finally:
        for worker in workers:
            worker.kill()
    assert not failures, "\n".join(failures)
    return answers
