"""A pipeline that the package does not know, trained with an adapter from outside of it."""

import sys
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import AuraFlowPipeline, AuraFlowTransformer2DModel, FlowMatchEulerDiscreteScheduler
from helpers import text_encoders
from helpers.pipelines import _shaken, autoencoder
from helpers.text_encoders import TEXT_WIDTH
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import train
from vgrpo.analysis.plan.job import measure_job
from vgrpo.commands.main import main
from vgrpo.models.adapters.sd3 import SD3Policy
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.policy import Policy
from vgrpo.models.supported import check_model
from vgrpo.training.settings.config import RolloutConfig

MODULE = """
from dataclasses import dataclass

from vgrpo.core.types import Cond
from vgrpo.models.policy import Policy


@dataclass(kw_only=True)
class AuraFlowPolicy(Policy):
    lora_targets = ("to_q", "to_k", "to_v", "to_out.0")

    @property
    def latent_shape(self):
        config = self.pipeline.transformer.config
        side = self.resolution // self.pipeline.vae_scale_factor if self.resolution else config.sample_size
        return config.in_channels, side, side

    def blank_text(self, rows):
        return Cond(sequence=self.blank(rows, self.num_text_tokens, self.pipeline.transformer.config.joint_attention_dim))

    def encode_texts(self, texts):
        sequence, *_ = self.pipeline.encode_prompt(
            texts, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
        )
        return Cond(sequence=sequence)

    def predict(self, x_t, t, cond, guidance):
        dtype = cond.sequence.dtype
        return self.pipeline.transformer(
            x_t.to(dtype), encoder_hidden_states=cond.sequence, timestep=t.to(dtype), return_dict=False
        )[0]


class Half(Policy):
    pass


NUMBER = 3
"""


def aura_flow():
    torch.manual_seed(0)
    text_encoder, tokenizer = text_encoders.umt5()
    transformer = AuraFlowTransformer2DModel(
        sample_size=8,
        num_mmdit_layers=1,
        num_single_dit_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=TEXT_WIDTH,
        caption_projection_dim=TEXT_WIDTH,
        pos_embed_max_size=64,
    )
    pipeline = AuraFlowPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=autoencoder(4),
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
    )
    return _shaken(pipeline, "transformer")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "aura"
    aura_flow().save_pretrained(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("outside.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("outside", None)


def job(path, folder, **changes):
    settings = {"max_sequence_length": 8, "num_iterations": 1, "adapter": "outside:AuraFlowPolicy"}
    rollout = RolloutConfig(num_prompts=1, group_size=2, num_steps=2, guidance=2.0)
    return tiny_config(path, model=str(folder), rollout=rollout, **(settings | changes))


def test_it_trains_from_a_folder_and_from_memory(here, folder):
    for name, pipeline in (("folder", None), ("memory", aura_flow())):
        result = train(job(here / name, folder), pipeline=pipeline, reward=red, prompts=PROMPTS, quiet=True)
        saved = yaml.safe_load((here / name / "config.yaml").read_text())
        assert saved["adapter"] == "outside:AuraFlowPolicy"
        assert any(value.any() for key, value in result.pipeline.transformer.state_dict().items() if "lora_B" in key)
        tuned = load_pipeline(str(folder), adapter="outside:AuraFlowPolicy")
        tuned.load_lora_weights(here / name / "lora")


def test_every_command_takes_it(here, folder, capsys):
    Path("prompts.txt").write_text("a red heart\n")
    options = f"--model {folder} --adapter outside:AuraFlowPolicy --max-sequence-length 8"
    assert main(f"sample --prompts prompts.txt --output-dir out --num-images 1 --num-steps 1 {options}".split()) == 0
    assert Path("out/00000_00.png").is_file()
    assert measure_job(job(here / "plan", folder)).num_trained > 0
    assert main(f"sample --prompts prompts.txt --output-dir out --model {folder}".split()) == 1
    assert "is a AuraFlowPipeline; supported are" in capsys.readouterr().err


def test_a_class_in_python_will_do(here, folder):
    from vgrpo.support.dotted import load_dotted

    cls = load_dotted("outside:AuraFlowPolicy", "adapter")
    policy = make_policy(load_pipeline(str(folder), adapter=cls), adapter=cls)
    assert type(policy) is cls
    with pytest.raises(TypeError, match="give your own, --adapter my_file:MyPolicy"):
        make_policy(policy.pipeline)


def test_an_own_adapter_goes_before_ours():
    class Mine(SD3Policy):
        pass

    assert type(make_policy(tiny_pipeline(), adapter=Mine)) is Mine


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        ("outside:NUMBER", "adapter outside:NUMBER: not a subclass of vgrpo.models.policy.Policy"),
        ("outside:Half", "the class leaves out blank_text, encode_texts, latent_shape, predict"),
        ("outside:Nothing", "has no Nothing"),
        ("nowhere_at_all:A", "is nowhere_at_all.py in this folder"),
        ("outside", "give it as my_file:my_adapter"),
        (Policy, "the class leaves out"),
    ],
)
def test_what_is_no_adapter_is_said_before_anything_is_loaded(here, folder, adapter, message):
    with pytest.raises(ValueError, match=message):
        check_model(str(folder), adapter)
