"""Rewards that are watched: logged, out of the gradient, and heard when they part from what is trained on."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo import train
from vgrpo.training.record.alarm import Alarm
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig


def alarms(rewards, monitors):
    watch = Alarm(["judge"])
    lines = ({"reward/mean": r, "monitor/judge": m} for r, m in zip(rewards, monitors, strict=True))
    heard = []
    for index, line in enumerate(lines):
        watch.add(line)
        if watch.sounding:
            heard.append(index)
    return heard


def test_a_monitor_that_peaks_and_falls_is_heard_soon_after():
    rng = np.random.default_rng(0)
    step = np.arange(100)
    monitor = 0.5 + 0.003 * np.minimum(step, 50) - 0.01 * np.maximum(step - 50, 0)
    heard = alarms(0.5 + 0.003 * step + rng.normal(0, 0.02, 100), monitor + rng.normal(0, 0.02, 100))
    assert 52 < heard[0] < 75
    assert heard[-1] == 99


def test_no_alarm_while_both_rise_or_both_fall_or_neither_moves():
    rng = np.random.default_rng(0)
    step, false = np.arange(100), 0
    for slope in (0.003, 0.0, -0.003):
        for _ in range(20):
            noise = rng.normal(0, 0.03, (2, 100))
            false += bool(alarms(0.5 + slope * step + noise[0], 0.5 + slope * step + noise[1]))
    assert false <= 1


def test_noise_alone_seldom_sounds_however_long_a_run_is():
    rng = np.random.default_rng(0)
    for length, most in ((100, 6), (300, 10)):
        reward = np.minimum(np.arange(length) / 30, 1)
        assert sum(bool(alarms(reward + rng.normal(0, 0.1, length), rng.normal(size=length))) for _ in range(60)) <= most


def test_a_fall_that_nobody_would_see_is_none():
    rng, step = np.random.default_rng(0), np.arange(60)
    for size, heard in ((0.2, False), (2.0, True)):
        watch = Alarm(["sprites_clean"])
        for index in step:
            ghosts = 0.6 + size * max(index - 30, 0) / 30 + rng.normal(0, 0.01)
            watch.add({"reward/mean": 0.1 * index, "monitor/sprites_clean": -ghosts})
        assert bool(watch.sounding) == heard


def test_a_failed_monitor_is_skipped():
    watch = Alarm(["judge"], window=2)
    for index in range(20):
        line = {"reward/mean": 0.1 * index} | ({"monitor/judge": -0.1 * index} if index % 2 else {})
        watch.add(line)
    assert watch.sounding == ["judge"]


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """A run that trains on red with two monitors: its opposite, and one that never works."""
    (tmp_path / "watching.py").write_text(
        "def blue(images, prompts):\n    return (images[:, 2] - images[:, 0]).mean((1, 2))\n\n\n"
        "calls = []\n\n\ndef broken(images, prompts):\n    calls.append(1)\n"
        "    if len(calls) > 1:\n        raise OSError('down')\n    return images.mean((1, 2, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tiny_config(
        tmp_path / "run",
        num_iterations=60,
        rollout=RolloutConfig(num_prompts=2, group_size=8, num_steps=2),
        update=UpdateConfig(lr=1e-2),
        monitor=("watching:blue", "watching:broken"),
    )


def test_the_alarm_ends_a_run_that_asks_for_it(watched, capsys):
    result = train(replace(watched, stop_on_alarm=True), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS)
    lines = [json.loads(line) for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert 20 <= len(lines) < 60
    assert all(line["monitor/watching:blue"] == pytest.approx(-line["reward/mean"], abs=1e-5) for line in lines)
    assert not any("monitor/watching:broken" in line for line in lines)
    assert "watching:blue falls while the reward is up" in capsys.readouterr().out
    assert (result.output_dir / "lora/pytorch_lora_weights.safetensors").is_file()
    assert '"monitor/watching:blue":[' in (result.output_dir / "report.html").read_text()


def test_monitors_do_not_change_training(watched):
    short = replace(watched, num_iterations=2, monitor=("watching:blue",))
    weights = []
    for config in (short, replace(short, monitor=(), output_dir=short.output_dir.with_name("alone"))):
        train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
        weights.append(load_file(config.output_dir / "lora/pytorch_lora_weights.safetensors"))
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
