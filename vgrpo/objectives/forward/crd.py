"""CRD, Centered Reward Distillation (arXiv:2603.14128): the model's implicit reward is fitted to the external one.

The implicit reward of an image is `r = -[l(v) - l(v_old)]`, with the flow-matching error l divided by its own mean absolute
value; the external reward is the advantage mapped to [0, 1]. Both are centred over the batch, uniformly or with a softmax
weight, and the loss is `5 / beta (beta r_c - R_c)^2 + kl mean((v - v_ref)^2)`. Deviations: the reference is the untrained
model at the run's own guidance, not at a fixed guidance of 4.5, which few-step students do not support; its weight does not
grow with the reward; and the old weights of the implicit reward draw the rollouts too, instead of others that lag further.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, compared, distance
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require, require_within


@dataclass(frozen=True, kw_only=True)
class CRD(ForwardObjective):
    """Hyper-parameters of CRD."""

    couples_images: ClassVar[bool] = True

    beta: float = 1.0
    kl_weight: float = 0.1
    centering: Literal["uniform", "softmax"] = "uniform"
    """Centre rewards on the batch's mean; or on means weighted towards high and towards low rewards, both losses averaged."""
    temperature: float = 0.1
    """Of the softmax weights."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.beta > 0, f"objective.beta={self.beta}: must be above 0; the paper's is 1")
        require(self.temperature > 0, f"objective.temperature={self.temperature}: must be above 0")
        require_within(self, "objective.", beta=(1e-4, 1e6), temperature=(1e-4, 1e4), kl_weight=(0, 1e6))

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    def old_decay(self, iteration: int) -> float:
        return min(0.25 + 0.005 * iteration, 0.999)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        probes, valid, everyone = batch.points, batch.valid.float(), batch.processes
        implicit = (self._score(v, probes) - self._score(base["old"], probes)).mean(1)  # [B]
        external = (batch.advantage / 10 + 0.5).clamp(0, 1)
        signs = (0.0,) if self.centering == "uniform" else (1.0, -1.0)
        losses = []
        for sign in signs:
            # Over the images of all processes: each holds a part of what the rewards are centred on.
            logits = everyone.gather(sign * external / self.temperature + valid.log(), batch.group)
            weight = everyone.own(torch.softmax(logits, 0), batch.group)
            means = [everyone.total((weight * rewards).sum()) for rewards in (implicit, external)]
            centred = self.beta * (implicit - means[0]) - (external - means[1])
            losses.append(5 / self.beta * centred.square())
        loss = torch.stack(losses).mean(0)
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        return loss, compared(v, base["old"], probes)

    @staticmethod
    def _score(v: Tensor, probes: Probes) -> Tensor:
        """Minus the self-normalised flow-matching error, [B, K]."""
        error = v.float() - (probes.noise() - probes.x_0[:, None])
        return -error.square().flatten(2).mean(2) / error.detach().abs().flatten(2).mean(2).clamp(min=1e-5)
