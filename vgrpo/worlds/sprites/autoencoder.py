"""The sprites world's autoencoder: every 16 x 16 cell on its own, to 16 numbers and back, by a small perceptron.

A convolutional AutoencoderKL spends most of its time on small convolutions at full resolution, which are slow on a CPU;
cells never mix here, so a code per cell loses nothing and decodes in a fraction of the time.

The code is deterministic and standardised, and the decoder is trained on noisy codes (see `pretrain`). A variational code
of the same size was tried first: its decoder forgave less, and the transformer learned to hit what it decodes far slower.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn


class CellAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """An autoencoder with AutoencoderKL's interface: images in [-1, 1], latents [B, C, H / 16, W / 16]."""

    __module__ = "vgrpo.worlds.sprites"  # what a saved pipeline's index names

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 16,
        hidden_channels: int = 256,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1, 1),  # its length tells a pipeline the factor, 2 ** (5 - 1)
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        cell = 2 ** (len(block_out_channels) - 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(in_channels, hidden_channels, cell, stride=cell),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, hidden_channels, 1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, latent_channels, 1),
            nn.BatchNorm2d(latent_channels, affine=False, momentum=0.02),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, hidden_channels, 1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, hidden_channels, 1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, in_channels * cell**2, 1),
            nn.PixelShuffle(cell),
        )

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        mean = self.encoder(x)
        posterior = DiagonalGaussianDistribution(torch.cat([mean, torch.zeros_like(mean)], 1), deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        sample = self.decoder(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)
