"""groups/ and the scores of sample pictures: what a person looks at, taken from what was trained on."""

import json

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from PIL import Image

from vgrpo import Prompt, train
from vgrpo.core.types import Cond, Rollout
from vgrpo.objectives.drawing import Drawing
from vgrpo.rewards.base import Scores
from vgrpo.rewards.panel import Panel
from vgrpo.training.record.events import ImagesJudged
from vgrpo.training.record.groups import MOST_MEMBERS, GroupsFile
from vgrpo.training.settings.config import RolloutConfig


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    config = tiny_config(
        tmp_path_factory.mktemp("groups") / "run",
        num_iterations=2,
        rollout=RolloutConfig(num_prompts=3, group_size=4, num_steps=2),
    )
    return train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True).output_dir


def test_every_iteration_leaves_groups_from_best_to_worst(folder):
    assert sorted(path.name for path in (folder / "groups").iterdir()) == [
        f"00000{i}.{end}" for i in range(2) for end in ("jpg", "json")
    ]
    entry = json.loads((folder / "groups/000001.json").read_text())
    assert (entry["rewards"], entry["num_groups"], entry["cell"], len(entry["groups"])) == (["red"], 3, [64, 64], 3)
    means = [sum(group["reward"]) / 4 for group in entry["groups"]]
    assert means == sorted(means)
    for group in entry["groups"]:
        assert group["prompt"] in PROMPTS
        assert sorted(group["members"]) == [0, 1, 2, 3]
        assert group["reward"] == sorted(group["reward"], reverse=True)
        assert group["advantage"] == sorted(group["advantage"], reverse=True)
        assert sum(group["advantage"]) == pytest.approx(0, abs=1e-5)
    line = json.loads((folder / "metrics.jsonl").read_text().splitlines()[1])
    assert sum(means) / 3 == pytest.approx(line["reward/mean"], abs=1e-5)


def test_the_sheet_shows_the_images_that_were_scored(folder):
    """The reward of a thumbnail is that of its image, but for the JPEG."""
    entry, sheet = json.loads((folder / "groups/000001.json").read_text()), Image.open(folder / "groups/000001.jpg")
    assert sheet.size == (256, 192)
    for row, group in enumerate(entry["groups"]):
        for column, reward in enumerate(group["reward"]):
            cell = sheet.crop((64 * column, 64 * row, 64 * column + 64, 64 * row + 64))
            pixels = torch.tensor(list(cell.getdata())).float() / 255
            assert (pixels[:, 0] - pixels[:, 2]).mean().item() == pytest.approx(reward, abs=0.02)


def test_sample_pictures_have_scores(folder):
    scores = json.loads((folder / "samples/000002/scores.json").read_text())
    assert scores["rewards"] == ["red"]
    assert [len(row) for row in scores["reward"]] == [4, 4]
    assert "strict" not in scores  # the prompts are of no world
    with Image.open(folder / "samples/000002/01.png") as strip:
        pixels = torch.tensor(list(strip.crop((128, 0, 192, 64)).getdata())).float() / 255
    assert (pixels[:, 0] - pixels[:, 2]).mean().item() == pytest.approx(scores["reward"][1][2], abs=0.005)


def mine(images, prompts):
    """A reward with a name."""
    raise AssertionError("nobody asks it here")


def judged(num_groups, group_size, side):
    generator = torch.Generator().manual_seed(0)
    count = num_groups * group_size
    images = torch.rand(count, 3, side, side, generator=generator)
    group = torch.arange(num_groups).repeat_interleave(group_size)
    values = torch.rand(count, 1, generator=generator)
    values[1] = torch.nan
    failed = values.isnan()
    rollout = Rollout(
        prompts=[Prompt(text=f"number {g}") for g in group.tolist()],
        group=group,
        latents=torch.zeros(count, 1),
        cond=Cond(sequence=torch.zeros(count, 1, 1)),
        images=images,
        num_groups=num_groups,
        nfe=1,
    )
    scores = Scores(values, failed)
    return ImagesJudged(iteration=7, rollout=rollout, scores=scores, reward=values[:, 0], advantage=values[:, 0].nan_to_num(0))


@pytest.mark.parametrize(("num_groups", "group_size", "side", "kept"), [(8, 16, 64, 2), (8, 4, 512, 2), (3, 24, 256, 1)])
def test_how_many_are_kept_depends_on_their_size(tmp_path, num_groups, group_size, side, kept):
    GroupsFile(tmp_path, Panel.of([mine]), Drawing())(judged(num_groups, group_size, side))
    entry, sheet = json.loads((tmp_path / "groups/000007.json").read_text()), Image.open(tmp_path / "groups/000007.jpg")
    assert len(entry["groups"]) == kept
    assert max(entry["cell"]) == min(side, 128)
    assert sheet.size == (entry["cell"][0] * group_size, entry["cell"][1] * kept)


def test_of_a_large_group_the_best_and_the_worst_are_kept(tmp_path):
    event = judged(1, 50, 8)
    GroupsFile(tmp_path, Panel.of([mine]), Drawing())(event)
    (group,) = json.loads((tmp_path / "groups/000007.json").read_text())["groups"]
    order = event.reward.nan_to_num(-torch.inf).argsort(descending=True).tolist()
    assert group["members"] == order[:16] + order[-16:]
    assert len(group["members"]) == MOST_MEMBERS
    assert (group["reward"][-1], group["failed"][-1]) == (None, True)


def test_a_resumed_run_keeps_no_groups_of_iterations_that_it_draws_anew(tmp_path):
    GroupsFile(tmp_path, Panel.of([mine]), Drawing())(judged(2, 4, 8))
    GroupsFile(tmp_path, Panel.of([mine]), Drawing(), start=8)
    assert len(list((tmp_path / "groups").iterdir())) == 2
    GroupsFile(tmp_path, Panel.of([mine]), Drawing(), start=7)
    assert list((tmp_path / "groups").iterdir()) == []
