"""Weights that are spread over one, two and three processes train the same as whole ones."""

import pytest
import torch
import torch.distributed as dist
from helpers.ranks import in_processes
from helpers.tiny import PROMPTS, tiny_config, tiny_pipeline

from vgrpo.core.processes import ALONE
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.sharding import is_spread
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import CRD, VGRPO, MixGRPO
from vgrpo.training import loop
from vgrpo.training.config import RolloutConfig, UpdateConfig
from vgrpo.training.peers import Peers
from vgrpo.training.start import Given, start_run

BROKEN = "a key"
IN_CHUNKS = UpdateConfig(num_minibatches=2, micro_batch_size=3)
JOBS = {
    "whole rollouts": {"finetune": "full", "objective": VGRPO(ref_weight=1.0)},
    "block by block": {
        "finetune": "full",
        "objective": CRD(centering="softmax"),
        "update": IN_CHUNKS,
        "memory": MemoryConfig(shard="full", gather=False, gradient_checkpointing=True),
    },
    "beside an adapter": {"finetune": "lora", "objective": MixGRPO(), "memory": MemoryConfig(shard="full", gather=False)},
}


def picky(images, prompts):
    """Fails on all images of a prompt, which are all that one of three processes has."""
    if any(prompt.text == BROKEN for prompt in prompts):
        raise OSError("a key cannot be judged")
    return (images[:, 0] - images[:, 2]).mean((1, 2)) + 0.1 * images[:, 1].std((1, 2))


def whole(tensor):
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach().clone()


def one_iteration(folder, job, processes):
    """Drawn, judged and learned, of all processes."""
    settings = {
        "rollout": RolloutConfig(num_prompts=4, group_size=4, num_steps=3, batch_size=4),
        "update": UpdateConfig(num_minibatches=2),
        "memory": MemoryConfig(shard="full"),
    }
    config = tiny_config(folder, held_out_prompts=0, **settings | job)
    pipeline = tiny_pipeline()
    if config.finetune == "lora":  # an adapter is never merged into bf16, so the images are the same bit for bit
        pipeline.transformer.bfloat16()
    run = start_run(config, Given(pipeline=pipeline, reward=picky, prompts=PROMPTS), processes=processes)
    assert is_spread(run.policy.module) == (processes.size > 1)
    # Plain steps along the gradient: AdamW's first ones are its sign, also where it is all rounding.
    run.optimizer.inner = torch.optim.SGD(run.optimizer.parameters)
    run.optimizer.lr = 3.0
    start = {name: whole(value) for name, value in trainable(run.policy.module).items()}
    found, make_batch = {}, loop.make_batch

    def remember(config, rollout, judgement, *others, processes):
        drawn = {"latents": rollout.latents, "images": rollout.images, **judgement._asdict()}
        found.update({name: processes.gather(value, rollout.group) for name, value in drawn.items()})
        return make_batch(config, rollout, judgement, *others, processes=processes)

    loop.make_batch = remember
    try:
        line = loop.iterate(run)
    finally:
        loop.make_batch = make_batch
        run.close()
    moved = {name: whole(value) - start[name] for name, value in trainable(run.policy.module).items()}
    return {"found": found, "line": line, "moved": moved}


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
    most = max(value.abs().max() for value in alone["moved"].values())
    assert most > 1e-5
    for other in (each for ranks in others for each in ranks):
        for key, value in alone["found"].items():
            assert torch.equal(value.nan_to_num(7e7), other["found"][key].nan_to_num(7e7)), key
        for key, value in alone["moved"].items():
            assert (value - other["moved"][key]).abs().max() < 1e-3 * most, key
        for key, value in alone["line"].items():
            if "second" not in key:
                assert value == pytest.approx(other["line"][key], rel=1e-2, abs=1e-6), key
