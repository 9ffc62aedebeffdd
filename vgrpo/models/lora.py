"""Low-rank adapters through peft, in the format that diffusers pipelines read."""

from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model_state_dict
from torch import nn

from vgrpo.models.lora_files import WEIGHTS, check_lora_file, lora_file, read_lora, read_settings
from vgrpo.models.policy import Policy
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import adapted, trainable


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
    with torch.random.fork_rng():  # the adapter's start depends on the seed alone, and on nothing drawn before
        torch.manual_seed(seed)
        network.add_adapter(
            PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(targets), init_lora_weights=True)
        )
    for parameter in trainable(
        network
    ).values():  # peft makes an adapter of its layer's type; a bf16 one would lose small steps
        parameter.data = parameter.data.float()


def check_init(config: LoraConfig) -> None:
    """Raise FileNotFoundError if the adapter to go on from is not there, ValueError if it is damaged."""
    if config.init is not None:
        check_lora_file(lora_file(config.init, "lora.init"), "lora.init")


@torch.no_grad()
def fill_lora(policy: Policy, config: LoraConfig) -> None:
    """Put the weights that `save_lora` wrote to `config.init` into the adapter, bit for bit.

    Raises ValueError if they are of an adapter with another rank, alpha or other layers.
    """
    if config.init is None:
        return
    path = lora_file(config.init, "lora.init")
    state, saved = read_lora(path, "lora.init"), read_settings(path, "lora.init")
    for name, key in (("rank", "r"), ("alpha", "lora_alpha")):
        value = saved.get(f"{policy.network}.{key}", getattr(config, name))
        if value != getattr(config, name):
            raise ValueError(
                f"lora.init {config.init} has {name} {value}, not {getattr(config, name)}: give --lora.{name} {value}"
            )
    own = {f"{policy.network}.{name.replace('.default.', '.')}": value for name, value in trainable(policy.module).items()}
    other = [name for name in {*state, *own} if name not in state or name not in own or state[name].shape != own[name].shape]
    if other:
        raise ValueError(
            f"lora.init {config.init} was trained on another model or other layers (lora.targets): {min(other)} differs, "
            f"and {len(other) - 1} more"
        )
    for name, parameter in own.items():
        parameter.copy_(state[name])


def load_lora(policy: Policy, folder: Path, model: str) -> None:
    """Put a saved adapter of any rank into a policy to draw with it, through the pipeline's own loader.

    Raises ValueError for an adapter of another network: diffusers would leave it out, or most of it, and say little.
    """
    read_lora(lora_file(folder, "--lora"), "--lora")
    try:
        with without_loading_chatter():
            policy.pipeline.load_lora_weights(folder, weight_name=WEIGHTS, use_safetensors=True, local_files_only=True)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a stranger's names and shapes in another library's code: it may stumble over anything
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"--lora {folder} does not fit {model}; was it trained on another? {why}") from error
    if not adapted(policy.module):
        kind = type(policy.module).__name__
        raise ValueError(f"--lora {folder} has no weights for the {kind} of {model}: it is of another model")


def save_lora(policy: Policy, folder: Path) -> None:
    """Write `WEIGHTS`, which `pipeline.load_lora_weights(folder)` reads, rank and alpha included."""
    network: Any = policy.module
    parts = {
        f"{policy.network}_lora_layers": get_peft_model_state_dict(network),
        f"{policy.network}_lora_adapter_metadata": network.peft_config["default"].to_dict(),
    }
    type(policy.pipeline).save_lora_weights(folder, **parts)
