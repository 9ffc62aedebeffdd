"""Low-rank adapters through peft, in the format that diffusers pipelines read."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model_state_dict
from torch import nn

from vgrpo.config import LoraConfig
from vgrpo.models import Policy


def add_lora(policy: Policy, config: LoraConfig, seed: int) -> None:
    """Add a fresh adapter (its product is 0 at first) and leave it as all that is trained.

    Raises ValueError if a target matches no linear layer.
    """
    network: Any = policy.module
    targets = policy.lora_targets if config.targets is None else config.targets
    linear = [name for name, module in network.named_modules() if isinstance(module, nn.Linear)]
    for target in targets:
        if not any(name == target or name.endswith("." + target) for name in linear):
            endings = sorted({name.split(".", 2)[-1] for name in linear})
            raise ValueError(
                f"lora.targets: {target!r} matches no linear layer of the model; its layers end in {', '.join(endings)}"
            )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network.add_adapter(
            PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(targets), init_lora_weights=True)
        )


def save_lora(policy: Policy, folder: Path) -> None:
    """Write `pytorch_lora_weights.safetensors`, which `pipeline.load_lora_weights(folder)` reads, rank and alpha included."""
    network: Any = policy.module
    parts = {
        f"{policy.network}_lora_layers": get_peft_model_state_dict(network),
        f"{policy.network}_lora_adapter_metadata": network.peft_config["default"].to_dict(),
    }
    type(policy.pipeline).save_lora_weights(folder, **parts)
