"""Rollout workers of the tiny pipeline, in threads or as processes that can be killed, and runs whose images they draw."""

import json
import multiprocessing
import threading
from contextlib import contextmanager

import torch

from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from vgrpo.sampling.served.server import RolloutServer
from vgrpo.sampling.served.settings import ServeRolloutConfig
from vgrpo.training import loop
from vgrpo.training.record.events import ImagesJudged, Noticed
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given

ROLLOUT = {"num_prompts": 3, "group_size": 2, "num_steps": 2, "batch_size": 2}
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


class Watch:
    """What a run drew, and what it said."""

    def __init__(self, during=lambda iteration: None):
        self.images, self.latents, self.said, self.during = [], [], [], during

    def __call__(self, event):
        if isinstance(event, ImagesJudged):
            self.images.append(event.rollout.images)
            self.latents.append(event.rollout.latents)
            self.during(event.iteration)
        if isinstance(event, Noticed):
            self.said.append(event.text)


def run(folder, workers=(), during=lambda iteration: None, resume=False, **changes):
    """What was drawn, the final weights, and the lines of metrics."""
    watch = Watch(during)
    config = tiny_config(folder, **{"rollout": RolloutConfig(**ROLLOUT), "held_out_prompts": 0, "num_iterations": 3} | changes)
    given = Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, rollout_workers=workers)
    result = loop.train(config, given, listeners=(watch,), resume=resume)
    watch.lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    watch.weights = [value.clone() for value in result.pipeline.transformer.state_dict().values()]
    return watch


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def require_same(found, alone):
    assert same(found.images, alone.images)
    assert same(found.latents, alone.latents)
    assert same(found.weights, alone.weights)
    rewards = [[line["reward/mean"] for line in each.lines] for each in (found, alone)]
    assert rewards[0] == rewards[1]
