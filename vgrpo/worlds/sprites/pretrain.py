"""Train the bundled sprites model from nothing: `vgrpo pretrain sprites`.

Two stages, both on boards drawn on the fly: the autoencoder of single cells, then the text encoders and the transformer
together on the velocity loss. Every second caption is loose, one fact in them wrong, as web captions are; the model
learns to draw crisply, and to be careless about counts, colours, places and spelling, which is what RL can then repair.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn

from vgrpo.core import flow
from vgrpo.core.types import Prompt
from vgrpo.models.adapters.sd3 import SD3Policy
from vgrpo.models.attention import short_attention
from vgrpo.sampling.draw import draw_latents
from vgrpo.support.checks import require_finite, require_within
from vgrpo.worlds.sprites.autoencoder import CellAutoencoder
from vgrpo.worlds.sprites.build import LATENT_CHANNELS, build_pipeline
from vgrpo.worlds.sprites.grammar import TAGS, held_out_prompts, prompt_stream
from vgrpo.worlds.sprites.render import COLORS, EMPTY, NUM_CELLS, SHAPES, Scene, render
from vgrpo.worlds.sprites.scenes import sample_scene
from vgrpo.worlds.sprites.training import Log, Say, Schedule, adamw, new_model, silent
from vgrpo.worlds.sprites.verifier import score

LATENT_NOISE = 0.6  # at most, in units of a latent's deviation, where the decoder learns to forgive
PRETRAIN_TAGS = (*TAGS, "colors", "text", "position", "color_attr")  # the kinds that are learned last, twice
DIFFUSERS_PADDING = 256  # zero vectors that diffusers appends to the text by default when there is no T5


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How the bundled model was made. The defaults are its exact settings."""

    output_dir: Path = Path("sprites-base")
    """Where the pipeline, `pretrain.jsonl` and `samples.png` go."""
    seed: int = 0
    num_autoencoder_steps: int = 3500
    """Steps of 32 boards for the decoder."""
    num_steps: int = 7000
    """Steps of `batch_size` boards for the text encoders and the transformer."""
    batch_size: int = 128
    lr: float = 2e-3
    """AdamW's learning rate."""
    muon_lr: float = 4e-3
    looseness: float = 0.5
    """Share of the captions with one fact wrong."""
    caption_dropout: float = 0.1
    """Share of the captions replaced by the empty one, for classifier-free guidance."""
    log_every: int = 100
    """Steps between lines of `pretrain.jsonl`."""

    def __post_init__(self) -> None:
        require_finite(self)
        require_within(
            self, num_autoencoder_steps=(1, 10**7), num_steps=(1, 10**7), log_every=(1, 10**7), batch_size=(1, 10_000)
        )
        require_within(self, lr=(1e-12, 10), muon_lr=(1e-12, 10), looseness=(0, 1), caption_dropout=(0, 1))


def pretrain(config: PretrainConfig, say: Say = silent) -> StableDiffusion3Pipeline:
    """Train and save the sprites pipeline; returns it. Raises FileExistsError if the folder holds a pipeline already."""
    torch.manual_seed(config.seed)
    with new_model(config.output_dir, "model_index.json", say) as log:
        vae = _train_autoencoder(config, log)
        pipeline = build_pipeline(vae)
        _train_base(pipeline, config, log)
    pipeline.transformer.half()
    pipeline.save_pretrained(config.output_dir)
    return pipeline


