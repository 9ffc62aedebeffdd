"""The sprites world's autoencoder: every 16 x 16 cell on its own, to 24 numbers and back.

A convolutional AutoencoderKL spends most of its time on small convolutions at full resolution, which are slow on a CPU;
cells never mix here, so a code per cell loses nothing and decodes in a fraction of the time.

The encoder is linear: a cell's principal components. In a linear code "which drawing" and "which colour" stay as simple as
they are in pixels; a learned nonlinear code of the same size entangled them, and the transformer needed ten times the images
to learn the names of colours. The decoder is a perceptron, trained on noisy codes (see `pretrain`), which restores crisp
pixels from the ninety percent of the variance that the components keep.
"""

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from torch import Tensor, nn

WHITENING = 0.75


class CellAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """An autoencoder with AutoencoderKL's interface: images in [-1, 1], latents [B, C, H / 16, W / 16]."""

    __module__ = "vgrpo.worlds.sprites"  # what a saved pipeline's index names

    @register_to_config
    def __init__(
        self,
        in_channels: int = 3,
        latent_channels: int = 24,
        hidden_channels: int = 256,
        block_out_channels: tuple[int, ...] = (1, 1, 1, 1, 1),  # its length tells a pipeline the factor, 2 ** (5 - 1)
        scaling_factor: float = 1.0,
        shift_factor: float = 0.0,
    ) -> None:
        super().__init__()
        cell = 2 ** (len(block_out_channels) - 1)
        self.encoder = nn.Conv2d(in_channels, latent_channels, cell, stride=cell)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, hidden_channels, 1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, hidden_channels, 1),
            nn.SiLU(),
            nn.Conv2d(hidden_channels, in_channels * cell**2, 1),
            nn.PixelShuffle(cell),
        )

    @torch.no_grad()
    def fit_encoder(self, images: Tensor) -> None:
        """Set the encoder to the principal components of the cells of images [B, 3, H, W] in [-1, 1].

        Component c is divided by its deviation to the power WHITENING: 1 would raise the last components, mostly noise, to
        the size of the first, 0 would starve them.
        """
        weight = self.encoder.weight
        cells = nn.functional.unfold(images, weight.shape[2:], stride=weight.shape[2:]).transpose(1, 2).flatten(0, 1)
        mean = cells.mean(0)
        _, singular, directions = torch.linalg.svd(cells - mean, full_matrices=False)
        deviation = singular[: len(weight)] / len(cells) ** 0.5
        scaled = directions[: len(weight)] / deviation[:, None] ** WHITENING / (deviation ** (1 - WHITENING)).mean()
        weight.copy_(scaled.view_as(weight))
        assert self.encoder.bias is not None
        self.encoder.bias.copy_(-(scaled @ mean))

    def encode(self, x: Tensor, return_dict: bool = True) -> AutoencoderKLOutput | tuple[DiagonalGaussianDistribution]:
        mean = self.encoder(x)
        posterior = DiagonalGaussianDistribution(torch.cat([mean, torch.zeros_like(mean)], 1), deterministic=True)
        return AutoencoderKLOutput(latent_dist=posterior) if return_dict else (posterior,)

    def decode(
        self, z: Tensor, return_dict: bool = True, generator: torch.Generator | None = None
    ) -> DecoderOutput | tuple[Tensor]:
        sample = self.decoder(z)
        return DecoderOutput(sample=sample) if return_dict else (sample,)
