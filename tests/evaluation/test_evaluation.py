"""`vgrpo eval`: shards, a kill and a resume, the page."""

import errno
import json
import os
import re
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from PIL import Image

from vgrpo.commands.main import main
from vgrpo.core.processes import ALONE
from vgrpo.core.types import Prompt
from vgrpo.evaluation.core import Judged, evaluate
from vgrpo.evaluation.gallery import write_gallery
from vgrpo.evaluation.pictures import pictures_of
from vgrpo.evaluation.scores import ScoreFiles, Shard
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.evaluation.summary import summarise
from vgrpo.evaluation.together import together
from vgrpo.models.loading import load_policy
from vgrpo.models.settings import ModelSettings
from vgrpo.prompts.sources import evaluation_prompts
from vgrpo.rewards.base import RewardError
from vgrpo.rewards.panel import Panel
from vgrpo.rewards.registry import load_reward
from vgrpo.sampling.draw import nothing
from vgrpo.worlds.registry import WORLDS

SMALL = "--eval.num-prompts 14 --eval.num-images 2 --eval.num-steps 2 --eval.batch-size 5"  # batches that cut prompts in two
SUITE = "--suite sprites --eval.guidance 1.5 --reward sprites jpeg_compressibility"


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    run = tmp_path_factory.mktemp("lora") / "run"
    line = (
        f"train sprites --output-dir {run} --num-iterations 1 --rollout.num-prompts 4 --rollout.group-size 4 --update.lr 0.01"
    )
    assert main(f"{line} --rollout.num-steps 3 --eval.num-prompts 0 --eval.num-sample-prompts 1".split()) == 0
    return run / "lora"


@pytest.fixture(scope="module")
def whole(lora, tmp_path_factory):
    """An evaluation in one go."""
    folder = tmp_path_factory.mktemp("whole")
    assert main(f"eval {SUITE} {SMALL} --lora {lora} --output-dir {folder}".split()) == 0
    return folder


def scored(folder):
    lines = []
    for path in sorted((folder / "scores").glob("*.jsonl")):
        part = path.name.partition("-")[0]
        lines += [(part, line) for line in path.read_text().splitlines()]
    return sorted(lines)


def same(a, b):
    """Bit for bit: eval.json, every score, every picture."""
    assert (a / "eval.json").read_bytes() == (b / "eval.json").read_bytes()
    assert scored(a) == scored(b)
    names = sorted(path.relative_to(a) for path in a.glob("images/*/*.png"))
    assert names == sorted(path.relative_to(b) for path in b.glob("images/*/*.png"))
    assert len(names) == 56
    assert all((a / name).read_bytes() == (b / name).read_bytes() for name in names)


def test_merged_shards_equal_an_unsharded_evaluation(lora, whole, tmp_path, capsys):
    for index in (2, 0, 1):
        assert not (tmp_path / "eval.json").exists()
        assert main(f"eval {SUITE} {SMALL} --lora {lora} --output-dir {tmp_path} --shard {index}/3".split()) == 0
        said = " ".join(capsys.readouterr().out.split())
        assert ("base 8 of 28, tuned 8 of 28" in said) == (index == 2)
    same(whole, tmp_path)
    page, one = ((folder / "eval.html").read_text().partition("</h1>")[2] for folder in (tmp_path, whole))
    assert page == one


STOPPING = """
from pathlib import Path
from vgrpo.rewards.jpeg import jpeg_compressibility

def watched(images, prompts):
    with Path("calls").open("a") as file:
        file.write("".join(prompt.text + chr(10) for prompt in prompts))
    if len(Path("calls").read_text().splitlines()) == 15:
        raise KeyboardInterrupt
    return jpeg_compressibility(images, prompts)
"""


def test_a_killed_evaluation_goes_on(lora, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "watched.py").write_text(STOPPING)
    line = f"eval --suite sprites --reward watched:watched {SMALL} --lora {lora}".split()
    assert main([*line, "--output-dir", "killed"]) == 130  # in the third batch of base
    path = Path("killed/scores/base-0-of-1.jsonl")
    before = path.read_text()
    assert len(before.splitlines()) == 10
    path.write_text(before + before[:40])  # what a kill in the middle of a line leaves
    assert not Path("killed/eval.json").exists()
    assert main([*line, "--output-dir", "killed"]) == 0
    assert path.read_text().startswith(before)
    num_calls = len(Path("calls").read_text().splitlines())
    assert num_calls in (56 + 5, 56 + 10)  # the third batch was drawn twice, and the fourth, which had been drawn behind it
    assert main([*line, "--output-dir", "killed"]) == 0
    assert len(Path("calls").read_text().splitlines()) == num_calls  # and now nothing is
    assert main([*line, "--output-dir", "straight", "--reward-workers", "1"]) == 0
    same(Path("straight"), Path("killed"))


