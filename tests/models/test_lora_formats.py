"""A LoRA in other tools' forms: what they read has the run's full strength, and what they write is read here."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from diffusers.loaders import single_file_utils
from helpers import pipelines
from helpers.tiny import tiny_pipeline
from safetensors.torch import load_file

from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora, fill_lora, layers_of, load_lora, read_init, save_lora, trained_adapter
from vgrpo.models.lora_export import export_lora
from vgrpo.models.lora_reading import DOWN, UP, read_adapter
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable

KINDS = {
    "sd3": tiny_pipeline,
    "sd15": pipelines.stable_diffusion,
    "sdxl": pipelines.sdxl_two_layers,
    "flux": pipelines.flux,
    "flux2": pipelines.flux2,
    "qwen_image": pipelines.qwen_image,
    "sana": pipelines.sana,
    "wan": pipelines.wan,
    "z_image": pipelines.z_image,
}
FEED_FORWARD = {
    "sd3": ("ff.net.0.proj", "ff.net.2", "ff_context.net.2", "norm1.linear", "norm1_context.linear"),
    "sd15": ("ff.net.0.proj",),
    "sdxl": ("proj_in",),
    "flux": ("ff.net.2", "ff_context.net.0.proj"),
    "flux2": ("ff.linear_in", "ff_context.linear_out"),
    "wan": ("ffn.net.0.proj", "ffn.net.2"),
    "z_image": ("feed_forward.w1", "feed_forward.w2"),
}
CONVERTERS = {  # the original network's weights to those of diffusers, as it reads a single file
    "sd3": single_file_utils.convert_sd3_transformer_checkpoint_to_diffusers,
    "flux": single_file_utils.convert_flux_transformer_checkpoint_to_diffusers,
    "flux2": single_file_utils.convert_flux2_transformer_checkpoint_to_diffusers,
    "wan": single_file_utils.convert_wan_transformer_to_diffusers,
    "z_image": single_file_utils.convert_z_image_transformer_checkpoint_to_diffusers,
}
DIFFUSERS_READS = {  # forms that diffusers itself can read back for a tiny network
    "diffusers": tuple(KINDS),
    "kohya": ("sd15", "sdxl", "flux2", "qwen_image", "wan"),
    "comfyui": ("sd15", "sdxl", "flux2", "qwen_image", "wan"),
    "peft": (),
}
CONFIG = {"rank": 2, "alpha": 6}


@pytest.fixture(params=KINDS, scope="module")
def name(request):
    return request.param


@cache
def built(name):
    return KINDS[name]()


def pipeline_of(name):
    return deepcopy(built(name))


def policy_with(name, config=None):
    policy = make_policy(pipeline_of(name))
    policy.module.requires_grad_(False)
    if config is not None:
        add_lora(policy, config, 0)
    return policy


@pytest.fixture(scope="module")
def saved(name, tmp_path_factory):
    """A run's lora/ of attention and feed-forward layers, with what its weights add to each layer."""
    folder = tmp_path_factory.mktemp("lora")
    targets = (*make_policy(built(name)).lora_targets, *FEED_FORWARD.get(name, ()))
    policy = policy_with(name, LoraConfig(targets=targets, **CONFIG))
    torch.manual_seed(0)
    for parameter in trainable(policy.module).values():
        parameter.data = 0.2 * torch.randn_like(parameter)
    save_lora(policy, folder)
    products = {
        layer: module.get_delta_weight("default").detach()
        for layer, module in policy.module.named_modules()
        if hasattr(module, "get_delta_weight") and "default" in module.lora_A
    }
    return folder, products, targets


def added(adapter):
    return {layer: adapter[layer + UP] @ adapter[layer + DOWN] for layer in layers_of(adapter)}


def close(found, products):
    assert found.keys() == products.keys()
    for layer, value in products.items():
        assert torch.allclose(found[layer], value, atol=1e-5), layer


def of_network(pipeline, network):
    module = pipeline.components[network]
    return {
        layer: sum(each.get_delta_weight(adapter).detach() for adapter in each.active_adapters)
        for layer, each in module.named_modules()
        if hasattr(each, "get_delta_weight") and each.lora_A
    }


