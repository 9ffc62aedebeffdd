"""Malformed indices, configs and adapters, by the hundred: each is answered by one line, and none is taken for a model."""

import json
import shutil
import string

import pytest
import torch
from helpers.tiny import tiny_pipeline
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.lora import add_lora, load_lora, save_lora
from vgrpo.models.lora_files import METADATA, WEIGHTS
from vgrpo.models.settings import LoraConfig
from vgrpo.models.supported import check_model

PARTS = "scheduler text_encoder text_encoder_2 tokenizer tokenizer_2 transformer vae".split()
ANSWERS = (ValueError, FileNotFoundError, PermissionError)
UNHURRIED = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
MANY = settings(max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=UNHURRIED)
FEWER = settings(MANY, max_examples=40)

words = st.sampled_from(
    ["diffusers", "transformers", "evil", "os", "torch", "", "..", "a/b", "vgrpo.worlds.sprites"]
) | st.text(max_size=8)
classes = st.sampled_from(
    ["Evil", "system", "DiffusionPipeline", "AutoModel", "ModelMixin", "torch", "__doc__", "A.B"]
) | st.text(max_size=8)
numbers = st.integers() | st.floats() | st.booleans()
values = st.recursive(
    st.none() | numbers | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
entries = values.filter(lambda value: value != [None, None]) | st.tuples(words, classes).map(list)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "whole"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def folder(saved, tmp_path_factory):
    return shutil.copytree(saved, tmp_path_factory.mktemp("models") / "malformed")


def answered(call):
    """One of the agreed exceptions, in one or two lines."""
    with pytest.raises(ANSWERS) as error:
        call()
    assert type(error.value) in ANSWERS
    said = str(error.value)
    assert said
    assert said.count("\n") <= 1


@MANY
@given(part=st.sampled_from(PARTS), entry=entries)
def test_a_part_that_is_none(saved, folder, part, entry):
    index = json.loads((saved / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {part: entry}))
    answered(lambda: check_model(str(folder)))


@FEWER
@given(kind=values)
def test_a_pipeline_that_is_none(saved, folder, kind):
    index = json.loads((saved / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"_class_name": kind}))
    answered(lambda: check_model(str(folder)))
    answered(lambda: check_model(str(folder), "os:getcwd"))


@FEWER
@given(content=st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode()) | st.just(b"[" * 100_000))
def test_an_index_that_is_none(folder, content):
    (folder / "model_index.json").write_bytes(content)
    answered(lambda: check_model(str(folder)))


@FEWER
@given(
    file=st.sampled_from(
        ["transformer/config.json", "text_encoder/config.json", "vae/config.json", "scheduler/scheduler_config.json"]
    ),
    content=st.binary(max_size=20).filter(lambda content: not content.strip().startswith(b"{"))
    | values.filter(lambda value: not isinstance(value, dict)).map(lambda value: json.dumps(value).encode()),
)
def test_a_config_that_is_none(saved, folder, file, content):
    shutil.copy(saved / "model_index.json", folder / "model_index.json")
    (folder / file).write_bytes(content)
    try:
        answered(lambda: check_model(str(folder)))
    finally:
        shutil.copy(saved / file, folder / file)


CHANGES = {
    "a width that is text": ("transformer/config.json", {"num_attention_heads": "many"}),
    "a width that is negative": ("transformer/config.json", {"attention_head_dim": -4}),
    "other layers": ("transformer/config.json", {"num_layers": 7}),
    "another width": ("transformer/config.json", {"num_attention_heads": 3}),
    "an encoder's other width": ("text_encoder/config.json", {"hidden_size": 32, "projection_dim": 32}),
    "an encoder of text": ("text_encoder/config.json", {"num_hidden_layers": "two"}),
    "an autoencoder of nothing": ("vae/config.json", {"block_out_channels": None}),
}


@pytest.mark.parametrize(("file", "change"), CHANGES.values(), ids=CHANGES)
def test_a_config_that_does_not_fit_the_weights(saved, tmp_path, file, change):
    folder = shutil.copytree(saved, tmp_path / "model")
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | change))
    answered(lambda: load_pipeline(str(folder)))
    with pytest.raises(ValueError, match=file.split("/")[0]):
        load_pipeline(str(folder))


@pytest.mark.parametrize("part", ["transformer", "text_encoder", "vae"])
def test_weights_that_are_not_all_there_or_of_other_shapes(saved, tmp_path, part):
    folder = shutil.copytree(saved, tmp_path / "model")
    path = next((folder / part).glob("*.safetensors"))
    whole = load_file(path)
    name = max(whole, key=lambda key: whole[key].dim())
    save_file({key: value for key, value in whole.items() if key != name}, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match=rf"{folder}/{part}: its weights leave out .* and 0 more"):
        load_pipeline(str(folder))
    save_file(whole | {name: torch.zeros(3, 5)}, path, metadata={"format": "pt"})
    answered(lambda: load_pipeline(str(folder)))


@pytest.fixture(scope="module")
def lora(tmp_path_factory):
    """A saved adapter's tensors, and a folder for what is made of them."""
    policy = make_policy(tiny_pipeline(), max_sequence_length=0)
    policy.module.requires_grad_(False)
    add_lora(policy, LoraConfig(rank=2, alpha=2), 0)
    folder = tmp_path_factory.mktemp("loras")
    save_lora(policy, folder)
    return {name: value.clone() for name, value in load_file(folder / WEIGHTS).items()}, folder  # not of the file itself


class Untouched:
    """One policy for all examples: what is refused before the pipeline's own loader leaves it as it is."""

    policy = None

    @classmethod
    def get(cls):
        cls.policy = cls.policy or make_policy(tiny_pipeline(), max_sequence_length=0)
        return cls.policy


def header(content):
    return len(content).to_bytes(8, "little") + content


@MANY
@given(
    content=st.binary(max_size=60)
    | st.binary(max_size=60).map(header)
    | values.map(lambda value: header(json.dumps(value).encode()))
    | st.dictionaries(
        st.text(string.ascii_lowercase, min_size=1, max_size=5),
        st.fixed_dictionaries(
            {"dtype": words, "shape": st.lists(st.integers(), max_size=3), "data_offsets": st.lists(st.integers())}
        ),
        min_size=1,
    ).map(lambda value: header(json.dumps(value).encode()))
)
def test_an_adapters_header_that_is_none(lora, content):
    _, folder = lora
    (folder / WEIGHTS).write_bytes(content)
    answered(lambda: load_lora(Untouched.get(), folder, "tiny"))


@FEWER
@given(
    text=st.text(max_size=20)
    | values.filter(lambda value: not isinstance(value, dict)).map(json.dumps)
    | st.just("[" * 100_000)
)
def test_an_adapters_settings_that_are_none(lora, text):
    state, folder = lora
    save_file(state, folder / WEIGHTS, metadata={METADATA: text, "format": "pt"})
    answered(lambda: load_lora(Untouched.get(), folder, "tiny"))


@settings(MANY, max_examples=15)
@given(prefix=st.sampled_from(["unet.", "lora_unet_", "x."]), width=st.sampled_from([None, 3, 0]), seed=st.integers(0, 9))
def test_an_adapter_of_other_names_or_shapes(lora, prefix, width, seed):
    state, folder = lora
    if width is None:
        state = {f"{prefix}{key.removeprefix('transformer.')}": value for key, value in state.items()}
    else:
        name = sorted(state)[seed]
        state = state | {name: torch.zeros(width, 5)}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    answered(lambda: load_lora(make_policy(tiny_pipeline(), max_sequence_length=0), folder, "tiny"))
