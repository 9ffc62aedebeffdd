"""What is compared: named settings on top of one recipe. Model, prompts, images per iteration, reward, arithmetic (fp32, since
which machines gain from bf16 differs) and evaluation are the same."""

from dataclasses import replace
from typing import Any, Literal

from vgrpo.analysis.race.equal import EQUAL, space_of
from vgrpo.analysis.race.space import Space
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
from vgrpo.recipes.vgrpo_fast import VGRPO_FAST
from vgrpo.training.settings.config import Config, RolloutConfig, UpdateConfig


def method(
    objective: Objective[Any], lr: float, *, num_steps: int, num_minibatches: int = 1, keep_old: bool = False, **rollout: Any
) -> Config:
    """The main job's model and reward and `vgrpo-fast`'s adapter under another algorithm, with its learning rate (constant, so
    that no schedule favours a run's length) and what its rollouts need. None of the main job's own shortcuts."""
    return replace(
        VGRPO_FAST,
        precision="fp32",
        objective=objective,
        rollout=RolloutConfig(num_prompts=12, group_size=16, num_steps=num_steps, **rollout),
        update=UpdateConfig(lr=lr, num_minibatches=num_minibatches, keep_old=keep_old),
    )


def on_steps(objective: Objective[Any], lr: float, *, num_steps: int, num_minibatches: int, shift: float = 3.0) -> Config:
    """An algorithm on the steps of its rollouts, which keeps their answers as the published ones do."""
    return method(objective, lr, num_steps=num_steps, num_minibatches=num_minibatches, shift=shift, keep_old=True)


def of_groups(entry: Config, std: Literal["group", "none"] = "group") -> Config:
    """With advantages that are divided by the deviation of their own group, or by nothing, instead of the iteration's."""
    return replace(entry, advantage=replace(entry.advantage, std=std))


# As published: steps, shift, points, weights that lag, minibatches, advantages. The rate alone is tuned.
PUBLISHED: dict[str, Config] = {
    "vgrpo": method(VGRPO(shift=3.0), 3.5e-4, num_steps=16),
    # As the paper trains on GenEval's judge: several steps per rollout under a ratio clip.
    "vgrpo-steps": method(VGRPO(shift=3.0, ratio_clip=0.02, soft_clip=None), 3.5e-4, num_steps=16, num_minibatches=4),
    "vgrpo-fast": replace(VGRPO_FAST, precision="fp32"),
    # The same with groups of 16 of which a quarter is trained on, in four steps, which the mirrored bound makes hold.
    "vgrpo-fast-4-steps": replace(
        VGRPO_FAST,
        precision="fp32",
        objective=VGRPO(shift=3.0, ref_weight=2.0, mirrored=True, share_pairs="none"),
        rollout=RolloutConfig(num_prompts=12, group_size=16, num_steps=5),
        update=UpdateConfig(lr=1.5e-3, keep_share=0.25, num_minibatches=4, max_grad_norm=0.05),
    ),
    "mixgrpo": of_groups(on_steps(MixGRPO(), 1.5e-3, num_steps=25, num_minibatches=4)),
    "flowgrpo": on_steps(FlowGRPO(num_window_steps=3, kl_weight=0.0, ratio_clip=1e-5), 1.5e-3, num_steps=10, num_minibatches=2),
    "dancegrpo": of_groups(on_steps(DanceGRPO(), 7e-4, num_steps=16, num_minibatches=4)),
    "diffusionnft": method(DiffusionNFT(shift=3.0), 3e-3, num_steps=10, shift=3.0),
    "awm": method(AWM(shift=3.0), 3e-3, num_steps=14, solver="euler", shift=3.0),
    "dgpo": method(DGPO(shift=3.0), 7e-4, num_steps=10),
    "fdfo": on_steps(FDFO(), 7e-4, num_steps=40, num_minibatches=4, shift=1.0),
    "fpo": method(FPO(prediction="v"), 7e-4, num_steps=10),
    "crd": method(CRD(centering="softmax"), 3e-3, num_steps=10),
    "branchgrpo": on_steps(BranchGRPO(splits=(0, 3, 6, 9)), 7e-4, num_steps=20, num_minibatches=4),
    "stepwisegrpo": of_groups(on_steps(StepwiseGRPO(), 3e-4, num_steps=10, num_minibatches=2)),
    "ddpo": on_steps(DDPO(), 1.5e-3, num_steps=50, num_minibatches=2, shift=1.0),
    "rwr": method(RWR(), 3e-4, num_steps=10),
    "sft": method(SFT(), 3e-3, num_steps=10),
    "flowawr": method(FlowAWR(shift=3.0), 3e-3, num_steps=10, shift=3.0),
    "advantageflow": method(AdvantageFlow(shift=3.0), 3e-3, num_steps=10, shift=3.0),
    "ram": method(RAM(shift=3.0), 3e-3, num_steps=10, shift=3.0),
    "rvm": method(RVM(shift=3.0), 3e-3, num_steps=10, shift=3.0),
    **{
        mode: of_groups(method(EPG(mode=mode, shift=3.0), 3.5e-4, num_steps=10, shift=3.0), "none")
        for mode in ("epg", "pepg", "par")
    },
    "flowdppo": on_steps(FlowDPPO(), 1.5e-3, num_steps=10, num_minibatches=2),
    "tempflowgrpo": on_steps(TempFlowGRPO(num_branches=4, kl_weight=0.0), 1.5e-3, num_steps=10, num_minibatches=2),
    "tpgrpo": of_groups(on_steps(TPGRPO(kl_weight=0.0), 3e-4, num_steps=10, num_minibatches=2)),
}


