"""Networks that see 2 x 2 latents as one token, packed by the caller (FLUX.1, Qwen-Image): packed here and nowhere else."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from vgrpo.models.policy import JOINT_ATTENTION, Policy


@dataclass(kw_only=True)
class PackedPolicy(Policy):
    """Latents as the autoencoder has them, [C, H, W] with even sides; the network takes [H / 2 * W / 2, 4 C]."""

    lora_targets: ClassVar[tuple[str, ...]] = JOINT_ATTENTION

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        pipe = self.pipeline
        sides = self.sides(pipe.default_sample_size * pipe.vae_scale_factor)
        height, width = (2 * (side // (2 * pipe.vae_scale_factor)) for side in sides)
        return pipe.transformer.config.in_channels // 4, height, width

    @property
    def num_image_tokens(self) -> int:
        return math.prod(self.latent_shape[1:]) // 4


def pack(x: Tensor) -> Tensor:
    """[M, C, H, W] to tokens [M, H / 2 * W / 2, 4 C]."""
    return x.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """The inverse of `pack`."""
    grid = tokens.unflatten(2, (-1, 2, 2)).unflatten(1, (height // 2, width // 2))
    return grid.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
