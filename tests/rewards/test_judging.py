"""Judging while images are drawn: the same scores, and only the time that is not hidden."""

import json
import threading
import time

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.calls import NoAnswer, limited
from vgrpo.rewards.groups import GroupReward
from vgrpo.rewards.judging import MOST_SILENT, shares_device
from vgrpo.rewards.lanes import Clock, Lane
from vgrpo.rewards.panel import Panel
from vgrpo.training.settings.config import RolloutConfig

IMAGES = torch.rand(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
THREE = [Prompt(text=text) for text in "abc" for _ in range(4)]


class Ranked(GroupReward):
    """Depends on all images of the group."""

    __name__ = "ranked"

    def score_group(self, images, prompt):
        light = images.mean((1, 2, 3))
        return (light[:, None] > light[None]).float().mean(1)


def whole(images, prompts):
    """Depends on the other images of a call, and so on what is in one."""
    return images.mean((1, 2, 3)) + len(images) + images.amax()


@pytest.mark.parametrize("chunk", [1, 3, 4, 5, 8, 12])
def test_chunks_change_no_score(chunk):
    panel = Panel.of([whole, Ranked(), red])
    with panel.judging(size=4) as judging:
        for start in range(0, 12, chunk):
            judging.add(IMAGES[start : start + chunk], THREE[start : start + chunk])
        scores = panel.scores(judging, THREE)
    parts = [slice(0, 4), slice(4, 8), slice(8, 12)]
    columns = [torch.cat([reward(IMAGES[rows], THREE[rows]) for rows in parts]) for reward in panel.rewards]
    assert torch.equal(scores.values, torch.stack(columns, 1))


def test_rewards_keep_no_graph_whichever_thread_brings_the_images():
    grads = []

    def judge(images, prompts):
        grads.append(torch.is_grad_enabled())
        return red(images, prompts)

    panel = Panel.of([judge, limited(judge, 20.0)])
    with torch.no_grad(), panel.judging(size=4) as judging:
        thread = threading.Thread(target=judging.add, args=(IMAGES, THREE))  # which begins with gradients
        thread.start()
        thread.join()
        panel.scores(judging, THREE)
    assert grads == [False] * 6


def test_a_run_has_the_same_numbers_wherever_it_judges(tmp_path):
    def numbers(**changes):
        rollout = RolloutConfig(num_prompts=2, group_size=4, num_steps=3, batch_size=4)
        settings = {"rollout": rollout, "num_iterations": 1, "reward": ("jpeg_compressibility",), "monitor": ("sprites_clean",)}
        config = tiny_config(tmp_path / str(len(changes)), **settings, **changes)
        folder = train(config, pipeline=tiny_pipeline(), prompts=PROMPTS, quiet=True).output_dir
        line = json.loads((folder / "metrics.jsonl").read_text())
        assert 0 <= line.pop("seconds/judge_hidden") <= line.pop("seconds/judge")
        return {name: value for name, value in line.items() if "second" not in name}

    assert numbers() == numbers(reward_workers=1)


def test_what_is_hidden_is_what_nobody_waits_for():
    def slow(images, prompts):
        time.sleep(0.1)
        return images.mean((1, 2, 3))

    panel = Panel.of([slow])
    with panel.judging(size=4) as judging:
        for start in (0, 4, 8):
            judging.add(IMAGES[start : start + 4], THREE[start : start + 4])
        time.sleep(0.22)  # the drawing of more
        panel.scores(judging, THREE)
        assert 0.3 <= judging.seconds < 1.0
        assert 0.2 <= judging.seconds_hidden <= judging.seconds - 0.01


def test_rewards_of_this_process_share_a_thread_and_the_trained_ones_come_first():
    calls, go = [], threading.Event()

    def first(images, prompts):
        go.wait(10)
        calls.append(("first", threading.get_ident()))
        return images.mean((1, 2, 3))

    def second(images, prompts):
        calls.append(("second", threading.get_ident()))
        return images.mean((1, 2, 3))

    panel = Panel.of([first])
    with panel.judging([second], size=4) as judging:
        judging.add(IMAGES, THREE)
        go.set()
        assert panel.scores(judging, THREE).values.shape == (12, 1)
        assert torch.equal(judging.answers(1).values, IMAGES.mean((1, 2, 3)))
    assert [name for name, _ in calls] == ["first"] * 3 + ["second"] * 3
    assert len({thread for _, thread in calls} | {threading.get_ident()}) == 2


def test_a_reward_that_waits_for_others_is_asked_several_times_at_once():
    together = threading.Barrier(3, timeout=10)

    def elsewhere(images, prompts):
        together.wait()
        return images.mean((1, 2, 3))

    elsewhere.num_at_once = 3
    assert Panel.of([elsewhere]).judge(IMAGES, THREE, size=4).failed.sum() == 0


def test_a_reward_on_the_gpu_that_draws_waits_until_it_is_asked():
    calls = []

    def heavy(images, prompts):
        calls.append(threading.current_thread() is threading.main_thread())
        return images.mean((1, 2, 3))

    heavy.device = "cuda"
    panel = Panel.of([heavy])
    with panel.judging(size=4, device=torch.device("cuda", 0)) as judging:
        judging.add(IMAGES, THREE)
        time.sleep(0.05)
        assert calls == []
        assert torch.equal(panel.scores(judging, THREE).values[:, 0], IMAGES.mean((1, 2, 3)))
    assert calls == [True] * 3
    gpu = torch.device("cuda", 0)
    assert shares_device(limited(heavy, 1.0), gpu)
    assert not shares_device(heavy, torch.device("cpu"))
    assert not shares_device(red, gpu)
    heavy.device = torch.device("cuda", 1)
    assert not shares_device(heavy, gpu)
    heavy.device = "cpu"
    assert shares_device(heavy, torch.device("cpu"))
    heavy.num_at_once = 2  # in processes of its own
    assert not shares_device(heavy, torch.device("cpu"))


def test_a_call_that_fails_costs_no_other_its_scores():
    def moody(images, prompts):
        if prompts[0].text == "b":
            raise OSError("no b")
        return [1.0] * (3 if prompts[0].text == "c" else 4)  # one score too few is no answer

    notes = []
    scores = Panel.of([moody]).judge(IMAGES, THREE, notes.append, size=4)
    assert scores.failed[:, 0].tolist() == [False] * 4 + [True] * 8
    assert "shape [3] for 4 images" in notes[0]
    with pytest.raises(RewardError, match="no b"):
        Panel.of([moody]).judge(IMAGES[4:8], THREE[4:8], size=4)


def test_a_reward_that_is_late_again_and_again_is_asked_no_more():
    calls = []

    def hangs(images, prompts):
        calls.append(1)
        raise NoAnswer("no answer within 600 s")

    prompts = [Prompt(text=str(index)) for index in range(12)]
    with pytest.raises(RewardError, match=f"no answer to the first {MOST_SILENT} calls"):
        Panel.of([hangs]).judge(IMAGES, prompts, size=1)
    assert len(calls) == MOST_SILENT


def test_leaving_at_once_begins_no_further_call_and_waits_for_none():
    begun, stay = threading.Event(), threading.Event()
    calls = []

    def stuck(images, prompts):
        calls.append(1)
        begun.set()
        stay.wait(20)
        return images.mean((1, 2, 3))

    def leave():
        with Panel.of([stuck]).judging(size=4) as judging:
            judging.add(IMAGES, THREE)
            assert begun.wait(10)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        leave()
    assert not stay.is_set()
    stay.set()
    time.sleep(0.05)
    assert len(calls) == 1


def test_a_run_that_is_stopped_lets_a_call_end():
    begun, ended = threading.Event(), []

    def slow(images, prompts):
        begun.set()
        time.sleep(0.2)
        ended.append(1)
        return images.mean((1, 2, 3))

    with Panel.of([slow]).judging(size=4) as judging:
        judging.add(IMAGES, THREE)
        assert begun.wait(10)
    assert ended == [1]


def test_a_threads_gradients_are_those_of_who_asks_and_its_errors_are_raised_there():
    lane = Lane(1)
    with torch.no_grad():
        future = lane.submit(torch.is_grad_enabled)
    assert (future.result(), lane.submit(torch.is_grad_enabled).result()) == (False, True)

    def interrupted(images, prompts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Panel.of([interrupted]).judge(IMAGES, THREE)
    lane.close()


def test_time_in_which_several_are_at_work_counts_once():
    clock = Clock()
    with clock:
        with clock:
            time.sleep(0.02)
        time.sleep(0.02)
    assert 0.04 <= clock.seconds < 1.0