def ablated(num_minibatches: int = 1, num_steps: int = 5, solver: Solver = "dpm_solver_2m", **changes: Any) -> Config:
    """The paper's V-GRPO on a schedule with shift 3, as Stable Diffusion 3's, with one thing changed. Short rollouts and a
    quarter of each group trained on give a run of a minute twice the iterations; no distance to the untrained model hides
    what a change does."""
    entry = method(
        VGRPO(**{"shift": 3.0, **changes}), 7e-4, num_steps=num_steps, num_minibatches=num_minibatches, solver=solver
    )
    return replace(entry, update=replace(entry.update, keep_share=0.25))


ABLATION: dict[str, Config] = {
    "vgrpo": ablated(),
    "pairs not shared": ablated(share_pairs="none"),
    "antithetic": ablated(antithetic=True),
    "antithetic, not shared": ablated(antithetic=True, share_pairs="none"),
    "pairs shared by all": ablated(share_pairs="batch"),
    "t not stratified": ablated(stratified=False),
    "not normalised": ablated(self_normalize=False),
    "none of the three": ablated(share_pairs="none", stratified=False, self_normalize=False),
    "v-prediction": ablated(prediction="v"),
    "eps-prediction": ablated(prediction="eps"),
    **{f"{n} pairs": ablated(num_probes=n) for n in (1, 2, 8)},
    "no soft clip": ablated(soft_clip=None),
    **{f"shift {shift:g}": ablated(shift=shift) for shift in (1.0, 5.0)},
    "4 steps, no control": ablated(4, soft_clip=None),
    "4 steps, soft clip": ablated(4),
    "4 steps, ratio clip": ablated(4, soft_clip=None, ratio_clip=0.02),
    "4 steps, KL": ablated(4, soft_clip=None, kl_weight=0.3),
    "4 steps, all three": ablated(4, ratio_clip=0.02, kl_weight=0.3),
    "4 steps, mirrored": ablated(4, mirrored=True),
    "Euler": ablated(solver="euler"),
    "Heun, 3 steps": ablated(solver="heun", num_steps=3),
    **{f"{n} solver steps": ablated(num_steps=n) for n in (4, 8)},
}


def small(entry: Config) -> Config:
    """With a third of the images per iteration."""
    return replace(entry, rollout=replace(entry.rollout, num_prompts=4))


SUITES: dict[str, dict[str, Config]] = {
    "published": PUBLISHED,
    "equal": EQUAL,
    "ablation": ABLATION,
    "smoke": {name: small(EQUAL[name]) for name in ("vgrpo-fast-4-steps", "mixgrpo", "diffusionnft")},
}


def spaces(suite: str) -> dict[str, Space]:
    """What tuning may change of each entry, beside its learning rate: nothing of a method as it was published."""
    return {name: space_of(name) if suite in ("equal", "smoke") else () for name in SUITES[suite]}
