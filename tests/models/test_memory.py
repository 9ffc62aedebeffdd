"""What lets a large model fit changes neither the images nor the gradient."""

import json
import weakref
from dataclasses import replace

import pytest
import torch
from helpers import pipelines
from helpers.tiny import PROMPTS, red, tiny_config, tiny_pipeline
from safetensors.torch import load_file

from vgrpo import train
from vgrpo.core.processes import Alone
from vgrpo.models.encoders import in_turn
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.memory import fit
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.text_store import text_encoders
from vgrpo.models.weight_sets import WeightCopy, trainable
from vgrpo.objectives import VGRPO
from vgrpo.training.loop import iterate
from vgrpo.training.record.events import Events, PhaseAdvanced
from vgrpo.training.settings.config import RolloutConfig
from vgrpo.training.start import Given, start_run
from vgrpo.training.tasks.prompts import main_prompts
from vgrpo.training.tasks.texts import encode_ahead

KINDS = {"sd3": tiny_pipeline, "sdxl": pipelines.sdxl, "flux": pipelines.flux}


def policy_of(name, **settings):
    return make_policy(KINDS[name](), max_sequence_length=16, resolution=64 if name == "sd3" else 16, **settings)


def forbid_encoding(policy):
    for encoder in text_encoders(policy.pipeline):
        encoder.forward = None


@pytest.mark.parametrize("name", KINDS)
def test_prompts_are_encoded_once_for_all_runs(name, tmp_path):
    first, second = policy_of(name), policy_of(name)
    for policy in (first, second):
        fit(policy, MemoryConfig(prompt_cache=tmp_path))
    forbid_encoding(second)
    encoded, read = first.encode(PROMPTS), second.encode(PROMPTS)
    assert torch.equal(encoded.sequence, read.sequence)
    assert encoded.pooled is None or torch.equal(encoded.pooled, read.pooled)
    assert len(list(tmp_path.iterdir())) == len(PROMPTS)
    with pytest.raises(TypeError):
        second.encode(["a prompt that no run has seen"])


def test_copies_elsewhere_are_the_same_copies(tmp_path):
    """Of an old, an untrained and an averaged set of weights, and those of images drawn ahead."""
    weights = []
    for name, memory in (("here", MemoryConfig()), ("elsewhere", MemoryConfig(offload_copies=True))):
        rollout = RolloutConfig(num_prompts=2, group_size=4, num_steps=2, lag=1)
        objective = VGRPO(ref_weight=1.0, mirrored=True)
        config = tiny_config(tmp_path / name, memory=memory, rollout=rollout, objective=objective, num_iterations=3)
        train(config, pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS, quiet=True)
        weights.append(load_file(tmp_path / name / "lora" / "pytorch_lora_weights.safetensors"))
    here, elsewhere = weights
    assert all(torch.equal(value, elsewhere[name]) for name, value in here.items())


def test_copies_live_where_they_are_told_to():
    policy = policy_of("sd3")
    assert WeightCopy(policy.module, torch.device("meta")).values["pos_embed.proj.weight"].is_meta
    copy = WeightCopy(policy.module, policy.copies_device)
    for name, parameter in trainable(policy.module).items():
        assert torch.equal(copy.values[name], parameter)
        assert copy.values[name].data_ptr() != parameter.data_ptr()
    fit(policy, MemoryConfig(offload_copies=True))
    assert policy.copies_device == torch.device("cpu")


def test_a_run_encodes_its_prompts_before_its_first_iteration(tmp_path):
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2, guidance=2.0)
    config = tiny_config(tmp_path / "run", memory=MemoryConfig(prompt_cache=tmp_path / "texts"), rollout=rollout)
    heard = []
    run = start_run(config, Given(pipeline=tiny_pipeline(), reward=red, prompts=PROMPTS), events=Events([heard.append]))
    assert len(list((tmp_path / "texts").iterdir())) == len({"", *PROMPTS})
    assert PhaseAdvanced(name="encoding", done=0, total=len({"", *PROMPTS})) in heard
    run.policy._cache.clear()
    forbid_encoding(run.policy)
    iterate(run)
    run.close()


def test_other_encoders_or_lengths_do_not_share_prompts(tmp_path):
    keys = set()
    for length, change in ((16, 0.0), (8, 0.0), (16, 0.1)):
        policy = make_policy(pipelines.flux(), max_sequence_length=length, resolution=16)
        next(policy.pipeline.text_encoder_2.parameters()).data += change
        fit(policy, MemoryConfig(prompt_cache=tmp_path))
        keys.add(policy.store.key)
    assert len(keys) == 3


