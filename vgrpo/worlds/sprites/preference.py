"""Train the learned preference model of the sprites world: `vgrpo pretrain preference`.

A CLIP learns from pairs of boards for one prompt which is the better one, as PickScore (arXiv:2305.01569) learned from people's
choices. It sees boards that the renderer drew and nothing that a diffusion model made: a proxy of the verifier that is good
enough to learn from and can be fooled.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor, CLIPTokenizer

from vgrpo.core.types import Prompt
from vgrpo.support.checks import require_finite, require_within
from vgrpo.worlds.sprites.build import MAX_TOKENS, build_tokenizer
from vgrpo.worlds.sprites.grammar import TAGS, held_out_prompts, prompt_stream
from vgrpo.worlds.sprites.render import CELL, SIZE, render
from vgrpo.worlds.sprites.scenes import sample_scene
from vgrpo.worlds.sprites.training import Say, Schedule, adamw, new_model, silent
from vgrpo.worlds.sprites.verifier import score

WIDTH, NUM_LAYERS, NUM_HEADS, EMBEDDING = 96, 3, 3, 64
SPOILED_SHARE = 0.25  # of the alternatives: right about the facts, badly drawn
MEAN, STD = 0.8, 0.2  # of a board's values, about


@dataclass(frozen=True, kw_only=True)
class PreferenceConfig:
    """How the learned preference model was made. The defaults are its exact settings."""

    output_dir: Path = Path("sprites-preference")
    """Where the CLIP folder and `pretrain.jsonl` go."""
    seed: int = 0
    num_steps: int = 1500
    batch_size: int = 128
    """Pairs per step."""
    lr: float = 1e-3
    log_every: int = 50
    """Steps between lines of `pretrain.jsonl`."""

    def __post_init__(self) -> None:
        require_finite(self)
        require_within(self, num_steps=(1, 10**7), log_every=(1, 10**7), batch_size=(1, 10_000), lr=(1e-12, 10))


def pretrain_preference(config: PreferenceConfig, say: Say = silent) -> CLIPModel:
    """Train and save the model with its processor; returns it. Raises FileExistsError if the folder holds one already."""
    torch.manual_seed(config.seed)
    tokenizer = build_tokenizer()
    model = build_clip(tokenizer)
    optimizer = Schedule(adamw(list(model.parameters()), config.lr), num_steps=config.num_steps)
    losses: list[float] = []
    with new_model(config.output_dir, "config.json", say) as log:
        for step, pairs in zip(range(1, config.num_steps + 1), _batches(config), strict=False):
            loss = preference_loss(model, tokenizer, *pairs)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            if step % config.log_every == 0:
                log(step=step, loss=round(sum(losses) / len(losses), 4))
                losses.clear()
            if step % (5 * config.log_every) == 0 or step == config.num_steps:
                log(step=step, **accuracy(model, tokenizer))
    model.half().save_pretrained(config.output_dir)
    CLIPProcessor(_image_processor(), tokenizer).save_pretrained(config.output_dir)
    return model


def build_clip(tokenizer: CLIPTokenizer) -> CLIPModel:
    """A CLIP with fresh weights whose image patches are the board's cells."""
    size = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": NUM_LAYERS,
        "num_attention_heads": NUM_HEADS,
    }
    text = {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {"image_size": SIZE, "patch_size": CELL}
    return CLIPModel(CLIPConfig(text_config=size | text, vision_config=size | vision, projection_dim=EMBEDDING))


def _image_processor() -> CLIPImageProcessor:
    return CLIPImageProcessor(do_resize=False, do_center_crop=False, image_mean=[MEAN] * 3, image_std=[STD] * 3)


def embed(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str], images: Tensor) -> tuple[Tensor, Tensor]:
    """Texts [B] and boards [N, 3, 64, 64] in [0, 1] to unit vectors [B, E] and [N, E]."""
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    output = model(**inputs, pixel_values=(images - MEAN) / STD)
    return output.text_embeds, output.image_embeds


def preference_loss(model: CLIPModel, tokenizer: CLIPTokenizer, texts: list[str], better: Tensor, worse: Tensor) -> Tensor:
    """Of each pair the better board must be chosen (PickScore's loss), and of all better ones the prompt's own (CLIP's)."""
    text, image = embed(model, tokenizer, texts, torch.cat([better, worse]))
    first, second = image.chunk(2)
    scale = model.logit_scale.exp()
    choice = scale * ((text * second).sum(-1) - (text * first).sum(-1))
    logits = scale * text @ first.T
    own = torch.arange(len(texts))
    contrast = functional.cross_entropy(logits, own) + functional.cross_entropy(logits.T, own)
    return functional.softplus(choice).mean() + contrast / 2


def _batches(config: PreferenceConfig) -> Iterator[tuple[list[str], Tensor, Tensor]]:
    """Prompts with a better and a worse board each, without end."""
    generator = torch.Generator().manual_seed(config.seed)
    rng = random.Random(config.seed)
    prompts = prompt_stream(rng)
    while True:
        yield make_pairs([next(prompts) for _ in range(config.batch_size)], rng, generator)


def make_pairs(prompts: list[Prompt], rng: random.Random, generator: torch.Generator) -> tuple[list[str], Tensor, Tensor]:
    """Texts and boards [B, 3, 64, 64], of which the first show the prompt and the second are wrong in a fact, or spoiled.
    Pairs whose second board happens to be right as well are left out."""
    better = render([sample_scene(prompt, rng) for prompt in prompts], generator)
    worse = render([sample_scene(prompt, rng, looseness=1.0) for prompt in prompts], generator)
    wrong = score(worse, prompts).reward < 1
    chosen = torch.rand(len(prompts), generator=generator) < SPOILED_SHARE
    worse[chosen] = spoil(better[chosen], generator)
    keep = (wrong | chosen).nonzero().flatten().tolist()
    return [prompts[index].text for index in keep], better[keep], worse[keep]


def spoil(images: Tensor, generator: torch.Generator) -> Tensor:
    """Boards [B, 3, H, W] as a model may get them wrong: blurred, noisy, or with ghosts of another board."""
    small = functional.avg_pool2d(images, 4)
    blurred = functional.interpolate(small, size=images.shape[-2:], mode="bilinear")
    noisy = images + 0.15 * torch.randn(images.shape, generator=generator)
    ghosts = (images + images.roll(1, 0)) / 2
    kind = torch.randint(0, 3, (len(images), 1, 1, 1), generator=generator)
    return torch.where(kind == 0, blurred, torch.where(kind == 1, noisy, ghosts)).clamp(0, 1)


@torch.no_grad()
def accuracy(model: CLIPModel, tokenizer: CLIPTokenizer, num_per_tag: int = 100) -> dict[str, float]:
    """Share of held-out pairs that are judged right, by tag."""
    rng, generator = random.Random(1), torch.Generator().manual_seed(1)
    result = {}
    for tag in TAGS:
        texts, better, worse = make_pairs(held_out_prompts(num_per_tag, tags=(tag,)), rng, generator)
        text, image = embed(model, tokenizer, texts, torch.cat([better, worse]))
        first, second = image.chunk(2)
        result[tag] = round((text * (first - second)).sum(-1).gt(0).float().mean().item(), 3)
    return result
