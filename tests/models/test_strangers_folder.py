"""A model's folder from a stranger: nothing in it is run, whatever it names. Each attack would write a file where it works."""

import json
import shutil
import sys

import pytest
import torch
from helpers.tiny import tiny_config, tiny_pipeline

from vgrpo.commands.main import main
from vgrpo.models.classes import part_class
from vgrpo.models.index import read_parts
from vgrpo.models.loading import load_pipeline
from vgrpo.models.lora import load_lora
from vgrpo.models.lora_files import METADATA, WEIGHTS
from vgrpo.models.skeleton import from_folder
from vgrpo.models.supported import check_model

CODE = "import pathlib\npathlib.Path({marker!r}).write_text('run')\nclass Evil:\n    pass\n"
PARTS = "scheduler text_encoder text_encoder_2 tokenizer tokenizer_2 transformer vae".split()


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "whole"
    tiny_pipeline().save_pretrained(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")


@pytest.fixture
def marker(folder, tmp_path, monkeypatch):
    """What evil code writes. It lies where Python looks for modules, in the folder and in every part of it."""
    marker = tmp_path / "marker"
    code = CODE.format(marker=str(marker))
    here = tmp_path / "here"
    for name in (
        "evil.py",
        "e.py",
        "evil_library/__init__.py",
        "evil_library/sub.py",
        "megatron/__init__.py",
        "megatron/evil.py",
    ):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(code)
    (folder / "pipeline.py").write_text(code)
    (folder / "evil.py").write_text(code)
    monkeypatch.chdir(here)
    monkeypatch.syspath_prepend(str(here))
    yield marker
    for name in [name for name in sys.modules if name.split(".")[0] in ("evil", "e", "evil_library", "megatron")]:
        del sys.modules[name]


def change(path, **values):
    content = json.loads(path.read_text()) | values
    path.write_text(json.dumps(content))


ENTRIES = {
    "a module beside us": ["evil", "Evil"],
    "a module in a package": ["evil_library.sub", "Evil"],
    "a module behind a trusted name": ["diffusers.evil", "Evil"],
    "a path in a library": ["diffusers.utils.dynamic_modules_utils", "get_class_from_dynamic_module"],
    "a module of a library": ["transformers.models.clip", "CLIPTextModel"],
    "a relative module": ["..evil", "Evil"],
    "no module": ["", "Evil"],
    "the standard library": ["os", "system"],
    "a module of torch": ["torch.nn", "Linear"],
    "a file of the pipelines, not a pipeline": ["pipeline_utils", "DiffusionPipeline"],
    "a class of ours that is not the autoencoder": ["vgrpo.worlds.sprites", "ModelMixin"],
    "three names": ["diffusers", "SD3Transformer2DModel", "evil"],
    "a name and a table": ["diffusers", {"class": "Evil"}],
    "a word of two letters": "eE",
    "a table": {"library": "evil", "class": "Evil"},
    "half of nothing": [None, "Evil"],
    "a function": ["diffusers", "logging"],
    "a dotted class": ["diffusers", "utils.os"],
    "a private class": ["diffusers", "__loader__"],
    "a pipeline in the pipeline": ["diffusers", "DiffusionPipeline"],
    "a class that finds its own": ["diffusers", "AutoModel"],
    "another that does": ["transformers", "AutoModel"],
}


@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
@pytest.mark.parametrize("part", ["transformer", "scheduler"])
def test_a_part_that_is_not_of_a_trusted_library_is_refused(folder, marker, part, entry):
    change(folder / "model_index.json", **{part: entry})
    for load in (check_model, load_pipeline, from_folder):
        with pytest.raises(ValueError, match=rf"{folder}/model_index.json: .*\b{part}\b") as error:
            load(str(folder))
        assert "\n" not in str(error.value)
    assert not marker.exists()


def test_part_module_and_class_are_named_with_the_way_out(folder, marker, capsys):
    change(folder / "model_index.json", vae=["evil", "Evil"], _module="evil", custom_pipeline="pipeline")
    for command in ("train", "sample --prompts x.txt", "plan"):
        (folder.parent / "here/x.txt").write_text("a red heart\n")
        assert main(f"{command} --model {folder} --output-dir {folder.parent}/out".split()) == 1
        said = capsys.readouterr().err
        assert "the part vae names the class Evil of the module evil, which is not imported" in said
        assert "train(config, pipeline=...)" in said
    assert not marker.exists()
    assert "evil" not in sys.modules


@pytest.mark.parametrize("kind", [["pipeline", "Evil"], ["evil", "Evil"], "evil:Evil", None, 3, "DiffusionPipeline", "logging"])
def test_a_pipeline_of_its_own_is_refused(folder, marker, kind):
    change(folder / "model_index.json", _class_name=kind, custom_pipeline="pipeline", _custom_pipeline="pipeline")
    for adapter in (None, "os:getcwd"):
        with pytest.raises(ValueError, match="pipeline"):
            check_model(str(folder), adapter)
    assert not marker.exists()


def test_a_pipeline_file_beside_the_index_is_never_run(folder, marker):
    change(folder / "model_index.json", custom_pipeline="pipeline", trust_remote_code=True)
    load_pipeline(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("file", ["diffusers.py", "transformers.py", "modeling_evil.py"])
def test_code_in_a_part_is_refused(folder, marker, part, file):
    (folder / part / file).write_text(CODE.format(marker=str(marker)))
    with pytest.raises(ValueError, match=f"{folder}/{part} holds code, {file}, which is never run"):
        load_pipeline(str(folder))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("text_encoder/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("text_encoder/config.json", {"text_config": {"auto_map": {"AutoModel": "org/name--evil.Evil"}}}),
        ("text_encoder/config.json", {"attn_implementation": "org/kernel"}),
        ("text_encoder/config.json", {"_attn_implementation_internal": "org/kernel:Evil"}),
        ("transformer/config.json", {"auto_map": {"AutoModel": "evil.Evil"}}),
        ("tokenizer/tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}),
        ("scheduler/scheduler_config.json", {"auto_map": "evil.Evil"}),
    ],
)
def test_a_config_that_names_code_is_refused(folder, marker, file, values):
    change(folder / file, **values)
    for load in (load_pipeline, from_folder):
        with pytest.raises(ValueError, match=f"{folder}/{file}: .* names code of the model's own, which is never run"):
            load(str(folder))
    assert not marker.exists()


def test_another_models_weights_are_not_taken(folder, marker):
    (folder / "text_encoder/adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(ValueError, match=r"adapter_config\.json would load another model's weights"):
        load_pipeline(str(folder))


class Pickled:
    """Unpickled, it writes the marker."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return exec, (CODE.format(marker=self.marker),)


@pytest.mark.parametrize("ending", ["bin", "ckpt", "pt"])
@pytest.mark.parametrize(("part", "stem"), [("transformer", "diffusion_pytorch_model"), ("text_encoder", "pytorch_model")])
def test_pickled_weights_are_refused_and_it_is_said_how_to_convert_them(folder, marker, part, stem, ending):
    for path in (folder / part).glob("*.safetensors"):
        path.unlink()
    torch.save({"weight": Pickled(marker)}, folder / part / f"{stem}.{ending}")
    with pytest.raises(
        ValueError, match=rf"{part} holds its weights as {stem}.{ending} .*use_safetensors=False.*save_pretrained"
    ):
        load_pipeline(str(folder))
    assert not marker.exists()


def test_a_pickle_beside_safetensors_is_left_alone(folder, marker):
    torch.save({"weight": Pickled(marker)}, folder / "transformer/diffusion_pytorch_model.bin")
    torch.save({"weight": Pickled(marker)}, folder / "text_encoder/pytorch_model.bin")
    load_pipeline(str(folder))
    assert not marker.exists()


def test_a_shard_outside_the_folder_is_refused(folder):
    part = folder / "transformer"
    (part / "diffusion_pytorch_model.safetensors").rename(folder / "diffusion_pytorch_model.safetensors")
    index = {"metadata": {}, "weight_map": {"x": "../diffusion_pytorch_model.safetensors"}}
    (part / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="no file of safetensors beside it"):
        load_pipeline(str(folder))


def test_a_lora_whose_settings_name_a_module_is_refused(tmp_path, marker):
    from safetensors.torch import save_file

    from vgrpo.models.loading import make_policy

    name = "transformer.transformer_blocks.0.attn.to_q"
    state = {f"{name}.lora_A.weight": torch.zeros(4, 128), f"{name}.lora_B.weight": torch.zeros(128, 4)}
    settings = {
        "r": 4,
        "lora_alpha": 4,
        "target_modules": ["to_q"],
        "megatron_config": {"a": 1},
        "megatron_core": "megatron.evil",
    }
    metadata = {METADATA: json.dumps({f"transformer.{key}": value for key, value in settings.items()}), "format": "pt"}
    save_file(state, tmp_path / WEIGHTS, metadata=metadata)
    with pytest.raises(ValueError, match=r"--lora .*settings name code to import, transformer\.megatron_config"):
        load_lora(make_policy(tiny_pipeline(), max_sequence_length=0), tmp_path, "tiny")
    assert not marker.exists()


def test_what_real_checkpoints_name_is_trusted(folder):
    change(
        folder / "model_index.json",
        safety_checker=["stable_diffusion", "StableDiffusionSafetyChecker"],
        feature_extractor=["transformers", "CLIPFeatureExtractor"],
        image_encoder=["transformers", "CLIPVisionModelWithProjection"],
        a=["transformers", "T5TokenizerFast"],
        b=["transformers", "GemmaTokenizerFast"],
        c=["transformers", "Qwen2_5_VLForConditionalGeneration"],
        d=["diffusers", "DPMSolverMultistepScheduler"],
        f=["kolors", "ChatGLMModel"],
    )
    parts = read_parts(folder)
    assert {"safety_checker", "feature_extractor", "a", "b", "c", "d", "f"} < {part.name for part in parts}
    assert all(part_class(folder, part) for part in parts)


def test_a_run_on_such_a_folder_makes_no_folder(folder, marker, tmp_path):
    from vgrpo.training.start import start_run

    change(folder / "model_index.json", vae=["evil", "Evil"])
    with pytest.raises(ValueError, match="not imported"):
        start_run(tiny_config(tmp_path / "run", model=str(folder)))
    assert not (tmp_path / "run").exists()