def test_the_command_and_training_score_alike(tmp_path):
    assert main(f"eval --output-dir {tmp_path} --eval.num-prompts 14 --eval.num-images 2 --eval.num-steps 4".split()) == 0
    settings, policy = EvalConfig(num_images=2, num_steps=4), load_policy(ModelSettings())
    scores = evaluate(
        policy, evaluation_prompts("sprites", 14), Panel.of([load_reward("sprites")]), settings, WORLDS["sprites"]
    )
    content = json.loads((tmp_path / "eval.json").read_text())
    assert content["num_images"] == scores.pop("num_images") == 28
    assert content["num_prompts"] == scores.pop("num_prompts") == 14
    interval = scores.pop("interval")
    means = {name: value["mean"] for name, value in interval.items()}
    assert {name: scores[name] for name in interval} == pytest.approx(means, abs=1e-4)  # scores have four digits
    assert interval["strict"]["low"] <= scores["strict"] <= interval["strict"]["high"]
    assert content["base"] == scores


@pytest.mark.parametrize(
    ("name", "value"), [("solver", "euler"), ("num_steps", 3), ("shift", 3.0), ("guidance", 2.0), ("num_images", 3)]
)
def test_every_setting_of_drawing_has_a_folder_of_its_own(whole, tmp_path, capsys, name, value):
    shutil.copytree(whole, tmp_path / "scores")
    option = f"--eval.{name.replace('_', '-')}"
    given = re.sub(rf"{option} \S+ ?", "", f"{SUITE} {SMALL} ")  # an option may be given once
    assert main(f"eval {given} {option} {value} --output-dir {tmp_path}/scores".split()) == 1
    assert f"another {name}; name another --output-dir" in " ".join(capsys.readouterr().err.split())


def test_scores_of_something_else_are_not_mixed_in(whole, lora, tmp_path, capsys):
    shutil.copytree(whole, tmp_path / "scores")
    small = SMALL.replace("--eval.num-steps 2", "--eval.num-steps 3")
    assert main(f"eval {SUITE} {small} --output-dir {tmp_path}/scores".split()) == 1
    assert "another num_steps; name another --output-dir" in " ".join(capsys.readouterr().err.split())
    shutil.copytree(lora, tmp_path / "lora")
    weights = tmp_path / "lora/pytorch_lora_weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert main(f"eval {SUITE} {SMALL} --lora {tmp_path}/lora --output-dir {tmp_path}/scores".split()) == 1
    assert "another lora" in capsys.readouterr().err


def test_shards_that_start_at_once_with_other_settings_do_not_mix(tmp_path):
    pictures = pictures_of([Prompt(text="a heart")], 2)
    first, second = (ScoreFiles(tmp_path, "base", ["mine"], strict=False) for _ in range(2))
    judged = Judged(rewards=torch.tensor([[0.5]]), failed=torch.tensor([[False]]))
    first.claim({"num_steps": 16})
    second.claim({"num_steps": 20})  # nothing is scored yet, so the folder is free
    first.begin()
    second.begin()
    second.write(Shard(1, 2), pictures[1:], judged)
    with pytest.raises(ValueError, match="another num_steps"):
        first.write(Shard(0, 2), pictures[:1], judged)
    assert set(second.read()) == {(0, 1)}


def test_score_files_tell_a_failed_reward_from_one_that_abstained(tmp_path):
    pictures = pictures_of([Prompt(text="a heart"), Prompt(text="a star")], 1)
    files = ScoreFiles(tmp_path, "base", ["mine"], strict=False)
    files.claim({})
    files.begin()
    judged = Judged(rewards=torch.full((2, 1), torch.nan), failed=torch.tensor([[True], [False]]))
    files.write(Shard(0, 1), pictures, judged)
    found = files.judged(pictures)
    assert found is not None
    assert found.rewards.isnan().all()
    assert found.failed.tolist() == [[True], [False]]


