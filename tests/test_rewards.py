"""Named rewards against independent computations, on tiny random models of the published architecture."""

from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from vgrpo import Prompt
from vgrpo.rewards import load_reward
from vgrpo.worlds.sprites.build import build_tokenizer

PROMPTS = [Prompt(text=text) for text in ("a red heart", "two blue stars", "a key")]
IMAGES = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory):
    torch.manual_seed(0)
    text = {
        "vocab_size": len(build_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text |= {"max_position_embeddings": 14, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    folder = tmp_path_factory.mktemp("clip")
    CLIPModel(config).save_pretrained(folder)
    image_processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor, build_tokenizer()).save_pretrained(folder)
    return folder


def cosine(folder, image, text):
    """One image and text at a time, through the two towers."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokens = torch.tensor([build_tokenizer()(text).input_ids])
    pixels = np.asarray(
        Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype("uint8")).resize((32, 32), Image.BICUBIC)
    )
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    values = torch.tensor((pixels / 255 - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]
    with torch.no_grad():
        a = model.visual_projection(model.vision_model(values).pooler_output)[0].double()
        b = model.text_projection(model.text_model(tokens).pooler_output)[0].double()
    return float(a @ b / a.norm() / b.norm()), float(model.logit_scale.exp())


@pytest.mark.parametrize("name", ["clipscore", "pickscore"])
def test_clip_rewards_are_the_published_formula(name, clip_folder):
    got = load_reward(f"{name}={clip_folder}")(IMAGES, PROMPTS)
    for index, prompt in enumerate(PROMPTS):
        value, scale = cosine(clip_folder, IMAGES[index], prompt.text)
        expected = value if name == "clipscore" else scale * value / 26
        assert float(got[index]) == pytest.approx(expected, abs=2e-3)


def test_missing_weights_are_named_with_their_size_and_a_command(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FileNotFoundError, match=r"PickScore_v1 \(3.9 GB\).*hf download yuvalkirstain/PickScore_v1"):
        load_reward("pickscore")


def test_jpeg_rewards_weigh_the_file():
    smooth = torch.full((1, 3, 64, 64), 0.5)
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    images = torch.cat([smooth, noise])
    got = load_reward("jpeg_incompressibility")(images, PROMPTS[:2])
    for index, image in enumerate(images):
        buffer = BytesIO()
        array = (image.permute(1, 2, 0).numpy() * 255).round().astype("uint8")
        Image.fromarray(array).save(buffer, "JPEG", quality=95)
        assert float(got[index]) == pytest.approx(len(buffer.getvalue()) / 1000, abs=0.02)
    assert got[1] > 3 * got[0]
    assert torch.equal(load_reward("jpeg_compressibility")(images, PROMPTS[:2]), -got)
