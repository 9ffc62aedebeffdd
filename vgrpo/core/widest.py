"""The most precise numbers of a device."""

import torch


def widest(device: torch.device) -> torch.dtype:
    """fp64, which Apple's GPUs do not have: fp32 there."""
    return torch.float32 if device.type == "mps" else torch.float64
