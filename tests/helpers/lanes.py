"""Runs of one start in several processes and in one, which take one algorithm after another: a start costs more than a step."""

import dataclasses

import pytest
import torch

from helpers.tiny import PROMPTS, tiny_config, tiny_pipeline
from vgrpo.models.sharding import own_part
from vgrpo.models.weight_sets import WeightCopy, trainable
from vgrpo.objectives import OBJECTIVES
from vgrpo.training import loop
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.start import Given, start_run

OWN = {"branchgrpo": {"splits": (0,)}, "tempflowgrpo": {"num_branches": 2}, "crd": {"centering": "softmax"}}
EVERY = {name: {"objective": kind(**OWN.get(name, {}))} for name, kind in OBJECTIVES.items()}
"""The changed settings of a job, for every algorithm."""
UPDATE = UpdateConfig(num_minibatches=2)
BROKEN = "a key"


def picky(images, prompts):
    """Fails on all images of a prompt, which may be all that a process has, and on one of another prompt's."""
    if any(prompt.text == BROKEN for prompt in prompts):
        raise OSError("a key cannot be judged")
    scores = (images[:, 0] - images[:, 2]).mean((1, 2)) + 0.1 * images[:, 1].std((1, 2))
    scores[[index for index, prompt in enumerate(prompts) if prompt.text == "a red heart"][:1]] = torch.nan
    return scores


def whole(tensor):
    """A copy of a tensor that may be spread over processes."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor.detach().clone()


class Lane:
    """A run in so many processes, which takes one job after another from the same start."""

    def __init__(self, folder, processes, *, num_prompts=4, dtype=torch.float32, **settings):
        rollout = RolloutConfig(num_prompts=num_prompts, group_size=4, num_steps=3, batch_size=4)
        config = tiny_config(folder, **{"rollout": rollout, "update": UPDATE, "held_out_prompts": 0} | settings)
        pipeline = tiny_pipeline()
        pipeline.transformer.to(dtype)
        given = Given(pipeline=pipeline, reward=picky, prompts=PROMPTS)
        self.run = start_run(config, given, processes=processes)
        # Plain steps along the gradient: AdamW's first ones are its sign, also where it is all rounding.
        self.run.optimizer.inner = torch.optim.SGD(self.run.optimizer.parameters)
        self.run.optimizer.lr = 3.0
        self.start = WeightCopy(self.run.policy.module)

    @torch.no_grad()
    def begin(self, job):
        run = self.run
        for name, value in trainable(run.policy.module).items():
            own_part(value).copy_(self.start.values[name])
        run.config = dataclasses.replace(run.config, **{"update": UPDATE} | job)
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
        moved = {name: whole(value) for name, value in trainable(self.run.policy.module).items()}
        with self.start.active():
            start = {name: whole(value) for name, value in trainable(self.run.policy.module).items()}
        moved = {name: value - start[name] for name, value in moved.items()}
        return {"found": found, "line": line, "moved": moved}


def same_bits(a, b):
    return a.dtype == b.dtype and torch.equal(a.nan_to_num(7e7), b.nan_to_num(7e7))


def require_same(alone, other):
    """What is drawn, judged and credited bit for bit; weights and what is measured of them up to the order of a sum."""
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
