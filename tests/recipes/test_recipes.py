"""Every recipe: it can be named, saved and read back, names prompts that can be had, and holds the published settings."""

import re
from pathlib import Path

import pytest

from vgrpo import Curriculum
from vgrpo.commands.job import parse_job
from vgrpo.commands.main import main
from vgrpo.models.published import HUB_IDS
from vgrpo.prompts.files import read_prompts
from vgrpo.recipes import RECIPES
from vgrpo.rewards.registry import MODELS, NAMED
from vgrpo.training.settings.config import Config
from vgrpo.training.settings.config_files import load_yaml, save_yaml
from vgrpo.worlds.registry import find_world

TABLE = [  # stage, rewards, iterations, pairs, ratio clip, KL weight, soft clip
    ("preference", ("hpsv2", "pickscore", "clipscore"), 150, 4, None, 0.0, 3.0),
    ("geneval", ("geneval",), 200, 10, 0.02, 0.0, None),
    ("preference", ("hpsv2", "pickscore", "clipscore"), 150, 4, None, 0.0, 3.0),
    ("geneval", ("geneval",), 50, 10, 0.02, 0.0, None),
    ("ocr", ("ocr",), 30, 10, None, 0.3, None),
]


def configs_of(recipe):
    return [stage.config for stage in recipe.stages] if isinstance(recipe, Curriculum) else [recipe]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_survives_yaml_and_the_command_line(tmp_path, name):
    recipe = RECIPES[name]
    save_yaml(recipe, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml") == recipe
    assert parse_job([name], prog="train", description="") == recipe
    changed = parse_job([name, "--model", "m", "--memory.gradient-checkpointing"], prog="train", description="")
    assert {(config.model, config.memory.gradient_checkpointing) for config in configs_of(changed)} == {("m", True)}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_known_rewards_and_an_evaluation_like_its_rollout(name):
    for config in configs_of(RECIPES[name]):
        assert {reward.partition("=")[0] for reward in config.reward} <= {*NAMED, *MODELS}
        assert (config.eval_prompts is None) == (find_world(config.prompts) is not None or config.prompts.endswith(".txt"))
        if config.eval_prompts is not None:
            assert config.eval.guidance == config.rollout.guidance


def test_the_five_stages_are_the_published_ones():
    stages = RECIPES["sd35m-multi"].stages
    read = [
        (
            stage.name,
            stage.config.reward,
            stage.config.num_iterations,
            stage.config.objective.num_probes,
            stage.config.objective.ratio_clip,
            stage.config.objective.kl_weight,
            stage.config.objective.soft_clip,
        )
        for stage in stages
    ]
    assert read == TABLE
    for config in (stage.config for stage in stages):
        rollout, lora = config.rollout, config.lora
        assert (rollout.num_prompts, rollout.group_size, rollout.num_steps, rollout.guidance) == (48, 24, 40, 1.0)
        assert (lora.rank, lora.alpha, config.update.lr) == (32, 64, 3e-4)
        on_policy = config.update.num_minibatches * config.update.num_epochs == 1
        controlled = config.objective.ratio_clip is not None or config.objective.kl_weight > 0
        assert controlled != on_policy  # neither control acts on the first step after a rollout


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_named_after_a_model_names_it_and_its_weights_need_no_folder(name):
    models = {config.model for config in configs_of(RECIPES[name])}
    prefixes = {"sd35m": "sd35-medium", "sd3": "sd35-medium", "flux1": "flux1-dev", "sd15": "sd15", "sdxl": "sdxl"}
    expected = prefixes.get(name.partition("-")[0])
    assert models == ({"sprites"} if expected is None else {key for key, value in HUB_IDS.items() if value == expected})


def test_full_fine_tuning_brings_its_own_learning_rate():
    def rate(*words):
        return parse_job(list(words), prog="train", description="").learning_rate

    assert [rate(name) for name in ("sprites", "sdxl-pickscore", "sd35m-ocr")] == [1.2e-3, 1e-4, 3e-4]
    full = ("--finetune", "full")
    assert [rate(name, *full) for name in ("sprites", "sdxl-pickscore", "sd35m-ocr")] == [2e-4, 1e-5, 1e-5]
    assert rate("sdxl-pickscore", *full, "--update.lr", "3e-6") == 3e-6
    assert rate("sdxl-pickscore", "--finetune", "lora") == 1e-4
    assert Config(finetune="full", model="folder").learning_rate == 1e-5
    assert Config().learning_rate == 3e-4


@pytest.mark.parametrize("kind", ["geneval", "ocr"])
def test_the_error_for_a_missing_prompt_file_names_the_command_that_makes_it(tmp_path, monkeypatch, capsys, kind):
    monkeypatch.chdir(tmp_path)
    for name in (f"{kind}.jsonl", f"{kind}-held-out.jsonl"):
        assert main(["train", f"sd35m-{kind}", "--model", "sprites"]) == 1
        said = capsys.readouterr().err
        assert f"no prompt file {name}; make it with: vgrpo prompts --kind {kind}" in said
        command = said.split("vgrpo prompts ")[1].split()
        assert main(["prompts", *command]) == 0
    train, held_out = ({prompt.text for prompt in read_prompts(f"{kind}{end}.jsonl")} for end in ("", "-held-out"))
    assert train
    assert held_out
    assert not train & held_out


def test_the_error_for_missing_preference_prompts_asks_for_a_file(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["train", "sd35m-multi", "--model", "sprites"]) == 1
    said = capsys.readouterr().err
    assert "no prompt file preference.txt; write your prompts there, one a line, or make it with: vgrpo prompts" in said
    assert list(tmp_path.iterdir()) == []
    assert main(["prompts", *said.split("vgrpo prompts ")[1].split(), "--num", "50"]) == 0
    assert len(read_prompts("preference.txt")) == 50


def test_a_curriculum_is_planned_stage_by_stage(tmp_path, capsys):
    rollouts = [f"rollout: {{num_prompts: {number}, group_size: 8}}" for number in (2, 4)]
    (tmp_path / "two.yaml").write_text(f"stages: [{{name: a, {rollouts[0]}}}, {{name: b, {rollouts[1]}}}]")
    assert main(["plan", f"{tmp_path}/two.yaml", "--max-sequence-length", "0"]) == 0
    said = capsys.readouterr().out
    assert said.index("stage 1: a") < said.index("16 images per iteration") < said.index("stage 2: b")
    assert said.index("stage 2: b") < said.index("32 images per iteration")


def test_the_page_lists_every_recipe_and_its_yaml_loads(tmp_path):
    page = (Path(__file__).parents[2] / "docs/recipes.md").read_text()
    named = {
        name for line in page.splitlines() if line.startswith("| `") for name in re.findall(r"`([^`]+)`", line.split("|")[1])
    }
    assert named == set(RECIPES)
    (tmp_path / "two.yaml").write_text(re.search(r"```yaml\n(.*?)```", page, re.DOTALL).group(1))
    stages = load_yaml(tmp_path / "two.yaml").stages
    assert [(stage.name, stage.config.num_iterations, stage.config.eval.num_prompts) for stage in stages] == [
        ("small-files", 20, 70),
        ("right-objects", 60, 70),
    ]


@pytest.mark.parametrize("name", ["sd3", "flux1"])
def test_a_recipe_for_ones_own_prompts_asks_for_them(name, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", name, "--model", "sprites", "--resolution", "64"]) == 1
    assert "no prompt file prompts.txt; write your prompts there, one a line" in capsys.readouterr().err
