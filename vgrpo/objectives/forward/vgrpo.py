"""V-GRPO (arXiv:2604.23380): GRPO on whole generations, with the diffusion ELBO for a likelihood.

The log-likelihood of a final sample o is replaced by the negative denoising loss at a few points (t_j, eps_j) that the forward
process reaches from it, so nothing of the trajectory is needed and any solver may draw the sample. The variance of that
estimate is what makes or breaks the method; three techniques tame it, each with a switch here for ablations: pairs shared by a
group, stratified t, and x-prediction with self-normalisation. Deviations: errors are means over the latent's dimensions, not
sums, as clip ranges of about 1e-2 presuppose.

Dimensions: B images, K probes per image (N_MC in the paper), D latent dimensions.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.probes import DrawTimes, Share, independent, stratified
from vgrpo.core.types import Batch, Metrics, Probes
from vgrpo.objectives.advantage import soft_clip
from vgrpo.objectives.base import Baselines, WeightSet
from vgrpo.objectives.forward.base import ForwardObjective


@dataclass(frozen=True, kw_only=True)
class VGRPO(ForwardObjective):
    """Hyper-parameters of V-GRPO. The defaults are the paper's on-policy setting."""

    share_pairs: Literal["group", "batch", "none"] = "group"
    """Whose images share pairs: those of one prompt, of the whole iteration, or none."""
    stratified: bool = True
    """Draw one t from each of num_probes equal chunks of the schedule."""
    antithetic: bool = False
    """Every second pair has the opposite noise of the one before it (antithetic variates); not the paper's. What the direction
    of the noise does to an error has opposite signs in the two, and cancels in their mean."""
    prediction: Literal["x", "v", "eps"] = "x"
    """Which prediction's error is measured."""
    self_normalize: bool = True
    """Divide the squared error by its own mean absolute error."""
    ratio_clip: float | None = None
    """Keep ratios within 1 +- this; about 6e-3 to 3e-2 when several optimiser steps follow a rollout."""
    kl_weight: float = 0.0
    """Weight of the squared distance to the old x-prediction on the same pairs; 0.3 in the paper's OCR stage."""
    soft_clip: float | None = 3.0
    """Soft limit eta on advantages, 3 to 5; the only control that acts in fully on-policy training. As in the paper nothing
    centres them again: where a quarter of a group scores, its mean is then 0.03 of the deviation below 0."""

    mirrored: bool = False
    """Bound the push away from bad images, for several optimiser steps per rollout; not the paper's. Where the advantage is
    negative, the mirrored prediction 2 v_old - v is drawn towards the image, as in DiffusionNFT (arXiv:2509.16117). The first
    step's gradient is the same; later the mirrored error has a least value, while the error of v can grow for ever. The ratio
    is then that of the mirrored prediction."""
    ref_weight: float = 0.0
    """Weight of the squared distance to the untrained model's x-prediction on the same pairs, GRPO's penalty. It costs a
    forward and keeps long on-policy runs from leaving the images they started from; 0 is the paper's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ratio_clip is not None and not 0 < self.ratio_clip < 1:
            raise ValueError(f"objective.ratio_clip={self.ratio_clip}: must lie in (0, 1), about 0.02; None turns it off")
        if self.soft_clip is not None and self.soft_clip <= 0:
            raise ValueError(f"objective.soft_clip={self.soft_clip}: must be above 0, usually 3 to 5; None turns it off")
        for name in ("kl_weight", "ref_weight"):
            if getattr(self, name) < 0:
                raise ValueError(f"objective.{name}={getattr(self, name)}: must not be negative; 0 turns the penalty off")

    @property
    def baselines(self) -> tuple[WeightSet, ...]:
        return ("old", "ref") if self.ref_weight else ("old",)

    @property
    def idle_on_policy(self) -> tuple[str, ...]:
        return tuple(name for name in ("ratio_clip", "kl_weight") if getattr(self, name))

    @property
    def shared(self) -> tuple[Share, Share]:
        return self.share_pairs, self.share_pairs

    @property
    def opposed(self) -> bool:
        return self.antithetic

    def draw_times(self) -> DrawTimes:
        draw = stratified if self.stratified else independent
        return draw(self.num_probes, self.num_timesteps, self.shift)

    def surrogate(self, v: Tensor, probes: Probes) -> Tensor:
        """What stands for log pi(o | c): minus the denoising error, [B], from velocities v [B, K, *D]."""
        x_t, t = probes.x_t(), probes.times()
        v = v.float()
        if self.prediction == "x":
            error = flow.predict_x_0(x_t, v, t) - probes.x_0[:, None]
        elif self.prediction == "eps":
            error = flow.predict_eps(x_t, v, t) - probes.noise()
        else:
            error = v - flow.velocity_target(probes.x_0[:, None], probes.noise())
        squared, absolute = error.square().flatten(2).mean(2), error.abs().flatten(2).mean(2)
        if self.self_normalize:
            squared = squared / absolute.detach().clamp(min=1e-5)
        return -squared.mean(1)

    def loss(self, v: Tensor, base: Baselines, batch: Batch[Probes]) -> tuple[Tensor, Metrics]:
        """The loss of each image, [B], from current and old velocities [B, K, *D]; per-image metrics.

        In the first on-policy step the old velocities are `v.detach()`: the ratio is 1 and the gradient that of the
        advantage-weighted denoising loss.
        """
        v, v_old, advantage = v.float(), base["old"].detach().float(), batch.advantage
        if self.soft_clip is not None:
            advantage = soft_clip(advantage, self.soft_clip)
        drawn = v
        if self.mirrored:
            drawn, advantage = torch.where(flow.expand(advantage < 0, v), 2 * v_old - v, v), advantage.abs()
        s, s_old = self.surrogate(drawn, batch.points), self.surrogate(v_old, batch.points)
        ratio = torch.exp(s - s_old)  # one per image: the mean over pairs is inside the exponent
        loss = -advantage * ratio
        clipped = torch.zeros_like(ratio)
        if self.ratio_clip is not None:
            limited = -advantage * ratio.clamp(1 - self.ratio_clip, 1 + self.ratio_clip)
            clipped = (limited > loss).float()
            loss = torch.maximum(loss, limited)
        t = flow.expand(batch.points.times(), v)
        kl = (t * (v - v_old)).square().flatten(1).mean(1)  # x_0 predictions differ by t (v - v_old)
        metrics = {"ratio": ratio, "clip_share": clipped, "kl": kl, "surrogate": s_old}
        loss = loss + self.kl_weight * kl
        if self.ref_weight:
            loss = loss + self.ref_weight * (t * (v - base["ref"].float())).square().flatten(1).mean(1)
        return loss, {name: value.detach() for name, value in metrics.items()}
