"""Weights that are spread over one, two and three processes train the same as whole ones."""

import os
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
import torch.distributed as dist
from helpers.lanes import picky, require_same, whole
from helpers.ranks import in_processes
from helpers.tiny import PROMPTS, tiny_config, tiny_pipeline

from vgrpo.analysis.plan.job import measure_job
from vgrpo.analysis.plan.traffic import traffic
from vgrpo.core.processes import ALONE
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.sharding import is_spread
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import CRD, VGRPO, MixGRPO
from vgrpo.recipes import RECIPES
from vgrpo.training import loop, update
from vgrpo.training.processes.peers import Peers
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.start import Given, start_run

IN_CHUNKS = UpdateConfig(num_minibatches=2, micro_batch_size=3)
JOBS = {
    "whole rollouts": {
        "finetune": "full",
        "objective": VGRPO(ref_weight=1.0),
        "memory": MemoryConfig(shard="full", offload_copies=True),
    },
    "block by block": {
        "finetune": "full",
        "objective": CRD(centering="softmax"),
        "update": IN_CHUNKS,
        "memory": MemoryConfig(shard="full", gather=False, gradient_checkpointing=True),
    },
    "beside an adapter": {"finetune": "lora", "objective": MixGRPO(), "memory": MemoryConfig(shard="full", gather=False)},
}


def config_of(folder, job):
    settings = {
        "rollout": RolloutConfig(num_prompts=4, group_size=4, num_steps=3, batch_size=4),
        "update": UpdateConfig(num_minibatches=2),
        "memory": MemoryConfig(shard="full"),
    }
    return tiny_config(folder, held_out_prompts=0, **settings | job)


@contextmanager
def counted(sizes, copies):
    """Adds up the bytes that the processes gather, scatter and, of gradients beside what is spread or between copies of it,
    sum."""
    gather, scatter, add = dist.all_gather_single, dist.reduce_scatter_single, update._sum_piece
    all_reduce = dist.all_reduce

    def counting_gather(*args, **kwargs):
        sizes["gathered"] += max(tensor.nbytes for tensor in (*args, *kwargs.values()) if torch.is_tensor(tensor))
        return gather(*args, **kwargs)

    def counting_scatter(*args, **kwargs):
        sizes["scattered"] += max(tensor.nbytes for tensor in (*args, *kwargs.values()) if torch.is_tensor(tensor))
        return scatter(*args, **kwargs)

    def counting_add(piece, processes):
        sizes["summed"] += sum(parameter.nbytes for parameter in piece)
        return add(piece, processes)

    def counting_reduce(tensor, *args, **kwargs):
        sizes["summed"] += tensor.nbytes * (copies is not None and kwargs.get("group") is copies)
        return all_reduce(tensor, *args, **kwargs)

    dist.all_gather_single, dist.reduce_scatter_single = counting_gather, counting_scatter
    update._sum_piece, dist.all_reduce = counting_add, counting_reduce
    try:
        yield
    finally:
        dist.all_gather_single, dist.reduce_scatter_single, update._sum_piece = gather, scatter, add
        dist.all_reduce = all_reduce


