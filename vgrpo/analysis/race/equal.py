"""Equal terms: every method may use every setting that is no other method's idea.

Such settings are the trainer's: solver, steps and time shift of the rollouts, the form of the groups and which share of them is
trained on, optimiser steps per rollout, clipped gradients, old answers kept from the rollout, rollouts of the current weights
instead of a lagging copy, a distance to the untrained model, how many points and where. A method's idea is its loss, what it
credits, and which points of an image or of a group share what. Here stand where the search for each method begins, and what it
may change. All train the main job's adapter. Of the first five the search begins with the best that earlier ones have found.
"""

from dataclasses import replace
from typing import Any

from vgrpo.analysis.race.space import Change, Space
from vgrpo.objectives import (
    AWM,
    CRD,
    DDPO,
    DGPO,
    EPG,
    FDFO,
    FPO,
    RAM,
    RVM,
    RWR,
    SFT,
    TPGRPO,
    VGRPO,
    AdvantageFlow,
    BranchGRPO,
    DanceGRPO,
    DiffusionNFT,
    FlowAWR,
    FlowDPPO,
    FlowGRPO,
    ForwardObjective,
    MixGRPO,
    Objective,
    StepwiseGRPO,
    TempFlowGRPO,
)
from vgrpo.recipes.sprites import SPRITES
from vgrpo.recipes.vgrpo_fast import VGRPO_FAST
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig

_BASE = replace(VGRPO_FAST, precision="fp32", lora=SPRITES.lora)


def _on_points(objective: ForwardObjective, lr: float, max_grad_norm: float = 1.0) -> Config:
    """Five solver steps, groups of 16 of which the best and the worst eighth are trained on in four optimiser steps."""
    return replace(
        _BASE,
        objective=objective,
        rollout=RolloutConfig(num_prompts=12, group_size=16, num_steps=5),
        update=UpdateConfig(lr=lr, keep_share=0.25, num_minibatches=4, max_grad_norm=max_grad_norm),
    )


def _on_steps(objective: Objective[Any], lr: float, shift: float = 3.0, max_grad_norm: float = 1.0) -> Config:
    """Eight steps, groups of 8 of which the best and the worst quarter are trained on in four optimiser steps."""
    return replace(
        _BASE,
        objective=objective,
        rollout=RolloutConfig(num_prompts=24, group_size=8, num_steps=8, shift=shift),
        update=UpdateConfig(lr=lr, keep_share=0.5, num_minibatches=4, keep_old=True, max_grad_norm=max_grad_norm),
    )


def _small_groups(entry: Config) -> Config:
    """Groups of 8 of which the best and the worst quarter are trained on, and rollouts with shift 3."""
    rollout = replace(entry.rollout, num_prompts=24, group_size=8, shift=3.0)
    return replace(entry, rollout=rollout, update=replace(entry.update, keep_share=0.5))


_LAGGING: dict[str, Any] = {"old_schedule": "none", "num_probes": 4, "num_timesteps": 5, "shift": 3.0, "kl_weight": 1.0}

