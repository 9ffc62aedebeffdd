"""Between latents as networks see them and what autoencoders read and write."""

from typing import Any

from torch import Tensor


def to_images(decoded: Tensor) -> Tensor:
    """What an autoencoder returns, in [-1, 1], as images."""
    return (decoded.float() / 2 + 0.5).clamp(0, 1)


def scaled(vae: Any, latents: Tensor) -> Tensor:
    """The inverse of `unscaled`."""
    factor = getattr(vae.config, "scaling_factor", None) or 1.0
    mean, std = (getattr(vae.config, name, None) for name in ("latents_mean", "latents_std"))
    if mean is None or std is None:
        return (latents - (getattr(vae.config, "shift_factor", None) or 0.0)) * factor
    mean, std = (latents.new_tensor(value).unflatten(0, (-1, *(1,) * (latents.dim() - 2))) for value in (mean, std))
    return (latents - mean) / std * factor


def unscaled(vae: Any, x_0: Tensor) -> Tensor:
    """Latents as the autoencoder made them. Some state a mean and a deviation per channel, others one shift."""
    config = vae.config
    mean, std = (getattr(config, name, None) for name in ("latents_mean", "latents_std"))
    x_0 = x_0.to(vae.dtype) / (getattr(config, "scaling_factor", None) or 1.0)
    if mean is None or std is None:
        return x_0 + (getattr(config, "shift_factor", None) or 0.0)
    mean, std = (x_0.new_tensor(value).unflatten(0, (-1, *(1,) * (x_0.dim() - 2))) for value in (mean, std))
    return x_0 * std + mean
