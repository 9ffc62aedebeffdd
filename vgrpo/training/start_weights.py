"""The weights that a run trains, as they are at its start, and the copies that are made of them."""

from collections.abc import Sequence
from functools import partial

from vgrpo.core.processes import Processes
from vgrpo.core.seeds import seed_of
from vgrpo.models.compiled import is_compiled
from vgrpo.models.lora import Adapter, add_lora, fill_lora, freeze, read_init, take_lora
from vgrpo.models.policy import Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import WeightCopy, is_fresh
from vgrpo.objectives.base import WeightSet
from vgrpo.support.checks import require
from vgrpo.support.memory_errors import out_of_memory_while
from vgrpo.training.processes.together import adapter_of_first


@out_of_memory_while("loading the model")
def make_trainable(policy: Policy, lora: LoraConfig | None, seed: int, processes: Processes) -> Adapter | None:
    """Set up what is trained, without `lora` the whole network; returns the adapter that the run goes on from, if any."""
    adapter = None
    if lora is not None:
        adapter = take_lora(policy, lora)
        if adapter is None and lora.init is not None:
            adapter = adapter_of_first(partial(read_init, policy, lora), processes)
    else:
        require(
            not getattr(policy.module, "peft_config", None),
            "finetune=full: the pipeline has an active LoRA, which would be trained apart from its layers; make it part of the "
            "model, pipeline.fuse_lora() then pipeline.unload_lora_weights(), or take it off with the latter alone",
        )
    freeze(policy)
    if lora is not None:
        add_lora(policy, lora, seed_of(seed, "lora"))
    else:
        policy.module.float().requires_grad_(True)
    return adapter


def copies_of_start(
    policy: Policy, names: Sequence[WeightSet], lora: LoraConfig, adapter: Adapter | None
) -> dict[WeightSet, WeightCopy]:
    """Put in the adapter that the run goes on from, if any, between copying the untrained model ("ref") and the start ("old").
    Below a fresh adapter the untrained model needs no copy, where its blocks are not compiled for the adapter.

    Measured from the start of each, a curriculum's stages would leave the untrained model's images step by step.
    """
    copies: dict[WeightSet, WeightCopy] = {}
    if "ref" in names and (is_compiled(policy.module) or not is_fresh(policy.module)):
        copies["ref"] = WeightCopy(policy.module, policy.copies_device)
    if adapter is not None:
        fill_lora(policy, lora, adapter)
    if "old" in names:
        copies["old"] = WeightCopy(policy.module, policy.copies_device)
    return copies