EQUAL: dict[str, Config] = {
    # Four optimiser steps per rollout, which hold because the push away from bad images is bounded.
    "vgrpo-fast-4-steps": _on_points(
        VGRPO(shift=3.0, ref_weight=2.0, mirrored=True, share_pairs="none", antithetic=True), 1.5e-3, 0.05
    ),
    "diffusionnft": _on_points(
        DiffusionNFT(old_schedule="none", beta=0.3, num_probes=9, num_timesteps=10, shift=5.0, kl_weight=0.3), 1.5e-3, 0.025
    ),
    "awm": _small_groups(_on_points(AWM(shift=3.0, num_probes=4, old_schedule="none", kl_weight=0.1), 1.5e-3)),
    "mixgrpo": _on_steps(MixGRPO(num_window_steps=3), 2.9e-3, shift=1.0, max_grad_norm=0.003),
    "flowgrpo": _on_steps(FlowGRPO(num_window_steps=3, kl_weight=0.0), 1.5e-3, shift=1.0),
    "dancegrpo": _on_steps(DanceGRPO(noise=0.7), 7e-4),
    "flowdppo": _on_steps(FlowDPPO(), 1.5e-3),
    "tempflowgrpo": _on_steps(TempFlowGRPO(num_branches=4, kl_weight=0.0), 1.5e-3),
    "tpgrpo": _on_steps(TPGRPO(kl_weight=0.0), 7e-4),
    "stepwisegrpo": _on_steps(StepwiseGRPO(), 7e-4),
    "branchgrpo": _on_steps(BranchGRPO(splits=(0, 2, 4)), 7e-4),
    "ddpo": _on_steps(DDPO(), 1.5e-3, shift=1.0),
    "fdfo": _on_steps(FDFO(), 7e-4, shift=1.0),
    "fpo": _on_points(FPO(prediction="v", kl_weight=2.0, shift=3.0), 7e-4),
    "dgpo": _on_points(DGPO(beta=10.0, kl_weight=1.0, shift=3.0), 7e-4),
    "rvm": _on_points(RVM(kl_weight=0.3, shift=3.0), 1.5e-3),
    "ram": _on_points(RAM(num_probes=4, reward_multiplier=3.0, old_schedule="none", shift=3.0), 1.5e-3),
    "crd": _on_points(CRD(centering="softmax", kl_weight=1.0, shift=3.0), 1.5e-3),
    "rwr": _on_points(RWR(shift=3.0), 7e-4),
    "sft": _on_points(SFT(shift=3.0), 1.5e-3),
    "flowawr": _on_points(FlowAWR(**_LAGGING), 1.5e-3),
    "advantageflow": _on_points(AdvantageFlow(**_LAGGING), 1.5e-3),
    **{mode: _on_points(EPG(mode=mode, **_LAGGING), 7e-4) for mode in ("epg", "pepg", "par")},
}


def _each(name: str, *values: Any) -> tuple[Change, ...]:
    return tuple({name: value} for value in values)


def _groups(num_prompts: int, group_size: int, keep_share: float) -> Change:
    return {"rollout.num_prompts": num_prompts, "rollout.group_size": group_size, "update.keep_share": keep_share}


_SHARED: Space = (
    (_groups(24, 8, 0.5), _groups(24, 8, 1.0), _groups(12, 16, 0.25), _groups(12, 16, 0.5), _groups(12, 16, 1.0)),
    _each("update.num_minibatches", 1, 2, 4, 6),
)
_POINTS: Space = (
    (
        *({"rollout.solver": "dpm_solver_2m", "rollout.num_steps": count} for count in (4, 5, 6, 8)),
        {"rollout.solver": "euler", "rollout.num_steps": 8},
        {"rollout.solver": "heun", "rollout.num_steps": 4},
    ),
    _each("rollout.shift", 1.0, 3.0),
    _each("objective.shift", 1.0, 3.0, 5.0),
)
_STEPS: Space = (_each("rollout.num_steps", 6, 8, 10, 12), _each("rollout.shift", 1.0, 3.0, 5.0))
_TIMES = tuple(
    {"objective.num_probes": count, "objective.num_timesteps": of} for count, of in ((2, 5), (4, 5), (5, 6), (9, 10))
)
_LAGGING_SPACE: Space = (_TIMES, _each("objective.kl_weight", 0.0, 1e-3, 0.3, 1.0, 3.0))

_PROBES = _each("objective.num_probes", 2, 4, 6)

