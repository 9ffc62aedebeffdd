"""What a model's surrogate looks like on its own images: the measurements behind V-GRPO's variance techniques
(arXiv:2604.23380, figures 1 and 2), on any supported model.

Dimensions: B images, K probes per image, D latent dimensions.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vgrpo.core import flow
from vgrpo.core.seeds import generator
from vgrpo.core.types import Batch, Probes, Rollout
from vgrpo.models.policy import Policy
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import VGRPO
from vgrpo.objectives.advantage import group_moments
from vgrpo.training.update import backward, velocities

PROBE_COUNTS = (1, 2, 4, 8, 16)
TECHNIQUES: dict[str, dict[str, Any]] = {
    "all three": {},
    "pairs not shared": {"share_pairs": "none"},
    "t not stratified": {"stratified": False},
    "not normalised": {"self_normalize": False},
    "v-prediction": {"prediction": "v"},
    "eps-prediction": {"prediction": "eps"},
    "none, x-prediction": {"share_pairs": "none", "stratified": False, "self_normalize": False},
    "none, v-prediction": {"share_pairs": "none", "stratified": False, "self_normalize": False, "prediction": "v"},
}


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A model with something to train, and images that it drew."""

    policy: Policy
    rollout: Rollout
    guidance: float
    micro_batch_size: int | None
    seed: int

    def batch(self, objective: VGRPO, *seed: int | str, advantage: Tensor | None = None) -> Batch[Probes]:
        rollout = self.rollout
        probes = objective.points(rollout.latents, rollout.group, self.seed, *seed)
        zeros = torch.zeros(len(rollout.group), device=rollout.group.device)
        return Batch(
            points=probes,
            cond=rollout.cond,
            advantage=zeros if advantage is None else advantage,
            group=rollout.group,
            valid=torch.ones_like(zeros, dtype=torch.bool),
        )

    @torch.no_grad()
    def surrogate(self, objective: VGRPO, *seed: int | str) -> Tensor:
        """[B]"""
        batch, size = self.batch(objective, *seed), self.micro_batch_size or len(self.rollout.group)
        parts = [batch[start : start + size] for start in range(0, len(batch), size)]
        return torch.cat(
            [objective.surrogate(velocities(self.policy, p.points, p.cond, self.guidance), p.points) for p in parts]
        ).cpu()


def loss_by_time(subject: Subject, num_times: int = 20) -> list[dict[str, float]]:
    """The denoising loss in three parametrisations, and self-normalised, at evenly spaced t."""
    lines = []
    for t in flow.schedule(num_times)[:-1].tolist():
        rollout = subject.rollout
        x_0 = rollout.latents.float()
        eps = torch.randn(x_0.shape, generator=generator(subject.seed, "loss", str(t))).to(x_0.device)
        time = x_0.new_full((len(x_0),), t)
        x_t = flow.interpolate(x_0, eps, time)
        with torch.no_grad():
            v = subject.policy.velocity(x_t, time, rollout.cond, subject.guidance).float()
        error = flow.predict_x_0(x_t, v, time) - x_0
        squared, absolute = error.square().flatten(1).mean(1), error.abs().flatten(1).mean(1)
        lines.append(
            {
                "t": t,
                "x": squared.mean().item(),
                "v": (squared / t**2).mean().item(),
                "eps": (squared * ((1 - t) / t) ** 2).mean().item(),
                "normalised": (squared / absolute.clamp(min=1e-5)).mean().item(),
            }
        )
    return lines


def variation(subject: Subject, objective: VGRPO, name: str, num_repeats: int = 4) -> dict[str, float]:
    """Coefficient of variation of the surrogate over all images and within groups, over several draws of pairs."""
    overall, within = [], []
    for repeat in range(num_repeats):
        s = subject.surrogate(objective, "variation", name, repeat)
        _, group_std = group_moments(s, subject.rollout.group.cpu(), subject.rollout.num_groups)
        scale = s.mean().abs().clamp(min=1e-12)
        overall.append((s.std(correction=0) / scale).item())
        within.append((group_std.mean() / scale).item())
    return {"overall": sum(overall) / num_repeats, "within": sum(within) / num_repeats}


def gradient_norms(subject: Subject, objective: VGRPO, name: str, num_images: int) -> dict[str, Any]:
    """For single images, the surrogate's size and the norm of its gradient, and R^2 of a quadratic fit between the two: how
    much an image's weight in the update hangs on the size of its surrogate."""
    parameters = list(trainable(subject.policy.module).values())
    batch = subject.batch(objective, "gradient", name)
    sizes, norms = [], []
    for row in range(min(num_images, len(batch))):
        one = batch[row : row + 1]
        s = objective.surrogate(velocities(subject.policy, one.points, one.cond, subject.guidance), one.points)
        grads = torch.autograd.grad(s.sum(), parameters, allow_unused=True)
        sizes.append(-s.item())
        norms.append(sum(float(g.square().sum()) for g in grads if g is not None) ** 0.5)
    return {"surrogate": sizes, "norm": norms, "r2": quadratic_r2(torch.tensor(sizes), torch.tensor(norms))}


def quadratic_r2(x: Tensor, y: Tensor) -> float:
    """The share of y's variance that a parabola in x explains. Needs at least 4 points to mean anything."""
    x = (x.double() - x.double().mean()) / x.double().std().clamp(min=1e-12)
    y = y.double()
    basis = torch.stack([torch.ones_like(x), x, x**2], 1)
    fit = basis @ torch.linalg.lstsq(basis, y[:, None]).solution[:, 0]
    total = (y - y.mean()).square().sum().clamp(min=1e-30)
    return (1 - (y - fit).square().sum() / total).item()


def ratio_moves(subject: Subject, objective: VGRPO, lr: float) -> Tensor:
    """|ratio - 1| of every image after one AdamW step at `lr` for random advantages, [B]. AdamW's first step has the same size
    whatever the rewards. The weights are put back."""
    parameters = trainable(subject.policy.module)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    rollout = subject.rollout
    random = torch.randn(len(rollout.group), generator=generator(subject.seed, "advantage")).to(rollout.group.device)
    mean, _ = group_moments(random, rollout.group, rollout.num_groups)
    batch = subject.batch(objective, "move", advantage=random - mean[rollout.group])
    s_old = subject.surrogate(objective, "move")
    backward(subject.policy, objective, batch, {}, subject.guidance, subject.micro_batch_size)
    torch.optim.AdamW(parameters.values(), lr=lr, weight_decay=0.0).step()
    moved = (subject.surrogate(objective, "move") - s_old).exp() - 1
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(before[name])
            value.grad = None
    return moved.abs()
