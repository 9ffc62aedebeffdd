"""Where a LoRA's alpha is read from, which file of a folder is taken, and what is refused."""

import json
import math

import pytest
import torch
from helpers import pipelines
from safetensors.torch import save_file

from vgrpo.models.loading import make_policy
from vgrpo.models.lora import read_init
from vgrpo.models.lora_files import METADATA, WEIGHTS, lora_file
from vgrpo.models.lora_reading import DOWN, UP, ForeignKeysError, read_adapter
from vgrpo.models.settings import LoraConfig

LAYER = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_q"
RANK = 4


@pytest.fixture(scope="module")
def policy():
    return make_policy(pipelines.stable_diffusion())


@pytest.fixture(scope="module")
def pair(policy):
    rows, columns = policy.module.get_submodule(LAYER).weight.shape
    generator = torch.Generator().manual_seed(0)
    return torch.randn(RANK, columns, generator=generator), torch.randn(rows, RANK, generator=generator)


def strength(policy, path, pair):
    """How often the file's product is that of its matrices."""
    adapter = read_adapter(policy, path, "--lora")
    ratio = (adapter[LAYER + UP] @ adapter[LAYER + DOWN]) / (pair[1] @ pair[0])
    assert torch.allclose(ratio, ratio.mean(), rtol=1e-3)
    return ratio.mean().item()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (None, 1.0),
        ({"unet.r": RANK, "unet.lora_alpha": 16}, 4.0),
        ({"unet.r": RANK, "unet.lora_alpha": 16, "unet.use_rslora": True}, 8.0),
        ({"unet.lora_alpha": 16, "unet.alpha_pattern": {"attn1.to_q": 2}}, 0.5),
        ({"text_encoder.lora_alpha": 16}, 1.0),
    ],
)
def test_alpha_in_the_metadata_of_diffusers(policy, pair, tmp_path, settings, expected):
    metadata = None if settings is None else {METADATA: json.dumps(settings)}
    save_file({f"unet.{LAYER}{DOWN}": pair[0], f"unet.{LAYER}{UP}": pair[1]}, tmp_path / WEIGHTS, metadata=metadata)
    assert math.isclose(strength(policy, tmp_path / WEIGHTS, pair), expected, rel_tol=1e-4)


def test_alpha_in_pefts_settings_and_in_kohyas_tensors(policy, pair, tmp_path):
    names = {f"base_model.model.{LAYER}{DOWN}": pair[0], f"base_model.model.{LAYER}{UP}": pair[1]}
    save_file(names, tmp_path / "adapter_model.safetensors")
    path = lora_file(tmp_path, "--lora")
    assert math.isclose(strength(policy, path, pair), 1.0, rel_tol=1e-4)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": RANK, "lora_alpha": 12}))
    assert math.isclose(strength(policy, path, pair), 3.0, rel_tol=1e-4)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"lora_alpha": 12, "use_dora": True}))
    with pytest.raises(ValueError, match="a DoRA"):
        read_adapter(policy, path, "--lora")
    base = "lora_unet_" + LAYER.replace(".", "_")
    kohya = {base + ".lora_down.weight": pair[0], base + ".lora_up.weight": pair[1], base + ".alpha": torch.tensor(1.0)}
    save_file(kohya, tmp_path / "theirs.safetensors")
    assert math.isclose(strength(policy, lora_file(tmp_path / "theirs.safetensors", "--lora"), pair), 0.25, rel_tol=1e-4)


def test_old_names_of_diffusers_are_read_by_its_own_loader(policy, pair, tmp_path):
    old = f"unet.{LAYER.rpartition('.')[0]}.processor.to_q_lora"
    save_file({f"{old}.down.weight": pair[0], f"{old}.up.weight": pair[1]}, tmp_path / WEIGHTS)
    assert math.isclose(strength(policy, tmp_path / WEIGHTS, pair), 1.0, rel_tol=1e-4)


def test_an_adapter_of_a_text_encoder_cannot_be_trained_on_and_is_named(policy, pair, tmp_path):
    encoder = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    state = {f"unet.{LAYER}{DOWN}": pair[0], f"unet.{LAYER}{UP}": pair[1]}
    save_file(state | {f"{encoder}{DOWN}": pair[0].clone(), f"{encoder}{UP}": pair[1].clone()}, tmp_path / WEIGHTS)
    with pytest.raises(ForeignKeysError, match=r"text_encoder\.text_model.*a part that is not trained"):
        read_init(policy, LoraConfig(rank=RANK, init=tmp_path))


def test_the_file_is_found_or_asked_for(tmp_path):
    for name in ("a.safetensors", "b.safetensors", "c.pt"):
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(ValueError, match=r"--lora .*: 2 files of safetensors; name one"):
        lora_file(tmp_path, "--lora")
    with pytest.raises(ValueError, match="others are pickles"):
        lora_file(tmp_path / "c.pt", "--lora")
    (tmp_path / "b.safetensors").unlink()
    assert lora_file(tmp_path, "--lora") == tmp_path / "a.safetensors"
