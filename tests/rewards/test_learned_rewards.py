"""Learned rewards against independent computations of their published formulas."""

import json
import shutil

import pytest
import torch
from helpers.reward_models import (
    IMAGES,
    PROMPTS,
    WORDS,
    clip_pixels,
    head_score,
    head_state,
    hpsv2_state,
    imagereward_state,
    save_clip,
)
from safetensors.torch import save_file
from torch.nn import functional
from transformers import CLIPModel

from vgrpo.rewards.preference.blip import Blip, convert_blip, text_config, vision_config
from vgrpo.rewards.registry import load_reward
from vgrpo.worlds.sprites.build import build_tokenizer


@pytest.fixture(scope="module")
def wide_clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wide-clip")
    save_clip(folder, projection_dim=768)
    return folder


def test_aesthetic_takes_a_clip_kept_in_half_precision(tmp_path, wide_clip):
    save_file(head_state("", 768), tmp_path / "aesthetic-model.safetensors")
    shutil.copytree(wide_clip, tmp_path, dirs_exist_ok=True)
    exact = load_reward(f"aesthetic={tmp_path}")(IMAGES, PROMPTS)
    CLIPModel.from_pretrained(wide_clip).half().save_pretrained(tmp_path)
    half = load_reward(f"aesthetic={tmp_path}")
    assert {weight.dtype for part in (half.vision, half.projection) for weight in part.parameters()} == {torch.float32}
    assert torch.allclose(half(IMAGES, PROMPTS), exact, atol=0.05)


@pytest.mark.parametrize("name", ["sac+logos+ava1-l14-linearMSE.pth", "aesthetic-model.safetensors"])
def test_aesthetic_is_the_head_on_the_unit_embedding(name, wide_clip):
    state, path = head_state("", 768), wide_clip / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    got = load_reward(f"aesthetic={wide_clip}")(IMAGES, PROMPTS)
    path.unlink()
    model = CLIPModel.from_pretrained(wide_clip).eval()
    expected = []
    for image in IMAGES:
        with torch.no_grad():
            embedding = model.visual_projection(model.vision_model(clip_pixels(image)).pooler_output)[0]
        expected.append(head_score(state, "", embedding / embedding.square().sum().sqrt()))
    assert got.tolist() == pytest.approx(expected, abs=0.01)
    assert max(expected) - min(expected) > 0.1


def test_aesthetic_refuses_what_is_missing_or_of_another_shape(wide_clip, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"holds no aesthetic-model.pth or .*\(3.7 MB\)"):
        load_reward(f"aesthetic={wide_clip}")
    path = wide_clip / "aesthetic-model.pth"
    torch.save({"layers.0.weight": torch.zeros(1024, 768)}, path)
    with pytest.raises(ValueError, match=r"aesthetic-model.pth holds another architecture's weights"):
        load_reward(f"aesthetic={wide_clip}")
    path.unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"hf download trl-lib/ddpo-aesthetic-predictor aesthetic-model.pth"):
        load_reward("aesthetic")


def attend(query, key, value, num_heads=2):
    """Softmax attention of [N, C] over [M, C]."""
    query, key, value = (x.unflatten(-1, (num_heads, -1)).transpose(0, 1) for x in (query, key, value))
    weights = (query @ key.transpose(1, 2) / query.shape[-1] ** 0.5).softmax(-1)
    return (weights @ value).transpose(0, 1).flatten(1)


