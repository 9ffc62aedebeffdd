"""Optimiser steps: AdamW (arXiv:1711.05101), and the same with its two moments in 8 bits (arXiv:2110.02861)."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from vgrpo.training.config import UpdateConfig

STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2 + 8 / 256}
"""Per trained weight."""


def check_optimizer(config: UpdateConfig) -> None:
    """Raise ValueError if the optimiser's package is not installed."""
    if config.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError('update.optimizer=adamw_8bit needs bitsandbytes: pip install "vgrpo[bitsandbytes]", or take adamw')


def make_adamw(parameters: list[nn.Parameter], config: UpdateConfig) -> torch.optim.Optimizer:
    """In 8 bits a weight's state takes 2 bytes, and 8 more for every block of 256, instead of 8; tensors of fewer than 4096
    numbers keep theirs in fp32."""
    check_optimizer(config)
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **settings)
    return optimizer


@dataclass(kw_only=True)
class Optimizer:
    """AdamW with linear warm-up, an optional linear decay and gradient clipping over the trainable parameters."""

    inner: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    lr: float
    num_warmup_steps: int
    max_grad_norm: float
    num_decay_steps: int | None = None  # None keeps the learning rate
    num_steps: int = 0
    after_step: Callable[[], None] = lambda: None

    def step(self) -> float:
        """Apply the gradient; returns its norm before clipping."""
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm)
        self.num_steps += 1
        factor = min(1.0, self.num_steps / max(1, self.num_warmup_steps))
        if self.num_decay_steps is not None:
            factor *= max(0.1, 1 - 0.9 * self.num_steps / self.num_decay_steps)
        for group in self.inner.param_groups:
            group["lr"] = self.lr * factor
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        self.after_step()
        return norm.item()
