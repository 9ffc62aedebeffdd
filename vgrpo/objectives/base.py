"""What an algorithm is: where to query the velocity, and what the answers are worth. No model, config, rank or logger."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import ClassVar, Literal

from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.sde import StepSampler
from vgrpo.core.types import Batch, Metrics, Path, Probes

WeightSet = Literal["old", "ref"]
Baselines = Mapping[WeightSet, Tensor]  # velocities [B, K, *D] under other weights, without gradient


class Objective(ABC):
    """An algorithm: a frozen dataclass of hyper-parameters that derives from this, with two pure functions."""

    couples_images: ClassVar[bool] = False
    """Whether the loss of an image depends on other images of its minibatch."""

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        """Which other weights' velocities the loss reads: the behaviour policy's ("old"), the untrained model's ("ref")."""
        return ("old",)

    def old_decay(self, iteration: int) -> float | None:
        """After an iteration the behaviour weights, which draw the rollouts, become `decay * old + (1 - decay) * current`.
        None: they are always the current ones and no copy is kept."""
        return None

    @property
    def kept(self) -> tuple[WeightSet, ...]:
        """Which of these weights have to be kept as copies: "ref" if it is read, "old" if it lags behind."""
        lags: tuple[WeightSet, ...] = () if self.old_decay(0) is None else ("old",)
        return (*(name for name in self.baselines if name == "ref"), *lags)

    def frozen(self, num_minibatches: int, num_epochs: int) -> dict[WeightSet, float]:
        """Which baselines cost a forward in an update, and for which share of the images: until the first optimiser step "old"
        weights that do not lag are the current ones, so a first minibatch that does not come again needs none."""
        share = 1.0 if num_epochs > 1 else (num_minibatches - 1) / num_minibatches
        shares = {name: share if name == "old" and "old" not in self.kept else 1.0 for name in self.baselines}
        return {name: share for name, share in shares.items() if share > 0}

    def initial_noise(self, member: int) -> int:
        """From which of its group's noises an image starts; by default every one has its own."""
        return member

    def check_rollout(self, *, group_size: int, num_steps: int, batch_size: int | None) -> None:
        """Raise ValueError for a form of rollout that the algorithm cannot use. Called when a `Config` is made."""
        return

    def path_sampler(self, *seed: int | str) -> StepSampler | None:
        """The stochastic sampler that an iteration's rollout needs, in place of the run's solver. None: any solver will do."""
        return None

    def gains(self, rewards: Tensor, path: Path | None, judge: Callable[[Tensor], Tensor]) -> Tensor:
        """What an image's actions earned, [B, S, R], each to be compared within its group. By default there is one, the whole
        generation, and it earned the rewards [B, R]. `judge` scores other latents [B, *D] of the same prompts, [B, R]."""
        return rewards[:, None]

    def credit(self, batch: Batch, *seed: int | str) -> Batch:
        """The last word on what is trained on, when advantages are known."""
        return batch

    @abstractmethod
    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str, path: Path | None = None) -> Probes | Path:
        """Points to query for final latents x_0 [B, *D] with group ids [B], and the steps that led there, if kept."""

    @abstractmethod
    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        """Loss of each image [B] from velocities [B, K, *D], and metrics per image. Of the metrics, "ratio" compares the
        image's likelihood (or what stands for it) with that under "old", and "surrogate" is its logarithm."""


def velocity_error(v: Tensor, probes: Probes) -> Tensor:
    """The flow-matching loss of every probe, [B, K]: the mean over the latent's dimensions of (v - (eps - x_0))^2."""
    target = flow.velocity_target(probes.x_0[:, None], probes.noise())
    return (v.float() - target).square().flatten(2).mean(2)


def distance(v: Tensor, other: Tensor) -> Tensor:
    """Mean squared distance of two velocities [B, K, *D], per image [B]."""
    return (v.float() - other.float()).square().flatten(1).mean(1)
