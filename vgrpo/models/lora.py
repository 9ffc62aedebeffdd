"""Low-rank adapters through peft, in the format that diffusers pipelines read."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model_state_dict
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from vgrpo.models.policy import Policy
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import trainable

WEIGHTS = "pytorch_lora_weights.safetensors"


def add_lora(policy: Policy, config: LoraConfig, seed: int) -> None:
    """Add a fresh adapter (its product is 0 at first), in fp32 over weights of any type, and leave it as all that is trained.

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
    for parameter in trainable(network).values():
        parameter.data = parameter.data.float()


def check_init(config: LoraConfig) -> None:
    """Raise FileNotFoundError if the adapter to go on from is not there, ValueError if it is damaged."""
    if config.init is None:
        return
    path = config.init / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"lora.init {config.init}: no {WEIGHTS} in it; give a run's lora/ folder")
    try:
        with safe_open(path, "pt"):  # compares the file's size with what its header says
            pass
    except SafetensorError as error:
        raise ValueError(f"lora.init {path}: damaged ({error}); copy it again, or give another run's lora/ folder") from error


@torch.no_grad()
def fill_lora(policy: Policy, config: LoraConfig) -> None:
    """Put the weights that `save_lora` wrote to `config.init` into the adapter, bit for bit.

    Raises ValueError if they are of an adapter with another rank, alpha or other layers.
    """
    if config.init is None:
        return
    check_init(config)
    path = config.init / WEIGHTS
    with safe_open(path, "pt") as file:
        saved = json.loads((file.metadata() or {}).get("lora_adapter_metadata", "{}"))
    for name, key in (("rank", "r"), ("alpha", "lora_alpha")):
        value = saved.get(f"{policy.network}.{key}", getattr(config, name))
        if value != getattr(config, name):
            raise ValueError(
                f"lora.init {config.init} has {name} {value:g}, not {getattr(config, name)}: give --lora.{name} {value:g}"
            )
    state = load_file(path)
    own = {f"{policy.network}.{name.replace('.default.', '.')}": value for name, value in trainable(policy.module).items()}
    other = [name for name in {*state, *own} if name not in state or name not in own or state[name].shape != own[name].shape]
    if other:
        raise ValueError(
            f"lora.init {config.init} was trained on another model or other layers (lora.targets): {min(other)} differs, "
            f"and {len(other) - 1} more"
        )
    for name, parameter in own.items():
        parameter.copy_(state[name])


def save_lora(policy: Policy, folder: Path) -> None:
    """Write `WEIGHTS`, which `pipeline.load_lora_weights(folder)` reads, rank and alpha included."""
    network: Any = policy.module
    parts = {
        f"{policy.network}_lora_layers": get_peft_model_state_dict(network),
        f"{policy.network}_lora_adapter_metadata": network.peft_config["default"].to_dict(),
    }
    type(policy.pipeline).save_lora_weights(folder, **parts)
