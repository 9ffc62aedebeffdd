"""The weights that a run trains, as they are at its start, and the copies that are made of them."""

from functools import partial

import torch

from vgrpo.core.processes import Processes
from vgrpo.core.seeds import seed_of
from vgrpo.models.lora import Adapter, add_lora, fill_lora, read_init, take_lora
from vgrpo.models.policy import Policy
from vgrpo.models.weight_sets import WeightCopy
from vgrpo.objectives.base import WeightSet
from vgrpo.support.checks import require
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.config import Config
from vgrpo.training.together import adapter_of_first


@out_of_memory_while("loading the model")
def make_trainable(policy: Policy, config: Config, processes: Processes) -> Adapter | None:
    """Set up what is trained; returns the adapter that the run goes on from, if any."""
    pipeline = policy.pipeline
    if config.finetune == "full":
        require(
            not getattr(policy.module, "peft_config", None),
            "finetune=full: the pipeline has an active LoRA, which would be trained apart from its layers; make it part of the "
            "model, pipeline.fuse_lora() then pipeline.unload_lora_weights(), or take it off with the latter alone",
        )
        adapter = None
    else:
        adapter = take_lora(policy, config.lora)
        if adapter is None and config.lora.init is not None:
            adapter = adapter_of_first(partial(read_init, policy, config.lora), processes)
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    if config.finetune == "full":
        policy.module.float().requires_grad_(True)
    else:
        add_lora(policy, config.lora, seed_of(config.seed, "lora"))
    return adapter


def copies_of_start(policy: Policy, config: Config, adapter: Adapter | None) -> dict[WeightSet, WeightCopy]:
    """Put in the adapter that the run goes on from, if any, between copying the untrained model ("ref") and the start ("old").

    Measured from the start of each, a curriculum's stages would leave the untrained model's images step by step.
    """
    kept = config.objective.copies
    copies: dict[WeightSet, WeightCopy] = {name: WeightCopy(policy.module) for name in kept if name == "ref"}
    if adapter is not None:
        fill_lora(policy, config.lora, adapter)
    return copies | {name: WeightCopy(policy.module) for name in kept if name == "old"}
