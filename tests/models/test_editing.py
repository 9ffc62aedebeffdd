"""Models that edit a picture: what they draw, what is trained, and where the source image comes from."""

import json

import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as Picture
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit
from helpers import pipelines
from helpers.tiny import red, tiny_config
from PIL import Image

from vgrpo import Prompt, train
from vgrpo.commands.main import main
from vgrpo.core.images import from_pil, open_picture, to_pil
from vgrpo.models.adapters.packed import pack
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.settings import MemoryConfig
from vgrpo.prompts import datasets
from vgrpo.prompts.files import read_prompts
from vgrpo.prompts.splits import split_off
from vgrpo.rewards.base import judge_images
from vgrpo.sampling.draw import draw_images, draw_latents
from vgrpo.sampling.settings import Sampling
from vgrpo.training.settings.config import Config, RolloutConfig
from vgrpo.training.start import Given, start_run
from vgrpo.training.tasks.prompts import run_prompts

SIDE, LENGTH = 16, 24
TEXTS = ["a red heart", "two blue stars"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A tiny FLUX.1 Kontext, two source images, and a file of prompts that names them."""
    folder = tmp_path_factory.mktemp("edit")
    pipelines.flux_kontext().save_pretrained(folder / "kontext")
    for name, size in (("a.png", (SIDE, SIDE)), ("b.png", (40, 24))):
        to_pil(torch.rand(3, *size, generator=torch.Generator().manual_seed(len(name) + size[0]))).save(folder / name)
    rows = [{"prompt": text, "image": name} for text, name in zip(TEXTS, ("a.png", "b.png"), strict=True)]
    (folder / "edits.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def policy_of(folder):
    return make_policy(load_pipeline(str(folder / "kontext")), max_sequence_length=LENGTH, resolution=SIDE)


def test_our_sampler_draws_kontexts_own_images(folder):
    policy, picture = policy_of(folder), Image.open(folder / "a.png")
    noise = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    settings = {"num_inference_steps": 4, "guidance_scale": 2.5, "output_type": "pt", "max_sequence_length": LENGTH}
    size = {"height": SIDE, "width": SIDE, "max_area": SIDE**2, "_auto_resize": False}
    theirs = policy.pipeline(image=picture, prompt=TEXTS, latents=pack(noise), **settings, **size).images
    times = policy.pipeline.scheduler.sigmas.double()
    ours, other = (
        policy.decode(draw_latents(policy, policy.encode_prompts(prompts), noise, solver="euler", times=times, guidance=2.5))
        for prompts in [[Prompt(text=text, image=folder / name) for text in TEXTS] for name in ("a.png", "b.png")]
    )
    assert torch.allclose(ours, theirs.float(), atol=2e-3)
    assert not torch.allclose(ours, other, atol=2e-3)  # the source matters


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_our_sampler_draws_qwens_own_images(folder, monkeypatch, guidance):
    monkeypatch.setattr(pipeline_qwenimage_edit, "calculate_dimensions", lambda area, ratio: (SIDE, SIDE, None))
    policy = make_policy(pipelines.qwen_image_edit(), max_sequence_length=2 * LENGTH, resolution=SIDE)
    noise = torch.randn(2, *policy.latent_shape, generator=torch.Generator().manual_seed(1))
    settings = {"num_inference_steps": 4, "true_cfg_scale": guidance, "output_type": "pt", "height": SIDE, "width": SIDE}
    picture = Image.open(folder / "a.png")
    theirs = [
        policy.pipeline(image=picture, prompt=text, negative_prompt="", latents=pack(row[None]), **settings).images
        for text, row in zip(TEXTS, noise, strict=True)
    ]
    times = policy.pipeline.scheduler.sigmas.double()
    cond = policy.encode_prompts([Prompt(text=text, image=folder / "a.png") for text in TEXTS])
    assert cond.sequence.shape == policy.blank_text(2).sequence.shape
    ours = policy.decode(draw_latents(policy, cond, noise, solver="euler", times=times, guidance=guidance))
    assert torch.allclose(ours, torch.cat(theirs).float(), atol=2e-3)


def test_more_edits_than_the_cache_holds_are_encoded(folder, monkeypatch):
    prompts = [Prompt(text=text, image=folder / name) for name in ("a.png", "b.png") for text in TEXTS]
    whole = policy_of(folder).encode_prompts(prompts)
    monkeypatch.setattr("vgrpo.models.policy.CACHE_BYTES", 1)
    policy = policy_of(folder)
    for _ in range(2):
        cond = policy.encode_prompts(prompts)
        assert torch.equal(cond.sequence, whole.sequence)
        assert torch.equal(cond.image, whole.image)


def test_a_run_trains_qwen_with_guidance(folder, tmp_path):
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2, guidance=2.0)
    config = tiny_config(tmp_path / "run", num_iterations=1, max_sequence_length=LENGTH, resolution=SIDE, rollout=rollout)
    pipeline, prompts = pipelines.qwen_image_edit(), read_prompts(folder / "edits.jsonl")
    result = train(config, pipeline=pipeline, reward=red, prompts=prompts, quiet=True)
    assert any(value.any() for key, value in result.pipeline.transformer.state_dict().items() if "lora_B" in key)


def test_a_run_trains_on_a_file_of_edits_and_rewards_receive_the_source(folder, tmp_path):
    seen = set()

    def kept(images, prompts):
        seen.update(prompt.image.name for prompt in prompts)
        sources = torch.stack([from_pil(open_picture(prompt.image, (SIDE, SIDE))) for prompt in prompts])
        return red(images, prompts) - (images.cpu() - sources).square().mean((1, 2, 3))

    settings = {"model": str(folder / "kontext"), "num_iterations": 1, "max_sequence_length": LENGTH, "resolution": SIDE}
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2, guidance=2.5)
    config = tiny_config(tmp_path / "run", prompts=str(folder / "edits.jsonl"), rollout=rollout, ema_decay=0.0, **settings)
    pipeline = load_pipeline(str(folder / "kontext"))
    result = train(config, pipeline=pipeline, reward=kept, quiet=True)
    assert seen == {"a.png", "b.png"}
    drawn_again = read_prompts(tmp_path / "run/samples/000001/prompts.jsonl")
    assert {prompt.identity for prompt in drawn_again} == {prompt.identity for prompt in read_prompts(folder / "edits.jsonl")}
    tuned, fresh = policy_of(folder), policy_of(folder)
    tuned.pipeline.load_lora_weights(tmp_path / "run/lora")
    own = result.pipeline.transformer.state_dict()
    for key, value in fresh.module.state_dict().items():
        layer, _, part = key.rpartition(".")
        assert torch.equal(value, own.get(key, own.get(f"{layer}.base_layer.{part}")))
    prompts = read_prompts(folder / "edits.jsonl")
    noise = torch.randn(2, *fresh.latent_shape, generator=torch.Generator().manual_seed(1))
    (_, before), (_, after) = (
        draw_images(policy, prompts, noise, Sampling(solver="euler", num_steps=2)) for policy in (fresh, tuned)
    )
    assert not torch.allclose(before, after, atol=1e-6)


def test_a_prompt_without_a_source_is_refused_at_the_start(folder, tmp_path):
    settings = {"model": str(folder / "kontext"), "max_sequence_length": LENGTH, "resolution": SIDE}
    with pytest.raises(
        ValueError, match="FluxKontextPipeline edits a picture, and 2 of 2 prompts have none; the first is 'a r"
    ):
        train(tiny_config(tmp_path / "run", **settings), reward=red, prompts=TEXTS, quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_prompt_cache_leaves_the_encoders_of_edits_where_they_are(folder, tmp_path):
    memory = MemoryConfig(prompt_cache=tmp_path / "texts")
    settings = {"model": str(folder / "kontext"), "max_sequence_length": LENGTH, "resolution": SIDE, "memory": memory}
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2)
    config = tiny_config(tmp_path / "run", prompts=str(folder / "edits.jsonl"), rollout=rollout, **settings)
    run = start_run(config, Given(reward=red))
    assert not next(run.policy.pipeline.text_encoder.parameters()).is_meta
    run.close()


def test_sample_and_eval_take_a_source(folder, tmp_path, capsys):
    (tmp_path / "prompts.txt").write_text("a red heart\n")
    options = f"--model {folder}/kontext --resolution {SIDE} --max-sequence-length {LENGTH} --precision fp32"
    line = f"sample {options} --prompts {tmp_path}/prompts.txt --num-images 1 --num-steps 2 --output-dir {tmp_path}/out"
    assert main(line.split()) == 1
    assert "Give a file of prompts with a field `image`" in capsys.readouterr().err
    assert main([*line.split(), "--image", f"{folder}/missing.png"]) == 1
    assert "--image: no file" in capsys.readouterr().err
    pictures = []
    for name in ("a.png", "b.png"):
        assert main([*line.split(), "--image", f"{folder}/{name}"]) == 0
        pictures.append(Image.open(tmp_path / "out/00000_00.png").tobytes())
    assert pictures[0] != pictures[1]
    line = f"eval {options} --prompts {folder}/edits.jsonl --reward jpeg_compressibility --output-dir {tmp_path}/eval"
    assert main([*line.split(), "--eval.num-images", "1", "--eval.num-steps", "2"]) == 0
    assert len(list(tmp_path.glob("eval/images/base/*.png"))) == 2


def test_an_image_column_is_checked_from_the_files_folder_on(folder, tmp_path):
    prompts = read_prompts(folder / "edits.jsonl")
    assert [prompt.image for prompt in prompts] == [folder / "a.png", folder / "b.png"]
    assert prompts[0].metadata["image"] == str(folder / "a.png")
    (tmp_path / "edits.csv").write_text("prompt,image\nmake it red,missing.png\n")
    with pytest.raises(ValueError, match=r"edits.csv, line 2: `image`: no file .*missing.png; correct the path"):
        read_prompts(tmp_path / "edits.csv")
    (tmp_path / "addresses.jsonl").write_text('{"prompt": "a cat", "image": "https://example.com/cat.png"}\n')
    (prompt,) = read_prompts(tmp_path / "addresses.jsonl")
    assert (prompt.image, prompt.metadata["image"]) == (None, "https://example.com/cat.png")
    (tmp_path / "missing.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"missing.png is not a picture that can be read"):
        read_prompts(tmp_path / "edits.csv")


def test_a_data_sets_own_pictures_become_files(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "PICTURES", tmp_path / "kept")
    content = {"bytes": (folder / "a.png").read_bytes(), "path": None}
    rows = {"prompt": TEXTS, "image": [content, None]}
    Dataset.from_dict(rows, Features(prompt=Value("string"), image=Picture())).to_parquet(tmp_path / "edits.parquet")
    first, second = read_prompts(tmp_path / "edits.parquet")
    assert open_picture(first.image).tobytes() == Image.open(folder / "a.png").tobytes()
    assert first.image.parent == tmp_path / "kept"
    assert second.image is None


def test_a_captioned_sets_pictures_stay_there_for_a_model_that_edits_none(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "PICTURES", tmp_path / "kept")
    content = {"bytes": (folder / "a.png").read_bytes(), "path": None}
    rows = {"prompt": [f"a cat, number {number}" for number in range(20)], "image": [content] * 20}
    Dataset.from_dict(rows, Features(prompt=Value("string"), image=Picture())).to_parquet(tmp_path / "captions.parquet")
    config = Config(prompts=str(tmp_path / "captions.parquet"), eval_prompts=str(tmp_path / "captions.parquet"))
    found = run_prompts(config, pipeline=pipelines.flux())
    assert len(found.listed) == 40
    assert not any(prompt.image for prompt in found.listed)
    line = f"sample --model sprites --prompts {config.prompts} --num-images 1 --num-steps 1 --output-dir {tmp_path}/out"
    assert main(line.split()) == 0
    assert not (tmp_path / "kept").exists()
    assert run_prompts(config, pipeline=pipelines.flux_kontext()).listed[0].image.parent == tmp_path / "kept"


def test_a_picture_of_another_shape_is_cut_around_its_middle(tmp_path):
    picture = torch.zeros(3, 8, 16)
    picture[:, :, 4:12] = 1
    to_pil(picture).save(tmp_path / "wide.png")
    assert open_picture(tmp_path / "wide.png", (8, 8)).getextrema() == ((255, 255),) * 3


def test_a_reward_abstains_from_a_text_with_a_source_and_not_from_all_of_the_text(folder):
    prompts = [Prompt(text="same", image=folder / name) for name in ("a.png", "b.png")]
    scores = judge_images(lambda images, prompts: torch.tensor([float("nan"), 1.0]), torch.rand(2, 3, 4, 4), prompts)
    assert scores.failed.tolist() == [False, False]


def test_an_off_loaded_encoder_comes_once_for_all_edits(folder):
    policy = make_policy(pipelines.qwen_image_edit(), max_sequence_length=2 * LENGTH, resolution=SIDE)
    policy.offload_encoders, moves = True, []
    policy.pipeline.text_encoder.to = lambda device: moves.append(str(device))
    prompts = [Prompt(text=text, image=folder / name) for name in ("a.png", "b.png") for text in TEXTS]
    policy.encode_prompts(prompts)
    calls = 2 * len(prompts)  # each with its text and without
    assert len(moves) == calls + 1  # every call asks for it, and it goes once, in the end


def test_one_instruction_on_many_pictures_holds_pictures_out(tmp_path):
    names = [f"{number:02d}.png" for number in range(20)]
    prompts = [Prompt(text="make it red", image=tmp_path / name) for name in names * 2]
    trained, held_out = split_off(prompts, 3)
    assert (len(trained), len(held_out)) == (34, 3)
    assert not {prompt.image for prompt in trained} & {prompt.image for prompt in held_out}
    again = [Prompt(text="make it red", image=tmp_path / "elsewhere" / name) for name in names]
    assert {prompt.image.name for prompt in split_off(again, 3)[1]} == {prompt.image.name for prompt in held_out}