def test_the_page_shows_scores_and_pairs(whole):
    page = (whole / "eval.html").read_text()
    content = json.loads((whole / "eval.json").read_text())
    prompts = evaluation_prompts("sprites", 14)
    assert page.count("data:image/png;base64,") == 2 * len(prompts)
    assert all(f"<p>{prompt.text} " in page for prompt in prompts if '"' not in prompt.text)
    assert "://" not in page  # four letters alone may stand in a picture
    lines = [json.loads(text) for part, text in scored(whole) if part == "base"]
    first = [line["rewards"]["jpeg_compressibility"] for line in lines if line["prompt_index"] == 0]
    assert f", jpeg_compressibility {sum(first) / 2:.3f} → " in page.partition(f"<p>{prompts[0].text} ")[2].partition("<p>")[0]
    for metric in ("sprites", "jpeg_compressibility", "strict"):
        assert f"<h2>{metric}</h2>" in page
        for part in ("base", "tuned", "change"):
            entry = content["intervals"][metric][part]["overall"]
            form = "+.3f" if part == "change" else ".3f"
            assert f"{entry['mean']:{form}} ({entry['low']:{form}} to {entry['high']:{form}})" in page
    for name in ("guidance<td>1.5", "num_steps<td>2", "jpeg_compressibility"):
        assert name in page


def test_the_page_samples_many_prompts_shrinks_large_pictures_and_escapes(tmp_path):
    pictures = pictures_of([Prompt(text=f"<b>{index}</b>") for index in range(100)], 1)
    (tmp_path / "images/base").mkdir(parents=True)
    for index in range(100):
        Image.new("RGB", (640, 320), (index, 0, 0)).save(tmp_path / f"images/base/{index:05d}_00.png")
    values = torch.arange(100.0)[:, None]
    values[3], values[4] = torch.nan, torch.nan
    failed = torch.zeros(100, 1, dtype=torch.bool)
    failed[3] = True  # on the other the reward abstained
    parts = {"base": Judged(rewards=values, failed=failed)}
    content = summarise(parts, pictures, ["mine"])
    assert content["failed"] == {"mine": {"base": 1}}
    page = write_gallery(tmp_path, content, parts, pictures, {"model": "x"}).read_text()
    assert page.count("data:image/jpeg;base64,") == 40
    assert "<b>" not in page.partition("<h2>Pictures")[2]
    assert "&lt;b&gt;97&lt;/b&gt;" in page
    assert "Images on which the reward failed: 1 of base" in page
    assert len(page) < 200_000


def test_the_base_scores_stay_when_a_lora_or_other_shards_come_later(lora, whole, tmp_path):
    assert main(f"eval {SUITE} {SMALL} --output-dir {tmp_path} --shard 1/3".split()) == 0
    assert main(f"eval {SUITE} {SMALL} --output-dir {tmp_path}".split()) == 0
    assert set(json.loads((tmp_path / "eval.json").read_text())["intervals"]["sprites"]) == {"base"}
    assert (tmp_path / "eval.html").read_text().count("data:image/png;base64,") == 14
    before = scored(tmp_path)
    assert main(f"eval {SUITE} {SMALL} --lora {lora} --output-dir {tmp_path}".split()) == 0
    assert [line for line in scored(tmp_path) if line[0] == "base"] == before
    same(whole, tmp_path)


@pytest.mark.parametrize("place", ["vgrpo.evaluation.scores.write_json", "vgrpo.evaluation.job.save"])
def test_a_disk_that_refuses_is_named_with_the_scores_so_far(tmp_path, capsys, monkeypatch, place):
    def fail(path, *more):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(place, fail)
    line = f"eval --reward sprites --output-dir {tmp_path}/out --eval.num-prompts 7 --eval.num-images 1 --eval.num-steps 1"
    assert main(line.split()) == 1
    said = capsys.readouterr().err
    count = 7 if place.endswith("save") else 0
    assert f"can only be read. The scores so far, {count} of base, are in {tmp_path}/out/scores and stay." in said
    assert said.endswith("then give the same command again: it goes on there.\n")


def test_a_part_on_which_a_reward_fails_is_counted_and_ends_nothing_else():
    pictures = pictures_of([Prompt(text=str(index)) for index in range(4)], 1)

    def score(part):
        if part[0].index in failing:
            raise RewardError("no answer")
        return Judged(rewards=torch.tensor([[float(part[0].index)]]), failed=torch.tensor([[False]]), strict=torch.ones(1))

    parts, failing = [[picture] for picture in pictures], {1}
    found = together(parts, score, 1, nothing, ALONE, nullcontext, strict=True)
    assert found.failed[:, 0].tolist() == [False, True, False, False]
    assert found.rewards[:, 0].nan_to_num(-1).tolist() == [0, -1, 2, 3]
    assert found.strict.isnan().tolist() == [False, True, False, False]
    failing = {0, 1, 2, 3}
    with pytest.raises(RewardError, match="no answer"):
        together(parts, score, 1, nothing, ALONE, nullcontext, strict=True)
