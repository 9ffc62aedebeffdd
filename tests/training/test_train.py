"""Whole runs on a tiny random pipeline: what they leave, resume, failures, errors at start-up."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusion3Pipeline
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import VGRPO, Prompt, train
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable
from vgrpo.rewards.base import RewardError, score_images
from vgrpo.training import loop
from vgrpo.training.record.events import CheckpointSaved
from vgrpo.training.settings.config import RolloutConfig, UpdateConfig
from vgrpo.training.settings.config_files import load_yaml, save_yaml
from vgrpo.training.start import Given

LORA = "lora/pytorch_lora_weights.safetensors"


def run(folder, pipeline=None, reward=red, resume=False, prompts=PROMPTS, **changes):
    pipeline = pipeline or tiny_pipeline()
    config = tiny_config(folder, **changes)
    return train(config, pipeline=pipeline, reward=reward, prompts=prompts, resume=resume, quiet=True)


def weights_of(result):
    return {name: p.detach().clone() for name, p in trainable(result.pipeline.transformer).items()}


def test_the_run_folder_holds_what_it_should(tmp_path):
    result = run(tmp_path / "run")
    names = {path.name for path in result.output_dir.iterdir()}
    assert names >= {"config.yaml", "metrics.jsonl", "samples", "lora", "checkpoints", "eval.json", "report.html"}
    lines = [json.loads(line) for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [0, 1]
    promised = (
        "iteration reward/mean reward/std reward/zero_std_groups seconds/total seconds/rollout seconds/reward seconds/update"
        " seconds/checkpoint"
    )
    promised += " nfe/rollout nfe/train images_per_second ratio/mean grad_norm kl surrogate/mean surrogate/cv_within diversity"
    for line in lines:
        assert set(promised.split()) <= set(line)
        assert line["ratio/mean"] == 1
        assert line["nfe/rollout"] == 3
        assert line["nfe/train"] == 4
        assert line["grad_norm"] > 0
        assert line["diversity"] > 0
    page = (result.output_dir / "report.html").read_text()
    assert '"reward/zero_std_groups":[' in page
    assert '"diversity":[' in page


def test_the_saved_lora_loads_in_diffusers_and_does_what_was_trained(tmp_path):
    result = run(tmp_path / "run", lora=LoraConfig(rank=4, alpha=16), update=UpdateConfig(lr=0.05))
    fresh = tiny_pipeline()
    noise = torch.randn(2, fresh.transformer.config.in_channels, 4, 4)
    call = {"num_inference_steps": 3, "max_sequence_length": 0, "output_type": "latent", "guidance_scale": 1.0}
    fresh.set_progress_bar_config(disable=True)
    before = fresh(PROMPTS[:2], latents=noise, **call).images
    fresh.load_lora_weights(result.output_dir / "lora")
    after = fresh(PROMPTS[:2], latents=noise, **call).images
    trained = result.pipeline(PROMPTS[:2], latents=noise, **call).images
    assert (after - before).abs().max() > 1e-3
    assert torch.allclose(after, trained, atol=1e-5)


def test_full_fine_tuning_saves_a_pipeline_that_loads(tmp_path):
    result = run(tmp_path / "run", finetune="full")
    loaded = StableDiffusion3Pipeline.from_pretrained(result.output_dir / "pipeline", text_encoder_3=None, tokenizer_3=None)
    base = tiny_pipeline().transformer.state_dict()
    tuned, saved = result.pipeline.transformer.state_dict(), loaded.transformer.state_dict()
    assert all(torch.equal(tuned[name], saved[name]) for name in tuned)
    assert any(not torch.equal(base[name], saved[name]) for name in base)


def test_resume_is_bitwise_equal(tmp_path):
    settings = {"update": UpdateConfig(lr=1e-2, num_minibatches=2, num_epochs=2), "objective": VGRPO(ratio_clip=0.02)}
    straight = run(tmp_path / "straight", num_iterations=4, **settings)
    run(tmp_path / "broken", num_iterations=2, **settings)
    broken = run(tmp_path / "broken", num_iterations=4, resume=True, **settings)
    a, b = weights_of(straight), weights_of(broken)
    assert all(torch.equal(a[name], b[name]) for name in a)
    read = [json.loads(line) for line in (tmp_path / "broken/metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in read] == [0, 1, 2, 3]


def test_runs_repeat_bit_for_bit_and_seeds_matter(tmp_path):
    a, b, c = (weights_of(run(tmp_path / name, seed=seed)) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert any(not torch.equal(a[name], c[name]) for name in a)


def test_training_raises_a_toy_reward(tmp_path):
    result = run(
        tmp_path / "run",
        num_iterations=12,
        update=UpdateConfig(lr=1.6e-2),
        rollout=RolloutConfig(num_prompts=4, group_size=8, num_steps=4),
    )
    rewards = [json.loads(line)["reward/mean"] for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert sum(rewards[-5:]) > sum(rewards[:5])
    assert max(rewards[-5:]) > max(rewards[:5])


def sometimes(images, prompts):
    values = red(images, prompts)
    values[0] = torch.nan
    return values


def test_a_failed_reward_is_masked_and_counted(tmp_path):
    result = run(tmp_path / "run", reward=sometimes)
    lines = [json.loads(line) for line in (result.output_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["reward/failed"] for line in lines] == [2, 2]  # each call gets the images of one of the two prompts
    assert all(line["reward/mean"] == line["reward/mean"] for line in lines)


def test_an_image_that_makes_the_reward_raise_is_masked():
    def picky(images, prompts):
        if any(prompt.text == "two" for prompt in prompts):
            raise KeyError("two")
        return images.mean((1, 2, 3))

    prompts = [Prompt(text=text) for text in ("one", "two", "three")]
    assert score_images(picky, torch.rand(3, 3, 4, 4), prompts).isnan().tolist() == [False, True, False]


def test_a_whole_failed_batch_stops_the_run_with_what_it_had(tmp_path):
    calls = []

    def breaks(images, prompts):
        calls.append(1)
        if len(calls) > 4:  # the trial, the sample pictures, one iteration of two groups
            raise OSError("the judge went home")
        return red(images, prompts)

    with pytest.raises(RewardError, match="the judge went home"):
        run(tmp_path / "run", reward=breaks)
    assert (tmp_path / "run/checkpoints/iteration-000001").is_dir()
    one = run(tmp_path / "one", num_iterations=1).output_dir  # the adapter so far, averaged as at an end
    assert (tmp_path / "run" / LORA).read_bytes() == (one / LORA).read_bytes()


def test_every_checkpoint_leaves_the_adapter_so_far(tmp_path):
    found = []

    def listen(event):
        if isinstance(event, CheckpointSaved):
            path = tmp_path / "run" / LORA
            found.append((event.iteration, path.read_bytes() if path.exists() else None))

    config = tiny_config(tmp_path / "run", checkpoint_every=1, num_iterations=2)
    loop.train(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS), listeners=[listen])
    adapters = dict(found)
    assert adapters[0] is None  # of the untrained model
    assert adapters[1] != adapters[2]
    assert [path.name for path in (tmp_path / "run/lora").iterdir()] == [Path(LORA).name]


def test_ctrl_c_saves_a_checkpoint_that_resumes(tmp_path, monkeypatch):
    iterate = loop.iterate

    def interrupted(run):
        if run.iteration == 1:
            raise KeyboardInterrupt
        return iterate(run)

    monkeypatch.setattr(loop, "iterate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run")
    monkeypatch.undo()
    resumed = weights_of(run(tmp_path / "run", resume=True))
    straight = weights_of(run(tmp_path / "straight"))
    assert all(torch.equal(resumed[name], straight[name]) for name in straight)


@pytest.mark.parametrize(
    ("reward", "message"),
    [
        (lambda images, prompts: images.mean(), r"shape \[\] for 2 images"),
        (lambda images, prompts: torch.full((len(images),), torch.nan), "NaN"),
        (lambda images, prompts: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_broken_reward_is_refused_before_training(tmp_path, reward, message):
    with pytest.raises(ValueError, match=message):
        run(tmp_path / "run", reward=reward)


def test_a_folder_with_another_run_is_refused(tmp_path):
    run(tmp_path / "run", num_iterations=1)
    with pytest.raises(FileExistsError, match="not empty"):
        run(tmp_path / "run")


def test_a_folder_without_a_run_is_begun_by_a_resume(tmp_path):
    assert run(tmp_path / "other", resume=True).output_dir == tmp_path / "other"


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError, match="file is a file"):
        run(tmp_path / "file" / "run")


def test_config_survives_yaml(tmp_path):
    config = dataclasses.replace(tiny_config(tmp_path), objective=VGRPO(ratio_clip=0.02), reward=("a:b", "c:d"))
    save_yaml(config, tmp_path / "config.yaml")
    assert load_yaml(tmp_path / "config.yaml") == dataclasses.replace(config, output_dir=None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rollout: {group_sise: 4}", "rollout.group_sise: did you mean rollout.group_size"),
        ("rollout: {group_size: many}", "rollout.group_size='many': must be int"),
        ("rollout: {solver: eulr}", "must be one of 'euler'"),
        ("rollout: {group_size: 1}", "group_size=1"),
        ("num_iterations: 0", "num_iterations=0"),
        ("reward_weights: [1.0, 2.0]", "one weight for each"),
        ("", "run.yaml holds no settings; write them as lines of"),
        ("- seed: 1", "run.yaml holds no settings"),
        ("seed: 1\nrollout: {group_size: 4\nlora: 2\n", "run.yaml, line 3: not YAML"),
        ("seed: 1\nprompts: a\n  b: 2\n", "run.yaml, line 3: not YAML .mapping values are not allowed here"),
        ("seed: \x07", "run.yaml: not YAML .*special characters are not allowed"),
        ("seed: 2024-13-45", "run.yaml, line 1: not YAML .'2024-13-45' is neither plain text nor a number"),
        ("5: 2", "unknown setting 5: known are"),
        ("output_dir: 5", "output_dir=5: must be a path"),
    ],
)
def test_bad_yaml_is_refused(tmp_path, text, message):
    (tmp_path / "run.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        load_yaml(tmp_path / "run.yaml")


def test_eval_json_has_the_promised_shape(tmp_path):
    config = tiny_config(
        tmp_path / "run",
        num_iterations=1,
        reward=("sprites", "jpeg_compressibility"),
        eval=EvalConfig(num_prompts=14, num_images=1, num_steps=2),
    )
    result = train(config, pipeline=tiny_pipeline(), quiet=True)
    content = json.loads((result.output_dir / "eval.json").read_text())
    assert content["num_prompts"] == content["num_images"] == 14
    for part in ("base", "tuned"):
        assert set(content[part]) == {"strict", "reward", "by_category", "interval"}
        assert len(content[part]["by_category"]) == 7
        for metric, interval in content[part]["interval"].items():
            assert interval["low"] <= content[part][metric] <= interval["high"]
