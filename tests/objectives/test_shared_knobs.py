"""What the algorithms have in common: a time shift, and old answers only where the weights have moved."""

import json

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import train
from vgrpo.objectives import OBJECTIVES, VGRPO, DiffusionNFT, FlowGRPO, MixGRPO
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig

FORWARD = [kind for kind in OBJECTIVES.values() if kind().drawing.step_sampler(0, 0) is None]
GROUP = torch.arange(8)


@pytest.mark.parametrize("kind", FORWARD)
def test_a_time_shift_moves_the_points_towards_noise(kind):
    x_0 = torch.zeros(8, 1, 1, 1)
    plain, shifted = (kind(shift=shift).points(x_0, GROUP, "same").times().double() for shift in (1.0, 3.0))
    assert torch.allclose(shifted, 3 * plain / (1 + 2 * plain), atol=1e-6)  # Stable Diffusion 3, arXiv:2403.03206, eq. 23
    with pytest.raises(ValueError, match=r"shift=0\.0"):
        kind(shift=0.0)


@pytest.mark.parametrize(
    ("objective", "num_minibatches", "num_epochs", "expected"),
    [
        (VGRPO(), 1, 1, [""]),
        (VGRPO(), 4, 1, ["", "old", "old", "old"]),
        (VGRPO(ref_weight=0.1), 1, 2, ["old ref"]),
        (VGRPO(ref_weight=0.1), 2, 1, ["ref", "old ref"]),
        (MixGRPO(), 4, 1, ["", "old", "old", "old"]),
        (DiffusionNFT(), 1, 1, ["old ref"]),  # its old weights lag behind from the start
        (DiffusionNFT(), 2, 1, ["old ref", "old ref"]),
    ],
)
def test_old_answers_are_asked_for_where_weights_have_moved(objective, num_minibatches, num_epochs, expected):
    assert [" ".join(objective.needed(index, num_epochs)) for index in range(num_minibatches)] == expected


@pytest.mark.parametrize("objective", [MixGRPO(num_window_steps=2), VGRPO(ratio_clip=0.02)])
def test_the_first_of_several_steps_costs_no_old_forward(objective, tmp_path):
    config = tiny_config(
        tmp_path / "run",
        num_iterations=1,
        objective=objective,
        rollout=RolloutConfig(num_prompts=4, group_size=2, num_steps=6),
        update=UpdateConfig(lr=1e-2, num_minibatches=4),
    )
    train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS[:4], quiet=True)
    line = json.loads((tmp_path / "run/metrics.jsonl").read_text().splitlines()[0])
    points = objective.num_window_steps if isinstance(objective, MixGRPO) else objective.num_probes
    assert (line["nfe/train"], line["nfe/old"]) == (points, 0.75 * points)


def test_the_fast_window_lies_inside_its_range():
    fast = FlowGRPO(num_window_steps=3, kl_weight=0.0)
    starts = {fast.drawing.step_sampler(0, iteration).window(10).start for iteration in range(60)}
    assert starts == {0, 1, 2}  # 3 steps within the first five
    with pytest.raises(ValueError, match="kernel cps"):
        FlowGRPO(kernel="cps", noise=0.8, guard=True)
