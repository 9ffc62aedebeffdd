"""Algorithms, one file each: a frozen dataclass of hyper-parameters and pure functions of tensors."""

from typing import Any

from vgrpo.objectives.base import Objective
from vgrpo.objectives.forward.advantage_flow import AdvantageFlow
from vgrpo.objectives.forward.awm import AWM
from vgrpo.objectives.forward.base import ForwardObjective
from vgrpo.objectives.forward.crd import CRD
from vgrpo.objectives.forward.dgpo import DGPO
from vgrpo.objectives.forward.diffusion_nft import DiffusionNFT
from vgrpo.objectives.forward.epg import EPG
from vgrpo.objectives.forward.flow_awr import FlowAWR
from vgrpo.objectives.forward.fpo import FPO
from vgrpo.objectives.forward.ram import RAM
from vgrpo.objectives.forward.rvm import RVM
from vgrpo.objectives.forward.rwr import RWR
from vgrpo.objectives.forward.sft import SFT
from vgrpo.objectives.forward.vgrpo import VGRPO
from vgrpo.objectives.path.base import PathObjective
from vgrpo.objectives.path.branch_grpo import BranchGRPO
from vgrpo.objectives.path.dance_grpo import DanceGRPO
from vgrpo.objectives.path.ddpo import DDPO
from vgrpo.objectives.path.fdfo import FDFO
from vgrpo.objectives.path.flow_dppo import FlowDPPO
from vgrpo.objectives.path.flow_grpo import FlowGRPO
from vgrpo.objectives.path.mix_grpo import MixGRPO
from vgrpo.objectives.path.stepwise_grpo import StepwiseGRPO
from vgrpo.objectives.path.temp_flow_grpo import TempFlowGRPO
from vgrpo.objectives.path.tp_grpo import TPGRPO
from vgrpo.support.dotted import load_dotted
from vgrpo.support.spelling import hint

__all__ = [
    "AWM",
    "CRD",
    "DDPO",
    "DGPO",
    "EPG",
    "FDFO",
    "FPO",
    "OBJECTIVES",
    "RAM",
    "RVM",
    "RWR",
    "SFT",
    "TPGRPO",
    "VGRPO",
    "AdvantageFlow",
    "BranchGRPO",
    "DanceGRPO",
    "DiffusionNFT",
    "FlowAWR",
    "FlowDPPO",
    "FlowGRPO",
    "ForwardObjective",
    "MixGRPO",
    "Objective",
    "PathObjective",
    "StepwiseGRPO",
    "TempFlowGRPO",
    "objective_class",
    "objective_name",
]

OBJECTIVES: dict[str, type[Objective[Any]]] = {
    "vgrpo": VGRPO,
    "fpo": FPO,
    "diffusionnft": DiffusionNFT,
    "awm": AWM,
    "dgpo": DGPO,
    "crd": CRD,
    "epg": EPG,
    "ram": RAM,
    "flowawr": FlowAWR,
    "advantageflow": AdvantageFlow,
    "rvm": RVM,
    "flowgrpo": FlowGRPO,
    "dancegrpo": DanceGRPO,
    "mixgrpo": MixGRPO,
    "branchgrpo": BranchGRPO,
    "stepwisegrpo": StepwiseGRPO,
    "flowdppo": FlowDPPO,
    "tempflowgrpo": TempFlowGRPO,
    "tpgrpo": TPGRPO,
    "ddpo": DDPO,
    "fdfo": FDFO,
    "rwr": RWR,
    "sft": SFT,
}


def objective_class(name: str) -> type[Objective[Any]]:
    """An algorithm by name, or your own as `module:Class`. Raises ValueError, naming the nearest."""
    if ":" in name:
        found = load_dotted(name, "objective")
        if not (isinstance(found, type) and issubclass(found, Objective)):
            raise ValueError(f"objective {name!r} does not derive from vgrpo.objectives.Objective, as an algorithm must")
        return found
    if name not in OBJECTIVES:
        raise ValueError(f"unknown objective {name!r}: {hint(name, OBJECTIVES)} Your own is given as my_file:MyObjective.")
    return OBJECTIVES[name]


def objective_name(objective: Objective[Any]) -> str:
    """What `objective_class` finds it by."""
    kind = type(objective)
    known = {value: name for name, value in OBJECTIVES.items()}
    return known.get(kind, f"{kind.__module__}:{kind.__qualname__}")
