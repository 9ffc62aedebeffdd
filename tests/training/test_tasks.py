"""Several tasks in one run: prompts by shares, rewards that abstain, weights, what is counted and shown."""

import json
import math

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from rich.console import Console

from vgrpo import Prompt, train
from vgrpo.commands.console import RunConsole
from vgrpo.commands.job import parse_job
from vgrpo.prompts.sources import from_list, from_tasks
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.panel import Panel
from vgrpo.training.record.events import IterationDone, RunStarted
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.settings.config_files import config_from, to_dict
from vgrpo.training.settings.tasks import TaskConfig, weight_table
from vgrpo.training.tasks.trial import check_judged

REWARDS = """
import torch

def quoted_only(images, prompts):
    scores = (images[:, 0] - images[:, 2]).mean((1, 2))
    return torch.where(torch.tensor(['"' in p.text for p in prompts]), scores, torch.nan)

def others_only(images, prompts):
    scores = 1000 + images[:, 1].mean((1, 2))
    return torch.where(torch.tensor(['"' in p.text for p in prompts]), torch.nan, scores)

def minus(images, prompts):
    return -images[:, 1].mean((1, 2))
"""


@pytest.fixture
def rewards(tmp_path, monkeypatch):
    (tmp_path / "disjoint.py").write_text(REWARDS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)


