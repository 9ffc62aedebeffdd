"""FPO (arXiv:2507.21053), the naive ELBO baseline: V-GRPO's loop without the techniques that tame the estimate's variance.

Pairs (t, eps) are drawn for each image alone, the error is not normalised, and the ratio is clipped as in PPO. Deviation:
GRPO's group advantages take the place of FPO's learned critic, which a one-step episode does not need.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import draw_probes, independent
from vgrpo.core.types import Batch, Metrics, Path, Probes
from vgrpo.objectives.base import Baselines, Objective
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class FPO(Objective):
    """Hyper-parameters of FPO."""

    num_probes: int = 4
    """Pairs (t, eps) per image."""
    num_timesteps: int = 40
    shift: float = 1.0
    """Time shift of the schedule that t is drawn from."""
    prediction: Literal["v", "eps"] = "eps"
    """Whose squared error stands for the likelihood."""
    ratio_clip: float = 0.05

    def __post_init__(self) -> None:
        flow.schedule(self.num_timesteps, self.shift)
        require(self.num_probes >= 1, f"objective.num_probes={self.num_probes}: at least 1 pair per image")
        require(0 < self.ratio_clip < 1, f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1); the paper's is 0.05")

    def probes(self, x_0: Tensor, group: Tensor, *seed: int | str, path: Path | None = None) -> Probes:
        times = independent(self.num_probes, self.num_timesteps, self.shift)
        return draw_probes(x_0, group, *seed, draw_times=times, num_probes=self.num_probes, times="none", noise="none")

    def _log_likelihood(self, v: Tensor, probes: Probes) -> Tensor:
        """Minus the mean error over pairs, [B]."""
        if self.prediction == "eps":
            error = flow.predict_eps(probes.x_t(), v.float(), probes.times()) - probes.noise()
        else:
            error = v.float() - flow.velocity_target(probes.x_0[:, None], probes.noise())
        return -error.square().flatten(1).mean(1)

    def loss(self, v: Tensor, base: Baselines, batch: Batch) -> tuple[Tensor, Metrics]:
        s, s_old = self._log_likelihood(v, batch.probes), self._log_likelihood(base["old"], batch.probes)
        ratio = torch.exp(s - s_old)
        limited = ratio.clamp(1 - self.ratio_clip, 1 + self.ratio_clip)
        loss = torch.maximum(-batch.advantage * ratio, -batch.advantage * limited)
        return loss, {"ratio": ratio.detach(), "surrogate": s_old}
