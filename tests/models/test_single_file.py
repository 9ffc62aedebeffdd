"""A checkpoint in one file becomes a folder with the same weights."""

import pytest
import torch
from helpers import pipelines
from safetensors.torch import load_file, save_file

from vgrpo.commands.main import main
from vgrpo.models.loading import load_pipeline


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A whole Z-Image, and its network alone in one file under the names that such files have."""
    folder = tmp_path_factory.mktemp("single")
    pipeline = pipelines.z_image()
    pipeline.save_pretrained(folder / "base")
    state = {}
    for key, value in pipeline.transformer.state_dict().items():
        for ours, theirs in {"all_final_layer.2-1.": "final_layer.", "all_x_embedder.2-1.": "x_embedder."}.items():
            key = key.replace(ours, theirs)
        key = key.replace(".attention.to_out.0.", ".attention.out.")
        key = key.replace(".attention.norm_q.", ".attention.q_norm.").replace(".attention.norm_k.", ".attention.k_norm.")
        if ".attention.to_q." in key:
            names = [key.replace("to_q", part) for part in ("to_q", "to_k", "to_v")]
            value = torch.cat([pipeline.transformer.state_dict()[name] for name in names])
            key = key.replace("to_q", "qkv")
        elif ".attention.to_k." in key or ".attention.to_v." in key:
            continue
        state[f"model.diffusion_model.{key}"] = (value + 0.5).contiguous()
    save_file(state, folder / "model.safetensors")
    return folder


def said(capsys, line, status=1):
    assert main(line.split()) == status
    return capsys.readouterr().err


def test_the_folder_has_the_files_network_and_the_bases_rest(base, capsys):
    line = f"convert {base}/model.safetensors --base {base}/base --output-dir {base}/made"
    assert main(line.split()) == 0
    made, own = load_pipeline(str(base / "made")), load_pipeline(str(base / "base"))
    for key, value in own.transformer.state_dict().items():
        assert torch.allclose(made.transformer.state_dict()[key], value + 0.5)
    assert all(torch.equal(made.vae.state_dict()[key], value) for key, value in own.vae.state_dict().items())
    assert made.tokenizer.get_vocab() == own.tokenizer.get_vocab()
    assert "is not empty; name a new folder" in said(capsys, line)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: {"a.weight": state.popitem()[1].to(torch.float8_e4m3fn)[None]}, "is quantised (F8_E4M3)"),
        (lambda state: dict(list(state.items())[:-9]), "leaves out weights of the transformer"),
        (lambda state: {key: value * float("nan") for key, value in state.items()}, "hold NaN or infinite numbers"),
        (
            lambda state: {key.replace("layers", "levels"): value for key, value in state.items()},
            "leaves out weights of the transformer",
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(base, tmp_path, capsys, change, message):
    save_file(change(load_file(base / "model.safetensors")), tmp_path / "model.safetensors")
    line = f"convert {tmp_path}/model.safetensors --base {base}/base --output-dir {tmp_path}/made"
    assert message in said(capsys, line)
    assert not (tmp_path / "made").exists()


def test_what_is_no_such_file_is_refused(base, tmp_path, capsys):
    (tmp_path / "model.ckpt").write_bytes(b"x")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    assert "is a pickle" in said(capsys, f"convert {tmp_path}/model.ckpt --base {base}/base --output-dir {tmp_path}/made")
    assert "not a file of safetensors" in said(capsys, f"convert {tmp_path}/model.safetensors --output-dir {tmp_path}/made")
    assert "no file" in said(capsys, f"convert {tmp_path}/none.safetensors --output-dir {tmp_path}/made")
    assert "name the file first" in said(capsys, f"convert --output-dir {tmp_path}/made", status=2)
    assert "is a file; make a folder of it once: vgrpo convert" in said(
        capsys, f"eval --model {base}/model.safetensors --output-dir {tmp_path}/out"
    )


def test_without_a_base_diffusers_names_one_which_needs_the_hub(base, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = said(capsys, f"convert {base}/model.safetensors --output-dir {tmp_path}/made")
    assert "Tongyi-MAI/Z-Image-Turbo: neither a folder here nor whole in the hub's cache" in error
