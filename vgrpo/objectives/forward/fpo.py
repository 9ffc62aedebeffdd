"""FPO (arXiv:2507.21053), the naive ELBO baseline: V-GRPO's loop without the techniques that tame the estimate's variance.

Pairs (t, eps) are drawn for each image alone, the error is not normalised, and the ratio is clipped as in PPO. Deviation:
GRPO's group advantages take the place of FPO's learned critic, which a one-step episode does not need.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import DrawTimes, Share, independent
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, WeightSet, distance
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class FPO(ForwardObjective):
    """Hyper-parameters of FPO."""

    prediction: Literal["v", "eps"] = "eps"
    """Whose squared error stands for the likelihood."""
    ratio_clip: float = 0.05
    kl_weight: float = 0.0
    """Weight of the squared distance to the reference; not the paper's. Without one the push away from bad images is bounded by
    the clip alone, and several steps at a high rate leave the images they started from."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1); the paper's is 0.05")
        require(self.kl_weight >= 0, f"objective.kl_weight={self.kl_weight}: must not be negative; 0 is the paper's")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.kl_weight else ("old",)

    @property
    def shared(self) -> tuple[Share, Share]:
        return "none", "none"

    def draw_times(self) -> DrawTimes:
        return independent(self.num_probes, self.num_timesteps, self.shift)

    def _log_likelihood(self, v: Tensor, probes: Probes) -> Tensor:
        """Minus the mean error over pairs, [B]."""
        if self.prediction == "eps":
            error = flow.predict_eps(probes.x_t(), v.float(), probes.times()) - probes.noise()
        else:
            error = v.float() - flow.velocity_target(probes.x_0[:, None], probes.noise())
        return -error.square().flatten(1).mean(1)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        s, s_old = self._log_likelihood(v, batch.points), self._log_likelihood(base["old"], batch.points)
        ratio = torch.exp(s - s_old)
        limited = ratio.clamp(1 - self.ratio_clip, 1 + self.ratio_clip)
        loss = torch.maximum(-batch.advantage * ratio, -batch.advantage * limited)
        if self.kl_weight:
            loss = loss + self.kl_weight * distance(v, base["ref"])
        return loss, {"ratio": ratio.detach(), "surrogate": s_old}
