"""Sana (arXiv:2410.10629), and everything else that loads as a SanaPipeline.

Its text encoder is a language model. The pipeline puts an instruction to elaborate before every prompt, as its call does by
default, and none before the empty text of guidance; so does this file.
"""

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.flow import to_timestep
from vgrpo.core.types import Cond
from vgrpo.models.policy import Policy


@dataclass(kw_only=True)
class SanaPolicy(Policy):
    """`max_sequence_length` counts tokens of the prompt without the instruction."""

    @property
    def pixel_step(self) -> int:
        return int(self.pipeline.vae_scale_factor * self.pipeline.transformer.config.patch_size)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        height, width = self.sides(pipe.transformer.config.sample_size * pipe.vae_scale_factor)
        return pipe.transformer.config.in_channels, height // pipe.vae_scale_factor, width // pipe.vae_scale_factor

    @classmethod
    def default_length(cls, pipeline: Any) -> int:
        return 300

    def blank_text(self, rows: int) -> Cond:
        sequence = self.blank(rows, self.num_text_tokens, self.pipeline.transformer.config.caption_channels)
        return Cond(sequence=sequence, mask=torch.ones_like(sequence[..., 0], dtype=torch.long))

    def encode_texts(self, texts: list[str]) -> Cond:
        instruction = inspect.signature(self.pipeline.__call__).parameters["complex_human_instruction"].default
        return Cond.cat([self._encode(text, instruction if text else None) for text in texts])

    def _encode(self, text: str, instruction: list[str] | None) -> Cond:
        sequence, mask, _, _ = self.pipeline.encode_prompt(
            [text],
            do_classifier_free_guidance=False,
            device=self.device,
            max_sequence_length=self.max_sequence_length,
            complex_human_instruction=instruction,
        )
        return Cond(sequence=sequence, mask=mask)

    def predict(self, x_t: Tensor, t: Tensor, cond: Cond, guidance: float) -> Tensor:
        network = self.pipeline.transformer
        out = network(
            x_t.to(cond.sequence.dtype),
            encoder_hidden_states=cond.sequence,
            encoder_attention_mask=cond.mask,
            timestep=to_timestep(t) * network.config.timestep_scale,
            return_dict=False,
        )[0]
        return out[:, : x_t.shape[1]]  # some networks predict a variance too, in as many channels
