"""What is compared: named settings on top of one recipe. Model, prompts, group size, reward and evaluation are the same."""

from dataclasses import replace
from typing import Any

from vgrpo.core.solvers import Solver
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
    MixGRPO,
    Objective,
    StepwiseGRPO,
    TempFlowGRPO,
)
from vgrpo.recipes.sprites import SPRITES
from vgrpo.recipes.vgrpo_fast import VGRPO_FAST
from vgrpo.training.config import Config, RolloutConfig, UpdateConfig


def method(
    objective: Objective[Any], lr: float, *, num_steps: int = 8, num_minibatches: int = 1, clip: float = 1.0, **rollout: Any
) -> Config:
    """The main job's model, adapter and reward under another algorithm, with its learning rate (constant, so that no schedule
    favours a run's length) and what its rollouts need. None of the main job's own shortcuts."""
    return replace(
        SPRITES,
        objective=objective,
        rollout=RolloutConfig(num_prompts=12, group_size=16, num_steps=num_steps, **rollout),
        update=UpdateConfig(lr=lr, num_minibatches=num_minibatches, max_grad_norm=clip),
    )


def four_steps(**changes: Any) -> Config:
    """`vgrpo-fast` with four bounded optimiser steps for every rollout of five solver steps and groups of 16, of which the best
    and the worst eighth are trained on."""
    return replace(
        VGRPO_FAST,
        rollout=replace(VGRPO_FAST.rollout, num_prompts=12, group_size=16, num_steps=5),
        objective=VGRPO(shift=3.0, ref_weight=2.0, mirrored=True, **changes),
        update=replace(VGRPO_FAST.update, keep_share=0.25, num_minibatches=4),
    )


EULER: dict[str, Any] = {"solver": "euler"}

# Learning rate, then one setting of its own: what was best on training prompts (docs/benchmark.md has all trials).
METHODS: dict[str, Config] = {
    "vgrpo": method(VGRPO(shift=5.0), 3.5e-4, clip=0.03),
    # Faster, until it falls.
    "vgrpo-8-pairs": method(VGRPO(shift=5.0, num_probes=8), 1.5e-3),
    # As the paper trains on GenEval's judge: several steps per rollout under a ratio clip.
    "vgrpo-steps": method(VGRPO(shift=5.0, ratio_clip=0.02, soft_clip=None), 3.5e-4, num_minibatches=4, clip=0.05),
    "vgrpo-fast": VGRPO_FAST,
    "vgrpo-fast-own-pairs": replace(
        VGRPO_FAST,
        objective=VGRPO(shift=3.0, ref_weight=2.0, num_probes=8, share_pairs="none"),
        update=replace(VGRPO_FAST.update, lr=3e-3),
    ),
    # Four optimiser steps per rollout, which hold because the push away from bad images is bounded.
    "vgrpo-fast-4-steps": four_steps(),
    "vgrpo-fast-4-steps-own-pairs": four_steps(share_pairs="none"),
    "mixgrpo": method(MixGRPO(), 1.5e-3, num_steps=12, num_minibatches=4),
    "flowgrpo": method(FlowGRPO(num_window_steps=3, kl_weight=0.0), 1.5e-3, num_steps=10, num_minibatches=2),
    "dancegrpo": method(DanceGRPO(noise=0.7), 7e-4, num_steps=12, num_minibatches=4),
    "diffusionnft": method(DiffusionNFT(shift=3.0), 3e-3, num_steps=6, solver="heun"),
    "awm": method(AWM(power=1.0, shift=3.0), 3e-3, num_steps=14, clip=1.5e-3, **EULER),
    "dgpo": method(DGPO(beta=10.0, num_probes=8, shift=3.0), 1.5e-3),
    "fdfo": method(FDFO(), 7e-4, num_steps=12, num_minibatches=4),
    "fpo": method(FPO(prediction="v", num_probes=2), 7e-4),
    "crd": method(CRD(centering="softmax"), 3e-3),
    "branchgrpo": method(BranchGRPO(splits=(0, 2, 4, 6), ratio_clip=1e-2), 7e-4, num_steps=12, num_minibatches=4),
    "stepwisegrpo": method(StepwiseGRPO(noise=0.5), 3e-4, num_steps=10, num_minibatches=2),
    "ddpo": method(DDPO(), 1.5e-3, num_steps=16, num_minibatches=2),
    "rwr": method(RWR(temperature=0.3), 3e-4),
    "sft": method(SFT(num_probes=8), 3e-3),
    # Not tuned: rate, solver and minibatches are those of the nearest relative above. DiffusionNFT's regressions:
    "flowawr": method(FlowAWR(shift=3.0), 3e-3, num_steps=6, solver="heun"),
    "advantageflow": method(AdvantageFlow(shift=3.0), 3e-3, num_steps=6, solver="heun"),
    "ram": method(RAM(shift=3.0), 3e-3, num_steps=6, solver="heun"),
    # AWM's:
    "rvm": method(RVM(num_probes=6, shift=3.0), 3e-3, num_steps=14, clip=1.5e-3, **EULER),
    # V-GRPO's:
    **{mode: method(EPG(mode=mode, shift=5.0), 3.5e-4, clip=0.03) for mode in ("epg", "pepg", "par")},
    # Flow-GRPO's, and Stepwise-Flow-GRPO's for the last:
    "flowdppo": method(FlowDPPO(), 1.5e-3, num_steps=10, num_minibatches=2),
    "tempflowgrpo": method(TempFlowGRPO(num_branches=4, kl_weight=0.0), 1.5e-3, num_steps=10, num_minibatches=2),
    "tpgrpo": method(TPGRPO(kl_weight=0.0), 3e-4, num_steps=10, num_minibatches=2),
}

