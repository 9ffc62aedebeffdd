"""A model's folder that was copied in part, or damaged: what is wrong is named before a run's folder is made."""

import shutil

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo.commands.main import main
from vgrpo.models.loading import load_pipeline
from vgrpo.models.supported import model_folder
from vgrpo.training.start import Given, start_run


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "whole"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("transformer/diffusion_pytorch_model.safetensors", "the weights of transformer/"),
        ("text_encoder/model.safetensors", "the weights of text_encoder/"),
        ("vae/config.json", "vae/config.json"),
        ("vae", "the folder vae/"),
        ("tokenizer", "the folder tokenizer/"),
        ("scheduler", "the folder scheduler/"),
    ],
)
def test_a_part_that_is_missing_is_named(folder, tmp_path, lost, message):
    path = folder / lost
    path.unlink() if path.is_file() else shutil.rmtree(path)
    with pytest.raises(FileNotFoundError, match=f"--model {folder}: {folder} lacks {message}; copy what is missing there"):
        start_run(tiny_config(tmp_path / "run", model=str(folder)), Given(reward=red, prompts=PROMPTS))
    assert not (tmp_path / "run").exists()
    with pytest.raises(FileNotFoundError, match=f"lacks {message}"):
        load_pipeline(str(folder))


def test_a_lost_shard_is_missing_weights(folder):
    part = folder / "transformer"
    (part / "diffusion_pytorch_model.safetensors").rename(part / "diffusion_pytorch_model-00001-of-00002.safetensors")
    index = part / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text('{"weight_map": {"x": "diffusion_pytorch_model-00002-of-00002.safetensors"}}')
    with pytest.raises(FileNotFoundError, match="lacks the weights of transformer/"):
        load_pipeline(str(folder))
    index.write_text("{")
    with pytest.raises(ValueError, match=f"{index}: not JSON"):
        load_pipeline(str(folder))


@pytest.mark.parametrize("part", ["text_encoder/model", "transformer/diffusion_pytorch_model"])
def test_damaged_weights_are_one_clear_error(folder, part, capsys):
    path = folder / f"{part}.safetensors"
    path.write_bytes(path.read_bytes()[:-9])
    assert main(f"train --model {folder} --output-dir {folder}/run".split()) == 1
    said = capsys.readouterr().err
    assert str(folder) in said
    assert "weights" in said


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"_class_name": "caf\xe9"}', b""])
def test_an_index_that_is_none_is_named(folder, content):
    (folder / "model_index.json").write_bytes(content)
    with pytest.raises(ValueError, match=f"{folder}/model_index.json: not (a )?JSON"):
        model_folder(str(folder))


def test_weights_in_half_precision_alone_are_a_model(tmp_path):
    pipeline = tiny_pipeline().to(dtype=torch.float16)
    pipeline.save_pretrained(tmp_path / "half", variant="fp16")
    assert (tmp_path / "half/transformer/diffusion_pytorch_model.fp16.safetensors").is_file()
    loaded = load_pipeline(str(tmp_path / "half")).transformer.state_dict()
    assert all(torch.equal(value, loaded[name].half()) for name, value in pipeline.transformer.state_dict().items())
    (tmp_path / "half/text_encoder/model.fp16.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="lacks the weights of text_encoder/"):
        load_pipeline(str(tmp_path / "half"))


def test_weights_in_several_files_are_a_model(tmp_path):
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "whole", max_shard_size="200KB")
    assert len(list((tmp_path / "whole/transformer").glob("*-of-*.safetensors"))) > 1
    loaded = load_pipeline(str(tmp_path / "whole")).transformer.state_dict()
    assert all(torch.equal(value, loaded[name]) for name, value in pipeline.transformer.state_dict().items())
