"""Algorithms: one file each, a frozen dataclass of hyper-parameters with two pure functions."""

from typing import Protocol

from torch import Tensor

from vgrpo.objectives.vgrpo import VGRPO
from vgrpo.types import Metrics, Probes

__all__ = ["VGRPO", "Objective"]


class Objective(Protocol):
    """Where to query the velocity, and what the answers are worth. No model, config, rank or logger inside."""

    @property
    def num_probes(self) -> int:
        """K, the training forwards per image."""

    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str) -> Probes:
        """Points to query for final latents x_0 [B, *D] with group ids [B]."""

    def loss(self, v: Tensor, v_old: Tensor, probes: Probes, advantage: Tensor) -> tuple[Tensor, Metrics]:
        """Loss of each image [B] from velocities [B, K, *D] and advantages [B], and metrics per image."""