# Tuning beyond the learning rate: alternatives to what was chosen, one at a time. A name with a dot is a setting outside the
# objective. Gradients are clipped to about the norm that the method's first iterations have, so that every second step is.
KNOBS: dict[str, tuple[dict[str, Any], ...]] = {
    "vgrpo": ({"shift": 1.0}, {"shift": 3.0}, {"num_probes": 2}, {"num_probes": 8}, {"update.max_grad_norm": 1.0}),
    "vgrpo-steps": ({"kl_weight": 0.3}, {"num_probes": 2}, {"shift": 3.0}, {"update.max_grad_norm": 1.0}),
    "fpo": ({"prediction": "eps"}, {"num_probes": 4}, {"num_probes": 8}, {"shift": 3.0}),
    "mixgrpo": ({"ratio_clip": 1e-3}, {"ratio_clip": 1e-2}, {"noise": 1.0}, {"update.max_grad_norm": 0.001}),
    "dancegrpo": ({"ratio_clip": 1e-3}, {"ratio_clip": 1e-2}, {"noise": 0.3}, {"update.max_grad_norm": 0.003}),
    "flowgrpo": (
        {"ratio_clip": 1e-3},
        {"noise": 1.0},
        {"num_window_steps": None, "kl_weight": 0.04},
        {"update.max_grad_norm": 0.0015},
    ),
    "diffusionnft": (
        {"beta": 0.1},
        {"old_schedule": "late"},
        {"num_probes": 5},
        {"shift": 1.0},
        {"update.max_grad_norm": 0.025},
    ),
    "awm": ({"old_weight": 0.1}, {"power": 0.25}, {"num_probes": 3}, {"shift": 1.0}, {"update.max_grad_norm": 1.0}),
    "dgpo": ({"beta": 100.0}, {"beta": 1000.0}, {"num_probes": 4}, {"shift": 1.0}, {"update.max_grad_norm": 0.006}),
    "crd": ({"beta": 0.1}, {"kl_weight": 0.01}, {"centering": "uniform"}, {"shift": 3.0}),
    "branchgrpo": ({"ratio_clip": 1e-3}, {"noise": 0.7}, {"keep_width": 0.5}),
    "stepwisegrpo": ({"ratio_clip": 1e-3}, {"ratio_clip": 1e-2}, {"noise": 0.8}),
    "ddpo": ({"ratio_clip": 1e-3}, {"ratio_clip": 1e-2}, {"mode": "sf"}),
    "fdfo": ({"churn": 0.01}, {"churn": 0.04}, {"ratio_clip": 0.1}, {"update.max_grad_norm": 2.0}),
    "rwr": ({"temperature": 1.0}, {"temperature": 3.0}, {"kl_weight": 0.1}, {"shift": 3.0}),
    "sft": ({"num_probes": 2}, {"num_probes": 4}, {"kl_weight": 0.1}, {"shift": 3.0}),
    "flowawr": ({"old_schedule": "none"}, {"num_probes": 5}, {"shift": 1.0}, {"update.max_grad_norm": 0.025}),
    "advantageflow": ({"old_weight": 1.1}, {"old_schedule": "none"}, {"num_probes": 5}, {"shift": 1.0}),
    "ram": ({"reward_multiplier": 1000.0}, {"old_schedule": "none"}, {"num_probes": 4}, {"shift": 1.0}),
    "rvm": ({"kl_weight": 0.01}, {"num_probes": 3}, {"shift": 1.0}, {"update.max_grad_norm": 1.0}),
    **{mode: ({"old_schedule": "none"}, {"num_probes": 5}, {"shift": 3.0}) for mode in ("epg", "pepg", "par")},
    "flowdppo": ({"kl_limit": 1e-4}, {"kl_limit": 1e-3}, {"noise": 1.0}),
    "tempflowgrpo": ({"num_branches": 8}, {"ratio_clip": 1e-3}, {"noise": 1.0}),
    "tpgrpo": ({"bonus": 0.5}, {"ratio_clip": 1e-3}, {"noise": 0.5}),
}


