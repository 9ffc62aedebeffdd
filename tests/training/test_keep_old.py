"""Answers that the rollout kept: the same training as with old answers computed again, for fewer forwards."""

import dataclasses
import json

import pytest
import torch
from helpers.paths import batch_of, rollout, velocity
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import train
from vgrpo.objectives import OBJECTIVES, VGRPO, DanceGRPO, MixGRPO
from vgrpo.training.settings.config import UpdateConfig
from vgrpo.training.update import kept_velocities

STEPWISE = {name: kind for name, kind in OBJECTIVES.items() if kind().drawing.step_sampler(0, 0) is not None}


@pytest.mark.parametrize("name", STEPWISE)
def test_the_steps_hold_the_answers_that_the_network_gives_there(name):
    objective = STEPWISE[name]()
    batch = batch_of(objective, *rollout(objective, 24), torch.randn(24))
    points = batch.points
    again = velocity(points.x, points.t[:, :, None, None, None])
    kept = kept_velocities(batch)["old"]
    assert kept.shape == points.x.shape
    assert torch.allclose(kept, again, atol=1e-5)
    moved = (again + 0.1 * torch.randn_like(again)).double().requires_grad_()
    base = {"ref": again.double()}
    losses = [objective.loss(moved, base | {"old": old.double()}, batch)[0] for old in (kept, again)]
    assert torch.allclose(*losses, rtol=1e-3, atol=1e-5)


def final_metrics(folder, objective, **update):
    config = tiny_config(folder, objective=objective, num_iterations=2)
    update = dataclasses.replace(config.update, num_minibatches=2, **update)
    train(dataclasses.replace(config, update=update), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "nfe/old" in line]


@pytest.mark.parametrize("objective", [MixGRPO(num_window_steps=2), DanceGRPO()], ids=["mixgrpo", "dancegrpo"])
def test_training_is_the_same_but_for_forwards(tmp_path, objective):
    again, kept = (final_metrics(tmp_path / str(keep), objective, keep_old=keep) for keep in (False, True))
    for first, second in zip(again, kept, strict=True):
        assert first["nfe/old"] > 0
        assert second["nfe/old"] == 0
        assert second["ratio/first"] == pytest.approx(1, abs=1e-5)
        assert second["ratio/max"] == pytest.approx(first["ratio/max"], abs=1e-4)
        assert second["loss"] == pytest.approx(first["loss"], abs=1e-4)
        assert second["grad_norm"] == pytest.approx(first["grad_norm"], rel=1e-2)


def test_points_that_no_rollout_passes_have_no_kept_answers(tmp_path):
    with pytest.raises(ValueError, match=r"update\.keep_old: VGRPO trains on points"):
        tiny_config(tmp_path, objective=VGRPO(), update=UpdateConfig(keep_old=True))