def imagereward_by_hand(state, image, tokens):
    """One image and the tokens of one prompt, without padding, in double precision."""
    state = {key: value.double() for key, value in state.items() if value.is_floating_point()}

    def affine(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name, eps):
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps)

    vision, text = "blip.visual_encoder", "blip.text_encoder"
    kernel = state[f"{vision}.patch_embed.proj.weight"]
    patches = functional.unfold(clip_pixels(image).double(), 8, stride=8)[0].T @ kernel.flatten(1).T
    patches = patches + state[f"{vision}.patch_embed.proj.bias"]
    x = torch.cat([state[f"{vision}.cls_token"][0], patches]) + state[f"{vision}.pos_embed"][0]
    for index in range(2):
        block = f"{vision}.blocks.{index}"
        attended = attend(*affine(norm(x, f"{block}.norm1", 1e-6), f"{block}.attn.qkv").chunk(3, -1))
        x = x + affine(attended, f"{block}.attn.proj")
        hidden = functional.gelu(affine(norm(x, f"{block}.norm2", 1e-6), f"{block}.mlp.fc1"))
        x = x + affine(hidden, f"{block}.mlp.fc2")
    x = norm(x, f"{vision}.norm", 1e-6)
    y = state[f"{text}.embeddings.word_embeddings.weight"][tokens]
    y = y + state[f"{text}.embeddings.position_embeddings.weight"][: len(tokens)]
    y = norm(y, f"{text}.embeddings.LayerNorm", 1e-12)
    for index in range(2):
        layer = f"{text}.encoder.layer.{index}"
        for kind, seen in (("attention", None), ("crossattention", x)):
            name = f"{layer}.{kind}"
            keys = y if seen is None else seen
            attended = attend(*(affine(a, f"{name}.self.{b}") for a, b in ((y, "query"), (keys, "key"), (keys, "value"))))
            y = norm(affine(attended, f"{name}.output.dense") + y, f"{name}.output.LayerNorm", 1e-12)
        hidden = functional.gelu(affine(y, f"{layer}.intermediate.dense"))
        y = norm(affine(hidden, f"{layer}.output.dense") + y, f"{layer}.output.LayerNorm", 1e-12)
    return (head_score(state, "mlp.", y[0]) - 0.16717362830052426) / 1.0333394966054072


def test_imagereward_reads_the_published_checkpoint(tmp_path):
    state = imagereward_state()
    torch.save(state, tmp_path / "ImageReward.pt")
    (tmp_path / "vocab.txt").write_text("\n".join(WORDS))
    got = load_reward(f"imagereward={tmp_path}")(IMAGES, PROMPTS)
    expected = []
    for image, prompt in zip(IMAGES, PROMPTS, strict=True):
        tokens = torch.tensor([WORDS.index(word) for word in ("[CLS]", *prompt.text.split(), "[SEP]")])
        expected.append(imagereward_by_hand(state, image, tokens))
    assert got.tolist() == pytest.approx(expected, abs=0.01)
    other = load_reward(f"imagereward={tmp_path}")(IMAGES.flip(0), PROMPTS)
    assert (other - got).abs().max() > 0.5  # the text alone does not decide


def test_blip_weights_survive_the_change_of_names():
    state = {key.removeprefix("blip."): value for key, value in imagereward_state().items() if key.startswith("blip.")}
    model = Blip(vision_config(state), text_config(state))
    model.load_state_dict(convert_blip(state))
    kept = [key for key in state if "position_ids" not in key and "vision_proj" not in key]
    assert len(model.state_dict()) == len(kept)
    values = sorted(float(value.double().square().sum()) for value in model.state_dict().values())
    assert values == sorted(float(state[key].double().square().sum()) for key in kept)


