"""The data that moves between the phases of an iteration.

Dimension legend, used in every signature: B images, G images per group (prompt), K probes per image, M rows of one
forward, D the latent dimensions, N solver steps, R rewards, H x W pixels.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, Self, TypeVar

import torch
from torch import Tensor
from torch.nn.functional import pad

from vgrpo.core import flow
from vgrpo.core.processes import ALONE, Processes

MAIN = "main"
"""The task of a run that `prompts` and `reward` describe."""


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """A text and what a verifier needs to know about it (GenEval's JSON-lines fields)."""

    text: str
    metadata: dict[str, Any] = field(default_factory=dict)
    task: str = MAIN
    """Of a run with several tasks, the one that it belongs to."""
    image: Path | None = None
    """The source image, for models that edit one."""

    @property
    def identity(self) -> tuple[str, Path | None]:
        """What a model is asked. Images of prompts that are alike in it form a group."""
        return self.text, self.image


@dataclass(frozen=True, kw_only=True)
class Cond:
    """Encoded text of B images. `sequence` [U, L, C] feeds attention; `pooled` [U, P] the modulation and `mask` [U, L] which
    tokens count, in the models that have them. `index` [B] says which of the U rows is whose, since a group shares its text
    and a long one takes megabytes; without it there is a row for each image. `image` [U, T, C] are the tokens of a source,
    and `empty`, with as many rows, is what guidance takes for no text where that depends on the source."""

    sequence: Tensor
    pooled: Tensor | None = None
    mask: Tensor | None = None
    index: Tensor | None = None
    image: Tensor | None = None
    empty: "Cond | None" = None

    def __getitem__(self, rows: Tensor | slice) -> "Cond":
        if self.index is not None:
            return dataclasses.replace(self, index=self.index[rows])
        return self.map(lambda part: part[rows])

    def __len__(self) -> int:
        return len(self.sequence if self.index is None else self.index)

    def dense(self) -> "Cond":
        """The same with a row for each image, as a network takes it."""
        index = self.index
        return self if index is None else dataclasses.replace(self.map(lambda part: part[index]), index=None)

    def to(self, place: torch.dtype | torch.device) -> "Cond":
        """The same on another device or in another floating type; a mask keeps its own type."""
        empty = None if self.empty is None else self.empty.to(place)
        moved = dataclasses.replace(self.map(lambda part: part.to(place)), empty=empty)
        return dataclasses.replace(moved, mask=self.mask) if isinstance(place, torch.dtype) else moved

    @property
    def nbytes(self) -> int:
        parts = (self.sequence, self.pooled, self.mask, self.image, self.empty)
        return sum(part.nbytes for part in parts if part is not None)

    @staticmethod
    def cat(conds: "Sequence[Cond]") -> "Cond":
        """The images of several, with a row for each; all must be of one model. With masks, shorter texts are padded."""
        conds = [cond.dense() for cond in conds]
        longest = max(cond.sequence.shape[1] for cond in conds)
        conds = [cond if cond.mask is None else cond.padded(longest) for cond in conds]
        pooled = [cond.pooled for cond in conds if cond.pooled is not None]
        masks = [cond.mask for cond in conds if cond.mask is not None]
        images = [cond.image for cond in conds if cond.image is not None]
        empties = [cond.empty for cond in conds if cond.empty is not None]
        return Cond(
            sequence=torch.cat([cond.sequence for cond in conds]),
            pooled=torch.cat(pooled) if pooled else None,
            mask=torch.cat(masks) if masks else None,
            image=torch.cat(images) if images else None,
            empty=Cond.cat(empties) if empties else None,
        )

    def padded(self, length: int) -> "Cond":
        """Texts with a mask, to so many tokens."""
        assert self.mask is not None
        missing = length - self.sequence.shape[1]
        return dataclasses.replace(self, sequence=pad(self.sequence, (0, 0, 0, missing)), mask=pad(self.mask, (0, missing)))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Cond":
        """The same with every part changed."""
        parts = {name: getattr(self, name) for name in ("sequence", "pooled", "mask", "image")}
        changed: dict[str, Any] = {name: change(part) for name, part in parts.items() if part is not None}
        if self.empty is not None:
            changed["empty"] = self.empty.map(change)
        return dataclasses.replace(self, **changed)


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """Finished generations. All that V-GRPO needs of sampling: no trajectory is kept."""

    prompts: list[Prompt]  # B
    group: Tensor  # [B] the number of the image's prompt in this iteration, over all processes
    latents: Tensor  # [B, *D] fp32, final x_0
    cond: Cond  # of B images
    images: Tensor  # [B, 3, H, W] in [0, 1], on the CPU
    num_groups: int  # of the iteration, over all processes
    nfe: float  # network evaluations per image
    trajectory: "Trajectory | None" = None  # its stochastic steps, where the algorithm needs them


class Points(Protocol):
    """Where an update asks the network: K points (x_t, t) for each of some rows."""

    def __getitem__(self, rows: Any, /) -> Self:
        """Some rows."""

    def times(self) -> Tensor:
        """[B, K]"""

    def x_t(self) -> Tensor:
        """[B, K, *D]"""


@dataclass(frozen=True, kw_only=True)
class Probes:
    """Points that the forward process reaches from final latents, stored as P shared sets of K pairs (t, eps)."""

    x_0: Tensor  # [B, *D] fp32
    pair: Tensor  # [B] which set of pairs an image uses
    t: Tensor  # [P, K]
    eps: Tensor  # [P, K, *D] fp32

    def __getitem__(self, rows: Any) -> Self:
        return dataclasses.replace(self, x_0=self.x_0[rows], pair=self.pair[rows])

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
class Trajectory:
    """The stochastic steps of a rollout, S per row: states, where they led, the times of both, and the network's answers. An
    algorithm that needs more of its rollouts adds fields, each with as many rows."""

    x: Tensor  # [B, S, *D] fp32
    x_next: Tensor  # [B, S, *D]
    t: Tensor  # [B, S]
    t_next: Tensor  # [B, S]
    v: Tensor  # [B, S, *D] of the weights that drew the rollout, as it was guided

    def __getitem__(self, rows: Any) -> Self:
        """Some rows; with a second index of the same shape, one step or several of each."""
        return dataclasses.replace(self, **{f.name: getattr(self, f.name)[rows] for f in dataclasses.fields(self)})

    def steps(self) -> dict[str, Tensor]:
        """What every trajectory has, by name."""
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(Trajectory)}

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """The rows of several, one after another."""
        return cls(**{f.name: torch.cat([getattr(part, f.name) for part in parts]) for f in dataclasses.fields(cls)})

    def times(self) -> Tensor:
        """[B, S]"""
        return self.t

    def x_t(self) -> Tensor:
        """[B, S, *D]"""
        return self.x


P = TypeVar("P", bound=Points)


@dataclass(frozen=True, kw_only=True)
class Batch(Generic[P]):
    """Everything an update reads, in B rows. A row is an image, or whatever smaller thing an algorithm trains on: BranchGRPO's
    rows are the edges of its trees. Rows of a group are neighbours, and groups are in order."""

    points: P
    cond: Cond  # of B rows
    advantage: Tensor  # [B], or [B, S] with one for each step
    group: Tensor  # [B] the number of the row's prompt in this iteration
    valid: Tensor  # [B] bool, whether its reward came back
    processes: Processes = ALONE  # which other processes hold rows of the same minibatch

    def __getitem__(self, rows: Tensor | slice) -> "Batch[P]":
        return dataclasses.replace(
            self,
            points=self.points[rows],
            cond=self.cond[rows],
            advantage=self.advantage[rows],
            group=self.group[rows],
            valid=self.valid[rows],
        )

    def __len__(self) -> int:
        return len(self.advantage)


Metrics = dict[str, Tensor]  # per-row values [B]
