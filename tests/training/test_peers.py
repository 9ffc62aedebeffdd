"""One to four processes train the same: what is drawn and judged bit for bit, weights up to the order of a sum."""

import pytest
import torch
import torch.distributed as dist
from helpers.lanes import BROKEN, EVERY, Lane, require_same
from helpers.ranks import in_processes

from vgrpo.core.processes import ALONE
from vgrpo.training.processes.peers import Peers
from vgrpo.training.settings.config import UpdateConfig

IN_CHUNKS = {"update": UpdateConfig(num_minibatches=2, micro_batch_size=3, keep_share=0.5)}
JOBS = EVERY | {f"full {name}": EVERY[name] | {"finetune": "full"} for name in ("vgrpo", "crd")}
JOBS |= {f"{name} in chunks": JOBS[name] | IN_CHUNKS for name in ("vgrpo", "crd")}
IN_THREE_PARTS = {"update": UpdateConfig(num_minibatches=3, micro_batch_size=3)}
OF_FOUR = {name: EVERY[name] | IN_THREE_PARTS for name in ("vgrpo", "crd", "dgpo", "mixgrpo")}
"""Jobs of four processes, with five groups: the last of three minibatches is one group, of one process."""


def walk(folder):
    """All jobs in 1, 2 and 3 processes: while two work together, the third works alone."""
    rank, pair = dist.get_rank(), dist.new_group([0, 1])
    few, lanes = (ALONE, 1) if rank == 2 else (Peers(pair), 2), {}
    for name, job in JOBS.items():
        finetune = job.get("finetune", "lora")
        for processes, size in (few, (Peers(), 3)):
            if (finetune, size) not in lanes:
                lanes[finetune, size] = Lane(folder / f"{finetune}-{size}", processes, finetune=finetune)
            result = lanes[finetune, size].iterate(job)
            torch.save(result, folder / f"{name}-{size}-{processes.rank}.pt")
    for lane in lanes.values():
        lane.run.close()


def walk_of_four(folder):
    """The last process works alone first."""
    sides = [(Peers(), 4)]
    if dist.get_rank() == 3:
        sides.insert(0, (ALONE, 1))
    for processes, size in sides:
        lane = Lane(folder / str(size), processes, num_prompts=5)
        for name, job in OF_FOUR.items():
            torch.save(lane.iterate(job), folder / f"{name}-{size}-{processes.rank}.pt")
        lane.run.close()


def loaded(folder, name, size):
    return [torch.load(folder / f"{name}-{size}-{rank}.pt") for rank in range(size)]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By the job's name and the number of processes, what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    in_processes(3, walk, folder)
    return {name: {size: loaded(folder, name, size) for size in (1, 2, 3)} for name in JOBS}


@pytest.fixture(scope="module")
def results_of_four(tmp_path_factory):
    folder = tmp_path_factory.mktemp("four")
    in_processes(4, walk_of_four, folder)
    return {name: {size: loaded(folder, name, size) for size in (1, 4)} for name in OF_FOUR}


def test_groups_are_dealt_out(results, results_of_four):
    ranks = [found["found"]["own"] for found in results["vgrpo"][3]]
    assert [[group for group, _ in own] for own in ranks] == [[0, 3], [1], [2]]
    four = [found["found"]["own"] for found in results_of_four["vgrpo"][4]]
    assert [[group for group, _ in own] for own in four] == [[0, 4], [1], [2], [3]]
    for dealt in (ranks, four):
        assert [BROKEN] in [[text for _, text in own] for own in dealt]  # so a process has nothing to train on


def test_why_a_reward_failed_in_one_process_is_known_to_all(results):
    for size in (1, 2, 3):
        for found in results["vgrpo"][size]:
            assert any("OSError: a key cannot be judged" in text for text in found["found"]["noticed"])


@pytest.mark.parametrize("name", JOBS)
def test_the_number_of_processes_changes_nothing(results, name):
    ((alone,), *others) = results[name].values()
    for other in (each for ranks in others for each in ranks):
        require_same(alone, other)


@pytest.mark.parametrize("name", OF_FOUR)
def test_four_processes_change_nothing(results_of_four, name):
    ((alone,), others) = results_of_four[name].values()
    for other in others:
        require_same(alone, other)


@pytest.mark.parametrize("name", JOBS)
def test_weights_are_the_same_in_all_processes(results, name):
    first, *others = results[name][3]
    for key, value in first["moved"].items():
        assert all(torch.equal(value, other["moved"][key]) for other in others)
