"""Stable Diffusion 3 and 3.5 (arXiv:2403.03206), and everything else that loads as a StableDiffusion3Pipeline."""

from dataclasses import dataclass, field

import torch
from diffusers import StableDiffusion3Pipeline
from torch import Tensor, nn

from vgrpo.flow import to_timestep
from vgrpo.models.attention import suitable_attention
from vgrpo.types import Cond


@dataclass(kw_only=True)
class SD3Policy:
    """A pipeline seen as the trainer sees it: text to conditions, noisy latents to velocities, latents to images.

    `max_sequence_length` counts T5 tokens; without a T5 the pipeline appends as many zero vectors to the text.
    """

    pipeline: StableDiffusion3Pipeline
    max_sequence_length: int = 256
    resolution: int | None = None  # pixels per side; None is the pipeline's own
    autocast: torch.dtype | None = None
    _cache: dict[str, Cond] = field(default_factory=dict, repr=False)

    @property
    def module(self) -> nn.Module:
        return self.pipeline.transformer

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device  # diffusers' own `device` walks the whole module tree

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        pixels = self.resolution or pipe.default_sample_size * pipe.vae_scale_factor
        side = pixels // pipe.vae_scale_factor
        return pipe.transformer.config.in_channels, side, side

    @torch.no_grad()
    def encode(self, texts: list[str]) -> Cond:
        """Encode texts, each distinct one once per process."""
        new = [text for text in dict.fromkeys(texts) if text not in self._cache]
        if new:
            sequence, _, pooled, _ = self.pipeline.encode_prompt(
                new, None, None, do_classifier_free_guidance=False, max_sequence_length=self.max_sequence_length
            )
            for index, text in enumerate(new):
                self._cache[text] = Cond(sequence=sequence[index], pooled=pooled[index])
        rows = [self._cache[text] for text in texts]
        return Cond(sequence=torch.stack([row.sequence for row in rows]), pooled=torch.stack([row.pooled for row in rows]))

    def velocity(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float = 1.0) -> Tensor:
        """v at [M, *D] and t [M]. Guidance above 1 evaluates the empty text too; both branches carry gradient."""
        if guidance == 1.0:
            return self._forward(x_t, t, cond)
        empty = self.encode([""] * len(x_t))
        both = Cond(sequence=torch.cat([empty.sequence, cond.sequence]), pooled=torch.cat([empty.pooled, cond.pooled]))
        v_empty, v_text = self._forward(torch.cat([x_t, x_t]), torch.cat([t, t]), both).chunk(2)
        return v_empty + guidance * (v_text - v_empty)

    def _forward(self, x_t: Tensor, t: Tensor, cond: Cond) -> Tensor:
        autocast = torch.autocast(self.device.type, dtype=self.autocast, enabled=self.autocast is not None)
        with autocast, suitable_attention(self.device):
            return self.pipeline.transformer(
                hidden_states=x_t.to(cond.sequence.dtype),
                timestep=to_timestep(t),
                encoder_hidden_states=cond.sequence,
                pooled_projections=cond.pooled,
                return_dict=False,
            )[0]

    @torch.no_grad()
    def decode(self, x_0: Tensor) -> Tensor:
        """Latents [B, *D] to images [B, 3, H, W] in [0, 1], fp32."""
        vae = self.pipeline.vae
        latents = x_0.to(vae.dtype) / vae.config.scaling_factor + vae.config.shift_factor
        return (vae.decode(latents, return_dict=False)[0].float() / 2 + 0.5).clamp(0, 1)
