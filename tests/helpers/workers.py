"""Rollout workers of the tiny pipeline: in threads, or as processes that can be killed."""

import multiprocessing
import threading
from contextlib import contextmanager

from helpers.tiny import tiny_pipeline
from vgrpo.sampling.served.server import RolloutServer
from vgrpo.sampling.served.settings import ServeRolloutConfig

SETTINGS = {"device": "cpu", "precision": "fp32", "max_sequence_length": 0}


@contextmanager
def worker(pipeline=None, **settings):
    """One in a thread: the server."""
    server = RolloutServer(ServeRolloutConfig(**{"port": 0} | SETTINGS | settings), pipeline or tiny_pipeline())
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def address(server):
    return f"http://127.0.0.1:{server.server_port}"


def _serve(pipe, port):
    import torch

    torch.set_num_threads(1)
    server = RolloutServer(ServeRolloutConfig(port=port, **SETTINGS), tiny_pipeline())
    pipe.send(server.server_port)
    server.serve_forever()


def worker_process(port=0):
    """One in a process of its own, and its address, once it answers."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["vgrpo.training.loop", "helpers.tiny"])
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, port), daemon=True)
    process.start()
    assert ours.poll(60), "the worker does not start"
    return process, f"http://127.0.0.1:{ours.recv()}"
