"""Models from the hub: what is downloaded and when, and what is said when it cannot be."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import huggingface_hub
import pytest
import torch
from helpers import pipelines
from helpers.hub import COMMIT, serving, use_hub

from vgrpo.analysis.plan.figures import skeleton
from vgrpo.commands.main import main
from vgrpo.models.loading import load_pipeline
from vgrpo.models.published import HUB_IDS, PUBLISHED
from vgrpo.models.skeleton import from_folder
from vgrpo.models.supported import model_folder
from vgrpo.rewards.registry import load_reward
from vgrpo.training.settings.config import Config

SETTINGS = {"max_sequence_length": 16, "resolution": 16}


@pytest.fixture(scope="module")
def repositories(tmp_path_factory):
    """A model with the duplicates that repositories hold, a folder of another pipeline and one of none."""
    folder = tmp_path_factory.mktemp("repositories")
    pipelines.flux().save_pretrained(folder / "flux")
    (folder / "flux/everything-again.safetensors").write_bytes(b"x")
    (folder / "audio").mkdir()
    (folder / "audio/model_index.json").write_text('{"_class_name": "AudioLDMPipeline"}')
    (folder / "audio/weights.safetensors").write_bytes(b"x")
    (folder / "a14b").mkdir()
    parts = {name: ["diffusers", "WanTransformer3DModel"] for name in ("transformer", "transformer_2")}
    (folder / "a14b/model_index.json").write_text(json.dumps({"_class_name": "WanPipeline", "boundary_ratio": 0.875} | parts))
    (folder / "text").mkdir()
    (folder / "text/config.json").write_text("{}")
    shutil.copytree(folder / "flux", folder / "pickled")
    weights = folder / "pickled/transformer/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))
    shutil.copytree(folder / "flux", folder / "half")
    for path in (folder / "half").glob("*/*.safetensors"):
        path.rename(path.with_suffix(".fp16.safetensors"))
    shutil.copytree(folder / "flux", folder / "both")
    for path in (folder / "both").glob("*/*.safetensors"):
        path.with_suffix(".fp16.safetensors").write_bytes(b"x")
        path.with_name("flax_model.msgpack").write_bytes(b"x")
        path.with_name("code.py").write_bytes(b"x")
    return {f"tiny/{name}": folder / name for name in ("flux", "audio", "a14b", "text", "pickled", "half", "both")}


@pytest.fixture
def asked(repositories, tmp_path, monkeypatch):
    with serving(repositories, tmp_path / "cache", monkeypatch) as asked:
        yield asked


def weights_of(pipeline):
    parts = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
    return {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}


def offline(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_a_model_is_checked_then_sized_then_loaded_each_with_what_it_needs(asked, repositories, monkeypatch):
    model_folder("tiny/flux")
    assert asked == ["model_index.json"]
    skeleton = from_folder("tiny/flux", **SETTINGS)
    assert skeleton.latent_shape == from_folder(str(repositories["tiny/flux"]), **SETTINGS).latent_shape
    assert {path.rpartition("/")[2] for path in asked} == {"model_index.json", "config.json"}
    loaded, saved = (weights_of(load_pipeline(name)) for name in ("tiny/flux", str(repositories["tiny/flux"])))
    assert loaded.keys() == saved.keys()
    assert all(torch.equal(value, saved[key]) for key, value in loaded.items())
    assert "everything-again.safetensors" not in asked
    offline(monkeypatch)
    asked.clear()
    assert weights_of(load_pipeline("tiny/flux")).keys() == saved.keys()
    assert asked == []


def test_a_pipeline_that_cannot_be_trained_is_refused_by_its_index_alone(asked):
    with pytest.raises(ValueError, match=r"Wan 2\.2 A14B, whose two transformers"):
        load_pipeline("tiny/a14b")
    assert asked == ["model_index.json"]


def test_pickled_weights_are_refused_before_anything_large_comes(asked):
    with pytest.raises(ValueError, match=r"--model tiny/pickled: transformer/ holds its weights as .*\.bin"):
        load_pipeline("tiny/pickled")
    assert asked == ["model_index.json"]


@pytest.mark.parametrize("name", ["tiny/half", "tiny/both"])
def test_one_set_of_weights_comes_and_no_code(asked, repositories, name):
    loaded, saved = (weights_of(load_pipeline(each)) for each in (name, str(repositories["tiny/flux"])))
    assert all(torch.equal(value, saved[key]) for key, value in loaded.items())
    large = [path for path in asked if path.endswith((".safetensors", ".msgpack", ".py"))]
    assert len(large) == 4
    assert all(("fp16" in path) == (name == "tiny/half") and path.endswith(".safetensors") for path in large)


@pytest.mark.parametrize(
    "lost", ["transformer/diffusion_pytorch_model.safetensors", "text_encoder/config.json", "tokenizer/tokenizer.json"]
)
def test_a_download_that_was_broken_off_is_completed(asked, tmp_path, monkeypatch, lost):
    load_pipeline("tiny/flux")
    part = (tmp_path / "cache/models--tiny--flux/snapshots" / COMMIT / lost).parent
    for path in part.iterdir() if "tokenizer" in lost else [part / lost.rpartition("/")[2]]:
        path.resolve().unlink()
        path.unlink()
    offline(monkeypatch)
    with pytest.raises(FileNotFoundError, match="with a network run `hf download tiny/flux`"):
        load_pipeline("tiny/flux")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    asked.clear()
    load_pipeline("tiny/flux")
    assert lost in asked


def test_another_kind_of_pipeline_is_refused_before_its_weights_come(asked):
    with pytest.raises(ValueError, match="--model tiny/audio is a AudioLDMPipeline; supported are"):
        load_pipeline("tiny/audio")
    assert asked == ["model_index.json"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("train --model gated/model", "gated/model is gated: accept its licence on https://huggingface.co/gated/model, then"),
        ("train --model nobody/nothing", "neither a folder here nor a model on the hub"),
        ("train --model tiny/text", "holds no model_index.json, so this is not a diffusers pipeline"),
        ("plan --model gated/model", "log in with `hf auth login`"),
    ],
)
def test_what_the_hub_does_not_give(asked, capsys, line, message):
    assert main(line.split()) == 1
    assert message in capsys.readouterr().err
    assert asked == []


@pytest.mark.parametrize("name", ["pickscore", "hpsv2"])
def test_gated_weights_of_a_reward(asked, name):
    with pytest.raises(PermissionError, match=rf"reward {name}: gated/model is gated: .*/gated/model.*`hf auth login`"):
        load_reward(f"{name}=gated/model")


def test_without_a_network_the_model_its_size_and_the_command_are_named(tmp_path, monkeypatch, capsys):
    use_hub("http://127.0.0.1:9", tmp_path, monkeypatch)
    offline(monkeypatch)
    name = "stabilityai/stable-diffusion-3.5-medium"
    assert main(["train", "--model", name]) == 1
    said = capsys.readouterr().err
    assert f"--model {name}: neither a folder here nor whole in the hub's cache (15.8 GB of weights in bf16)" in said
    assert f"`hf download {name}`" in said
    assert main(["train", "--model", "nobody/nothing"]) == 1
    assert "GB" not in capsys.readouterr().err


@pytest.fixture
def refusing_proxy(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)  # which knows no method at all
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(name.upper(), "" if name == "no_proxy" else f"http://127.0.0.1:{server.server_port}")
    huggingface_hub.close_session()  # the client reads them when it is made
    yield
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()


def test_a_proxy_that_lets_nothing_through_is_no_network(refusing_proxy, tmp_path, monkeypatch, capsys):
    use_hub("https://hub.invalid", tmp_path, monkeypatch)
    assert main(["train", "--model", "nobody/nothing"]) == 1
    assert "with a network run `hf download nobody/nothing`" in capsys.readouterr().err
    for name in ("pickscore", "hpsv2"):
        with pytest.raises(FileNotFoundError, match="with a network run `hf download nobody/nothing"):
            load_reward(f"{name}=nobody/nothing")


def test_a_published_model_is_sized_by_its_hub_id_without_a_network(tmp_path, monkeypatch):
    use_hub("http://127.0.0.1:9", tmp_path, monkeypatch)
    offline(monkeypatch)
    assert set(HUB_IDS.values()) == set(PUBLISHED)
    by_id, by_name = (skeleton(Config(model=name)) for name in ("stable-diffusion-v1-5/stable-diffusion-v1-5", "sd15"))
    assert by_id.latent_shape == by_name.latent_shape
    assert {key: value.shape for key, value in by_id.module.state_dict().items()} == {
        key: value.shape for key, value in by_name.module.state_dict().items()
    }
