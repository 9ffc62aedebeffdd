"""Every algorithm trains a network whose weights are spread over two processes as it trains a whole one."""

import pytest
import torch
import torch.distributed as dist
from helpers.lanes import BROKEN, EVERY, Lane, require_same
from helpers.ranks import in_processes

from vgrpo.core.processes import ALONE
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.sharding import is_spread
from vgrpo.training.processes.peers import Peers

KINDS = {
    "full": {"finetune": "full", "memory": MemoryConfig(shard="full")},
    # An adapter is never merged into bf16, so the images are the same bit for bit.
    "lora": {"finetune": "lora", "memory": MemoryConfig(shard="full", gather=False), "dtype": torch.bfloat16},
}
"""What is trained, with the network whole while images are drawn, and gathered in each forward."""


def walk(folder):
    """All algorithms in 1 and 2 processes: while two work together, the third works alone. Of three groups the second process
    has the one that cannot be judged, and takes part in every forward without a row of its own."""
    rank, pair = dist.get_rank(), dist.new_group([0, 1])
    processes = ALONE if rank == 2 else Peers(pair)
    for kind, settings in KINDS.items():
        lane = Lane(folder / f"{kind}-{processes.size}", processes, num_prompts=3, **settings)
        assert is_spread(lane.run.policy.module) == (processes.size == 2)
        for name, job in EVERY.items():
            torch.save(lane.iterate(job), folder / f"{kind}-{name}-{processes.size}-{processes.rank}.pt")
        lane.run.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By what is trained and the algorithm, what the process alone found, and what each of two."""
    folder = tmp_path_factory.mktemp("shards")
    in_processes(3, walk, folder)
    places = ("1-0", "2-0", "2-1")
    return {
        (kind, name): [torch.load(folder / f"{kind}-{name}-{place}.pt") for place in places] for kind in KINDS for name in EVERY
    }


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("kind", KINDS)
def test_spread_weights_change_nothing(results, kind, name):
    alone, *others = results[kind, name]
    for other in others:
        require_same(alone, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_has_nothing_to_train_on(results, kind):
    _, first, second = (each["found"]["own"] for each in results[kind, "vgrpo"])
    assert ([group for group, _ in first], [text for _, text in second]) == ([0, 2], [BROKEN])
