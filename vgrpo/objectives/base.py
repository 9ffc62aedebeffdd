"""What an algorithm is: where to query the velocity, and what the answers are worth. No model, config, rank or logger.

An algorithm is a frozen dataclass of hyper-parameters in a file of its own. Most derive from `ForwardObjective` (`forward/`) or
`PathObjective` (`path/`) and write a loss.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Generic, Literal

from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.types import Batch, Metrics, P, Probes, Trajectory
from vgrpo.objectives.credit import Credit
from vgrpo.objectives.drawing import Drawing

WeightSet = Literal["old", "ref"]
Baselines = Mapping[WeightSet, Tensor]  # velocities [B, K, *D] under other weights, without gradient


class Objective(ABC, Generic[P]):
    """Three things: what it asks of a rollout (`drawing`), who is credited with a reward (`credit`), and a loss (the rest)."""

    couples_images: ClassVar[bool] = False
    """Whether the loss of a row depends on other rows of its minibatch."""

    @property
    def drawing(self) -> Drawing:
        return Drawing()

    @property
    def credit(self) -> Credit:
        return Credit()

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        """Which other weights' velocities the loss reads: the behaviour policy's ("old"), the untrained model's ("ref").

        A loss that reads no "old" ones is given the current answers under that name, so that its metrics compare with those:
        its ratio is 1 and its distance 0 by definition.
        """
        return ("old",)

    def old_decay(self, iteration: int) -> float | None:
        """After an iteration the behaviour weights, which draw the rollouts, become `decay * old + (1 - decay) * current`.
        None: they are always the current ones and no copy is kept."""
        return None

    @property
    def copies(self) -> tuple[WeightSet, ...]:
        """Which of these weights have to be kept beside the current ones: "ref" if it is read, "old" if it lags behind."""
        lags: tuple[WeightSet, ...] = () if self.old_decay(0) is None else ("old",)
        return (*(name for name in self.baselines if name == "ref"), *lags)

    def needed(self, minibatch: int, num_epochs: int, kept: bool = False, late: bool = False) -> tuple[WeightSet, ...]:
        """Which baselines cost a forward for a rollout's minibatch, counted from 0. `kept`: the rollout's own
        answers are at hand. `late`: the weights have moved since it was drawn.

        Until the first optimiser step, "old" weights that do not lag are the current ones. So the first minibatch needs no
        forward of theirs, unless it comes again in a second epoch.
        """
        spared = kept or (minibatch == 0 and num_epochs == 1 and not late and "old" not in self.copies)
        return tuple(name for name in self.baselines if not (name == "old" and spared))

    @property
    def idle_on_policy(self) -> tuple[str, ...]:
        """Settings that are on and do nothing while old and current weights are the same: there every ratio is 1."""
        return ("ratio_clip",) if getattr(self, "ratio_clip", None) is not None else ()

    @abstractmethod
    def points(self, x_0: Tensor, group: Tensor, *seed: int | str, trajectory: Trajectory | None = None) -> P:
        """Points to query for final latents x_0 [B, *D] with group ids [B], and the steps that led there, if kept. `seed` names
        what is random about them."""

    @abstractmethod
    def loss(self, v: Tensor, base: Baselines, batch: Batch[P]) -> tuple[Tensor, Metrics]:
        """Loss of each row [B] from velocities [B, K, *D], and metrics per row. Of the metrics, "ratio" compares the row's
        likelihood (or what stands for it) with that under "old", and "surrogate" is its logarithm."""


def velocity_error(v: Tensor, probes: Probes) -> Tensor:
    """The flow-matching loss of every probe, [B, K]: the mean over the latent's dimensions of (v - (eps - x_0))^2."""
    target = flow.velocity_target(probes.x_0[:, None], probes.noise())
    return (v.float() - target).square().flatten(2).mean(2)


def distance(v: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of two velocities [B, K, *D], per row [B]."""
    return (v.float() - other.float()).square().flatten(1).mean(1)


def compared(v: Tensor, v_old: Tensor, probes: Probes) -> Metrics:
    """The metrics of an algorithm without a ratio of its own, from velocities [B, K, *D]: the flow-matching loss stands for the
    likelihood."""
    s, s_old = (-velocity_error(w, probes).mean(1).detach() for w in (v, v_old))
    return {"ratio": (s - s_old).exp(), "surrogate": s_old, "kl": distance(v, v_old).detach()}


def normalized_x_0_error(v: Tensor, probes: Probes) -> Tensor:
    """Squared error of the x_0 prediction at every probe, divided by its own mean absolute value, held fixed, [B, K]."""
    error = flow.predict_x_0(probes.x_t(), v, probes.times()) - probes.x_0[:, None]
    return error.square().flatten(2).mean(2) / error.detach().abs().flatten(2).mean(2).clamp(min=1e-5)
