"""Online reinforcement learning for text-to-image diffusion and flow models."""

import importlib
from typing import TYPE_CHECKING, Any

# Diffusers takes a pipeline's own classes only from modules that are already imported; this one costs nothing.
import vgrpo.worlds.sprites as _sprites  # noqa: F401
from vgrpo.support.version import VERSION

if TYPE_CHECKING:
    from vgrpo.commands.api import train as train
    from vgrpo.commands.api import train_curriculum as train_curriculum
    from vgrpo.core.types import Prompt as Prompt
    from vgrpo.evaluation.settings import EvalConfig as EvalConfig
    from vgrpo.models.loading import load_pipeline as load_pipeline
    from vgrpo.models.settings import LoraConfig as LoraConfig
    from vgrpo.models.settings import MemoryConfig as MemoryConfig
    from vgrpo.objectives import VGRPO as VGRPO
    from vgrpo.training.settings.config import Config as Config
    from vgrpo.training.settings.config import RolloutConfig as RolloutConfig
    from vgrpo.training.settings.config import UpdateConfig as UpdateConfig
    from vgrpo.training.settings.stages import Curriculum as Curriculum
    from vgrpo.training.settings.stages import Stage as Stage

__version__ = VERSION
_HOMES = {
    "train": "vgrpo.commands.api",
    "train_curriculum": "vgrpo.commands.api",
    "load_pipeline": "vgrpo.models.loading",
    "Config": "vgrpo.training.settings.config",
    "RolloutConfig": "vgrpo.training.settings.config",
    "UpdateConfig": "vgrpo.training.settings.config",
    "EvalConfig": "vgrpo.evaluation.settings",
    "LoraConfig": "vgrpo.models.settings",
    "MemoryConfig": "vgrpo.models.settings",
    "Curriculum": "vgrpo.training.settings.stages",
    "Stage": "vgrpo.training.settings.stages",
    "VGRPO": "vgrpo.objectives",
    "Prompt": "vgrpo.core.types",
}


def __getattr__(name: str) -> Any:
    """Import on first use: `vgrpo --help` should not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'vgrpo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
