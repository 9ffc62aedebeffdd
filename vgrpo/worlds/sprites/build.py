"""The untrained sprites pipeline: a Stable Diffusion 3 in miniature, every part of diffusers' or transformers' own class
except the autoencoder."""

import string

from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel, StableDiffusion3Pipeline
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection, CLIPTokenizer

from vgrpo.worlds.sprites.art import SPRITES
from vgrpo.worlds.sprites.autoencoder import CellAutoencoder
from vgrpo.worlds.sprites.grammar import NUMBERS, PHRASINGS, RELATIONS, plural
from vgrpo.worlds.sprites.render import COLORS, GRID

MAX_TOKENS = 14  # the longest prompt, `a picture of a red heart left of a blue key`, with start and end
TEXT_WIDTH, WIDTH, NUM_HEADS, NUM_LAYERS, LATENT_CHANNELS = 64, 128, 4, 4, 24


def build_tokenizer() -> CLIPTokenizer:
    """CLIP's byte-pair tokenizer with a vocabulary of the world's words.

    Merges build a word from its end, so a quoted word like "CAT" stays letters (c, a, t</w>) that a model can spell with,
    while `heart` becomes one token.
    """
    text = " ".join([*SPRITES, *map(plural, SPRITES), *COLORS, *NUMBERS, *RELATIONS, *sum(PHRASINGS.values(), ()), "an"])
    for name in ("{a}", "{b}", "{n}", "{r}", "{w}"):
        text = text.replace(name, " ")
    words = sorted({word for word in text.replace('"', " ").split() if len(word) > 1})
    characters = [c for c in string.printable if c.isprintable() and not c.isspace() and not c.isupper()]
    merges: dict[tuple[str, str], None] = {}
    for word in words:
        for index in range(len(word) - 1, 0, -1):
            merges[word[index - 1], word[index:] + "</w>"] = None
    tokens = ["<|startoftext|>", "<|endoftext|>", *characters, *(c + "</w>" for c in characters)]
    tokens += [left + right for left, right in merges]
    vocab = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocab, merges=list(merges), model_max_length=MAX_TOKENS)


def _text_encoder(tokenizer: CLIPTokenizer) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=4 * TEXT_WIDTH,
        projection_dim=TEXT_WIDTH,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    encoder = CLIPTextModelWithProjection(config)
    # CLIP's own start, a deviation of 0.02, would leave all words alike beside the biases that follow.
    nn.init.normal_(encoder.text_model.embeddings.token_embedding.weight)
    nn.init.normal_(encoder.text_model.embeddings.position_embedding.weight, std=0.5)
    return encoder


def build_pipeline(vae: CellAutoencoder) -> StableDiffusion3Pipeline:
    """A pipeline with fresh weights (from torch's global generator) around a trained autoencoder."""
    tokenizer = build_tokenizer()
    transformer = SD3Transformer2DModel(
        sample_size=GRID,
        patch_size=1,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        num_layers=NUM_LAYERS,
        num_attention_heads=NUM_HEADS,
        attention_head_dim=WIDTH // NUM_HEADS,
        caption_projection_dim=WIDTH,
        joint_attention_dim=2 * TEXT_WIDTH,
        pooled_projection_dim=2 * TEXT_WIDTH,
        pos_embed_max_size=GRID,
        qk_norm="rms_norm",
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=1.0),
        vae=vae,
        text_encoder=_text_encoder(tokenizer),
        tokenizer=tokenizer,
        text_encoder_2=_text_encoder(tokenizer),
        tokenizer_2=tokenizer,
        text_encoder_3=None,
        tokenizer_3=None,
    )
