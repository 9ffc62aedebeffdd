"""Optimiser steps: AdamW (arXiv:1711.05101), and the same with its two moments in 8 bits (arXiv:2110.02861)."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vgrpo.training.settings.config import UpdateConfig

STATE_BYTES = {"adamw": 8.0, "adamw_8bit": 2 + 8 / 256}
"""Per trained weight."""


def check_optimizer(config: UpdateConfig) -> None:
    """Raise ValueError if the optimiser's package is not installed."""
    if config.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise ValueError('update.optimizer=adamw_8bit needs bitsandbytes: pip install "vgrpo[bitsandbytes]", or take adamw')


def make_adamw(parameters: list[nn.Parameter], config: UpdateConfig, lr: float) -> torch.optim.Optimizer:
    """In 8 bits a weight's state takes 2 bytes, and 8 more for every block of 256, instead of 8; tensors of fewer than 4096
    numbers keep theirs in fp32."""
    check_optimizer(config)
    settings: dict[str, Any] = {"lr": lr, "betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **settings, fused=_can_fuse(parameters))
    from bitsandbytes.optim import AdamW8bit

    optimizer: torch.optim.Optimizer = AdamW8bit(parameters, **settings)
    return optimizer


def _can_fuse(parameters: list[nn.Parameter]) -> bool:
    """Whether torch has a kernel that steps all weights at once, instead of a dozen for each of them."""
    return all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)


class BadStepsError(RuntimeError):
    """So many steps in a row had a loss or a gradient that is not finite that the run makes no sense any more."""

    def __init__(self, count: int, loss: Tensor, norm: Tensor) -> None:
        bad = int((~loss.isfinite()).sum())
        found = (
            f"{bad} of {len(loss)} losses are not finite" if bad else f"the losses are finite, the gradient's norm is {norm:g}"
        )
        super().__init__(
            f"{count} optimiser steps in a row were left out, because the loss or the gradient was not finite (the last: "
            f"{found}). The weights are those before them. Try a lower update.lr, a smaller update.max_grad_norm, or "
            "--precision fp32; update.max_bad_steps says how many are too many"
        )


@dataclass(kw_only=True)
class Optimizer:
    """AdamW with linear warm-up, an optional linear decay and gradient clipping over the trainable parameters."""

    inner: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    lr: float
    num_warmup_steps: int
    max_grad_norm: float
    num_decay_steps: int | None = None  # None keeps the learning rate
    max_bad_steps: int = 5
    num_steps: int = 0
    num_bad_steps: int = 0
    """Steps left out in a row, the last ones."""
    after_step: Callable[[], None] = lambda: None

    @property
    def last_lr(self) -> float:
        """The learning rate of the last step, after warm-up and decay."""
        return float(self.inner.param_groups[0]["lr"])

    def step(self, loss: Tensor, before: Callable[[], None] = lambda: None) -> float:
        """Apply the gradient; returns its norm before clipping. `before` is called when the weights are about to move.

        A step whose loss or gradient is not finite is left out: the weights stay as they are. Raises BadStepsError after
        `max_bad_steps` of them in a row.
        """
        norm = nn.utils.clip_grad_norm_(self.parameters, self.max_grad_norm or math.inf)
        if isinstance(norm, DTensor):  # of all processes' parts
            norm = norm.full_tensor()
        if not (norm.isfinite() and loss.isfinite().all()):
            self.inner.zero_grad(set_to_none=True)
            self.num_bad_steps += 1
            if self.num_bad_steps >= self.max_bad_steps:
                raise BadStepsError(self.num_bad_steps, loss, norm)
            return norm.item()
        self.num_bad_steps = 0
        self.num_steps += 1
        factor = min(1.0, self.num_steps / max(1, self.num_warmup_steps))
        if self.num_decay_steps is not None:
            factor *= max(0.1, 1 - 0.9 * self.num_steps / self.num_decay_steps)
        for group in self.inner.param_groups:
            group["lr"] = self.lr * factor
        before()
        self.inner.step()
        self.inner.zero_grad(set_to_none=True)
        self.after_step()
        return norm.item()