def lines_of(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_rewards_that_judge_different_prompts_train_each_its_own(rewards, tmp_path):
    config = tiny_config(tmp_path / "run", num_iterations=1, reward=("disjoint:quoted_only", "disjoint:others_only"))
    train(config, pipeline=tiny_pipeline(), prompts=['a sign "A"', "a heart"], quiet=True)
    (line,) = lines_of(tmp_path / "run")
    assert (line["reward/failed"], line["reward/abstained"]) == (0, 0)
    assert (line["reward/quoted_only/abstained"], line["reward/others_only/abstained"]) == (4, 4)
    assert line["reward/mean"] == pytest.approx(
        (line["reward/quoted_only/mean"] + line["reward/others_only/mean"]) / 2, rel=1e-5
    )
    assert line["reward/zero_std_groups"] == 0
    assert line["grad_norm"] > 0


def test_tasks_have_their_own_prompts_rewards_and_weights(rewards, tmp_path):
    words = tmp_path / "words.txt"
    words.write_text("".join(f'a sign "{number}"\n' for number in range(30)))
    task = TaskConfig(
        name="words", prompts=str(words), reward=("disjoint:minus", "disjoint:quoted_only"), reward_weights=(-1, 3)
    )
    config = tiny_config(
        tmp_path / "run",
        num_iterations=1,
        reward=("disjoint:minus",),
        tasks=(task,),
        rollout=RolloutConfig(num_prompts=4, group_size=2, num_steps=2),
        held_out_prompts=2,
        eval=tiny_config(None).eval.__class__(num_prompts=4, num_images=1, num_steps=2, num_sample_prompts=1),
    )
    result = train(config, pipeline=tiny_pipeline(), prompts=PROMPTS * 2, quiet=True)
    (line,) = lines_of(tmp_path / "run")
    assert line["reward/quoted_only/abstained"] == 4  # of the run's own task, which does not ask for it
    assert line["reward/minus/abstained"] == 0
    assert line["task/main/mean"] < 0 < line["task/words/mean"] + 1
    assert line["reward/mean"] == pytest.approx((line["task/main/mean"] + line["task/words/mean"]) / 2, rel=1e-5)
    assert set(result.evaluation["base"]["by_category"]) == {"all", "words"}
    assert result.evaluation["num_prompts"] == 4


def test_nothing_judged_stops_the_run_and_says_so(tmp_path):
    calls = []

    def gone(images, prompts):
        calls.append(1)
        return red(images, prompts) if len(calls) < 4 else [math.nan] * len(images)  # trial, samples, one iteration

    with pytest.raises(RewardError, match="nothing was judged: of the 8 images of iteration 2 a reward failed on 0"):
        train(tiny_config(tmp_path / "run"), pipeline=tiny_pipeline(), reward=gone, prompts=PROMPTS, quiet=True)
    assert (tmp_path / "run/checkpoints/iteration-000001").is_dir()


def test_prompts_come_by_their_shares_and_none_is_left_out():
    lists = {name: [Prompt(text=f"{name}{number}") for number in range(6)] for name in ("main", "words")}
    draw = from_tasks({name: from_list(prompts, 0) for name, prompts in lists.items()}, {"main": 1.0, "words": 2.0})
    drawn = [prompt for iteration in range(3) for prompt in draw(iteration, 6)]
    assert [prompt.task for prompt in drawn].count("words") == 12
    assert {prompt.text for prompt in drawn} == {prompt.text for prompts in lists.values() for prompt in prompts}
    assert draw(1, 6) == drawn[6:12]
    assert sum(prompt.task == "words" for prompt in draw(5, 3)) == 2


def test_the_command_line_adds_and_changes_tasks():
    def parse(text):
        return parse_job(["sprites", *text.split()], prog="vgrpo train", description="")

    config = parse("--task-words.prompts sprites:text --task-words.reward ocr_ctc jpeg_compressibility --task-words.share 2")
    assert config.tasks == (
        TaskConfig(name="words", prompts="sprites:text", reward=("ocr_ctc", "jpeg_compressibility"), share=2),
    )
    assert config_from(to_dict(config)) == config
    for text, message in {
        "--task-words.reward ocr": "--task-words.prompts is needed",
        "--task-words.promts a --task-words.reward ocr": "unknown option --task-words.promts; did you mean --prompts",
        "--task-words x": "a task's option is its name and a setting, as in --task-words.prompts",
        "--task-main.prompts a --task-main.reward b": "'main' is the run's own task",
        "--task-a.prompts a --task-a.reward b --task-a.share 0": "task a: share=0.0: must be above 0",
        "--task-a.prompts a --task-a.reward b --task-a.reward-weights 0": "task a: reward_weights=.* all are 0",
        "--reward a a": "name each once",
    }.items():
        with pytest.raises(ValueError, match=message):
            parse(text)


def test_a_shared_reward_is_loaded_once():
    names, table = weight_table({"main": (("a", "b"), None), "words": (("b", "c"), (-1.0, 2.0))})
    assert names == ["a", "b", "c"]
    assert table["main"] == pytest.approx([1, 1, math.nan], nan_ok=True)
    assert table["words"] == pytest.approx([math.nan, -1, 2], nan_ok=True)


def test_a_panel_asks_each_reward_about_its_own_prompts_alone():
    asked = []

    def a(images, prompts):
        asked.append([prompt.text for prompt in prompts])
        return images.mean((1, 2, 3))

    panel = Panel(rewards=[a, red], weights={"main": [1.0, math.nan], "words": [math.nan, -2.0]})
    prompts = [Prompt(text="1"), Prompt(text="2", task="words"), Prompt(text="3")]
    scores = panel.judge(torch.rand(3, 3, 4, 4), prompts)
    assert asked == [["1", "3"]]
    assert scores.values.isnan().tolist() == [[False, True], [True, False], [False, True]]
    assert not scores.failed.any()


def test_the_first_prompt_that_no_reward_judges_is_named():
    class Ruled:
        __name__ = "ruled"

        def judges(self, prompt):
            return "mine" in prompt.text

    prompts = [Prompt(text=text) for text in ("mine", "a cat", "a dog")]
    with pytest.raises(ValueError, match="2 of 3 prompts are none that the reward ruled judges; the first is 'a cat'"):
        check_judged(Panel.of([Ruled()]), prompts)
    check_judged(Panel.of([Ruled(), red]), prompts)


def test_the_status_shows_each_part_and_outlives_an_iteration_without_reward(tmp_path):
    shown = RunConsole(Console(quiet=True))
    shown(RunStarted(folder=tmp_path, config=tiny_config(tmp_path), iteration=0, past=[{"reward/mean": math.nan}]))
    for values in ({"reward/mean": math.nan}, {"reward/mean": 0.5, "reward/a/mean": 0.25, "reward/b/mean": math.nan}):
        shown(IterationDone(iteration=0, values=values | {"images_per_second": 3.0, "seconds/checkpoint": 0.0}))
    assert shown.panel.now == "reward 0.500 (start 0.500), a 0.25  3 images/s"
    shown.close()
