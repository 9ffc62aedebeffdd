"""What is not finite moves no weight, is counted and told of, and in the end stops the run with what was learned before."""

import itertools
import math

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.commands.main import main
from vgrpo.models.weight_sets import trainable
from vgrpo.training import loop
from vgrpo.training.checkpoints.folder import all_in
from vgrpo.training.loop import train
from vgrpo.training.optimizer import BadStepsError
from vgrpo.training.record.events import IterationDone, Noticed, RunStopped
from vgrpo.training.record.health import Health
from vgrpo.training.settings.config import UpdateConfig
from vgrpo.training.start import Given


def spoil_gradient(policy, metrics):
    next(iter(trainable(policy.module).values())).grad.view(-1)[0] = math.nan


def spoil_loss(policy, metrics):
    metrics["loss"][0] = math.inf


SPOILS = {"a gradient": spoil_gradient, "a loss": spoil_loss}


def fall_ill(monkeypatch, steps, spoil):
    """Every optimiser step has a number; those of `steps` are spoilt."""
    healthy, numbers = loop.backward, itertools.count()

    def backward(policy, *rest):
        metrics = healthy(policy, *rest)
        if next(numbers) in steps:
            spoil(policy, metrics)
        return metrics

    monkeypatch.setattr(loop, "backward", backward)


def weights_of(pipeline):
    return [value.detach().clone() for value in trainable(pipeline.transformer).values()]


def run(folder, listener, *, resume=False, **changes):
    pipeline = tiny_pipeline()
    given = Given(pipeline=pipeline, reward=red, prompts=PROMPTS)
    train(tiny_config(folder, **changes), given, resume=resume, listeners=(lambda event: listener(event, pipeline),))


@pytest.mark.parametrize("spoil", SPOILS.values(), ids=SPOILS)
def test_a_step_that_is_not_finite_is_left_out_counted_and_told(tmp_path, monkeypatch, spoil):
    fall_ill(monkeypatch, {1}, spoil)
    after, counts, told = [], [], []

    def listener(event, pipeline):
        if isinstance(event, IterationDone):
            after.append(weights_of(pipeline))
            counts.append(event.values["bad_steps"])
        if isinstance(event, Noticed):
            told.append(event.text)

    run(tmp_path / "run", listener, num_iterations=3)
    assert counts == [0, 1, 0]
    assert any("iteration 2: 1 optimiser steps were left out" in text for text in told)
    assert all(map(torch.equal, after[0], after[1]))
    assert not all(map(torch.equal, after[1], after[2]))
    assert all(value.isfinite().all() for value in after[2])


def test_too_many_in_a_row_stop_the_run_which_then_goes_on_from_before_them(tmp_path, monkeypatch):
    stopped, found = [], {}

    def listener(event, pipeline):
        if isinstance(event, RunStopped):
            stopped.append(event.checkpoint)
        if isinstance(event, IterationDone):
            found[event.iteration] = weights_of(pipeline)

    settings = {"num_iterations": 4, "update": UpdateConfig(lr=1e-3, num_minibatches=2, max_bad_steps=2)}
    run(tmp_path / "healthy", listener, **settings)
    expected = found.pop(3)
    with monkeypatch.context() as patch:
        fall_ill(patch, range(6, 99), spoil_gradient)  # from the fourth iteration on
        with pytest.raises(BadStepsError, match=r"2 optimiser steps in a row .* the gradient's norm is nan"):
            run(tmp_path / "ill", listener, **settings)
    assert stopped == [all_in(tmp_path / "ill/checkpoints")[-1][1]]
    assert stopped[0].name == "iteration-000003"
    run(tmp_path / "ill", listener, resume=True, **settings)
    assert all(map(torch.equal, expected, found[3]))


def test_the_command_ends_with_status_1_and_says_why(tmp_path, monkeypatch, capsys):
    fall_ill(monkeypatch, range(99), spoil_loss)
    small = "--rollout.num-prompts 4 --rollout.group-size 4 --eval.num-prompts 0 --eval.num-sample-prompts 1"
    assert main(["train", "sprites", "--output-dir", f"{tmp_path}/run", *small.split(), "--update.max-bad-steps", "2"]) == 1
    error = capsys.readouterr().err
    assert "2 optimiser steps in a row were left out" in error
    assert "1 of " in error
    assert "Traceback" not in error


def test_each_sign_of_illness_is_told_once_while_it_lasts():
    health = Health(lags=False)
    well = {"grad_norm": 0.1, "reward/zero_std_groups": 0.1, "ratio/first": 1.0, "bad_steps": 0}
    assert [health.add(well) for _ in range(6)] == [[]] * 6
    signs = {
        "grad_norm": (2.0, "20 times its median"),
        "reward/zero_std_groups": (0.9, "in 90% of the groups all images earned the same"),
        "ratio/first": (1.1, "the ratio is 1.1000 and not 1"),
        "bad_steps": (2, "2 optimiser steps were left out"),
    }
    for name, (value, text) in signs.items():
        (told,) = health.add(well | {name: value})
        assert text in told
        assert health.add(well | {name: value}) == []
        assert health.add(well) == []


def test_a_first_ratio_off_1_is_no_sign_where_old_weights_lag():
    assert Health(lags=True).add({"ratio/first": 1.3}) == []
