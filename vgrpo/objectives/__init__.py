"""Algorithms: one file each, a frozen dataclass of hyper-parameters with two pure functions."""

import difflib

from vgrpo.objectives.awm import AWM
from vgrpo.objectives.base import Objective
from vgrpo.objectives.crd import CRD
from vgrpo.objectives.dance_grpo import DanceGRPO
from vgrpo.objectives.dgpo import DGPO
from vgrpo.objectives.diffusion_nft import DiffusionNFT
from vgrpo.objectives.flow_grpo import FlowGRPO
from vgrpo.objectives.fpo import FPO
from vgrpo.objectives.mix_grpo import MixGRPO
from vgrpo.objectives.rwr import RWR
from vgrpo.objectives.sft import SFT
from vgrpo.objectives.vgrpo import VGRPO

__all__ = ["AWM", "CRD", "DGPO", "FPO", "OBJECTIVES", "RWR", "SFT", "VGRPO", "DiffusionNFT", "Objective", "objective_class"]

OBJECTIVES: dict[str, type[Objective]] = {
    "vgrpo": VGRPO,
    "fpo": FPO,
    "diffusion_nft": DiffusionNFT,
    "awm": AWM,
    "dgpo": DGPO,
    "crd": CRD,
    "flow_grpo": FlowGRPO,
    "dance_grpo": DanceGRPO,
    "mix_grpo": MixGRPO,
    "rwr": RWR,
    "sft": SFT,
}


def objective_class(name: str) -> type[Objective]:
    """An algorithm by name. Raises ValueError, naming the nearest."""
    if name not in OBJECTIVES:
        near = difflib.get_close_matches(name, OBJECTIVES, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(OBJECTIVES)}"
        raise ValueError(f"unknown objective {name!r}: {hint}")
    return OBJECTIVES[name]
