"""The model that ships: it loads in plain diffusers, is small, draws, and learns."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from helpers.tiny import tiny_pipeline

from vgrpo.analysis.plan.figures import skeleton
from vgrpo.core.types import Prompt
from vgrpo.evaluation.core import evaluate
from vgrpo.models.loading import load_pipeline, load_policy, make_policy
from vgrpo.models.settings import ModelSettings
from vgrpo.models.supported import model_folder
from vgrpo.prompts.sources import evaluation_prompts
from vgrpo.recipes import RECIPES
from vgrpo.rewards.panel import Panel
from vgrpo.rewards.registry import load_reward
from vgrpo.training.settings.config import Config
from vgrpo.training.start import start_run
from vgrpo.worlds.registry import WORLDS


def test_it_is_small_and_loads_in_plain_diffusers():
    folder = model_folder("sprites")
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 12e6
    pipeline = StableDiffusion3Pipeline.from_pretrained(folder, text_encoder_3=None, tokenizer_3=None)
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(0)
    images = pipeline(
        ["two hearts"] * 8, num_inference_steps=10, guidance_scale=1.0, generator=generator, output_type="pt"
    ).images
    assert images.shape == (8, 3, 64, 64)
    prompt = Prompt(text="two hearts", metadata={"tag": "counting", "include": [{"class": "heart", "count": 2}]})
    assert load_reward("sprites")(images, [prompt] * 8).mean() > 0.4


@pytest.fixture(scope="module")
def scores():
    policy = make_policy(load_pipeline("sprites"), max_sequence_length=0)
    settings = RECIPES["sprites"].eval
    prompts = evaluation_prompts("sprites", 140)

    def run(guidance):
        changed = type(settings)(num_images=1, num_steps=settings.num_steps, solver=settings.solver, guidance=guidance)
        return evaluate(policy, prompts, Panel.of([load_reward("sprites")]), changed, WORLDS["sprites"])

    return run(1.0), run(1.5)


def test_it_has_room_to_improve_and_guidance_helps(scores):
    plain, guided = scores
    assert 0.15 < plain["strict"] < 0.55
    assert guided["strict"] > plain["strict"]
    assert all(entry["reward"] > 0.05 for entry in plain["by_category"].values())


def test_its_text_has_no_padding_wherever_it_comes_from(tmp_path):
    pipeline = load_pipeline("sprites")
    assert load_policy(ModelSettings()).max_sequence_length == 0
    assert load_policy(ModelSettings(), pipeline).max_sequence_length == 0
    assert load_policy(ModelSettings(max_sequence_length=5)).max_sequence_length == 5
    assert skeleton(Config()).max_sequence_length == 0
    assert start_run(Config(output_dir=tmp_path / "run")).policy.max_sequence_length == 0
    assert load_policy(ModelSettings(), tiny_pipeline()).max_sequence_length == 256  # another of its architecture


@pytest.mark.parametrize("size", ["max_sequence_length", "resolution", "num_frames"])
def test_a_size_that_no_model_has_is_refused_before_loading(size):
    with pytest.raises(ValueError, match=f"{size}=-1: must be at least"):
        load_policy(ModelSettings(model="nowhere", **{size: -1}))


@pytest.mark.parametrize("resolution", ["832", "832x", "832 x 1216", "832x0", "832x99999"])
def test_a_resolution_is_a_number_or_width_x_height(resolution):
    with pytest.raises(ValueError, match=f"resolution={resolution}: (give pixels per side, as 1024, or WIDTHxHEIGHT|must)"):
        ModelSettings(resolution=resolution).check()


def test_its_pretraining_is_published():
    log = Path(__file__).parents[2] / "docs/pretrain.jsonl"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert lines[-1]["stage"] == "held-out"
    assert lines[-1]["seconds"] < 41 * 60  # about 40 minutes; tests ran beside it for three of them
