"""Weights that are no numbers are refused once they are loaded, with the part and the tensor named."""

import math

import pytest
import torch
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file, save_file

from vgrpo import train
from vgrpo.commands.main import main
from vgrpo.models.finite import first_not_finite
from vgrpo.models.loading import load_policy
from vgrpo.models.lora_files import WEIGHTS
from vgrpo.models.settings import LoraConfig, ModelSettings
from vgrpo.training.start import Given, start_run

PLACES = [
    ("transformer", "transformer_blocks.0.attn.to_q.weight"),
    ("text_encoder_2", "text_model.final_layer_norm.bias"),
    ("vae", "decoder.0.weight"),
]


def spoil(pipeline, part, name, number):
    tensor = pipeline.components[part].state_dict()[name]
    tensor.view(-1)[-1] = number


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("part", "name"), PLACES)
def test_a_models_part_and_tensor_are_named(tmp_path, part, name, number):
    pipeline = tiny_pipeline()
    spoil(pipeline, part, name, number)
    message = f"the weights of {part} hold NaN or infinite numbers, first in .*{name.rpartition('.')[0]}"
    with pytest.raises(ValueError, match=message):
        load_policy(ModelSettings(), pipeline)
    with pytest.raises(ValueError, match=message):
        start_run(tiny_config(tmp_path / "run"), Given(pipeline=pipeline, reward=red, prompts=PROMPTS))
    pipeline.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=message):
        load_policy(ModelSettings(model=str(tmp_path / "model"), precision="fp32"))


def test_both_commands_say_it_in_one_line(tmp_path, capsys):
    pipeline = tiny_pipeline()
    spoil(pipeline, *PLACES[0], math.nan)
    pipeline.save_pretrained(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("a red heart\n")
    for command in ("train", f"sample --prompts {tmp_path}/prompts.txt"):
        assert main(f"{command} --model {tmp_path}/model --output-dir {tmp_path}/{command[:5]}".split()) == 1
        *_, last = capsys.readouterr().err.splitlines()
        assert f"vgrpo {command.split()[0]}: the weights of transformer hold NaN" in last
        assert "transformer_blocks.0.attn.to_q.weight" in last


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_a_loras_tensor_is_named(tmp_path, number):
    train(tiny_config(tmp_path / "a", num_iterations=1), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    path = tmp_path / "a/lora" / WEIGHTS
    state = load_file(path)
    name = sorted(state)[3]
    state[name].view(-1)[0] = number
    save_file(state, path)
    with pytest.raises(ValueError, match=f"--lora {path}: NaN or infinite numbers, first in {name}"):
        load_policy(ModelSettings(), tiny_pipeline(), tmp_path / "a/lora")
    going_on = tiny_config(tmp_path / "b", lora=LoraConfig(rank=4, alpha=8, init=tmp_path / "a/lora"))
    with pytest.raises(ValueError, match=f"lora.init {path}: NaN or infinite numbers, first in {name}"):
        start_run(going_on, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))


def test_large_but_finite_numbers_are_numbers():
    large = torch.full((8,), 3e38)
    assert first_not_finite([("a", large), ("b", torch.full((9,), 6e4).half()), ("c", torch.ones(2, dtype=torch.long))]) is None
    assert first_not_finite([("a", large), ("b", torch.tensor([1.0, math.inf]).bfloat16())]) == "b"
    assert first_not_finite([("a", torch.tensor([math.inf, -math.inf]))]) == "a"
    assert first_not_finite([]) is None
    assert first_not_finite([("a", torch.empty(2, device="meta"))]) is None