def ablated(num_minibatches: int = 1, num_steps: int = 8, solver: Solver = "dpm_solver_2m", **changes: Any) -> Config:
    """The paper's V-GRPO on a schedule with shift 3, as Stable Diffusion 3's, with one thing changed."""
    return method(VGRPO(**{"shift": 3.0, **changes}), 7e-4, num_steps=num_steps, num_minibatches=num_minibatches, solver=solver)


ABLATION: dict[str, Config] = {
    "vgrpo": ablated(),
    "pairs not shared": ablated(share_pairs="none"),
    "pairs shared by all": ablated(share_pairs="batch"),
    "t not stratified": ablated(stratified=False),
    "not normalised": ablated(self_normalize=False),
    "none of the three": ablated(share_pairs="none", stratified=False, self_normalize=False),
    "v-prediction": ablated(prediction="v"),
    "eps-prediction": ablated(prediction="eps"),
    **{f"{n} pairs": ablated(num_probes=n) for n in (1, 2, 8)},
    **{f"shift {shift:g}": ablated(shift=shift) for shift in (1.0, 5.0)},
    "no soft clip": ablated(soft_clip=None),
    "4 steps, no control": ablated(4, soft_clip=None),
    "4 steps, soft clip": ablated(4),
    "4 steps, ratio clip": ablated(4, soft_clip=None, ratio_clip=0.02),
    "4 steps, KL": ablated(4, soft_clip=None, kl_weight=0.3),
    "4 steps, all three": ablated(4, ratio_clip=0.02, kl_weight=0.3),
    "Euler": ablated(solver="euler"),
    "Heun, 4 steps": ablated(solver="heun", num_steps=4),
    **{f"{n} solver steps": ablated(num_steps=n) for n in (5, 12)},
}


def small(entry: Config) -> Config:
    """With a third of the images per iteration."""
    return replace(entry, rollout=replace(entry.rollout, num_prompts=4))


SUITES: dict[str, dict[str, Config]] = {
    "methods": METHODS,
    "ablation": ABLATION,
    "smoke": {name: small(METHODS[name]) for name in ("vgrpo", "mixgrpo", "diffusionnft")},
}
