"""The interface of a world: the bundled one keeps it, and a user's own works wherever a name of prompts does."""

import json
import random

import pytest
import torch
from helpers.tiny import red, tiny_config, tiny_pipeline

from vgrpo import Prompt, train
from vgrpo.commands.main import main
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.bundled import bundled_models
from vgrpo.prompts.generators import geneval
from vgrpo.prompts.sources import evaluation_prompts, held_out_name, training_prompts
from vgrpo.rewards.registry import is_own
from vgrpo.worlds.registry import WORLDS, bundled_world, find_world, judge_of
from vgrpo.worlds.sprites.render import render
from vgrpo.worlds.sprites.scenes import sample_scene

OWN = '''
from vgrpo import Prompt
from vgrpo.worlds.base import World


def redness(images, prompts):
    return images[:, 0].mean((1, 2))


class Colours(World):
    """One colour fills the picture."""

    name, tags, rewards = "colours", ("warm", "cold"), ("painted:redness",)

    def draw_prompt(self, rng, tag):
        return Prompt(text=f"{rng.choice(('plain', 'bright'))} {tag} colour", metadata={"tag": tag})

    def held_out_prompts(self, num_per_tag, tags):
        return [Prompt(text=f"{tag} colour {n}", metadata={"tag": tag}) for tag in tags for n in range(num_per_tag)]

    def knows(self, prompts):
        return all(prompt.metadata.get("tag") in self.tags for prompt in prompts)

    def strict(self, images, prompts):
        return (images[:, 0].mean((1, 2)) > images[:, 2].mean((1, 2))).float()


made = Colours()
half = type("Half", (World,), {})
nothing = 5
'''


@pytest.fixture
def painted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "painted", raising=False)
    (tmp_path / "painted.py").write_text(OWN)
    return tmp_path


@pytest.mark.parametrize("world", WORLDS.values())
def test_a_bundled_world_keeps_its_promises(world):
    rng = random.Random(0)
    drawn = [world.draw_prompt(rng, tag) for tag in world.tags for _ in range(20)]
    held_out = world.held_out_prompts(5, world.tags)
    assert {prompt.metadata["tag"] for prompt in drawn} == {prompt.metadata["tag"] for prompt in held_out} == set(world.tags)
    assert held_out == world.held_out_prompts(5, world.tags)
    assert not {prompt.text for prompt in drawn} & {prompt.text for prompt in held_out}
    assert world.knows(drawn + held_out)
    assert not any(map(is_own, world.rewards))
    assert (world.model / "model_index.json").is_file()
    assert bundled_models()[world.name] == world.model


def test_the_sprites_world_is_strict_about_the_prompts_own_board():
    world = WORLDS["sprites"]
    prompts = world.held_out_prompts(3, world.tags)
    boards = render([sample_scene(prompt, random.Random(0)) for prompt in prompts], torch.Generator().manual_seed(0))
    assert world.strict(boards, prompts).eq(1).all()
    assert world.strict(boards.flip(0), prompts).mean() < 0.2


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {"tag": "text"},
        {"tag": "text", "text": 5},
        {"tag": "colors"},
        {"tag": "colors", "include": []},
        {"tag": "colors", "include": [{"class": "sheep", "count": 1}]},
        geneval.sample_prompt(random.Random(0), "two_object").metadata,
    ],
)
def test_prompts_of_other_kinds_are_not_the_sprites_worlds(metadata):
    assert not WORLDS["sprites"].knows([Prompt(text="a", metadata=metadata)])


def test_strict_scores_stand_beside_a_worlds_own_rewards_alone():
    world = WORLDS["sprites"]
    prompts = world.held_out_prompts(1, world.tags)
    assert judge_of(prompts, ["clipscore", "sprites_preference=folder"]) is world
    assert judge_of(prompts, ["clipscore", "my_file:sprites"]) is None
    assert judge_of([*prompts, Prompt(text="a cat")], ["sprites"]) is None


@pytest.mark.parametrize("name", ["p.txt", "sprites.txt", "hub:owner/name", "hub:name", "spritesx", "/a/b:c", "a b:c"])
def test_what_is_no_world(name):
    assert find_world(name) is None
    assert bundled_world(name) is None


def test_a_file_comes_before_an_own_world(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts:mine").write_text("a\n")
    assert find_world("prompts:mine") is None


def test_an_own_world_by_its_class_or_made(painted):
    for name in ("painted:Colours", "painted:made"):
        drawn = training_prompts(name, seed=0)(0, 6)
        assert [prompt.metadata["tag"] for prompt in drawn] == ["warm", "cold"] * 3
        assert training_prompts(f"{name}:cold", seed=0)(0, 2)[0].metadata["tag"] == "cold"
        held_out = evaluation_prompts(held_out_name(name, None), 4)
        assert [prompt.text for prompt in held_out] == ["warm colour 0", "warm colour 1", "cold colour 0", "cold colour 1"]
        assert judge_of(held_out, ["painted:redness"], [None, name]).name == "colours"
        assert judge_of(held_out, ["sprites"], [name]) is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("painted:Colours:hot", "the colours world has no kind 'hot'; its kinds are warm, cold"),
        ("painted:Missing", "has no Missing"),
        ("painted:nothing", "not a vgrpo.worlds.base.World"),
        ("painted:half", "abstract"),
        ("not_there:World", "is not_there.py in this folder or installed?"),
    ],
)
def test_an_own_world_that_is_none_is_refused(painted, name, message):
    with pytest.raises(ValueError, match=message):
        training_prompts(name, seed=0)


def test_a_run_and_an_evaluation_on_an_own_world(painted):
    config = tiny_config(
        painted / "run",
        num_iterations=1,
        prompts="painted:Colours",
        reward=("painted:redness",),
        eval=EvalConfig(num_prompts=4, num_images=1, num_steps=2, num_sample_prompts=1),
    )
    result = train(config, pipeline=tiny_pipeline(), quiet=True)
    assert set(result.evaluation["tuned"]) == {"strict", "reward", "by_category", "interval"}
    assert set(result.evaluation["tuned"]["by_category"]) == {"warm", "cold"}
    line = "eval --prompts painted:Colours --eval.num-prompts 4 --eval.num-images 1 --eval.num-steps 2"
    assert main(f"{line} --reward painted:redness --output-dir out".split()) == 0
    content = json.loads((painted / "out/eval.json").read_text())
    assert set(content["intervals"]) == {"painted:redness", "strict"}
    assert main(f"{line} --reward jpeg_compressibility --output-dir other".split()) == 0
    content = json.loads((painted / "other/eval.json").read_text())
    assert set(content["intervals"]) == {"jpeg_compressibility"}
    assert "strict" not in (painted / "other/scores/base-0-of-1.jsonl").read_text()
    assert "strict" not in (painted / "other/eval.html").read_text()


@pytest.mark.parametrize(("monitor", "strict"), [((), False), (("sprites",), True)])
def test_a_run_on_an_own_reward_is_strict_only_if_the_world_watches(tmp_path, monitor, strict):
    config = tiny_config(
        tmp_path / "run",
        num_iterations=1,
        monitor=monitor,
        eval=EvalConfig(num_prompts=7, num_images=1, num_steps=2, num_sample_prompts=1),
    )
    result = train(config, pipeline=tiny_pipeline(), reward=red, quiet=True)
    for part in ("base", "tuned"):
        entries = [result.evaluation[part], *result.evaluation[part]["by_category"].values()]
        assert all(("strict" in entry) == strict for entry in entries)
    assert ('"metric":"strict"' in (result.output_dir / "report.html").read_text()) == strict
