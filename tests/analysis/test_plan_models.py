"""Sizes of models, without their weights: the published ones by name, and folders of every architecture."""

import pytest
import torch
from helpers import pipelines
from helpers.tiny import tiny_pipeline

from vgrpo.analysis.plan.measure import LiveBytes, cost, decoding, gradients_dropped
from vgrpo.models.loading import make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.published import NETWORK_BILLIONS, PUBLISHED
from vgrpo.models.settings import LoraConfig
from vgrpo.models.skeleton import from_folder, published

TINY = {
    "sd3": tiny_pipeline,
    "sd15": pipelines.stable_diffusion,
    "sdxl": pipelines.sdxl,
    "flux": pipelines.flux,
    "flux_kontext": pipelines.flux_kontext,
    "flux2": pipelines.flux2,
    "qwen_image": pipelines.qwen_image,
    "sana": pipelines.sana,
    "wan": pipelines.wan,
    "wan22": pipelines.wan22,
}
BILLIONS = {  # text encoders, autoencoder, as published
    "sd15": (0.123, 0.084),
    "sd21": (0.340, 0.084),
    "sdxl": (0.818, 0.084),
    "sd3-medium": (5.581, 0.084),
    "sd35-medium": (5.581, 0.084),
    "sd35-large": (5.581, 0.084),
    "flux1-dev": (4.885, 0.084),
    "flux2-dev": (24.011, 0.084),
    "flux2-klein-4b": (4.022, 0.084),
    "qwen-image": (8.292, 0.127),
    "sana-1.6b": (2.614, 0.312),
    "z-image": (4.022, 0.084),
    "wan21-1.3b": (5.681, 0.127),
    "wan22-5b": (5.681, 0.705),
}
EDITING = {"flux1-kontext": "flux1-dev", "qwen-image-edit": "qwen-image"}
SHAPES = {"sd15": (4, 64, 64), "sd21": (4, 96, 96), "flux2-dev": (128, 64, 64), "sana-1.6b": (32, 32, 32)}
SHAPES |= {"sdxl": (4, 128, 128), "wan21-1.3b": (16, 5, 60, 104)}
SHAPES |= {"flux2-klein-4b": (128, 64, 64), "wan22-5b": (48, 5, 30, 52)}
SETTINGS = {"max_sequence_length": 24, "resolution": 64}


def num_weights(part):
    return sum(parameter.numel() for parameter in part.parameters())


def test_editing_models_have_the_parts_of_those_that_they_come_from():
    for name, other in EDITING.items():
        assert PUBLISHED[name].parts == PUBLISHED[other].parts
        assert NETWORK_BILLIONS[name] == NETWORK_BILLIONS[other]


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name not in EDITING])
def test_published_models_have_their_published_sizes(name):
    policy = published(name)
    parts = {part: module for part, module in policy.pipeline.components.items() if isinstance(module, torch.nn.Module)}
    sizes = [num_weights(parts.pop(part)) / 1e9 for part in (policy.network, "vae")]
    sizes.insert(1, sum(map(num_weights, parts.values())) / 1e9)
    assert sizes == pytest.approx([NETWORK_BILLIONS[name], *BILLIONS[name]], abs=6e-4)
    assert policy.latent_shape == SHAPES.get(name, (16, 128, 128))


@pytest.fixture(params=TINY, scope="module")
def models(request, tmp_path_factory):
    """A pipeline and its skeleton, which reads configs alone."""
    pipeline, folder = TINY[request.param](), tmp_path_factory.mktemp("models")
    pipeline.save_pretrained(folder)
    for weights in folder.rglob("*.safetensors"):
        weights.unlink()
    real = make_policy(pipeline, **SETTINGS)
    return real, from_folder(str(folder), torch.float32, **SETTINGS)


def test_a_folders_parts_are_counted_from_its_configs(models):
    real, skeleton = models
    for name, part in real.pipeline.components.items():
        if isinstance(part, torch.nn.Module):
            assert num_weights(skeleton.pipeline.components[name]) == num_weights(part)
    assert skeleton.latent_shape == real.latent_shape


def test_an_update_and_a_decoding_hold_what_real_ones_hold(models):
    """Alive at most, by the same count on tensors with content; attention on a CPU keeps what a fused kernel keeps."""
    for policy in models:
        policy.module.requires_grad_(False)
        policy.module.train()
        add_lora(policy, LoraConfig(rank=4), 0)
    real, skeleton = models
    rows = 16
    text, x, t = real.blank_text(rows), torch.rand(rows, *real.latent_shape), torch.full((rows,), 0.5)
    for part in (text.sequence, text.pooled, text.image):
        if part is not None:
            part.normal_()
    parts = [part for part in real.pipeline.components.values() if isinstance(part, torch.nn.Module)]
    own = [tensor for part in parts for tensor in (*part.parameters(), *part.buffers())]
    with gradients_dropped(real), LiveBytes(iter(own)) as live:
        v = real.predict(x, t, text, 1.0)
        v.backward(torch.ones_like(v))
    inputs = sum(part.nbytes for part in (text.sequence, text.pooled, text.mask, text.image, x) if part is not None)
    assert cost(skeleton, 1.0).update_bytes * rows - inputs == pytest.approx(live.most, rel=0.15)
    x_0 = x[:1].clone()
    with LiveBytes(iter(own)) as live:
        images = real.decode(x_0)
    planned = decoding(skeleton)
    assert planned.image == images.shape[1:]
    assert planned.bytes - x_0.nbytes == pytest.approx(live.most, rel=0.15)
