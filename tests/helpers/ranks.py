"""Functions run by several processes at once, with gloo between them."""

import multiprocessing
import os
import socket
import traceback

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
        dist.init_process_group("gloo")
        results.put((rank, function(*args), None))
        dist.barrier()
        dist.destroy_process_group()
    except BaseException:
        results.put((rank, None, traceback.format_exc()))
        raise


def in_processes(size, function, *args, timeout=500):
    """What `function(*args)` returns in each of `size` processes, by rank. The packages are imported once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vgrpo.training.loop", "helpers.tiny"])
    results, port = context.Queue(), free_port()
    workers = [context.Process(target=_work, args=(function, rank, size, port, results, args)) for rank in range(size)]
    try:
        for worker in workers:
            worker.start()
        answers = [results.get(timeout=timeout) for _ in workers]
    finally:
        for worker in workers:
            worker.join(10)
            worker.kill()
    failures = [failure for _, _, failure in answers if failure]
    assert not failures, "\n".join(failures)
    return [answer for _, answer, _ in sorted(answers, key=lambda answer: answer[0])]
