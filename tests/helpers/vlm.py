"""Tiny random vision-language models, saved as the published judges are."""

import json

import torch
from safetensors.torch import save_file
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    Qwen2Tokenizer,
    Qwen2VLConfig,
    Qwen2VLModel,
)

from helpers.text_encoders import LETTERS, SMALL, TEXT_WIDTH

CHAT = (
    "{% for m in messages %}<|im_start|>{% for c in m.content %}"
    "{% if c.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif c.type == 'video' %}<|vision_start|><|video_pad|><|vision_end|>"
    "{% else %}{{ c.text }}{% endif %}{% endfor %}<|im_end|>{% endfor %}"
)
SPECIAL = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]


def letters(*more):
    """A tokenizer of single letters, and of these words."""
    vocab = {token: index for index, token in enumerate([*SPECIAL, *LETTERS, "\u0120", "\u010a", *more])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], additional_special_tokens=SPECIAL[1:])
    tokenizer.chat_template = CHAT
    return tokenizer


def save_llava(folder):
    """A LLaVA with tokens for Yes and No."""
    torch.manual_seed(0)
    tokenizer = letters("Yes", "\u0120Yes", "yes", "No", "\u0120No")
    text = LlamaConfig(**SMALL, vocab_size=len(tokenizer), num_hidden_layers=2, max_position_embeddings=512)
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    config = LlavaConfig(text_config=text, vision_config=vision, image_token_index=5, vision_feature_layer=-1)
    model = LlavaForConditionalGeneration(config)
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    model.save_pretrained(folder)
    pictures = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        chat_template=CHAT,
        image_token="<|image_pad|>",
        num_additional_image_tokens=1,
    ).save_pretrained(folder)


def qwen2_vl(num_words):
    """Its network without a language head."""
    torch.manual_seed(0)
    text = {
        **SMALL,
        "vocab_size": num_words,
        "num_hidden_layers": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 1, "embed_dim": 16, "hidden_size": TEXT_WIDTH, "num_heads": 2, "mlp_ratio": 2}
    marks = {"vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": 5, "video_token_id": 6}
    model = Qwen2VLModel(Qwen2VLConfig(text_config=text, vision_config=vision, **marks)).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def old_names(model):
    """A Qwen2-VL's weights by the names that they had when the judges were published."""
    state = {name.replace("language_model.", "model."): value for name, value in model.state_dict().items()}
    return state | {"lm_head.weight": state["model.embed_tokens.weight"].clone()}


def save_hpsv3(folder):
    """The published file, with a base's config and tokenizer beside it; returns the network and the head's weights."""
    tokenizer = letters()
    tokenizer.save_pretrained(folder)
    model = qwen2_vl(len(tokenizer) + 1)  # and the mark
    model.config.save_pretrained(folder)
    head = {}
    for place, (out, width) in {0: (12, TEXT_WIDTH), 3: (6, 12), 5: (2, 6)}.items():
        head[f"rm_head.{place}.weight"], head[f"rm_head.{place}.bias"] = torch.randn(out, width), torch.randn(out)
    save_file(old_names(model) | head, folder / "HPSv3.safetensors")
    return model, head


def save_videoreward(folder, outputs=1):
    """The published folder, with a base's config and tokenizer beside it; returns the network with its LoRA merged, and the
    head's weight."""
    tokenizer = letters()
    tokenizer.save_pretrained(folder)
    model = qwen2_vl(len(tokenizer) + 3)
    model.config.save_pretrained(folder)
    state = {f"base_model.model.{name}": value.clone() for name, value in old_names(model).items()}
    layer = "base_model.model.model.layers.1.self_attn.q_proj"
    state[f"{layer}.base_layer.weight"] = state.pop(f"{layer}.weight")
    state[f"{layer}.base_layer.bias"] = state.pop(f"{layer}.bias")
    down, up = torch.randn(4, TEXT_WIDTH), torch.randn(TEXT_WIDTH, 4)
    state |= {f"{layer}.lora_A.default.weight": down, f"{layer}.lora_B.default.weight": up}
    model.language_model.layers[1].self_attn.q_proj.weight.data += 8 / 4 * up @ down
    head = torch.randn(outputs, TEXT_WIDTH)
    state["base_model.model.rm_head.modules_to_save.default.weight"] = head
    state["base_model.model.rm_head.original_module.weight"] = torch.zeros_like(head)
    for step in (9, 10):
        (folder / f"checkpoint-{step}").mkdir()
        torch.save(state if step == 10 else {}, folder / f"checkpoint-{step}/model.pth")
    settings = {"data_config": {"fps": 2.0}, "peft_lora_config": {"lora_r": 4, "lora_alpha": 8, "use_rslora": False}}
    settings["inference_config"] = {"VQ_mean": 1.0, "VQ_std": 2.0, "MQ_mean": 0.5, "MQ_std": 1.5, "TA_mean": 0.0, "TA_std": 3.0}
    (folder / "model_config.json").write_text(json.dumps(settings))
    return model, head
