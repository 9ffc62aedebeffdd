"""The pictures of docs/pictures.md, measured on the bundled model: python docs/method_figures.py (needs the dev extra).

A few minutes on two CPU cores. Everything in them is computed by the library's own functions.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from vgrpo.analysis.diagnose.measure import Subject
from vgrpo.core import flow
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import VGRPO
from vgrpo.objectives.advantage import Advantages, group_moments, soft_clip
from vgrpo.prompts.sources import training_prompts
from vgrpo.recipes.sprites import SPRITES
from vgrpo.rewards.sprites import sprites
from vgrpo.sampling.draw import draw_groups
from vgrpo.sampling.settings import Sampling
from vgrpo.training.update import backward, frozen_velocities, velocities

DOCS = Path(__file__).parent
BLUE, ORANGE, GREY = "#2f6db5", "#e07b39", "#8a94a0"
OBJECTIVE = VGRPO(shift=3.0)
CONTROLS: dict[str, VGRPO] = {
    "no control": replace(OBJECTIVE, soft_clip=None),
    "ratio clip 0.02": replace(OBJECTIVE, soft_clip=None, ratio_clip=0.02),
    "KL to the old prediction, 0.3": replace(OBJECTIVE, soft_clip=None, kl_weight=0.3),
    "mirrored": replace(OBJECTIVE, soft_clip=None, mirrored=True),
}
"""Each bound alone, all else equal."""


def subject(num_prompts: int, group_size: int, *, seed: int = 0) -> Subject:
    """The bundled model with a fresh adapter, and groups of images that it drew."""
    policy = make_policy(load_pipeline("sprites"), max_sequence_length=0)
    for part in policy.pipeline.components.values():
        if hasattr(part, "requires_grad_"):
            part.requires_grad_(False)
    prompts = training_prompts("sprites", seed)(0, num_prompts)
    rollout = draw_groups(policy, prompts, seed, "figure", group_size=group_size, sampling=Sampling(num_steps=8))
    add_lora(policy, SPRITES.lora, seed)
    return Subject(policy=policy, rollout=rollout, guidance=1.0, micro_batch_size=None, seed=seed)


def advantages(on: Subject) -> tuple[Tensor, Tensor]:
    """The verifier's rewards of the images and what training makes of them, [B] each."""
    rewards = sprites(on.rollout.images, on.rollout.prompts)
    group, num_groups = on.rollout.group, on.rollout.num_groups
    return rewards, Advantages()(rewards[:, None], torch.ones(1), group, num_groups)


def surrogates(on: Subject, objective: VGRPO, num_draws: int) -> Tensor:
    """The surrogate of every image under fresh pairs, [draws, B]."""
    return torch.stack([on.surrogate(objective, "draw", index) for index in range(num_draws)])


def noise_of_pairs(s: Tensor, group: Tensor) -> float:
    """How far the luck of the pairs moves an image against its group: the deviation over draws of s [draws, B] minus the mean
    of its group, as a share of the surrogate's size."""
    num_groups = int(group.max()) + 1
    relative = torch.stack([row - group_moments(row, group, num_groups)[0][group] for row in s])
    return (relative.var(0, correction=1).mean().sqrt() / s.mean().abs()).item()


def steps_on_one_rollout(on: Subject, objective: VGRPO, advantage: Tensor, num_steps: int, lr: float) -> dict[str, Tensor]:
    """Ratio of every image before each of several optimiser steps on the same rollout, [steps, B], and the mean squared
    distance of the predictions from the old ones, [steps]. The weights are put back."""
    parameters = trainable(on.policy.module)
    before = {name: value.detach().clone() for name, value in parameters.items()}
    batch = on.batch(objective, "steps", advantage=advantage)
    old = frozen_velocities(on.policy, batch, on.guidance, None)
    s_old = objective.surrogate(old, batch.points)
    optimizer = torch.optim.AdamW(parameters.values(), lr=lr, betas=(0.9, 0.99), weight_decay=0.0)
    ratios, distances = [], []
    for _ in range(num_steps):
        optimizer.zero_grad()
        metrics = backward(on.policy, objective, batch, {"old": old}, on.guidance, None)
        with torch.no_grad():
            v = velocities(on.policy, batch.points, batch.cond, on.guidance)
        ratios.append((objective.surrogate(v, batch.points) - s_old).exp())
        distances.append(metrics["kl"].mean())
        torch.nn.utils.clip_grad_norm_(parameters.values(), SPRITES.update.max_grad_norm)
        optimizer.step()
    with torch.no_grad():
        for name, value in parameters.items():
            value.copy_(before[name])
    return {"ratio": torch.stack(ratios), "kl": torch.stack(distances)}


def tidy(axis: Any) -> None:
    axis.spines[["top", "right"]].set_visible(False)
    axis.grid(alpha=0.25)


def pair_figure(on: Subject, row: int = 0, times: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 0.95)) -> plt.Figure:
    """One image, the noisy points of five pairs with one eps, what the model takes them for, and each pair's error."""
    x_0 = on.rollout.latents[row : row + 1].float()
    eps = torch.randn(x_0.shape, generator=torch.Generator().manual_seed(1))
    figure, axes = plt.subplots(2, len(times) + 1, figsize=(11, 4.3), layout="constrained")
    show(axes[0, 0], on, x_0)
    axes[0, 0].set_title("the image", fontsize=10)
    axes[1, 0].axis("off")
    prompt = on.rollout.prompts[row].text
    axes[1, 0].text(0.5, 0.5, f"prompt:\n{prompt}", ha="center", va="center", fontsize=10, wrap=True)
    for column, time in enumerate(times, 1):
        t = torch.tensor([time])
        x_t = flow.interpolate(x_0, eps, t)
        with torch.no_grad():
            v = on.policy.velocity(x_t, t, on.rollout.cond[row : row + 1], 1.0).float()
        guess = flow.predict_x_0(x_t, v, t)
        error = guess - x_0
        s = error.square().mean() / error.abs().mean()
        show(axes[0, column], on, x_t)
        show(axes[1, column], on, guess)
        axes[0, column].set_title(f"t = {time:g}: noisy point", fontsize=10)
        axes[1, column].set_title(f"guess, error {s:.2f}", fontsize=10)
    return figure


