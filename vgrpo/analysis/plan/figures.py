"""What a model's parts come to, measured without its weights."""

import math
from functools import cache
from typing import Any

import torch
from torch import nn

from vgrpo.analysis.plan.measure import cost, decoding, update_bytes
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.compiled import blocks_of
from vgrpo.models.defaults import defaults_of
from vgrpo.models.lora import add_lora
from vgrpo.models.policy import Policy
from vgrpo.models.precision import frozen_dtype
from vgrpo.models.published import HUB_IDS, PUBLISHED
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.settings import MemoryConfig
from vgrpo.models.skeleton import from_folder, published
from vgrpo.models.weight_sets import adapted, trainable
from vgrpo.training.settings.config import Config, RolloutConfig


def measure_model(config: Config) -> dict[str, Any]:
    """The fields of a `Job` that its model decides. Measured once for all configs with the same model, such as a curriculum's
    stages."""
    rounds = frozen_dtype(config.memory.weights, True, full=config.finetune == "full") == torch.bfloat16
    return _measured(
        Config(
            model=config.model,
            adapter=config.adapter,
            max_sequence_length=config.max_sequence_length,
            resolution=config.resolution,
            num_frames=config.num_frames,
            finetune=config.finetune,
            precision=config.precision,
            lora=config.lora,
            memory=MemoryConfig(weights="bf16" if rounds else "fp32"),
            rollout=RolloutConfig(guidance=config.rollout.guidance),
            eval=EvalConfig(guidance=config.eval.guidance),
        )
    )


@cache
def _measured(config: Config) -> dict[str, Any]:
    policy = skeleton(config)
    own = defaults_of(policy)
    guidance, evaluated = (part.resolved(own).guidance for part in (config.rollout, config.eval))
    module: Any = policy.module
    plain = cost(policy, guidance)
    module.enable_gradient_checkpointing()
    module.train()
    checkpointed = update_bytes(policy, guidance)
    layers = [layer for name, layer in module.named_modules() if isinstance(layer, nn.Linear) and ".lora_" not in name]
    sizes = {name: _count(part) for name, part in policy.pipeline.components.items() if isinstance(part, nn.Module)}
    return {
        "num_weights": sizes.pop(policy.network),
        "num_trained": sum(parameter.numel() for parameter in trainable(module).values()),
        **_blocks(module, full=config.finetune == "full"),
        "num_linear": sum(layer.weight.numel() for layer in layers),
        "num_adapted": sum(weight.numel() for weight in adapted(module)),
        "autoencoder": sizes.pop("vae"),
        "encoders": tuple(sizes.values()),
        "num_branches": policy.num_branches(guidance),
        "num_evaluated_branches": policy.num_branches(evaluated),
        "own": own,
        "decoding": decoding(policy),
        "slices": hasattr(policy.pipeline.vae, "enable_slicing"),
        "plain": plain,
        "checkpointed_bytes": checkpointed,
        "text_bytes": policy.blank_text(1).nbytes,
        "latents": math.prod(policy.latent_shape),
    }


def skeleton(config: Config) -> Policy:
    """The config's model on the meta device with what is trained set up, in the types of a run on a GPU."""
    name = HUB_IDS.get(config.model, config.model)
    build = published if name in PUBLISHED else from_folder
    with without_loading_chatter():
        policy = build(
            name,
            dtype=frozen_dtype(config.memory.weights, True, full=config.finetune == "full"),
            max_sequence_length=config.max_sequence_length,
            resolution=config.resolution,
            num_frames=config.num_frames,
            adapter=config.adapter,
            autocast=None if config.precision == "fp32" else torch.bfloat16,
        )
    policy.module.requires_grad_(False)
    if config.finetune == "full":
        policy.module.float().requires_grad_(True)
    else:
        add_lora(policy, config.lora, 0)
    return policy


def _blocks(module: nn.Module, *, full: bool) -> dict[str, int]:
    """Weights that processes can share: of the largest block, and outside of the blocks. Those of an adapter stay whole. Of an
    architecture whose blocks are not known all are outside; it cannot be spread."""

    def count(part: nn.Module) -> int:
        return sum(parameter.numel() for parameter in part.parameters() if full or not parameter.requires_grad)

    try:
        sizes = [count(block) for block in blocks_of(module, "memory.shard")]
    except ValueError:
        sizes = []
    return {"largest_block": max(sizes, default=0), "outside_blocks": count(module) - sum(sizes)}


def _count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
