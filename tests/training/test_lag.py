"""Rollouts that are one step ahead: drawn and judged while the model is trained, by the weights of an iteration ago."""

import os
import signal
import threading
import time
from contextlib import suppress

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from helpers.workers import address, worker

from vgrpo.core.types import Prompt
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import OBJECTIVES
from vgrpo.rewards.panel import Panel
from vgrpo.sampling.draw import all_noise, draw_images, member_name
from vgrpo.support.interrupts import StopRequested
from vgrpo.training import loop
from vgrpo.training.control.requests import Request, send
from vgrpo.training.record.events import ImagesJudged, IterationDone, SamplesDrawn
from vgrpo.training.rollouts.state import Coming
from vgrpo.training.run import Run
from vgrpo.training.settings.config import Config, RolloutConfig
from vgrpo.training.start import Given

LAG = RolloutConfig(num_prompts=3, group_size=2, num_steps=2, batch_size=2, lag=1)


class Watch:
    """The images of each iteration, the weights before it, and its line of metrics."""

    def __init__(self, stop_after=None):
        self.latents, self.lines, self.stop_after = [], [], stop_after

    def __call__(self, event):
        if isinstance(event, ImagesJudged):
            self.latents.append(event.rollout.latents.clone())
        if isinstance(event, IterationDone):
            self.lines.append(event.values)
            if self.stop_after == event.iteration:
                os.kill(os.getpid(), signal.SIGTERM)  # noted, and obeyed after the iteration


def run(folder, *, workers=(), reward=red, stop_after=None, resume=False, listeners=(), **changes):
    watch, states = Watch(stop_after), []
    config = tiny_config(folder, **{"rollout": LAG, "held_out_prompts": 0, "num_iterations": 4} | changes)
    iterate = loop.iterate

    def remembering(run):
        states.append((run, {name: value.detach().clone() for name, value in trainable(run.policy.module).items()}))
        return iterate(run)

    loop.iterate = remembering
    try:
        loop.train(
            config,
            Given(pipeline=tiny_pipeline(), reward=reward, prompts=PROMPTS, rollout_workers=workers),
            listeners=(watch, *listeners),
            resume=resume,
        )
    except StopRequested:
        pass
    finally:
        loop.iterate = iterate
    watch.run, watch.before = states[0][0], [values for _, values in states]
    return watch


def drawn_by(watch, weights, iteration):
    """The latents of an iteration, drawn anew under these weights."""
    policy = watch.run.policy
    with torch.no_grad():
        for name, parameter in trainable(policy.module).items():
            parameter.copy_(weights[name])
    prompts = [prompt for prompt in watch.run.task.prompts(iteration, 3) for _ in range(2)]
    rows = [(group, member) for group in range(3) for member in range(2)]
    noise = all_noise(policy, [member_name((0, "iteration", iteration), *row) for row in rows])
    return draw_images(policy, prompts, noise, watch.run.config.rollout)[0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp("lag") / "run")


def test_images_are_of_the_weights_before_the_last_update(whole):
    assert torch.equal(whole.latents[0], drawn_by(whole, whole.before[0], 0))
    for iteration in (1, 2, 3):
        assert torch.equal(whole.latents[iteration], drawn_by(whole, whole.before[iteration - 1], iteration))
        assert not torch.equal(whole.latents[iteration], drawn_by(whole, whole.before[iteration], iteration))


def test_the_ratio_is_against_the_weights_that_drew(whole):
    first, *others = whole.lines
    assert first["ratio/first"] == pytest.approx(1, abs=1e-6)
    assert all(abs(line["ratio/first"] - 1) > 1e-6 for line in others)
    assert [line["rollout/stale"] for line in whole.lines] == [0, 1, 1, 1]
    assert all(line["nfe/old"] > 0 for line in whole.lines)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_a_stopped_run_goes_on_with_a_worker_as_if_it_had_not_stopped(whole, tmp_path):
    first = run(tmp_path / "run", stop_after=1)
    with worker() as server:
        second = run(tmp_path / "run", workers=[address(server)], resume=True)
    assert len(first.latents) == 2
    assert same(first.latents + second.latents, whole.latents)
    for before, of_whole in zip(first.before + second.before, whole.before, strict=True):
        assert same(before.values(), of_whole.values())


def test_a_longer_run_with_pictures_in_between_goes_on_as_if_it_had_been_so(whole, tmp_path):
    often = EvalConfig(num_prompts=0, num_sample_prompts=1, num_steps=2, sample_every=1)
    first = run(tmp_path / "run", num_iterations=2)
    second = run(tmp_path / "run", num_iterations=4, resume=True, eval=often)
    assert same(first.latents + second.latents, whole.latents)


def test_judging_goes_on_while_the_model_is_trained(tmp_path, monkeypatch):
    """The judge of iteration 2 answers only once the update of iteration 1 has begun."""
    ahead, updating, waits = threading.Event(), threading.Event(), []
    update, begin_ahead = loop.update, loop.begin_ahead

    def began(run, plan, judging, *, draws):
        if run.iteration == 0:
            ahead.set()
        begin_ahead(run, plan, judging, draws=draws)

    def noticed(run, *args):
        updating.set()
        return update(run, *args)

    def judge(images, prompts):
        if ahead.is_set():
            waits.append(updating.wait(20))
        return red(images, prompts)

    monkeypatch.setattr(loop, "begin_ahead", began)
    monkeypatch.setattr(loop, "update", noticed)
    watch = run(tmp_path / "run", reward=judge, num_iterations=2)
    assert len(waits) >= 3
    assert all(waits)
    assert watch.lines[1]["seconds/judge_hidden"] > 0