def test_imagereward_refuses_other_files(tmp_path, monkeypatch):
    torch.save({"blip.text": torch.zeros(1)}, tmp_path / "ImageReward.pt")
    with pytest.raises(ValueError, match=r"holds no blip.visual_encoder; is it the published ImageReward.pt"):
        load_reward(f"imagereward={tmp_path}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"ImageReward.pt \(1.8 GB\).*hf download THUDM/ImageReward ImageReward.pt"):
        load_reward("imagereward")


def unit(x):
    return x / x.square().sum().sqrt()


def transformer_by_hand(state, tower, x, mask, activation):
    """open_clip's residual blocks on [N, C], with torch's own attention."""
    for index in range(2):
        block = {key.removeprefix(f"{tower}.resblocks.{index}."): value for key, value in state.items()}

        def norm(x, name, block=block):
            return functional.layer_norm(x, x.shape[-1:], block[f"{name}.weight"], block[f"{name}.bias"], 1e-5)

        attention = torch.nn.MultiheadAttention(32, 2, dtype=torch.float64)
        attention.load_state_dict({key.removeprefix("attn."): block[key] for key in block if key.startswith("attn.")})
        y = norm(x, "ln_1")
        x = x + attention(y, y, y, need_weights=False, attn_mask=mask)[0]
        hidden = activation(norm(x, "ln_2") @ block["mlp.c_fc.weight"].T + block["mlp.c_fc.bias"])
        x = x + hidden @ block["mlp.c_proj.weight"].T + block["mlp.c_proj.bias"]
    return x


@torch.no_grad()
def hpsv2_by_hand(state, pixels, tokens):
    """Cosine of one image and the tokens of one prompt, as open_clip computes it, in double precision."""
    state = {key: value.double() for key, value in state.items()}

    def norm(x, name):
        return functional.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], 1e-5)

    patches = functional.conv2d(pixels.double(), state["visual.conv1.weight"], stride=8)[0].flatten(1).T
    x = torch.cat([state["visual.class_embedding"][None], patches]) + state["visual.positional_embedding"]
    x = transformer_by_hand(state, "visual.transformer", norm(x, "visual.ln_pre"), None, functional.gelu)
    image = norm(x[0], "visual.ln_post") @ state["visual.proj"]
    y = state["token_embedding.weight"][tokens] + state["positional_embedding"][: len(tokens)]
    causal = torch.full((len(tokens), len(tokens)), -torch.inf, dtype=torch.float64).triu(1)
    y = transformer_by_hand(state, "transformer", y, causal, functional.gelu)
    text = norm(y[-1], "ln_final") @ state["text_projection"]
    return float(unit(image) @ unit(text))


@pytest.fixture(scope="module")
def hpsv2_folder(tmp_path_factory):
    """A checkpoint beside CLIP's config and processor; ViT-H/14 uses the plain GELU."""
    folder = tmp_path_factory.mktemp("hpsv2")
    save_clip(folder)
    (folder / "model.safetensors").unlink()
    values = json.loads((folder / "config.json").read_text())
    for part in ("text_config", "vision_config"):
        values[part]["hidden_act"] = "gelu"
    (folder / "config.json").write_text(json.dumps(values))
    torch.save({"epoch": 1, "state_dict": hpsv2_state(folder)}, folder / "HPS_v2.1_compressed.pt")
    return folder


def test_hpsv2_is_the_cosine_of_the_published_checkpoint(hpsv2_folder):
    state = hpsv2_state(hpsv2_folder)
    got = load_reward(f"hpsv2={hpsv2_folder}")(IMAGES, PROMPTS)
    expected = [
        hpsv2_by_hand(state, clip_pixels(image), torch.tensor(build_tokenizer()(prompt.text).input_ids))
        for image, prompt in zip(IMAGES, PROMPTS, strict=True)
    ]
    assert got.tolist() == pytest.approx(expected, abs=2e-3)
    assert max(expected) - min(expected) > 0.02


def test_hpsv2_keeps_the_whole_of_a_wide_image(hpsv2_folder):
    """Black above and below, where CLIP's own preprocessing would cut the sides off."""
    wide = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(4))
    square = torch.zeros(1, 3, 32, 32)
    square[:, :, 8:24] = wide
    reward = load_reward(f"hpsv2={hpsv2_folder}")
    assert reward(wide, PROMPTS[:1]).item() == pytest.approx(reward(square, PROMPTS[:1]).item(), abs=1e-6)
    cut = torch.nn.functional.interpolate(wide[..., 8:24], size=(32, 32), mode="nearest")
    assert abs(reward(cut, PROMPTS[:1]).item() - reward(wide, PROMPTS[:1]).item()) > 1e-3


def test_hpsv2_refuses_other_files(hpsv2_folder, tmp_path, monkeypatch):
    shutil.copytree(hpsv2_folder, tmp_path, dirs_exist_ok=True)
    torch.save({"state_dict": {"visual.proj": torch.zeros(32, 16)}}, tmp_path / "HPS_v2.1_compressed.pt")
    with pytest.raises(ValueError, match=r"HPS_v2.1_compressed.pt holds another architecture's weights"):
        load_reward(f"hpsv2={tmp_path}")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"\(2.0 GB\).*hf download xswu/HPSv2 HPS_v2.1_compressed.pt"):
        load_reward("hpsv2")