def _base_optimizer(pipeline: StableDiffusion3Pipeline, config: PretrainConfig) -> Schedule:
    """Muon for the matrices inside the transformer blocks, AdamW for the rest. Muon needs about half AdamW's images."""
    encoders = (pipeline.text_encoder, pipeline.text_encoder_2)
    blocks = nn.ModuleList([pipeline.transformer.transformer_blocks, *(encoder.text_model.encoder for encoder in encoders)])
    matrices = [parameter for parameter in blocks.parameters() if parameter.dim() == 2]
    chosen = {id(parameter) for parameter in matrices}
    modules = nn.ModuleList([pipeline.transformer, *encoders])
    rest = [parameter for parameter in modules.parameters() if id(parameter) not in chosen]
    muon = torch.optim.Muon(matrices, lr=config.muon_lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    return Schedule(muon, adamw(rest, config.lr), num_steps=config.num_steps)


def _crowded_boards(num_images: int, generator: torch.Generator) -> Tensor:
    """Boards with three cells in four taken, so that the autoencoder meets every drawing often."""
    shapes = torch.randint(0, len(SHAPES), (num_images, NUM_CELLS), generator=generator)
    shapes[torch.rand(shapes.shape, generator=generator) < 0.25] = EMPTY
    colors = torch.randint(0, len(COLORS), shapes.shape, generator=generator)
    rows = zip(shapes.tolist(), colors.tolist(), strict=True)
    return render([Scene(shapes=tuple(shape), colors=tuple(color)) for shape, color in rows], generator)


def _train_autoencoder(config: PretrainConfig, log: Log) -> CellAutoencoder:
    generator = torch.Generator().manual_seed(config.seed)
    vae = CellAutoencoder(latent_channels=LATENT_CHANNELS)
    vae.fit_encoder(_crowded_boards(1024, generator) * 2 - 1)
    optimizer = Schedule(adamw(list(vae.decoder.parameters()), 3e-3), num_steps=config.num_autoencoder_steps)
    for step in range(1, config.num_autoencoder_steps + 1):
        images = _crowded_boards(32, generator) * 2 - 1
        latents = vae.encode(images).latent_dist.mode()
        strength = LATENT_NOISE * torch.rand(len(latents), 1, *latents.shape[2:], generator=generator)
        noisy = latents + strength * torch.randn(latents.shape, generator=generator)
        loss = (vae.decode(noisy).sample - images).abs().mean()
        loss.backward()
        optimizer.step()
        if step % (10 * config.log_every) == 0:
            log(stage="autoencoder", step=step, mean_absolute_error=round(loss.item() / 2, 5))
    vae.requires_grad_(False).eval()
    prompts = prompt_stream(random.Random(config.seed))
    latents = _encode(vae, render([sample_scene(next(prompts), random.Random(i)) for i in range(512)], generator))
    vae.register_to_config(scaling_factor=1 / latents.std().item(), shift_factor=latents.mean().item())
    return vae


def _encode(vae: CellAutoencoder, images: Tensor) -> Tensor:
    posterior: Any = vae.encode(images * 2 - 1, return_dict=False)[0]
    latents = posterior.mode()
    return (latents - vae.config.shift_factor) * vae.config.scaling_factor


def _batches(config: PretrainConfig, generator: torch.Generator) -> Iterator[tuple[list[str], Tensor]]:
    """Captions and boards without end."""
    rng = random.Random(config.seed)
    prompts = prompt_stream(rng, tags=PRETRAIN_TAGS)
    while True:
        batch: list[Prompt] = [next(prompts) for _ in range(config.batch_size)]
        images = render([sample_scene(prompt, rng, looseness=config.looseness) for prompt in batch], generator)
        yield ["" if rng.random() < config.caption_dropout else prompt.text for prompt in batch], images


def _embed(pipeline: StableDiffusion3Pipeline, texts: list[str], padding: int) -> tuple[Tensor, Tensor]:
    """What `encode_prompt` computes without a T5, with gradient: sequence [B, L + padding, C] and pooled [B, P]."""
    ids = pipeline.tokenizer(texts, padding="max_length", return_tensors="pt").input_ids
    outputs = [encoder(ids, output_hidden_states=True) for encoder in (pipeline.text_encoder, pipeline.text_encoder_2)]
    sequence = torch.cat([output.hidden_states[-2] for output in outputs], -1)
    sequence = nn.functional.pad(sequence, (0, 0, 0, padding))
    return sequence, torch.cat([output.text_embeds for output in outputs], -1)


def _train_base(pipeline: StableDiffusion3Pipeline, config: PretrainConfig, log: Log) -> None:
    generator = torch.Generator().manual_seed(config.seed + 1)
    modules = nn.ModuleList([pipeline.transformer, pipeline.text_encoder, pipeline.text_encoder_2])
    parameters = list(modules.parameters())
    optimizer = _base_optimizer(pipeline, config)
    average = torch.optim.swa_utils.AveragedModel(modules, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.99))
    losses: list[float] = []
    for step, (texts, images) in zip(range(1, config.num_steps + 1), _batches(config, generator), strict=False):
        padding = 0
        if step % 20 == 0:  # now and then as diffusers calls it by default, so that a plain `pipe(prompt)` works
            padding, texts, images = DIFFUSERS_PADDING, texts[:16], images[:16]
        x_0 = _encode(pipeline.vae, images)
        t = torch.sigmoid(0.3 + torch.randn(len(x_0), generator=generator))
        eps = torch.randn(x_0.shape, generator=generator)
        with torch.autocast("cpu", torch.bfloat16), short_attention():
            sequence, pooled = _embed(pipeline, texts, padding)
            v = pipeline.transformer(flow.interpolate(x_0, eps, t), sequence, pooled, flow.to_timestep(t)).sample
        loss = (v.float() - flow.velocity_target(x_0, eps)).square().mean()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 4 == 0:
            average.update_parameters(modules)
        if step % config.log_every == 0:
            log(stage="base", step=step, images=step * config.batch_size, loss=round(sum(losses) / len(losses), 5))
            losses.clear()
        if step % (10 * config.log_every) == 0 or step == config.num_steps:
            log(stage="held-out", step=step, **_strict(pipeline, average.module, modules))
    modules.load_state_dict(average.module.state_dict())


@torch.no_grad()
def _strict(pipeline: StableDiffusion3Pipeline, average: nn.Module, modules: nn.Module) -> dict[str, float]:
    """Strict score and reward of the averaged weights on held-out prompts, plain and guided."""
    current = {name: value.clone() for name, value in modules.state_dict().items()}
    modules.load_state_dict(average.state_dict())
    policy = SD3Policy(pipeline=pipeline, max_sequence_length=0, autocast=torch.bfloat16)
    prompts = held_out_prompts(40)
    cond = policy.encode([prompt.text for prompt in prompts])
    noise = torch.randn(len(prompts), *policy.latent_shape, generator=torch.Generator().manual_seed(0))
    result: dict[str, float] = {}
    for name, guidance in (("", 1.0), ("_guided", 2.0)):
        x_0 = draw_latents(policy, cond, noise, solver="euler", times=flow.schedule(16), guidance=guidance)
        scores = score(policy.decode(x_0), prompts)
        result |= {f"strict{name}": scores.strict.mean().item(), f"reward{name}": scores.reward.mean().item()}
    modules.load_state_dict(current)
    return {name: round(value, 4) for name, value in result.items()}
