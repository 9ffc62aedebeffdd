"""What a run tells its listeners, and in which order."""

import json
from contextlib import closing

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.commands.console import RunConsole
from vgrpo.commands.screen import Screen
from vgrpo.core.processes import Alone
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.objectives import DiffusionNFT, MixGRPO
from vgrpo.rewards.base import RewardError
from vgrpo.training.control.stopping import saved_on_stop
from vgrpo.training.loop import iterate, train
from vgrpo.training.record.events import (
    CheckpointSaved,
    Event,
    Events,
    IterationDone,
    Noticed,
    PhaseAdvanced,
    PhaseBegan,
    PhaseEnded,
    RunFinished,
    RunStarted,
    RunStopped,
    SamplesDrawn,
)
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.start import Given, start_run

GIVEN = {"reward": red, "prompts": PROMPTS}


def heard(config, **given) -> list[Event]:
    events: list[Event] = []
    train(config, Given(pipeline=tiny_pipeline(), **(GIVEN | given)), listeners=[events.append])
    return events


def test_a_run_tells_all_that_happens_in_order(tmp_path):
    events = heard(tiny_config(tmp_path / "run", eval=EvalConfig(num_prompts=0, num_sample_prompts=2, num_steps=2)))
    assert isinstance(events[0], RunStarted)
    assert isinstance(events[-1], RunFinished)
    phases = [event.name for event in events if isinstance(event, PhaseBegan)]
    assert phases == ["samples", *["rollout", "reward", "update"] * 2, "samples"]
    advanced = [(event.name, event.done, event.total) for event in events if isinstance(event, PhaseAdvanced)]
    assert advanced == [("samples", 0, 8), *[("rollout", 0, 8), ("update", 0, 1)] * 2, ("samples", 0, 8)]
    assert [event.name for event in events if isinstance(event, PhaseEnded)] == phases
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    assert [event.values for event in events if isinstance(event, IterationDone)] == lines
    assert [event.iteration for event in events if isinstance(event, SamplesDrawn)] == [0, 2]
    assert any(isinstance(event, CheckpointSaved) and event.path.exists() for event in events)


def test_a_run_that_fails_says_where_it_can_go_on(tmp_path):
    def broken_later(images, prompts):
        calls.append(len(images))
        if len(calls) > 1:  # the first call is the trial before training
            raise OSError("the judge is gone")
        return red(images, prompts)

    calls: list[int] = []
    events: list[Event] = []
    config = tiny_config(tmp_path / "run")
    with pytest.raises(RewardError, match="judge is gone"):
        train(config, Given(pipeline=tiny_pipeline(), reward=broken_later, prompts=PROMPTS), listeners=[events.append])
    assert isinstance(events[-1], RunStopped)
    assert "judge is gone" in events[-1].reason
    assert events[-1].checkpoint.exists()


def test_no_secret_is_in_what_is_noticed_or_in_why_a_run_stopped(tmp_path):
    events: list[Event] = []
    given = Given(pipeline=tiny_pipeline(), **GIVEN)
    run = start_run(tiny_config(tmp_path / "run"), given, events=Events([events.append]))
    run.events.notice("no answer of http://me:pw@host")
    with closing(run), pytest.raises(OSError, match="refused"), saved_on_stop(run):
        raise OSError("http://host/?token=abcdef refused Bearer abcdef")
    assert [event.text for event in events if isinstance(event, Noticed)] == ["no answer of http://***@host"]
    assert "http://host/?token=*** refused Bearer ***" in events[-1].reason


def test_the_console_shows_text_as_it_is(tmp_path):
    console = Screen(record=True, width=200)
    config = tiny_config(tmp_path / "a [red] run")
    train(config, Given(pipeline=tiny_pipeline(), **GIVEN), listeners=[RunConsole(console)])
    assert "a [red] run" in console.export_text()


class Twice(Alone):
    """As if a second process held the same rows."""

    size = 2

    def total(self, value):
        return 2 * value

    def gather(self, rows, group):
        return torch.cat([rows, rows])

    def own(self, rows, group):
        return rows[: len(rows) // 2]


@pytest.mark.parametrize("name", ["vgrpo", "crd"])
def test_counts_and_means_are_over_all_processes(name, tmp_path):
    """Two processes with the same rows: every sum doubles and so does every count, so the gradient is the same."""
    from vgrpo.objectives import objective_class

    norms = []
    for index, processes in enumerate((Alone(), Twice())):
        config = tiny_config(tmp_path / str(index), objective=objective_class(name)(), update=UpdateConfig(lr=1e-9))
        run = start_run(config, Given(pipeline=tiny_pipeline(), **GIVEN))
        run.processes = processes
        norms.append(iterate(run)["grad_norm"])
    assert norms[1] == pytest.approx(norms[0], rel=1e-3)


def test_training_may_go_without_the_rollouts_guidance(tmp_path):
    rollout = RolloutConfig(num_prompts=2, group_size=4, num_steps=3, guidance=2.0)
    guided = tiny_config(tmp_path / "a", num_iterations=1, rollout=rollout)
    plain = tiny_config(tmp_path / "b", num_iterations=1, rollout=rollout, update=UpdateConfig(lr=1e-3, guidance=1.0))
    lines = []
    for config in (guided, plain):
        heard(config)
        lines.append(json.loads((config.output_dir / "metrics.jsonl").read_text()))
    assert [line["nfe/rollout"] for line in lines] == [6, 6]
    assert [line["nfe/train"] for line in lines] == [8, 4]
    assert lines[0]["reward/mean"] == lines[1]["reward/mean"]
    assert lines[1]["ratio/mean"] == 1


def test_steps_of_a_guided_rollout_are_trained_with_its_guidance(tmp_path):
    rollout = RolloutConfig(num_prompts=2, group_size=4, num_steps=3, guidance=2.0)
    tiny_config(tmp_path, rollout=rollout, objective=DiffusionNFT(), update=UpdateConfig(guidance=1.0))
    with pytest.raises(ValueError, match=r"update.guidance=1.0: MixGRPO .* rollout.guidance=2.0"):
        tiny_config(tmp_path, rollout=rollout, objective=MixGRPO(), update=UpdateConfig(guidance=1.0))


def test_a_masked_image_never_reaches_the_network(tmp_path):
    """One image with NaN in its latents: no weight becomes NaN, and the image counts as failed."""
    run = start_run(tiny_config(tmp_path / "run"), Given(pipeline=tiny_pipeline(), **GIVEN))
    decode = run.policy.decode

    class Poisoned(type(run.policy)):
        def decode(self, x_0):
            x_0[1] = torch.nan  # in place: the latents that are trained on
            return decode(x_0)

    run.policy.__class__ = Poisoned
    line = iterate(run)
    assert line["reward/failed"] == 1
    assert all(parameter.isfinite().all() for parameter in run.policy.module.parameters())