def one_iteration(folder, job, processes):
    """Drawn, judged and learned, of all processes."""
    config, pipeline = config_of(folder, job), tiny_pipeline()
    if config.finetune == "lora":  # an adapter is never merged into bf16, so the images are the same bit for bit
        pipeline.transformer.bfloat16()
    run = start_run(config, Given(pipeline=pipeline, reward=picky, prompts=PROMPTS), processes=processes)
    assert is_spread(run.policy.module) == (processes.size > 1)
    # Plain steps along the gradient: AdamW's first ones are its sign, also where it is all rounding.
    run.optimizer.inner = torch.optim.SGD(run.optimizer.parameters)
    run.optimizer.lr = 3.0
    start = {name: whole(value) for name, value in trainable(run.policy.module).items()}
    found, make_batch, sizes = {}, loop.make_batch, Counter(gathered=0, scattered=0, summed=0)

    def remember(config, rollout, judgement, *others, processes):
        drawn = {"latents": rollout.latents, "images": rollout.images, **judgement._asdict()}
        found.update({name: processes.gather(value, rollout.group) for name, value in drawn.items()})
        return make_batch(config, rollout, judgement, *others, processes=processes)

    loop.make_batch = remember
    try:
        with counted(sizes, run.policy.spread and getattr(run.policy.spread.replicas, "group", None)):
            line = loop.iterate(run)
    finally:
        loop.make_batch = make_batch
        run.close()
    moved = {name: whole(value) - start[name] for name, value in trainable(run.policy.module).items()}
    counts = [sum(parameter.numel() for parameter in group) for group in (run.policy.module.parameters(), start.values())]
    return {"found": found, "line": line, "moved": moved, "bytes": dict(sizes), "weights": counts}


def on_two_machines(folder):
    """Four processes, of which two share the weights with each other."""
    os.environ["LOCAL_WORLD_SIZE"] = "2"
    job = JOBS["block by block"]
    job = job | {"memory": replace(job["memory"], shard="hybrid")}
    torch.save(one_iteration(folder / "hybrid", job, Peers()), folder / f"hybrid-{dist.get_rank()}.pt")


def walk(folder):
    """All jobs in 1, 2 and 3 processes: while two work together, the third works alone."""
    rank, pair = dist.get_rank(), dist.new_group([0, 1])
    few = (ALONE, 1) if rank == 2 else (Peers(pair), 2)
    for name, job in JOBS.items():
        for processes, size in (few, (Peers(), 3)):
            result = one_iteration(folder / f"{name}-{size}", job, processes)
            torch.save(result, folder / f"{name}-{size}-{processes.rank}.pt")


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By the job's name and the number of processes, what each of them found."""
    folder = tmp_path_factory.mktemp("shards")
    in_processes(3, walk, folder)
    return {
        name: {size: [torch.load(folder / f"{name}-{size}-{rank}.pt") for rank in range(size)] for size in (1, 2, 3)}
        for name in JOBS
    }


@pytest.mark.parametrize("name", JOBS)
def test_the_number_of_processes_changes_nothing(results, name):
    ((alone,), *others) = results[name].values()
    for other in (each for ranks in others for each in ranks):
        require_same(alone, other)


def test_copies_on_two_machines_change_nothing(results, tmp_path):
    in_processes(4, on_two_machines, tmp_path)
    for rank in range(4):
        hybrid = torch.load(tmp_path / f"hybrid-{rank}.pt")
        require_same(results["block by block"][1][0], hybrid)
        # Each of two optimiser steps has two chunks, and the copies are summed once in a step.
        planned = traffic(planned_job("block by block", hybrid["weights"], tmp_path, shard="hybrid", num_gpus=4, num_nodes=2))
        assert hybrid["bytes"]["summed"] == pytest.approx(planned.summed, rel=0.05)


def planned_job(name, weights, folder, *, shard="full", **gpus):
    num_weights, num_trained = weights
    config = config_of(folder, JOBS[name])
    config = replace(config, memory=replace(config.memory, shard=shard))
    job = measure_job(replace(RECIPES["sprites"], finetune=JOBS[name]["finetune"]))
    return replace(job, config=config, num_weights=num_weights, num_trained=num_trained, **gpus)


@pytest.mark.parametrize("name", JOBS)
def test_what_a_plan_says_is_what_moves(results, name, tmp_path):
    """Two processes; parts are padded to the same size, and a norm's few numbers are not counted."""
    real = results[name][2][0]
    planned = traffic(planned_job(name, real["weights"], tmp_path, num_gpus=2))
    for key, value in vars(planned).items():
        assert real["bytes"][key] == pytest.approx(value, rel=0.05), key
