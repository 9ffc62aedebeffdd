"""Tiny random reward models of the published architectures, saved as the published ones are, and what tests compute by hand."""

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from vgrpo import Prompt
from vgrpo.worlds.sprites.build import build_tokenizer

PROMPTS = [Prompt(text=text) for text in ("a red heart", "two blue stars", "a key")]
IMAGES = torch.rand(3, 3, 40, 40, generator=torch.Generator().manual_seed(0))
HIDDEN = (1024, 128, 64, 16, 1)
PLACES = (0, 2, 4, 6, 7)  # of the linear layers in the published heads


def save_clip(folder, projection_dim=16, num_tokens=14):
    """A random CLIPModel with a processor for 32-pixel images."""
    torch.manual_seed(0)
    text = {
        "vocab_size": len(build_tokenizer()),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text |= {"max_position_embeddings": num_tokens, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    vision = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=projection_dim)
    CLIPModel(config).save_pretrained(folder)
    image_processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    CLIPProcessor(image_processor, build_tokenizer()).save_pretrained(folder)


def clip_pixels(image, side=32):
    """A square image [3, H, W] as CLIP takes it: [1, 3, side, side]."""
    picture = Image.fromarray((image.permute(1, 2, 0).numpy() * 255).round().astype("uint8"))
    values = np.asarray(picture.resize((side, side), Image.BICUBIC)) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    return torch.tensor((values - mean) / std, dtype=torch.float32).permute(2, 0, 1)[None]


def head_state(prefix, width):
    """A random score head under the published names, with weights large enough for scores to differ."""
    generator = torch.Generator().manual_seed(1)
    state = {}
    for place, width_in, out in zip(PLACES, (width, *HIDDEN), HIDDEN, strict=False):
        state[f"{prefix}layers.{place}.weight"] = 2 * torch.randn(out, width_in, generator=generator) * width_in**-0.5
        state[f"{prefix}layers.{place}.bias"] = torch.randn(out, generator=generator)
    return state


def head_score(state, prefix, features):
    """The head's five affine maps on one vector of features, in double precision."""
    value = features.double()
    for place in PLACES:
        value = state[f"{prefix}layers.{place}.weight"].double() @ value + state[f"{prefix}layers.{place}.bias"].double()
    return float(value)


BLIP_WIDTH, BLIP_SIDE, BLIP_LAYERS = 128, 32, 2
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"a red heart two blue stars key".split(), "[DEC]", "[ENC]"]


def imagereward_state():
    """A random ImageReward under its published names: ViT blocks with one qkv matrix, BERT layers with cross-attention."""
    generator = torch.Generator().manual_seed(2)
    width, state = BLIP_WIDTH, {}

    def linear(name, out, width_in):
        state[f"{name}.weight"] = torch.randn(out, width_in, generator=generator) * width_in**-0.5
        state[f"{name}.bias"] = 0.1 * torch.randn(out, generator=generator)

    def norm(name):
        state[f"{name}.weight"] = 1 + 0.1 * torch.randn(width, generator=generator)
        state[f"{name}.bias"] = 0.1 * torch.randn(width, generator=generator)

    vision, text = "blip.visual_encoder", "blip.text_encoder"
    state[f"{vision}.cls_token"] = torch.randn(1, 1, width, generator=generator)
    state[f"{vision}.pos_embed"] = torch.randn(1, 1 + (BLIP_SIDE // 8) ** 2, width, generator=generator)
    state[f"{vision}.patch_embed.proj.weight"] = torch.randn(width, 3, 8, 8, generator=generator) / 14
    state[f"{vision}.patch_embed.proj.bias"] = torch.randn(width, generator=generator)
    norm(f"{vision}.norm")
    state[f"{text}.embeddings.position_ids"] = torch.arange(64)[None]
    state[f"{text}.embeddings.word_embeddings.weight"] = torch.randn(len(WORDS), width, generator=generator)
    state[f"{text}.embeddings.position_embeddings.weight"] = torch.randn(64, width, generator=generator)
    norm(f"{text}.embeddings.LayerNorm")
    for index in range(BLIP_LAYERS):
        block, layer = f"{vision}.blocks.{index}", f"{text}.encoder.layer.{index}"
        linear(f"{block}.attn.qkv", 3 * width, width)
        for name, out, width_in in (("attn.proj", width, width), ("mlp.fc1", 64, width), ("mlp.fc2", width, 64)):
            linear(f"{block}.{name}", out, width_in)
        for name in ("norm1", "norm2"):
            norm(f"{block}.{name}")
        for kind in ("attention", "crossattention"):
            for name in ("self.query", "self.key", "self.value", "output.dense"):
                linear(f"{layer}.{kind}.{name}", width, width)
            norm(f"{layer}.{kind}.output.LayerNorm")
        linear(f"{layer}.intermediate.dense", 64, width)
        linear(f"{layer}.output.dense", width, 64)
        norm(f"{layer}.output.LayerNorm")
    state["blip.vision_proj.weight"] = torch.randn(4, width, generator=generator)  # of BLIP's pretraining, not in use
    return state | head_state("mlp.", width)


def hpsv2_state(folder):
    """A random CLIP under open_clip's names, with what transformers needs to know of it in `folder`."""
    config = CLIPConfig.from_pretrained(folder)
    generator = torch.Generator().manual_seed(3)

    def normal(*shape, scale=0.2):
        return scale * torch.randn(*shape, generator=generator)

    state = {"logit_scale": torch.tensor(4.6), "positional_embedding": normal(14, 32)}
    state |= {"token_embedding.weight": normal(config.text_config.vocab_size, 32), "text_projection": normal(32, 16)}
    state |= {"visual.class_embedding": normal(32), "visual.positional_embedding": normal(17, 32)}
    state |= {"visual.conv1.weight": normal(32, 3, 8, 8), "visual.proj": normal(32, 16)}
    norms = ["ln_final", "visual.ln_pre", "visual.ln_post"]
    for tower in ("transformer", "visual.transformer"):
        for index in range(2):
            block = f"{tower}.resblocks.{index}"
            norms += [f"{block}.ln_1", f"{block}.ln_2"]
            state |= {f"{block}.attn.in_proj_weight": normal(96, 32), f"{block}.attn.in_proj_bias": normal(96)}
            for name in ("attn.out_proj", "mlp.c_fc", "mlp.c_proj"):
                state |= {f"{block}.{name}.weight": normal(32, 32), f"{block}.{name}.bias": normal(32)}
    for name in norms:
        state |= {f"{name}.weight": 1 + normal(32), f"{name}.bias": normal(32)}
    return state
