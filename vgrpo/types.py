"""The data that moves between the phases of an iteration.

Dimension legend, used in every signature: B images, G images per group (prompt), K probes per image, M rows of one
forward, D the latent dimensions, N solver steps, R rewards, H x W pixels.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from vgrpo import flow


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text and what a verifier needs to know about it (GenEval's JSON-lines fields)."""

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Cond:
    """Encoded text, one row per image. `sequence` [B, L, C] feeds attention, `pooled` [B, P] the modulation."""

    sequence: Tensor
    pooled: Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Cond":
        return Cond(sequence=self.sequence[rows], pooled=self.pooled[rows])

    def __len__(self) -> int:
        return len(self.sequence)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Finished generations. All that V-GRPO needs of sampling: no trajectory is kept."""

    prompts: list[Prompt]  # B
    group: Tensor  # [B] integer id of the prompt's group in this iteration
    latents: Tensor  # [B, *D] fp32, final x_0
    cond: Cond  # B rows
    images: Tensor  # [B, 3, H, W] in [0, 1]
    num_groups: int
    nfe: int  # network evaluations per image
    path: "Path | None" = None  # its stochastic steps, where the algorithm needs them


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Points (x_t, t) that the forward process reaches from final latents, stored as P shared sets of K pairs."""

    x_0: Tensor  # [B, *D] fp32
    pair: Tensor  # [B] which set of pairs an image uses
    t: Tensor  # [P, K]
    eps: Tensor  # [P, K, *D] fp32

    def __getitem__(self, rows: Tensor | slice) -> "Probes":
        return Probes(x_0=self.x_0[rows], pair=self.pair[rows], t=self.t, eps=self.eps)

    def times(self) -> Tensor:
        """[B, K]"""
        return self.t[self.pair]

    def noise(self) -> Tensor:
        """[B, K, *D]"""
        return self.eps[self.pair]

    def x_t(self) -> Tensor:
        """[B, K, *D]"""
        return flow.interpolate(self.x_0[:, None], self.noise(), self.times())


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Everything an update reads, one row per image: where to query the network, conditions, advantages [B], group ids
    [B], whose reward came back [B] (bool)."""

    probes: Any  # Probes, or a Path
    cond: Cond
    advantage: Tensor
    group: Tensor
    valid: Tensor

    def __getitem__(self, rows: Tensor | slice) -> "Batch":
        return Batch(
            probes=self.probes[rows],
            cond=self.cond[rows],
            advantage=self.advantage[rows],
            group=self.group[rows],
            valid=self.valid[rows],
        )

    def __len__(self) -> int:
        return len(self.advantage)


@dataclass(frozen=True, kw_only=True)
class Path:
    """The stochastic steps of a rollout, S per image: states, where they led, and the times of both."""

    x: Tensor  # [B, S, *D] fp32
    x_next: Tensor  # [B, S, *D]
    t: Tensor  # [B, S]
    t_next: Tensor  # [B, S]

    def __getitem__(self, rows: Tensor | slice) -> "Path":
        return Path(x=self.x[rows], x_next=self.x_next[rows], t=self.t[rows], t_next=self.t_next[rows])

    def select_steps(self, steps: Tensor) -> "Path":
        """Some of each image's steps, [B, K]."""
        rows = torch.arange(len(steps), device=steps.device)[:, None]
        return Path(
            x=self.x[rows, steps], x_next=self.x_next[rows, steps], t=self.t[rows, steps], t_next=self.t_next[rows, steps]
        )

    def times(self) -> Tensor:
        """[B, S]"""
        return self.t

    def x_t(self) -> Tensor:
        """[B, S, *D]"""
        return self.x


Metrics = dict[str, Tensor]  # per-image values [B]
