"""Tiny random language models that encode text, each with a tokenizer built here; the real classes."""

import re

from transformers import (
    BatchFeature,
    Gemma2Config,
    Gemma2Model,
    GemmaTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
    UMT5Config,
    UMT5EncoderModel,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

TEXT_WIDTH = 32
SMALL = {
    "hidden_size": TEXT_WIDTH,
    "intermediate_size": TEXT_WIDTH,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
}
LETTERS = [chr(code) for code in range(33, 127)]


def t5(model=T5EncoderModel, config=T5Config):
    """T5's encoder, and a tokenizer of single letters."""
    words = ["<pad>", "</s>", "<unk>", *(chr(code) for code in range(97, 123)), "\u2581"]
    tokenizer = T5Tokenizer(vocab=[(word, -float(index)) for index, word in enumerate(words)], extra_ids=0, model_max_length=24)
    return model(config(vocab_size=len(tokenizer), d_model=TEXT_WIDTH, d_kv=8, d_ff=32, num_layers=1, num_heads=4)), tokenizer


def umt5():
    return t5(UMT5EncoderModel, UMT5Config)


def _merges(words):
    """Byte pairs that build each word from its start, and the tokens they make."""
    merges = dict.fromkeys((word[:index], word[index]) for word in words for index in range(1, len(word)))
    return list(merges), [left + right for left, right in merges]


def qwen(template, num_template_tokens):
    """Qwen2.5-VL, and a tokenizer with a token for each word of the template, whose prompt starts where the pipeline cuts."""
    system = template.split("{}")[0].split("<|vision_start|>")[0]
    words = [word.replace(" ", "Ġ") for word in re.findall(r" ?[A-Za-z]+|'s|\),| \(", re.sub(r"<.*?>", "", system))]
    merges, merged = _merges(sorted(words, key=lambda word: word[0] != "Ġ"))  # so that no word's start joins another's inside
    tokens = [*LETTERS, "Ġ", "Ċ", *merged]
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
    vocab = {token: index for index, token in enumerate(dict.fromkeys([*special, *tokens]))}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=merges, additional_special_tokens=special[1:])
    assert len(tokenizer(system).input_ids) == num_template_tokens, tokenizer.tokenize(system)
    text = {
        **SMALL,
        "vocab_size": len(tokenizer),
        "num_hidden_layers": 2,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]},
    }
    vision = {"depth": 1, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": TEXT_WIDTH}
    marks = {"vision_start_token_id": 3, "vision_end_token_id": 4, "image_token_id": 5}
    return Qwen2_5_VLForConditionalGeneration(Qwen2_5_VLConfig(text_config=text, vision_config=vision, **marks)), tokenizer


class QwenProcessor:
    """What Qwen2VLProcessor does with a text and a picture; the real one needs torchvision."""

    def __init__(self, tokenizer):
        self.tokenizer, self.pictures = tokenizer, Qwen2VLImageProcessorPil()

    def __call__(self, text, images, padding, return_tensors):
        seen = self.pictures(images=[images] * len(text), return_tensors="pt")
        counts = (seen["image_grid_thw"].prod(1) // self.pictures.merge_size**2).tolist()
        mark = "<|image_pad|>"
        filled = [line.replace(mark, mark * count) for line, count in zip(text, counts, strict=True)]
        return BatchFeature({**self.tokenizer(filled, padding=padding, return_tensors="pt"), **seen})


def _letter_tokenizer(*special):
    tokens = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *special, *LETTERS, "\u2581", "\n"]
    vocab = {token: index for index, token in enumerate(tokens)}
    return GemmaTokenizer(vocab=vocab, additional_special_tokens=list(special))


def gemma():
    """Gemma 2, and a tokenizer of single letters."""
    tokenizer = _letter_tokenizer()
    config = Gemma2Config(**SMALL, vocab_size=len(tokenizer), num_hidden_layers=2, head_dim=16)
    return Gemma2Model(config), tokenizer


def mistral():
    """Mistral 3 of just enough layers for FLUX.2, which reads the 30th, and a tokenizer whose chats are the user's text.

    FLUX.2's own is such a tokenizer inside a PixtralProcessor, which needs torchvision.
    """
    tokenizer = _letter_tokenizer("[INST]", "[/INST]")
    tokenizer.chat_template = "{% for m in messages if m.role == 'user' %}[INST]{{ m.content[0].text }}[/INST]{% endfor %}"
    text = {**SMALL, "model_type": "mistral", "vocab_size": len(tokenizer), "num_hidden_layers": 30, "head_dim": 16}
    vision = {"model_type": "pixtral", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "head_dim": 8}
    vision["num_attention_heads"] = 2
    return Mistral3ForConditionalGeneration(Mistral3Config(text_config=text, vision_config=vision)), tokenizer


def qwen3(model=Qwen3Model, num_layers=2):
    """Qwen3, and a tokenizer of single letters with a chat template."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    vocab = {token: index for index, token in enumerate([*special, *LETTERS, "Ġ", "Ċ"])}
    tokenizer = Qwen2Tokenizer(vocab=vocab, merges=[], additional_special_tokens=special[1:])
    tokenizer.chat_template = (
        "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}{% if enable_thinking is false %}-{% endif %}"
    )
    config = Qwen3Config(**SMALL, vocab_size=len(tokenizer), num_hidden_layers=num_layers, head_dim=16)
    return model(config), tokenizer


def qwen3_for_flux2():
    """Of just enough layers for FLUX.2 [klein], which reads the 27th."""
    return qwen3(Qwen3ForCausalLM, 28)
