"""Going on from any saved adapter."""

import dataclasses

import pytest
import torch
from helpers.curricula import same, velocity, weights_of
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline

from vgrpo import VGRPO, train
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.settings import LoraConfig
from vgrpo.objectives import DiffusionNFT
from vgrpo.training.start import Given, start_run


def test_a_run_goes_on_from_a_saved_adapter_exactly(tmp_path):
    first = train(tiny_config(tmp_path / "a"), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    going_on = tiny_config(
        tmp_path / "b", lora=LoraConfig(rank=4, alpha=8, init=tmp_path / "a/lora"), objective=VGRPO(ref_weight=1.0)
    )
    run = start_run(going_on, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))
    assert same(weights_of(first.pipeline), weights_of(run.policy.pipeline))
    assert same(weights_of(first.pipeline), run.average.values)
    assert torch.equal(velocity(first.pipeline), velocity(run.policy.pipeline))
    with run.weight_set("ref"):  # the untrained model, not the run's start
        assert torch.equal(velocity(tiny_pipeline()), velocity(run.policy.pipeline))
    assert not torch.equal(velocity(first.pipeline), velocity(tiny_pipeline()))
    assert not run.optimizer.inner.state


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank": 8}, "has rank 4, not 8: give --lora.rank 4"),
        ({"targets": ("to_q",)}, "other layers"),
    ],
)
def test_an_adapter_of_another_form_is_refused(tmp_path, changes, message):
    train(tiny_config(tmp_path / "a", num_iterations=1), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    lora = LoraConfig(**({"rank": 4, "alpha": 8, "init": tmp_path / "a/lora"} | changes))
    with pytest.raises(ValueError, match=message):
        start_run(tiny_config(tmp_path / "b", lora=lora), Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))


def test_another_alpha_is_made_up_for_in_the_weights(tmp_path):
    """The file has full strength, so alpha / rank of the new run is divided out."""
    first = train(
        tiny_config(tmp_path / "a", num_iterations=1), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True
    )
    lora = LoraConfig(rank=4, alpha=2, init=tmp_path / "a/lora")
    run = start_run(tiny_config(tmp_path / "b", lora=lora), Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))
    assert torch.equal(velocity(first.pipeline), velocity(run.policy.pipeline))


def test_a_second_call_trains_on_the_adapter_that_the_pipeline_has(tmp_path):
    given = {"reward": red, "prompts": PROMPTS, "quiet": True}
    first = train(tiny_config(tmp_path / "a", num_iterations=1), pipeline=tiny_pipeline(), **given)
    weights, drawn = weights_of(first.pipeline), velocity(first.pipeline)
    run = start_run(tiny_config(tmp_path / "b"), Given(pipeline=first.pipeline, reward=red, prompts=PROMPTS))
    assert same(weights, weights_of(run.policy.pipeline))
    assert torch.equal(drawn, velocity(run.policy.pipeline))
    run.close()
    again = train(tiny_config(tmp_path / "c", num_iterations=1), pipeline=first.pipeline, **given)
    assert not same(weights, weights_of(again.pipeline))
    fresh = tiny_pipeline()
    fresh.load_lora_weights(tmp_path / "c/lora")  # what was learned in both calls
    assert torch.allclose(velocity(fresh), velocity(again.pipeline), atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora": LoraConfig(rank=2, alpha=4)}, "it has rank 4, not lora.rank=2"),
        ({"lora": LoraConfig(rank=4, targets=("ff.net.2",))}, "on other layers than lora.targets names"),
        ({"finetune": "full"}, "trained apart from its layers"),
    ],
)
def test_an_active_adapter_of_another_form_is_refused_with_the_way_out_and_stays(tmp_path, changes, message):
    policy = make_policy(tiny_pipeline(), max_sequence_length=0)
    add_lora(policy, LoraConfig(rank=4), 0)
    before = set(policy.module.state_dict())
    with pytest.raises(ValueError, match=rf"active LoRA.*{message}.*unload_lora_weights\(\)|{message}.*unload"):
        start_run(tiny_config(tmp_path / "a", **changes), Given(pipeline=policy.pipeline, reward=red, prompts=PROMPTS))
    assert set(policy.module.state_dict()) == before


def test_old_weights_that_lag_begin_at_the_adapter(tmp_path):
    train(tiny_config(tmp_path / "a", num_iterations=1), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    lora = LoraConfig(rank=4, alpha=8, init=tmp_path / "a/lora")
    going_on = tiny_config(tmp_path / "b", lora=lora, objective=DiffusionNFT())
    run = start_run(going_on, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))
    assert same(weights_of(run.policy.pipeline), run.copies["old"].values)
    assert "ref" not in run.copies  # the model below the adapter
    assert any(value.any() for value in run.copies["old"].values.values())


def test_an_adapter_that_is_not_there_is_refused_before_a_folder_is_made(tmp_path):
    config = tiny_config(tmp_path / "b", lora=LoraConfig(init=tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match="give a run's lora/ folder"):
        start_run(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))
    assert not (tmp_path / "b").exists()
    with pytest.raises(ValueError, match="trains none"):
        dataclasses.replace(config, finetune="full")


def test_a_damaged_adapter_is_refused_before_a_folder_is_made(tmp_path):
    train(tiny_config(tmp_path / "a", num_iterations=1), pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
    config = tiny_config(tmp_path / "b", lora=LoraConfig(rank=4, alpha=8, init=tmp_path / "a/lora"))
    path = tmp_path / "a/lora/pytorch_lora_weights.safetensors"
    whole = path.read_bytes()
    for content in (whole[:-9], b"no weights", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf"lora.init {path}: damaged \(.*\); copy it again"):
            start_run(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS))
    assert not (tmp_path / "b").exists()
