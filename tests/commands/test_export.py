"""`vgrpo export`: the files and the card of a run, from the command line."""

import json
import re

import pytest
import torch
import yaml
from helpers.curricula import velocity
from helpers.tiny import tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo import train
from vgrpo.commands.main import main
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.loading import load_pipeline
from vgrpo.pages.card import write_card
from vgrpo.training.settings.config import UpdateConfig

EVAL = EvalConfig(num_prompts=14, num_images=1, num_steps=2, num_sample_prompts=2, sample_every=100)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tiny"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "my_run"
    rewards = ("sprites", "jpeg_compressibility")
    train(tiny_config(folder, model=str(model), reward=rewards, eval=EVAL, update=UpdateConfig(lr=0.05)), quiet=True)
    return folder


@pytest.mark.parametrize(
    ("form", "file"),
    [
        ("diffusers", "pytorch_lora_weights.safetensors"),
        ("peft", "adapter_model.safetensors"),
        ("kohya", "my_run.safetensors"),
        ("comfyui", "my_run.safetensors"),
    ],
)
def test_each_form_has_its_file_and_a_card(run, capsys, form, file):
    assert main(["export", str(run), "--format", form, "--dtype", "bf16"]) == 0
    folder = run / f"export-{form}"
    assert capsys.readouterr().out.strip() == str(folder)
    assert {value.dtype for value in load_file(folder / file).values()} == {torch.bfloat16}
    card = (folder / "README.md").read_text()
    _, front, body = card.split("---\n", 2)
    assert yaml.safe_load(front)["base_model"].endswith("tiny")
    for part in (
        "| rewards | sprites, jpeg",
        "| algorithm | vgrpo |",
        "| strict | 0.",
        " to ",
        "pictures/after-01.png",
        "## Use",
    ):
        assert part in body
    assert {path.name for path in (folder / "pictures").iterdir()} == {
        f"{a}-0{i}.png" for a in ("before", "after") for i in (0, 1)
    }
    assert (folder / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()


def test_a_merged_pipeline_draws_what_the_adapter_draws(run, model, tmp_path):
    assert main(["export", str(run), "--merge", "--output-dir", str(tmp_path / "merged")]) == 0
    merged, tuned = load_pipeline(str(tmp_path / "merged")), load_pipeline(str(model))
    base = velocity(tuned)
    tuned.load_lora_weights(run / "lora")
    assert not hasattr(merged.transformer, "peft_config")
    assert torch.allclose(velocity(merged), velocity(tuned), atol=1e-5)
    assert not torch.allclose(velocity(merged), base, atol=1e-3)
    assert "from_pretrained" in (tmp_path / "merged/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "name the run's folder first"),
        ("{tmp}/none", "not a run's folder"),
        ("{run} --format kohya --merge", "with --merge no adapter is written"),
        ("{run} --format lycoris", "must be one of diffusers, comfyui, kohya, peft"),
        ("{run} --output-dir {run}/config.yaml", "is a file; name a folder"),
    ],
)
def test_mistakes_are_named(run, tmp_path, capsys, words, message):
    assert main(["export", *words.format(run=run, tmp=tmp_path).split()]) in (1, 2)
    assert message in capsys.readouterr().err


def test_names_in_a_card_are_no_markup(tmp_path):
    folder, target = tmp_path / "run", tmp_path / "card"
    folder.mkdir()
    target.mkdir()
    name = 'a"\n---\n[link](http://x) <b> | `code`'
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": name, "prompts": name, "reward": [name]}))
    write_card(folder, target, "use")
    lines = (target / "README.md").read_text().split("\n")
    end = lines.index("---", 1)
    assert yaml.safe_load("\n".join(lines[1:end]))["base_model"] == name
    body = "\n".join(lines[end:]).replace("`config.yaml`", "")
    assert not re.search(r"(?<!\\)[\[<`]", body)


@pytest.mark.parametrize(("reward", "shown"), [(["pickscore=folder"], True), (["pickscore", "clipscore"], False)])
def test_a_card_has_pickscore_at_the_scale_of_papers(tmp_path, reward, shown):
    folder, target = tmp_path / "run", tmp_path / "card"
    folder.mkdir()
    target.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({"model": "m", "reward": reward}))
    scores = {"base": {"reward": 0.8}, "tuned": {"reward": 0.9, "interval": {"reward": {"low": 0.85, "high": 0.95}}}}
    (folder / "eval.json").write_text(json.dumps(scores | {"num_images": 4, "num_prompts": 2}))
    write_card(folder, target, "use")
    text = (target / "README.md").read_text()
    assert "| reward | 0.800 | 0.900 (0.850 to 0.950) |" in text
    assert ("| reward x 26, as published | 20.800 | 23.400 (22.100 to 24.700) |" in text) == shown
