"""Which images of an algorithm share their start, their times and their noise, as published; and whose weights draw them."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.core import flow
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import (
    AWM,
    CRD,
    DDPO,
    DGPO,
    EPG,
    FDFO,
    FPO,
    RAM,
    RVM,
    RWR,
    SFT,
    TPGRPO,
    VGRPO,
    AdvantageFlow,
    BranchGRPO,
    DanceGRPO,
    DiffusionNFT,
    FlowAWR,
    FlowDPPO,
    FlowGRPO,
    MixGRPO,
    StepwiseGRPO,
    TempFlowGRPO,
)
from vgrpo.objectives.path.fdfo import ChurnSampler
from vgrpo.training import drawing
from vgrpo.training.loop import iterate
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.start import Given, start_run

GROUP = torch.tensor([0, 0, 1, 1])


def sharing(values):
    """Who shares rows of [4, K, ...] values: "batch", "group" or "none"."""
    rows = [tuple(row.flatten().tolist()) for row in values]
    return {1: "batch", 2: "group", 4: "none"}[len(set(rows))] if rows[0] == rows[1] or len(set(rows)) == 4 else "other"


@pytest.mark.parametrize(
    ("objective", "times", "noise"),
    [
        (VGRPO(num_probes=8), "group", "group"),
        (FPO(num_probes=8), "none", "none"),
        (DiffusionNFT(), "batch", "none"),
        (AWM(num_probes=6), "batch", "none"),
        (CRD(num_probes=8), "batch", "none"),
        (EPG(), "batch", "none"),
        (RAM(num_probes=8), "none", "none"),
        (FlowAWR(), "batch", "none"),
        (AdvantageFlow(), "batch", "none"),
        (RVM(num_probes=8), "none", "none"),
        (DGPO(num_probes=8), "group", "group"),
        (RWR(num_probes=8), "none", "none"),
        (SFT(num_probes=8), "none", "none"),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else value,
)
def test_who_shares_points_of_the_forward_process(objective, times, noise):
    probes = objective.points(torch.randn(4, 3, 2, 2), GROUP, "seed")
    assert (sharing(probes.times()), sharing(probes.noise())) == (times, noise)


@pytest.mark.parametrize(
    ("objective", "starts"),
    [
        (VGRPO(), [0, 1, 2, 3]),
        (FlowGRPO(), [0, 1, 2, 3]),
        (StepwiseGRPO(), [0, 1, 2, 3]),
        (DDPO(), [0, 1, 2, 3]),
        (DanceGRPO(), [0, 0, 0, 0]),
        (MixGRPO(), [0, 0, 0, 0]),
        (FDFO(), [0, 0, 1, 1]),
        (BranchGRPO(splits=(0,)), [0, 0, 1, 1]),
        (FlowDPPO(), [0, 1, 2, 3]),
        (TempFlowGRPO(num_branches=2), [0, 0, 1, 1]),
        (TPGRPO(), [0, 1, 2, 3]),
    ],
    ids=lambda value: "" if isinstance(value, list) else type(value).__name__,
)
def test_who_starts_from_the_same_noise(objective, starts):
    assert [objective.drawing.initial_noise(member) for member in range(4)] == starts


def test_the_start_of_a_pair_is_churned_and_stays_noise():
    churn, num_images = 0.5, 20_000
    start = torch.randn(num_images, 1)
    noise = torch.randn(2, num_images, 3, 1)
    first, second = (
        ChurnSampler(churn=churn)(lambda x, t: x, start, flow.schedule(2), own)[1].x[:, 0, 0].double() for own in noise
    )
    assert first.std().item() == pytest.approx(1, abs=0.02)
    # Of what both started from, 1 / (1 + churn) is left in each.
    assert (first * second).mean().item() == pytest.approx(1 / (1 + churn) ** 2, abs=0.02)


class HalfLag(DiffusionNFT):
    def old_decay(self, iteration):
        return 0.5


def test_lagging_weights_draw_the_rollout_and_follow_by_halves(tmp_path, monkeypatch):
    config = tiny_config(tmp_path / "run", objective=HalfLag(num_probes=2), num_iterations=9)
    run = start_run(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS[:2]))
    drawn = []

    def remember(*args, **settings):
        drawn.append(current())
        return draw_groups(*args, **settings)

    def current():
        return {name: value.detach().clone() for name, value in trainable(run.policy.module).items()}

    draw_groups = drawing.draw_groups
    monkeypatch.setattr(drawing, "draw_groups", remember)
    expected = current()
    for _ in range(3):
        iterate(run)
        run.iteration += 1
        new = current()
        moved = [name for name in new if not torch.equal(new[name], expected[name])]
        assert moved  # else this would hold for whatever weights
        assert all(torch.equal(drawn[-1][name], expected[name]) for name in expected)
        expected = {name: 0.5 * expected[name] + 0.5 * new[name] for name in expected}
        for name, value in run.copies["old"].values.items():
            assert torch.allclose(value, expected[name], atol=1e-7)
        expected = {name: value.clone() for name, value in run.copies["old"].values.items()}


def test_ddpo_trains_a_network_of_the_ddpm_schedule(tmp_path):
    """The model family it was published on: an eps-predicting UNet, asked between its thousand steps."""
    config = tiny_config(
        tmp_path / "run",
        objective=DDPO(),
        resolution=16,
        max_sequence_length=24,
        num_iterations=9,
        rollout=RolloutConfig(num_prompts=2, group_size=4, num_steps=4),
        update=UpdateConfig(lr=3e-2, num_minibatches=2),
    )
    run = start_run(config, Given(pipeline=pipelines.stable_diffusion(), reward=red, prompts=PROMPTS[:2]))
    before = {name: value.detach().clone() for name, value in trainable(run.policy.module).items()}
    line = iterate(run)
    assert line["nfe/train"] == 3  # the last of four steps is deterministic
    assert line["ratio/first"] == 1
    assert 0.5 < line["ratio/min"] < 0.99  # the second minibatch meets moved weights
    assert any(not torch.equal(value, before[name]) for name, value in trainable(run.policy.module).items())