def test_an_interrupt_waits_for_no_reward(tmp_path, monkeypatch):
    ahead, asked, release, begin_ahead = threading.Event(), threading.Event(), threading.Event(), loop.begin_ahead

    def began(*args, **options):
        ahead.set()
        begin_ahead(*args, **options)

    def judge(images, prompts):
        if ahead.is_set():
            asked.set()
            release.wait(30)
        return red(images, prompts)

    def interrupted(*args):
        assert asked.wait(10)
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "begin_ahead", began)
    monkeypatch.setattr(loop, "update", interrupted)
    waited, close = [], Run.close

    def timed(run, *patience):
        start = time.monotonic()
        close(run, *patience)
        waited.append(time.monotonic() - start)

    monkeypatch.setattr(Run, "close", timed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", reward=judge)
    release.set()
    assert waited[0] < 5


def test_an_interrupt_while_images_come_waits_for_no_reward():
    asked, release = threading.Event(), threading.Event()

    def judge(images, prompts):
        asked.set()
        release.wait(30)
        return red(images, prompts)

    coming = Coming(iteration=0, judging=Panel.of([judge]).judging(size=1))
    coming.judging.add(torch.rand(1, 3, 8, 8), [Prompt(text="a")])
    assert asked.wait(10)
    began = time.monotonic()
    with suppress(KeyboardInterrupt), coming:
        raise KeyboardInterrupt
    release.set()
    assert time.monotonic() - began < 5


def test_pictures_that_are_asked_for_are_drawn_while_no_reward_is_at_work(whole, tmp_path, monkeypatch):
    busy, met, ahead, begin_ahead = threading.Lock(), threading.Event(), threading.Event(), loop.begin_ahead

    def began(*args, **options):
        ahead.set()
        begin_ahead(*args, **options)

    def judge(images, prompts):
        if not busy.acquire(blocking=False):
            met.set()
            return red(images, prompts)
        try:
            if ahead.is_set():
                met.wait(1.0)
            return red(images, prompts)
        finally:
            busy.release()

    def ask(event):
        if isinstance(event, IterationDone) and event.iteration == 0:
            send(tmp_path / "run", Request(command="sample"))
        if isinstance(event, SamplesDrawn):
            ahead.clear()

    monkeypatch.setattr(loop, "begin_ahead", began)
    found = run(tmp_path / "run", reward=judge, num_iterations=2, listeners=[ask])
    assert (tmp_path / "run/samples/000001/scores.json").exists()
    assert not met.is_set()
    assert same(found.latents, whole.latents[:2])  # what was thrown away is drawn again


def test_workers_draw_while_the_model_is_trained(tmp_path, monkeypatch):
    drawing_now = threading.Event()
    with worker() as server:
        orders, draw = [], server.draw

        def noticed(order):
            orders.append(order.seed[-1])
            if order.seed[-1] == 1:
                drawing_now.set()
            return draw(order)

        server.draw, update = noticed, loop.update

        def after_the_next_began(run, *args):
            assert run.iteration > 0 or drawing_now.wait(20)
            return update(run, *args)

        monkeypatch.setattr(loop, "update", after_the_next_began)
        watch = run(tmp_path / "run", workers=[address(server)], num_iterations=2)
    assert set(orders) == {0, 1}
    assert [line["rollout/own"] for line in watch.lines] == [0, 0]


def test_a_run_that_goes_on_from_an_adapter_begins_with_its_images(whole, tmp_path):
    went_on = run(tmp_path / "run", num_iterations=1, lora=LoraConfig(rank=4, alpha=8, init=whole.run.folder / "lora"))
    assert not all(torch.equal(went_on.before[0][name], value) for name, value in whole.before[0].items())
    assert torch.equal(went_on.latents[0], drawn_by(went_on, went_on.before[0], 0))


@pytest.mark.parametrize("name", ["diffusionnft", "flowgrpo"])
def test_algorithms_with_lagging_weights_or_steps_are_ahead_too(tmp_path, name):
    watch = run(tmp_path / "run", objective=OBJECTIVES[name](), num_iterations=3)
    assert [line["rollout/stale"] for line in watch.lines] == [0, 1, 1]


def test_algorithms_without_a_ratio_are_refused():
    bad = [name for name, kind in OBJECTIVES.items() if "old" not in kind().baselines]
    assert bad
    for name in bad:
        with pytest.raises(ValueError, match=r"rollout.lag=1: .* reads no likelihood under the weights that drew its images"):
            Config(objective=OBJECTIVES[name](), rollout=RolloutConfig(lag=1))
    with pytest.raises(ValueError, match=r"rollout.lag=2: images are drawn for this iteration, 0, or for the next, 1"):
        RolloutConfig(lag=2)
