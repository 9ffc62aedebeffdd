"""One, two and three processes train the same: what is drawn and judged bit for bit, weights up to the order of a sum."""

import dataclasses

import pytest
import torch
import torch.distributed as dist
from helpers.ranks import in_processes
from helpers.tiny import PROMPTS, tiny_config, tiny_pipeline

from vgrpo.core.processes import ALONE
from vgrpo.models.weight_sets import WeightCopy, trainable
from vgrpo.objectives import OBJECTIVES
from vgrpo.training import loop
from vgrpo.training.config import RolloutConfig, UpdateConfig
from vgrpo.training.peers import Peers
from vgrpo.training.start import Given, start_run

OWN = {"branchgrpo": {"splits": (0,)}, "tempflowgrpo": {"num_branches": 2}, "crd": {"centering": "softmax"}}
JOBS = {name: {"objective": kind(**OWN.get(name, {}))} for name, kind in OBJECTIVES.items()}
JOBS |= {f"full {name}": JOBS[name] | {"finetune": "full"} for name in ("vgrpo", "crd")}
IN_CHUNKS = {"update": UpdateConfig(num_minibatches=2, micro_batch_size=3, keep_share=0.5)}
JOBS |= {f"{name} in chunks": JOBS[name] | IN_CHUNKS for name in ("vgrpo", "crd")}
BROKEN = "a key"


def picky(images, prompts):
    """Fails on all images of a prompt, which are all that one of three processes has, and on one of another prompt's."""
    if any(prompt.text == BROKEN for prompt in prompts):
        raise OSError("a key cannot be judged")
    scores = (images[:, 0] - images[:, 2]).mean((1, 2)) + 0.1 * images[:, 1].std((1, 2))
    scores[[index for index, prompt in enumerate(prompts) if prompt.text == "a red heart"][:1]] = torch.nan
    return scores


class Lane:
    """A run in so many processes, which takes one job after another from the same start."""

    def __init__(self, folder, finetune, processes):
        rollout = RolloutConfig(num_prompts=4, group_size=4, num_steps=3, batch_size=4)
        update = UpdateConfig(num_minibatches=2)
        config = tiny_config(folder, rollout=rollout, update=update, finetune=finetune, held_out_prompts=0)
        given = Given(pipeline=tiny_pipeline(), reward=picky, prompts=PROMPTS)
        self.run = start_run(config, given, processes=processes)
        # Plain steps along the gradient: AdamW's first ones are its sign, also where it is all rounding.
        self.run.optimizer.inner = torch.optim.SGD(self.run.optimizer.parameters)
        self.run.optimizer.lr = 3.0
        self.start = {name: value.detach().clone() for name, value in trainable(self.run.policy.module).items()}

    @torch.no_grad()
    def begin(self, job):
        run = self.run
        for name, value in trainable(run.policy.module).items():
            value.copy_(self.start[name])
        run.config = dataclasses.replace(run.config, **{"update": UpdateConfig(num_minibatches=2)} | job)
        run.copies = {name: WeightCopy(run.policy.module) for name in run.config.objective.copies}

    def iterate(self, job):
        """What was drawn, judged and learned, of all processes, and this process's groups."""
        self.begin(job)
        found, make_batch, everyone = {}, loop.make_batch, self.run.processes

        def remember(config, rollout, judgement, *others, processes):
            batch = make_batch(config, rollout, judgement, *others, processes=processes)
            drawn = {"latents": rollout.latents, "images": rollout.images, "group": rollout.group, **judgement._asdict()}
            found.update({name: everyone.gather(value, rollout.group) for name, value in drawn.items()})
            found["credited"] = everyone.gather(batch.advantage, batch.group)
            found["trained"] = everyone.gather(batch.group, batch.group)
            found["noticed"] = sorted(self.run.events._noticed)
            found["own"] = sorted({(group, rollout.prompts[i].text) for i, group in enumerate(rollout.group.tolist())})
            return batch

        loop.make_batch = remember
        try:
            line = loop.iterate(self.run)
        finally:
            loop.make_batch = make_batch
        weights = {name: value.detach().clone() for name, value in trainable(self.run.policy.module).items()}
        moved = {name: value - self.start[name] for name, value in weights.items()}
        return {"found": found, "line": line, "moved": moved}


def walk(folder):
    """All jobs in 1, 2 and 3 processes: while two work together, the third works alone."""
    rank, pair = dist.get_rank(), dist.new_group([0, 1])
    few, lanes = (ALONE, "1") if rank == 2 else (Peers(pair), "2"), {}
    for name, job in JOBS.items():
        finetune = job.get("finetune", "lora")
        for processes, size in (few, (Peers(), "3")):
            if (finetune, size) not in lanes:
                lanes[finetune, size] = Lane(folder / f"{finetune}-{size}", finetune, processes)
            result = lanes[finetune, size].iterate(job)
            torch.save(result, folder / f"{name}-{size}-{processes.rank}.pt")
    for lane in lanes.values():
        lane.run.close()


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By the job's name and the number of processes, what each of them found."""
    folder = tmp_path_factory.mktemp("ranks")
    in_processes(3, walk, folder)

    def load(name, size):
        return [torch.load(folder / f"{name}-{size}-{rank}.pt") for rank in range(size)]

    return {name: {size: load(name, size) for size in (1, 2, 3)} for name in JOBS}


def same_bits(a, b):
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(7e7), b.nan_to_num(7e7))


def test_groups_are_dealt_out(results):
    ranks = [found["found"]["own"] for found in results["vgrpo"][3]]
    assert [[group for group, _ in own] for own in ranks] == [[0, 3], [1], [2]]
    assert [BROKEN] in [[text for _, text in own] for own in ranks]  # so a process has nothing to train on


def test_why_a_reward_failed_in_one_process_is_known_to_all(results):
    for size in (1, 2, 3):
        for found in results["vgrpo"][size]:
            assert any("OSError: a key cannot be judged" in text for text in found["found"]["noticed"])


@pytest.mark.parametrize("name", JOBS)
def test_the_number_of_processes_changes_nothing(results, name):
    ((alone,), *others) = results[name].values()
    for other in (each for ranks in others for each in ranks):
        for key, value in alone["found"].items():
            assert key in ("own", "noticed") or same_bits(value, other["found"][key]), key
        most = max(value.abs().max() for value in alone["moved"].values())
        assert most > 1e-5
        for key, value in alone["moved"].items():
            assert (value - other["moved"][key]).abs().max() < 1e-3 * most, key
        assert set(alone["line"]) == set(other["line"])
        for key, value in alone["line"].items():
            if key.startswith(("reward/", "nfe/", "diversity")):
                assert value == other["line"][key], key
            elif "second" not in key:
                assert value == pytest.approx(other["line"][key], rel=1e-2, abs=1e-6), key


@pytest.mark.parametrize("name", JOBS)
def test_weights_are_the_same_in_all_processes(results, name):
    first, *others = results[name][3]
    for key, value in first["moved"].items():
        assert all(torch.equal(value, other["moved"][key]) for other in others)
