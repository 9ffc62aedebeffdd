"""The algorithms that share out credit within a rollout: trees, pairs and steps, against plain loops in fp64."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.formulas import SHAPE, brightness
from helpers.paths import STEPS, batch_of, rollout, velocity
from helpers.tiny import tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.core import flow
from vgrpo.core.solvers import euler
from vgrpo.core.types import Batch
from vgrpo.objectives import DDPO, FDFO, BranchGRPO, StepwiseGRPO
from vgrpo.objectives.path.branch_grpo import depth_advantage
from vgrpo.objectives.path.fdfo import ChurnSampler
from vgrpo.training.loop import iterate
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.start import Given, start_run


def test_a_tree_splits_where_it_should():
    objective = BranchGRPO(splits=(0, 3))
    x_0, path = rollout(objective, 8)  # two trees of four
    for step in range(STEPS - 1):
        distinct = len({tuple(row.flatten().tolist()) for row in path.x_next[:, step]})
        assert distinct == (4 if step < 3 else 8)
    assert torch.equal(path.x[:4, 0], path.x[:1, 0].expand(4, *SHAPE))
    assert torch.equal(path.x[:, 1:], path.x_next[:, :-1])
    assert len({tuple(row.flatten().tolist()) for row in x_0}) == 8
    assert torch.allclose(x_0, euler(velocity, path.x_next[:, -1], flow.schedule(STEPS)[-2:]))


def test_a_tree_costs_what_the_paper_counts():
    sampler = BranchGRPO(splits=(0, 3, 6, 9)).drawing.step_sampler(0, 0)
    calls = []

    def counted(x, t, rows=slice(None)):
        calls.append(len(x))
        assert len(range(16)[rows]) == len(x)
        return velocity(x, t)

    _, path = sampler(counted, torch.randn(1, *SHAPE).expand(16, *SHAPE), flow.schedule(20), torch.randn(16, 20, *SHAPE))
    assert sum(calls) / 16 == sampler.num_evaluations(20) == pytest.approx(12.6875)
    objective = BranchGRPO(splits=(0, 3, 6, 9))
    edges = batch_of(objective, torch.randn(16, *SHAPE), path, torch.randn(16))
    assert len(edges) / 16 == pytest.approx((2 * 3 + 4 * 3 + 8 * 3 + 16 * 10) / 16)


def test_tree_advantages_are_z_scores_of_the_nodes_of_a_depth():
    rewards = torch.randn(16, dtype=torch.float64)
    for span in (1, 2, 4, 8):
        got = depth_advantage(rewards, torch.ones(16, dtype=torch.bool), span, 8)
        for tree in range(2):
            nodes = [np.mean([float(rewards[tree * 8 + n * span + i]) for i in range(span)]) for n in range(8 // span)]
            expected = (np.array(nodes) - np.mean(nodes)) / np.std(nodes) if len(nodes) > 1 else np.zeros(1)
            assert np.allclose(got[tree], expected)


def test_a_failed_reward_leaves_its_node_to_the_others():
    valid = torch.tensor([True, True, True, False])
    got = depth_advantage(torch.tensor([1.0, 3.0, 6.0, 0.0]), valid, 2, 4)
    assert torch.allclose(got, torch.tensor([[-1.0, 1.0]]))  # nodes are worth 2 and 6
    leaves = depth_advantage(torch.tensor([1.0, 3.0, 6.0, 0.0]), valid, 1, 4)
    assert leaves[0, 3] == 0


def test_edges_carry_their_nodes_advantage_and_state():
    objective = BranchGRPO(splits=(0, 3))
    x_0, path = rollout(objective, 4)
    advantage = torch.tensor([1.0, 2.0, 4.0, 6.0])
    edges = batch_of(objective, x_0, path, advantage)
    assert len(edges) == 2 * 3 + 4 * 4
    for row in range(len(edges)):
        leaf = int(edges.cond.pooled[row])
        step = int((path.t[leaf] - edges.points.t[row, 0]).abs().argmin())
        assert torch.equal(edges.points.x[row, 0], path.x[leaf, step])
        nodes = [1.5, 1.5, 5.0, 5.0] if step < 3 else [1.0, 2.0, 4.0, 6.0]
        expected = (nodes[leaf] - 3.25) / np.std(nodes)
        assert float(edges.advantage[row]) == pytest.approx(expected, rel=1e-5)


def test_pruning_leaves_out_the_middle_and_a_moving_window():
    x_0, path = rollout(BranchGRPO(splits=(0, 1)), 4)
    advantage = torch.tensor([1.0, 2.0, 3.0, 6.0])
    extremes = batch_of(BranchGRPO(splits=(0, 1), keep_width=0.5), x_0, path, advantage)
    assert len(extremes) == 2 * 7  # two of two nodes at the first step, two of four at the other six
    assert set(extremes.cond.pooled[extremes.points.t[:, 0] < 0.5, 0].tolist()) == {0, 3}
    for iteration in (0, 5):
        some = batch_of(BranchGRPO(splits=(0, 1), num_skipped_steps=3), x_0, path, advantage, iteration)
        skipped = {round(float(path.t[0, (iteration + k) % 7]), 4) for k in range(3)}
        assert not skipped & {round(t, 4) for t in some.points.t.flatten().tolist()}
        assert len({round(t, 4) for t in some.points.t.flatten().tolist()}) == 4


@pytest.mark.parametrize(
    ("objective", "settings", "words"),
    [
        (BranchGRPO(splits=(0, 1)), {"group_size": 6, "num_steps": 4}, "rollout.group_size=6.*4 images"),
        (BranchGRPO(splits=(0, 3)), {"group_size": 8, "num_steps": 4}, r"objective.splits=\(0, 3\)"),
        (BranchGRPO(splits=(0, 1)), {"group_size": 4, "num_steps": 4, "batch_size": 6}, "rollout.batch_size=6"),
        (FDFO(), {"group_size": 5, "num_steps": 4}, "rollout.group_size=5: fdfo draws pairs"),
    ],
)
def test_a_rollout_that_cannot_work_is_refused(objective, settings, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        tiny_config(tmp_path, objective=objective, rollout=RolloutConfig(num_prompts=2, **settings))


def test_churn_keeps_the_marginals_and_a_pair_together():
    torch.manual_seed(0)
    noise = torch.randn(20_000, 200, 1)
    x_0, path = ChurnSampler(churn=0.02)(velocity, torch.randn(20_000, 1), flow.schedule(200), noise)
    assert x_0.std().item() == pytest.approx(0.5, rel=0.03)
    for step in (0, 60, 150):
        t = float(path.t[0, step])
        assert path.x[:, step].std().item() == pytest.approx(math.sqrt((1 - t) ** 2 / 4 + t**2), rel=0.03)
    x_0, _ = rollout(FDFO(), 4, num_steps=40)
    assert (x_0[0] - x_0[1]).square().mean() < 0.5 * (x_0[0] - x_0[2]).square().mean()


def test_fdfo_loss_equals_the_published_formula():
    objective = FDFO()
    x_0, path = rollout(objective, 4)
    rewards = torch.tensor([0.3, -0.4, 1.0, 0.8])
    batch = batch_of(objective, x_0, path, rewards)
    torch.manual_seed(1)
    old = torch.randn(path.x.shape)
    v = old + 0.02 * torch.randn(path.x.shape)
    got, _ = objective.loss(v, {"old": old}, batch)
    finals = x_0.double().flatten(1).numpy()
    w, o = (value.double().flatten(2).numpy() for value in (v, old))
    for i in range(4):
        j = i + 1 if i % 2 == 0 else i - 1
        reward = (float(rewards[i]) - float(rewards[j])) / 2
        dx = (finals[i] - finals[j]) / 2
        dx = dx / (np.mean(dx**2) + 1e-6)
        total = 0.0
        for k in range(STEPS):
            ratio = math.exp(-np.mean((w[i, k] - (o[i, k] - dx)) ** 2) + np.mean(dx**2))
            total += (-reward * ratio + abs(reward) / (2 * objective.ratio_clip) * (ratio - 1) ** 2) / STEPS
        assert float(got[i]) == pytest.approx(total, rel=1e-3)
    _, same = objective.loss(old, {"old": old}, batch)
    assert torch.allclose(same["ratio"], torch.ones(4), atol=1e-4)


def test_fdfo_drops_a_pair_with_a_failed_reward():
    objective = FDFO()
    x_0, path = rollout(objective, 4)
    group = torch.zeros(4, dtype=torch.long)
    valid = torch.tensor([True, False, True, True])
    batch = Batch(
        points=objective.points(x_0, group, 0, trajectory=path), cond=None, advantage=torch.ones(4), group=group, valid=valid
    )
    credited = objective.credit.assign(batch, 0)
    assert credited.valid.tolist() == [False, False, True, True]


@pytest.mark.parametrize("share", [1, 3])
def test_steps_earn_what_they_add(share):
    objective = StepwiseGRPO(steps_per_gain=share)
    x_0, path = rollout(objective, 3)

    def judge(latents):
        return latents.flatten(1).sum(1, keepdim=True)

    latents = objective.credit.judged(path)
    judged = torch.stack([judge(latents[:, j]) for j in range(latents.shape[1])], 1)
    gains = objective.credit.gains(judge(x_0), judged, torch.zeros(len(x_0), dtype=torch.long))
    t, x = path.t[0].tolist(), path.x
    expected = [x[:, k] - t[k] * velocity(x[:, k], t[k]) for k in range(0, STEPS - 1, share)] + [x_0]
    for k in range(len(expected) - 1):
        assert torch.allclose(gains[:, k], judge(expected[k + 1]) - judge(expected[k]), atol=1e-4)
    batch = batch_of(objective, x_0, path, gains[:, :, 0])
    assert batch.advantage.shape == (3, STEPS - 1)
    assert torch.equal(batch.advantage[:, 0], gains[:, 0, 0])
    assert torch.equal(batch.advantage[:, -1], gains[:, -1, 0])


def test_ddpo_score_function_is_minus_advantage_times_log_likelihood():
    objective = DDPO(mode="sf")
    x_0, path = rollout(objective, 3)
    batch = batch_of(objective, x_0, path, torch.tensor([1.0, -2.0, 0.5]))
    v = torch.randn(path.x.shape).requires_grad_()
    loss, _ = objective.loss(v, {"old": v.detach()}, batch)
    clipped, _ = DDPO().loss(v, {"old": v.detach()}, batch)
    # On-policy the gradient of -A ratio is that of -A log p.
    grads = [torch.autograd.grad(value.sum(), v, retain_graph=True)[0] for value in (loss, clipped)]
    assert torch.allclose(*grads, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("objective", [BranchGRPO(splits=(0, 1)), FDFO(), StepwiseGRPO()], ids=lambda o: type(o).__name__)
def test_several_steps_and_chunks_train(objective, tmp_path):
    config = tiny_config(
        tmp_path / "run",
        objective=objective,
        rollout=RolloutConfig(num_prompts=2, group_size=8, num_steps=4, batch_size=8),
    )
    update = UpdateConfig(num_minibatches=2, micro_batch_size=4, keep_share=0.5)
    prompts = [Prompt(text="a key")]
    result = train(replace(config, update=update), pipeline=tiny_pipeline(), reward=brightness, prompts=prompts, quiet=True)
    assert (result.output_dir / "metrics.jsonl").read_text().count("\n") == 2


def test_a_minibatch_whose_groups_are_all_alike_is_no_step(tmp_path):
    def reward(images, prompts):
        return images.mean((1, 2, 3)) * torch.tensor([prompt.text == "a key" for prompt in prompts])

    config = tiny_config(
        tmp_path / "run",
        objective=BranchGRPO(splits=(0, 1)),
        rollout=RolloutConfig(num_prompts=2, group_size=4, num_steps=4),
        update=UpdateConfig(num_minibatches=2, micro_batch_size=4),
    )
    run = start_run(config, Given(pipeline=tiny_pipeline(), reward=reward, prompts=["a key", "two blue stars"]))
    iterate(run)
    assert run.optimizer.num_steps == 1