def test_each_of_several_processes_encodes_its_share(tmp_path):
    """Processes one after another, in the place of several at once."""

    class One(Alone):
        def __init__(self, rank):
            self.rank, self.size = rank, 2

    prompts = main_prompts(tiny_config(tmp_path / "run", held_out_prompts=0), PROMPTS)
    counts = []
    for rank in range(2):
        policy = policy_of("flux")
        fit(policy, MemoryConfig(prompt_cache=tmp_path / "texts"))
        encode_ahead(policy, prompts, 3, 2, Events(), One(rank))
        counts.append(len(list((tmp_path / "texts").iterdir())))
    assert counts[1] == len({"", *PROMPTS})
    assert 0 < counts[0] < counts[1]


@pytest.mark.parametrize("name", KINDS)
def test_unloaded_encoders_come_back_for_a_new_text_as_they_were(name, tmp_path):
    KINDS[name]().save_pretrained(tmp_path)
    policy = make_policy(load_pipeline(str(tmp_path)), max_sequence_length=16, resolution=64 if name == "sd3" else 16)
    before, num_tokens = policy.encode(PROMPTS), policy.num_text_tokens
    first = weakref.ref(next(policy.pipeline.text_encoder.parameters()))
    policy.unload_encoders()
    assert all(parameter.is_meta for encoder in text_encoders(policy.pipeline) for parameter in encoder.parameters())
    assert first() is None or first().is_meta
    assert policy.num_text_tokens == num_tokens
    assert torch.equal(policy.encode(PROMPTS).sequence, before.sequence)
    assert next(policy.pipeline.text_encoder.parameters()).is_meta
    policy._cache.clear()
    again = policy.encode(PROMPTS)
    assert torch.equal(again.sequence, before.sequence)
    assert again.pooled is None or torch.equal(again.pooled, before.pooled)


@pytest.mark.parametrize("finetune", ["lora", "full"])
def test_a_run_on_encoded_prompts_trains_without_encoders_and_gives_them_back(tmp_path, finetune):
    tiny_pipeline().save_pretrained(tmp_path / "model")
    rollout = RolloutConfig(num_prompts=2, group_size=2, num_steps=2)
    there = []
    for name, memory in (("with", MemoryConfig()), ("without", MemoryConfig(prompt_cache=tmp_path / "texts"))):
        config = tiny_config(tmp_path / name, model=str(tmp_path / "model"), memory=memory, rollout=rollout, finetune=finetune)
        run = start_run(config, Given(reward=red, prompts=PROMPTS))
        there.append(not next(run.policy.pipeline.text_encoder.parameters()).is_meta)
        run.close()
    assert there == [True, finetune == "full"]
    for name, memory in (("with", MemoryConfig()), ("without", MemoryConfig(prompt_cache=tmp_path / "texts"))):
        config = tiny_config(
            tmp_path / f"{name} run", model=str(tmp_path / "model"), memory=memory, rollout=rollout, finetune=finetune
        )
        pipeline = train(config, reward=red, prompts=PROMPTS, quiet=True).pipeline
        there.append(torch.cat([parameter.flatten() for parameter in pipeline.text_encoder.parameters()]))
        there.append(torch.cat([value.flatten() for value in trainable(pipeline.transformer).values()]))
    texts, weights, again, same = there[2:]
    assert torch.equal(texts, again)
    assert torch.equal(weights, same)


def test_encoders_come_for_the_text_and_go_again():
    policy = policy_of("sdxl")
    fit(policy, MemoryConfig(offload_encoders=True))
    moves = []
    for number, encoder in enumerate(text_encoders(policy.pipeline)):
        encoder.register_forward_pre_hook(lambda *_, number=number: moves.append((number, "encodes")))
        encoder.to = lambda device, number=number: moves.append((number, str(device)))
    policy.encode(PROMPTS)
    assert moves == [(number, what) for number in (0, 1) for what in ("encodes", "cpu", "cpu")]
    policy.encode(PROMPTS)
    assert len(moves) == 6