def show(axis: Any, on: Subject, x: Tensor) -> None:
    with torch.no_grad():
        axis.imshow(on.policy.decode(x)[0].permute(1, 2, 0).clamp(0, 1).numpy(), interpolation="nearest")
    axis.set(xticks=[], yticks=[])


def sharing_figure(on: Subject, num_draws: int = 10, group: int = 1) -> tuple[plt.Figure, dict[str, list[float]]]:
    """A group's surrogates under several draws of one pair, own ones and shared ones; then the noise of pairs over all groups,
    also for four pairs."""
    figure, axes = plt.subplots(1, 3, figsize=(11.5, 3.6), layout="constrained", width_ratios=[2, 2, 1.8])
    pairs = {
        "1 pair": {"num_probes": 1, "stratified": False},
        "4 pairs": {"stratified": False},
        "4 pairs,\nstratified t": {},
    }
    found: dict[str, list[float]] = {"own pairs": [], "shared pairs": []}
    members = on.rollout.group == group
    colors = plt.get_cmap("cividis")(torch.linspace(0, 1, int(members.sum())).numpy())
    for axis, (name, noise), share in zip(axes, found.items(), ("none", "group"), strict=False):
        for setting in pairs.values():
            s = surrogates(on, replace(OBJECTIVE, share_pairs=share, **setting), num_draws)
            noise.append(noise_of_pairs(s, on.rollout.group))
            if len(noise) == 1:
                for line, color in zip(s[:, members].T, colors, strict=True):
                    axis.plot(range(1, num_draws + 1), line, color=color, lw=1.6)
        axis.set(title=f"{name}, one each: a line is an image", xlabel="draw of pairs", ylabel="surrogate")
    axes[1].sharey(axes[0])
    for offset, (name, noise), color in zip((-0.2, 0.2), found.items(), (GREY, BLUE), strict=True):
        bars = axes[2].bar([place + offset for place in range(len(pairs))], noise, width=0.38, color=color, label=name)
        axes[2].bar_label(bars, fmt="%.2f", fontsize=8)
    axes[2].set_xticks(range(len(pairs)), list(pairs), fontsize=9)
    axes[2].set(title="noise of comparing images", ylabel="share of the surrogate's size")
    axes[2].legend(frameon=False, fontsize=9)
    for axis in axes:
        tidy(axis)
    return figure, found


def controls_figure(on: Subject, num_steps: int = 6, lr: float = 1.5e-3) -> tuple[plt.Figure, dict[str, dict[str, float]]]:
    """Ratios over optimiser steps on one rollout under each bound alone, good images and bad ones apart."""
    _, advantage = advantages(on)
    figure, axes = plt.subplots(1, len(CONTROLS), figsize=(12, 3.5), layout="constrained", sharey=True)
    found = {}
    for axis, (name, objective) in zip(axes, CONTROLS.items(), strict=True):
        run = steps_on_one_rollout(on, objective, advantage, num_steps, lr)
        for sign, color, label in ((1, BLUE, "good images"), (-1, ORANGE, "bad images")):
            ratio = run["ratio"][:, sign * advantage > 0.1]
            low, middle, high = (ratio.quantile(q, 1) for q in (0.05, 0.5, 0.95))
            axis.fill_between(range(num_steps), low, high, color=color, alpha=0.25, lw=0)
            axis.plot(range(num_steps), middle, color=color, label=label)
        axis.set(title=name, xlabel="optimiser steps")
        tidy(axis)
        bad = run["ratio"][-1, advantage < -0.1]
        found[name] = {"distance": run["kl"][-1].item(), "lowest": bad.quantile(0.05).item()}
        axis.text(0.03, 0.04, f"distance {found[name]['distance']:.1e}", transform=axis.transAxes, fontsize=9)
    axes[0].set_ylabel("ratio to the old weights")
    axes[0].legend(frameon=False, fontsize=9)
    return figure, found


def soft_clip_figure(on: Subject) -> plt.Figure:
    """What the soft clip makes of the advantages that these images have."""
    _, advantage = advantages(on)
    order = advantage.sort().values
    figure, axis = plt.subplots(figsize=(5.5, 3.2), layout="constrained")
    axis.plot(order, order, color=GREY, label="no clip")
    for eta, color in ((3.0, BLUE), (1.0, ORANGE)):
        axis.scatter(order, soft_clip(order, eta), s=12, color=color, label=f"soft clip {eta:g}")
    axis.set(xlabel="advantage", ylabel="weight in the update")
    axis.legend(frameon=False)
    tidy(axis)
    return figure


if __name__ == "__main__":
    images = subject(8, 8)
    pair_figure(images).savefig(DOCS / "pairs.png", dpi=100)
    figure, noise = sharing_figure(images)
    figure.savefig(DOCS / "sharing.png", dpi=100)
    fewer = subject(4, 8)
    figure, bounds = controls_figure(fewer)
    figure.savefig(DOCS / "controls.png", dpi=100)
    soft_clip_figure(fewer).savefig(DOCS / "soft-clip.png", dpi=100)
    print(noise, bounds)
