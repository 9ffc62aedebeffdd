"""EPG, PEPG and PAR (arXiv:2602.04663): policy gradients whose likelihood is the denoising bound on the final image.

At every point `s = -mean((x_0_hat - x_0)^2) / w` with the mean absolute error w, held fixed, stands for the log-likelihood:
V-GRPO's surrogate, but with a ratio for each (image, t). With D = s - s_old and rho = exp(D), both without gradient, the losses
are `-rho A s` (EPG), `-rho (A - D) s` (PEPG) and `rho (A - (s - s_old))^2 / 2` (PAR), none of them clipped, each with a squared
distance to the reference. Deviations: the paper's advantage is a tenth of the reward's difference from its group's mean,
which takes `advantage.std` "none" (and is not the default here); under guidance, w is not divided by its scale.
"""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.base import Baselines, distance, normalized_x_0_error
from vgrpo.objectives.forward.lagging import LaggingObjective
from vgrpo.support.checks import require


@dataclass(frozen=True, kw_only=True)
class EPG(LaggingObjective):
    """Hyper-parameters of EPG, PEPG and PAR."""

    mode: Literal["epg", "pepg", "par"] = "epg"
    advantage_scale: float = 10.0
    """Advantages are divided by it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.advantage_scale > 0, f"objective.advantage_scale={self.advantage_scale}: must be above 0, usually 10")

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        s, s_old = (-normalized_x_0_error(w.float(), batch.points) for w in (v, base["old"]))  # [B, K]
        change = (s - s_old).detach()
        ratio, advantage = change.exp(), batch.advantage[:, None] / self.advantage_scale
        if self.mode == "epg":
            loss = -ratio * advantage * s
        elif self.mode == "pepg":
            loss = -ratio * (advantage - change) * s
        else:
            loss = ratio * (advantage - (s - s_old)).square() / 2
        metrics = {"ratio": ratio.mean(1), "surrogate": s_old.mean(1), "kl": distance(v, base["old"]).detach()}
        return self.held(loss.mean(1), v, base), metrics
