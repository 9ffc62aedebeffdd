"""All measurements of a model, and what follows from them."""

from typing import Any

from vgrpo.analysis.diagnose.measure import (
    PROBE_COUNTS,
    TECHNIQUES,
    Subject,
    gradient_norms,
    loss_by_time,
    ratio_moves,
    variation,
)
from vgrpo.objectives import VGRPO

GRADIENTS = ("all three", "not normalised", "v-prediction", "eps-prediction", "none, v-prediction")
NEARLY = 1.25  # a number of pairs is enough if the variation within groups is at most so many times that of 16
MOST_GRADIENTS = 64
"""Images whose gradients are measured, each in a backward pass of its own."""


def diagnosis(subject: Subject, num_timesteps: int, lr: float) -> dict[str, Any]:
    """Everything that diagnosis.json holds. `lr` is that of the step that the clip range is measured on."""
    objectives = {name: VGRPO(num_timesteps=num_timesteps, **changes) for name, changes in TECHNIQUES.items()}
    counts = {n: VGRPO(num_timesteps=num_timesteps, num_probes=n) for n in PROBE_COUNTS}
    moves = ratio_moves(subject, objectives["all three"], lr)
    num_images = len(subject.rollout.group)
    most = min(MOST_GRADIENTS, num_images)
    found = {
        "num_images": num_images,
        "loss_by_time": loss_by_time(subject),
        "variation": {name: variation(subject, objective, name) for name, objective in objectives.items()},
        "variation_by_num_probes": {str(n): variation(subject, counts[n], str(n)) for n in PROBE_COUNTS},
        "gradient": {name: gradient_norms(subject, objectives[name], name, most) for name in GRADIENTS},
        "ratio_move": {"lr": lr, "median": moves.quantile(0.5).item(), "p90": moves.quantile(0.9).item()},
    }
    return found | {"recommended": recommend(found)}


def recommend(found: dict[str, Any]) -> dict[str, float]:
    """The fewest pairs whose variation within groups is nearly that of 16, and the clip range that leaves nine in ten ratios
    of one optimiser step alone."""
    within = {int(n): value["within"] for n, value in found["variation_by_num_probes"].items()}
    enough = min(n for n, value in within.items() if value <= NEARLY * within[max(within)])
    return {"num_probes": enough, "ratio_clip": float(f"{min(max(found['ratio_move']['p90'], 1e-4), 0.2):.1g}")}
