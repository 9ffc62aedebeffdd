"""The networks trained on a DDPM schedule (arXiv:2006.11239): Stable Diffusion 1.5 and 2.1 (arXiv:2112.10752; eps- and
v-prediction) and SDXL (arXiv:2307.01952).

They see z = a x_0 + b eps with a^2 + b^2 = 1 at 1000 noise levels. Divided by a + b that is the flow's state at
t = b / (a + b), so every solver and algorithm works on them unchanged; this file is where the two conventions meet. Times
beyond the schedule's noisiest level (t = 0.936 for Stable Diffusion) are answered at that level, as its own samplers do that
start from pure noise there.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import torch
from torch import Tensor

from vgrpo.core.flow import expand
from vgrpo.core.types import Cond
from vgrpo.core.widest import widest
from vgrpo.models.latents import to_images, unscaled
from vgrpo.models.policy import Policy


@dataclass(kw_only=True)
class StableDiffusionPolicy(Policy):
    """Stable Diffusion 1.x and 2.x."""

    network: ClassVar[str] = "unet"

    @property
    def pixel_step(self) -> int:
        """Every level of the U-Net but the first halves the side."""
        return int(self.pipeline.vae_scale_factor) * 2 ** (len(self.pipeline.unet.config.down_block_types) - 1)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        height, width = self.sides(pipe.unet.config.sample_size * pipe.vae_scale_factor)
        return pipe.unet.config.in_channels, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor

    @property
    def num_text_tokens(self) -> int:
        return int(self.pipeline.text_encoder.config.max_position_embeddings)

    def blank_text(self, rows: int) -> Cond:
        return Cond(sequence=self.blank(rows, self.num_text_tokens, self.pipeline.unet.config.cross_attention_dim))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, _ = self.pipeline.encode_prompt(texts, self.device, 1, do_classifier_free_guidance=False)
        return Cond(sequence=sequence)

    def conditions(self, cond: Cond, shape: torch.Size) -> dict[str, Any] | None:
        """What the network is told beside the text."""
        return None

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        scheduler = self.pipeline.scheduler
        scheduler.alphas_cumprod = scheduler.alphas_cumprod.to(t.device)  # moved once; the host would wait at every step
        step, a, b = noise_level(t, scheduler.alphas_cumprod)
        z = x_t / expand(((1 - t) ** 2 + t**2).sqrt(), x_t)
        out = self.pipeline.unet(
            z.to(cond.sequence.dtype),
            step,
            encoder_hidden_states=cond.sequence,
            added_cond_kwargs=self.conditions(cond, x_t.shape),
            return_dict=False,
        )[0].float()
        x_0 = predicted_x_0(scheduler.config.prediction_type, z, out, expand(a, z), expand(b, z))
        return (x_t - x_0) / expand(t, x_t)

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        vae = self.pipeline.vae
        if vae.dtype == torch.float16 and getattr(vae.config, "force_upcast", False):
            vae.float()  # SDXL's overflows in half precision
        return to_images(vae.decode(unscaled(vae, x_0), return_dict=False)[0])


@dataclass(kw_only=True)
class SDXLPolicy(StableDiffusionPolicy):
    """SDXL: two text encoders, and the picture's size as a condition (no cropping, target equals original)."""

    def blank_text(self, rows: int) -> Cond:
        config = self.pipeline.unet.config
        pooled = config.projection_class_embeddings_input_dim - 6 * config.addition_time_embed_dim  # beside the six sizes
        return Cond(sequence=super().blank_text(rows).sequence, pooled=self.blank(rows, pooled))

    def encode_texts(self, texts: list[str]) -> Cond:
        sequence, _, pooled, _ = self.pipeline.encode_prompt(texts, device=self.device, do_classifier_free_guidance=False)
        if self.pipeline.config.force_zeros_for_empty_prompt:
            known = torch.tensor([float(bool(text)) for text in texts], device=sequence.device, dtype=sequence.dtype)
            sequence, pooled = sequence * known[:, None, None], pooled * known[:, None]
        return Cond(sequence=sequence, pooled=pooled)

    def conditions(self, cond: Cond, shape: torch.Size) -> dict[str, Any]:
        height, width = (side * self.pipeline.vae_scale_factor for side in shape[-2:])
        assert cond.pooled is not None
        sizes = _sizes(height, width, cond.pooled.dtype, cond.pooled.device)
        return {"text_embeds": cond.pooled, "time_ids": sizes.expand(len(cond), -1)}


@cache
def _sizes(height: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Made once: to send them at every step would make the host wait."""
    return torch.tensor([height, width, 0, 0, height, width], dtype=dtype, device=device)


def noise_level(t: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The schedule's (fractional) step whose signal-to-noise ratio is that of the flow at t [M], and its a and b [M].

    Between two steps, t is interpolated; outside the schedule its ends are taken.
    """
    alphas_cumprod, t = alphas_cumprod.to(widest(t.device)), t.to(widest(t.device))
    a, b = alphas_cumprod.sqrt(), (1 - alphas_cumprod).sqrt()
    times = b / (a + b)
    t = t.clamp(times[0], times[-1])
    upper = torch.searchsorted(times, t).clamp(1, len(times) - 1)
    low, high = times[upper - 1], times[upper]
    step = (upper - 1) + (t - low) / (high - low)
    norm = ((1 - t) ** 2 + t**2).sqrt()
    return step.float(), ((1 - t) / norm).float(), (t / norm).float()


def predicted_x_0(kind: str, z: Tensor, out: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x_0 from what a network of the given `prediction_type` returned at z = a x_0 + b eps."""
    if kind == "v_prediction":  # out is a eps - b x_0
        return a * z - b * out
    return out if kind == "sample" else (z - b * out) / a