def test_an_encoder_that_fails_goes_back_too():
    """With torch's meta device in the place of a GPU."""

    class Failing(torch.nn.Linear):
        def forward(self, tokens):
            moved.append((tokens.device.type, self.weight.device.type))
            raise ValueError("no text")

    moved, encoder = [], Failing(2, 2)
    encoder.to = lambda device: moved.append(str(device))
    with pytest.raises(ValueError, match="no text"), in_turn([encoder], torch.device("meta")):
        encoder(torch.zeros(1, 2))
    assert moved == ["meta", ("meta", "cpu"), "cpu"]
    assert not encoder._forward_pre_hooks
    assert not encoder._forward_hooks


def test_recomputed_activations_train_alike(tmp_path):
    config = tiny_config(tmp_path / "plain", rollout=RolloutConfig(num_prompts=2, group_size=2, num_steps=2))
    saving = replace(config, output_dir=tmp_path / "saving", memory=MemoryConfig(gradient_checkpointing=True))
    weights, counts = [], []
    for each in (config, saving):
        pipeline = tiny_pipeline()
        calls = []
        pipeline.transformer.transformer_blocks[0].register_forward_pre_hook(lambda *_, calls=calls: calls.append(1))
        train(each, pipeline=pipeline, reward=red, prompts=PROMPTS, quiet=True)
        weights.append(load_file(each.output_dir / "lora/pytorch_lora_weights.safetensors"))
        counts.append(len(calls))
    assert counts[1] > counts[0]
    assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-5) for key in weights[0])
    lines = [(each.output_dir / "metrics.jsonl").read_text().splitlines() for each in (config, saving)]
    assert [json.loads(line)["reward/mean"] for line in lines[0]] == pytest.approx(
        [json.loads(line)["reward/mean"] for line in lines[1]], abs=1e-5
    )


def test_tiles_draw_nearly_the_same_picture():
    policy = policy_of("sdxl")
    x_0 = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    whole = policy.decode(x_0)
    fit(policy, MemoryConfig(vae_tiling=True))
    calls = []
    policy.pipeline.vae.decoder.register_forward_hook(lambda *_: calls.append(1))
    policy.pipeline.vae.tile_latent_min_size, policy.pipeline.vae.tile_sample_min_size = 16, 32
    assert policy.decode(x_0).shape == whole.shape
    assert len(calls) > 1


def test_what_an_architecture_lacks_is_named():
    with pytest.raises(ValueError, match=r"memory\.vae_tiling=True: a CellAutoencoder has none"):
        fit(policy_of("sd3"), MemoryConfig(vae_tiling=True))


def test_a_group_shares_the_row_of_its_text():
    policy = make_policy(tiny_pipeline(), max_sequence_length=16)
    a, b = (policy.encode([text]) for text in PROMPTS[:2])
    cond = policy.encode([PROMPTS[0]] * 3 + [PROMPTS[1]] * 2)
    assert (len(cond), len(cond.sequence)) == (5, 2)
    picked = cond[torch.tensor([4, 0])][:1]
    assert (len(picked), len(picked.sequence)) == (1, 2)
    assert torch.equal(picked.dense().sequence, b.sequence)
    dense = cond.dense()
    assert torch.equal(dense.sequence, torch.cat([a.sequence] * 3 + [b.sequence] * 2))
    assert torch.equal(dense.pooled, torch.cat([a.pooled] * 3 + [b.pooled] * 2))
    x_t, t = torch.randn(5, *policy.latent_shape, generator=torch.Generator().manual_seed(0)), torch.full((5,), 0.5)
    with torch.no_grad():
        assert torch.equal(policy.velocity(x_t, t, cond, 2.0), policy.velocity(x_t, t, dense, 2.0))


def test_the_cache_of_texts_has_a_bound_and_forgets_the_longest_unused(monkeypatch):
    policy = make_policy(tiny_pipeline(), max_sequence_length=16)
    size = policy.encode(["once"]).nbytes
    monkeypatch.setattr("vgrpo.models.policy.CACHE_BYTES", 3 * size)
    for text in ("a", "b", "once", "c"):
        policy.encode([text])
    assert list(policy._cache) == ["b", "once", "c"]
    many = [f"prompt {number}" for number in range(7)]
    assert len(policy.encode([*many, "once"])) == 8  # more than there is room for, and all are there
    assert list(policy._cache) == [*many[-2:], "once"]
    assert torch.equal(policy.encode(many[:1]).sequence, policy.encode_texts(many[:1]).sequence)
    held = {part.untyped_storage().nbytes() for cond in policy._cache.values() for part in (cond.sequence, cond.pooled)}
    assert sum(held) <= size  # a row of each, not the storage of all that were encoded with it