# What is a method's own. Gradients are clipped to 1, which is no clip, or to about what the method's first steps have.
_OWN: dict[str, Space] = {
    "vgrpo-fast-4-steps": (
        _each("objective.num_probes", 2, 4, 6),
        _each("objective.ref_weight", 0.0, 1.0, 2.0, 4.0),
        _each("objective.share_pairs", "none", "group"),
        _each("objective.antithetic", True, False),
        _each("objective.mirrored", True, False),
        _each("objective.kl_weight", 0.0, 3.0),
        _each("update.max_grad_norm", 0.025, 0.05, 0.1, 1.0),
    ),
    "diffusionnft": (*_LAGGING_SPACE, _each("objective.beta", 0.3, 1.0), _each("update.max_grad_norm", 0.025, 0.05, 1.0)),
    "awm": (
        _each("objective.num_probes", 2, 4, 6),
        _each("objective.kl_weight", 0.0, 1e-3, 0.1, 0.3, 1.0),
        _each("objective.old_weight", 0.0, 0.1, 1.0),
        _each("objective.power", 0.25, 1.0),
        _each("update.max_grad_norm", 0.0015, 0.005, 1.0),
    ),
    "mixgrpo": (
        _each("objective.num_window_steps", 2, 3, 4),
        _each("objective.iterations_per_window", 1, 5, 25),
        _each("objective.ratio_clip", 1e-4, 1e-3, 1e-2),
        _each("objective.noise", 0.5, 0.7, 1.0),
        _each("objective.kl_weight", 0.0, 0.01, 0.04),
        _each("update.max_grad_norm", 0.001, 0.003, 1.0),
    ),
    "flowgrpo": (
        _each("objective.num_window_steps", 2, 3, 4),
        _each("objective.ratio_clip", 1e-5, 1e-4, 1e-3),
        _each("objective.noise", 0.5, 0.7, 1.0),
        _each("objective.kl_weight", 0.0, 0.01, 0.04),
        _each("update.max_grad_norm", 0.0015, 0.005, 1.0),
    ),
    "dancegrpo": (
        _each("objective.ratio_clip", 1e-4, 1e-3),
        _each("objective.noise", 0.3, 0.7, 1.0),
        _each("objective.step_share", 0.3, 0.6, 1.0),
    ),
    "flowdppo": (_each("objective.kl_limit", 1e-5, 1e-4, 1e-3), _each("objective.noise", 0.5, 0.7, 1.0)),
    "tempflowgrpo": (_each("objective.ratio_clip", 1e-4, 1e-3), _each("objective.noise", 0.3, 0.7, 1.0)),
    "tpgrpo": (_each("objective.ratio_clip", 1e-5, 1e-4), _each("objective.bonus", 0.5, 1.0)),
    "stepwisegrpo": (_each("objective.ratio_clip", 1e-4, 1e-3), _each("objective.noise", 0.3, 0.8)),
    "branchgrpo": (_each("objective.ratio_clip", 1e-4, 1e-3), _each("objective.noise", 0.3, 0.7)),
    "ddpo": (_each("objective.ratio_clip", 1e-4, 1e-3), _each("objective.noise", 0.5, 1.0)),
    "fdfo": (_each("objective.churn", 0.001, 0.0025, 0.01), _each("objective.ratio_clip", 0.01, 0.03, 0.1)),
    "fpo": (_PROBES, _each("objective.kl_weight", 1.0, 2.0, 4.0), _each("objective.prediction", "v", "eps")),
    "dgpo": (_PROBES, _each("objective.kl_weight", 0.3, 1.0, 3.0), _each("objective.beta", 10.0, 100.0, 1000.0)),
    "rvm": (_PROBES, _each("objective.kl_weight", 0.1, 0.3, 1.0)),
    "ram": (_PROBES, _each("objective.reward_multiplier", 1.0, 3.0, 10.0, 100.0)),
    "crd": (_PROBES, _each("objective.kl_weight", 0.1, 1.0, 3.0), _each("objective.centering", "uniform", "softmax")),
    "rwr": (_PROBES, _each("objective.kl_weight", 0.0, 0.1, 1.0), _each("objective.temperature", 0.5, 1.0)),
    "sft": (_PROBES,),
    **dict.fromkeys(("flowawr", "advantageflow", "epg", "pepg", "par"), _LAGGING_SPACE),
}


def space_of(name: str) -> Space:
    """What tuning may change of a method, beside its learning rate."""
    points = isinstance(EQUAL[name].objective, ForwardObjective)
    return (*_SHARED, *(_POINTS if points else _STEPS), *_OWN[name])
