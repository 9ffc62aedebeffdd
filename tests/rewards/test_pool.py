"""Rewards in worker processes: the same scores, and every way in which a worker can end."""

import os
import subprocess
import sys
import time
from contextlib import closing

import pytest
import torch
from helpers.tiny import PROMPTS, tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.prompts.sources import training_prompts
from vgrpo.rewards.base import judge_images
from vgrpo.rewards.calls import news_of
from vgrpo.rewards.loading import Calling, load_rewards
from vgrpo.rewards.panel import Panel, close_rewards
from vgrpo.rewards.registry import load_reward

FILE = '''
import os
import signal
import sys
import time

import torch

from vgrpo.rewards.found import Seen

def own(images, prompts):
    """Depends on the other images of the call, and on every bit."""
    return images.double().mean((1, 2, 3)).float() + images.amax() * 1e-3

def dies(images, prompts):
    """On one prompt, as if the machine had no memory left."""
    if prompts[0].text == "deadly":
        print("about to take too much memory", file=sys.stderr, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    return images.mean((1, 2, 3))

def dies_once(images, prompts):
    try:
        os.close(os.open("died", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return images.mean((1, 2, 3))
    os._exit(3)

def raises(images, prompts):
    if images.amin() < 0:
        raise ArithmeticError("a negative picture")
    return images.mean((1, 2, 3))

def hangs(images, prompts):
    time.sleep(600 if prompts[0].text == "slow" else 0)
    return images.mean((1, 2, 3))

def counts(images, prompts):
    return torch.full((len(images),), float(len(images)))

counts.each_alone = True

class Remembers:
    __name__ = "remembers"

    def __init__(self):
        self.seen = Seen()

    def __call__(self, images, prompts):
        return images.mean((1, 2, 3))

    def found(self, images, prompts):
        return self.seen.of(images)

remembers = Remembers()
'''
IMAGES = torch.rand(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def prompts(*texts):
    return [Prompt(text=text) for text in texts for _ in range(6 // len(texts))]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("pool")
    (path / "pool_rewards.py").write_text(FILE)
    return path


class OnGpu:
    """Of a reward on another GPU, what can be seen without one."""

    __name__ = "on_gpu"
    device = torch.device("cuda", 1)

    def __call__(self, images, prompts):
        return torch.full((len(images),), float(os.getpid()))


def load(name, device):
    return OnGpu() if name == "on_gpu" else load_reward(name, "cpu")


NAMES = ("own", "dies_once", "dies", "raises", "hangs", "counts", "remembers")
OTHERS = ("jpeg_compressibility", "sprites", "on_gpu")


@pytest.fixture(scope="module")
def rewards(folder):
    """One pool of two workers for all tests: to start one takes seconds."""
    names = [f"pool_rewards:{name}" for name in NAMES] + list(OTHERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr("vgrpo.rewards.loading.load_reward", load)
        with closing(Panel.of(load_rewards(names, Calling(device="cuda:1", num_workers=2, timeout=5.0)))) as panel:
            yield dict(zip((*NAMES, *OTHERS), panel.rewards, strict=True))


def test_scores_are_those_of_the_process_itself(rewards):
    names = ("own", "jpeg_compressibility", "sprites", "counts", "on_gpu")
    boards = torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    asked = [prompt for prompt in training_prompts("sprites", 0)(0, 2) for _ in range(3)]
    panel = Panel.of([rewards[name] for name in names])
    scores = panel.judge(boards, asked, size=3)
    own = {"own": "pool_rewards:own", "counts": "pool_rewards:counts"}
    alone = Panel.of([load(own.get(name, name), "cpu") for name in names]).judge(boards, asked, size=3)
    assert torch.equal(scores.values, alone.values)  # also of the one on a GPU, which stays in this process
    assert panel.names == list(names)
    assert panel.judge(IMAGES, prompts("a")).values[:, 3].tolist() == [4, 4, 4, 4, 2, 2]  # one that looks at each alone


def test_what_a_reward_remembers_is_asked_for_where_it_judges_alone(rewards):
    assert {name for name in ("own", "sprites", "remembers") if hasattr(rewards[name], "found")} == {"sprites"}


def test_a_worker_that_dies_gets_its_images_once_more(rewards):
    panel, notes = Panel.of([rewards["dies_once"]]), []
    scores = panel.judge(IMAGES, prompts("a"), notes.append)
    assert torch.equal(scores.values[:, 0], IMAGES.mean((1, 2, 3)))
    assert notes == ["reward dies_once: a worker process ended with status 3; it is started again"]


def test_images_that_kill_workers_are_masked_and_the_last_words_are_told(rewards):
    panel, notes = Panel.of([rewards["dies"]]), []
    scores = panel.judge(IMAGES, prompts("good", "deadly", "fine"), notes.append, size=2)
    assert scores.failed[:, 0].tolist() == [False, False, True, True, False, False]
    assert torch.equal(scores.values[[0, 1, 4, 5], 0], IMAGES[[0, 1, 4, 5]].mean((1, 2, 3)))
    assert "got signal 9; it wrote last: about to take too much memory; it is started again" in notes[0]
    assert "get no score: two worker processes were lost on them" in notes[1]


def test_an_image_on_which_the_reward_raises_is_found_and_a_late_worker_is_replaced(rewards):
    images = IMAGES.clone()
    images[4] -= 1
    scores = judge_images(rewards["raises"], images, prompts("a"), notice=lambda text: None)
    assert scores.failed.tolist() == [False, False, False, False, True, False]
    hangs = rewards["hangs"]
    scores = judge_images(hangs, IMAGES, prompts("quick", "slow"), notice=lambda text: None)
    assert scores.failed.tolist() == [False, False, False, True, True, True]
    assert news_of(hangs) == ["some images get no score: no answer within 5 s"]
    assert judge_images(hangs, IMAGES, prompts("quick")).failed.sum() == 0


def test_workers_end_with_the_process_that_started_them(folder):
    program = (
        "import os, signal; from vgrpo.rewards.loading import *; "
        "reward, = load_rewards(['pool_rewards:own'], Calling(device='cpu', num_workers=1)); "
        "print(reward.end_workers.__self__.workers[0].process.pid, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    env = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    found = subprocess.run([sys.executable, "-c", program], cwd=folder, env=env, capture_output=True, text=True, timeout=60)
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{int(found.stdout)}") and time.monotonic() < until:
        time.sleep(0.05)
    assert not os.path.exists(f"/proc/{int(found.stdout)}")


@pytest.mark.parametrize(
    ("changes", "given", "message"),
    [
        ({"reward_workers": -1}, None, "reward_workers=-1: must lie in 0"),
        ({"reward_workers": 1}, lambda images, prompts: images.mean((1, 2, 3)), "put it into a file and name it"),
    ],
)
def test_what_no_worker_can_do_is_one_clear_error(tmp_path, changes, given, message):
    with pytest.raises(ValueError, match=message):
        train(tiny_config(tmp_path / "run", **changes), pipeline=tiny_pipeline(), prompts=PROMPTS, reward=given, quiet=True)


def test_what_cannot_run_in_a_worker_is_told_at_the_start(monkeypatch):
    monkeypatch.setattr("vgrpo.rewards.loading.load_reward", lambda name, device: OnGpu())
    with pytest.raises(ValueError, match="on_gpu computes on cuda:1"):
        load_rewards(["on_gpu"], Calling(device="cuda:1", num_workers=1))
    monkeypatch.setattr("vgrpo.rewards.loading.load_reward", lambda name, device: load_reward("jpeg_compressibility"))
    with pytest.raises(ValueError, match=r"nowhere:here cannot be loaded in a worker process: ValueError: .*nowhere"):
        load_rewards(["nowhere:here"], Calling(device="cpu", num_workers=1))


def test_rewards_that_others_compute_need_no_worker():
    """As those that a cluster serves, of a recipe that asks for workers."""

    class Served:
        num_at_once = 2

    served = Served()
    how = Calling(device="cpu", num_workers=1)
    assert load_rewards(["ocr"], how, {"ocr": served}) == [served]
    one, other = load_rewards(["ocr", "jpeg_compressibility"], how, {"ocr": served})
    try:
        assert one is served
        assert other.num_at_once == 1
    finally:
        close_rewards([other])