def exported(saved, tmp_path, form, dtype=torch.float32):
    return export_lora(saved[0], tmp_path / form, form, dtype, "mine")


def test_a_saved_lora_has_full_strength_for_tools_that_know_no_metadata(saved):
    state = load_file(saved[0] / "pytorch_lora_weights.safetensors")
    assert not any("alpha" in key for key in state)
    close(added({key.partition(".")[2]: value for key, value in state.items()}), saved[1])


@pytest.mark.parametrize("form", DIFFUSERS_READS)
def test_every_form_is_read_back_at_full_strength(name, saved, tmp_path, form):
    if name == "sana" and form in ("comfyui", "kohya"):
        with pytest.raises(ValueError, match="no names are published for a SanaPipeline"):
            exported(saved, tmp_path, form)
        return
    path, policy = exported(saved, tmp_path, form), policy_with(name)
    close(added(read_adapter(policy, path, "--lora")), saved[1])
    init = LoraConfig(rank=2, alpha=5, targets=saved[2], init=path)
    adapter = read_init(policy, init)
    if name in DIFFUSERS_READS[form]:
        fresh = pipeline_of(name)
        fresh.load_lora_weights(path.parent, weight_name=path.name)
        close(of_network(fresh, policy.network), saved[1])
    load_lora(policy, path.parent, "tiny")
    close(of_network(policy.pipeline, policy.network), saved[1])
    going_on = policy_with(name, init)
    fill_lora(going_on, init, adapter)
    close(added(trained_adapter(going_on)), saved[1])


@pytest.mark.parametrize("form", ["comfyui", "kohya"])
def test_original_names_are_those_that_single_file_checkpoints_have(name, saved, tmp_path, form):
    """What is added to an original network, converted as its weights are, is what is added to that of diffusers."""
    if name not in CONVERTERS:
        pytest.skip("checkpoints have the names of diffusers, or are read by diffusers' own LoRA loader above")
    state = load_file(exported(saved, tmp_path, form))
    down, up = (".lora_down.weight", ".lora_up.weight") if form == "kohya" else (DOWN, UP)
    original = {
        key.removesuffix(down): state[key.removesuffix(down) + up] @ value for key, value in state.items() if key.endswith(down)
    }
    if form == "kohya":
        assert all(key.startswith("lora_unet_") and "." not in key for key in original)
        assert {float(state[key + ".alpha"]) for key in original} <= {2.0, 6.0, 8.0}
        return
    checkpoint = Lenient({f"{key.removeprefix('diffusion_model.')}.weight": value for key, value in original.items()})
    single = checkpoint.pop("single_blocks.0.linear1.weight") if name == "flux" else None
    if single is not None:  # the converter knows the real sizes alone
        checkpoint.pop("single_blocks.0.linear2.weight")
        checkpoint["single_blocks.-1.none"] = single  # so that it looks for no such block
    converted = CONVERTERS[name](checkpoint)
    if single is not None:
        width = len(single) // 7  # q, k, v and four times as much for the perceptron
        rows = zip(("attn.to_q", "attn.to_k", "attn.to_v"), single.split([width, width, width, 4 * width]), strict=False)
        converted |= {f"single_transformer_blocks.0.{layer}.weight": value for layer, value in rows}
    for layer, value in saved[1].items():
        assert torch.allclose(converted[f"{layer}.weight"], value, atol=1e-5), layer


class Lenient(dict):
    """A checkpoint in which only the layers with an adapter count."""

    def pop(self, key, *default):
        return super().pop(key, *(default or (torch.zeros(6),)))

    def __getitem__(self, key):
        return self.get(key, torch.zeros(6))


def test_peft_reads_its_own_form(saved, name, tmp_path):
    from peft import PeftModel

    path, policy = exported(saved, tmp_path, "peft"), policy_with(name)
    model = PeftModel.from_pretrained(policy.module, str(path.parent))
    found = {
        layer.removeprefix("base_model.model."): module.get_delta_weight("default").detach()
        for layer, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }
    close(found, saved[1])


def test_half_precision_halves_the_file(saved, tmp_path):
    path = exported(saved, tmp_path, "diffusers", torch.bfloat16)
    assert {value.dtype for value in load_file(path).values()} == {torch.bfloat16}
