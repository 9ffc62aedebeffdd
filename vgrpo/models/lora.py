"""Low-rank adapters through peft, in the format that diffusers pipelines read."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig as PeftConfig
from peft import get_peft_model_state_dict
from peft.tuners.lora import LoraLayer
from safetensors.torch import save_file
from torch import Tensor, nn

from vgrpo.models.lora_files import PIPELINE, WEIGHTS, check_lora_file, lora_file
from vgrpo.models.lora_reading import DOWN, UP, ForeignKeysError, read_adapter
from vgrpo.models.policy import Policy
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.settings import LoraConfig
from vgrpo.models.weight_sets import adapted, trainable
from vgrpo.support.files import clear_drafts, whole

Adapter = dict[str, Tensor]
"""`LAYER.lora_A.weight` and `LAYER.lora_B.weight` with alpha / rank in the latter, as `read_adapter` returns it."""


def add_lora(policy: Policy, config: LoraConfig, seed: int) -> None:
    """Add a fresh adapter (its product is 0 at first), in fp32 over weights of any type, and leave it as all that is trained.

    Raises ValueError if a target matches no linear layer.
    """
    network: Any = policy.module
    targets = _targets(policy, config)
    target_layers(policy, config)
    with torch.random.fork_rng(), warnings.catch_warnings():
        torch.manual_seed(seed)  # the adapter's start depends on the seed alone, and on nothing drawn before
        warnings.filterwarnings("ignore", "TorchaoLoraLinear was instantiated")  # that it cannot be merged: it never is
        network.add_adapter(
            PeftConfig(r=config.rank, lora_alpha=config.alpha, target_modules=list(targets), init_lora_weights=True)
        )
    for parameter in trainable(
        network
    ).values():  # peft makes an adapter of its layer's type; a bf16 one would lose small steps
        parameter.data = parameter.data.float()


def freeze(policy: Policy) -> None:
    """No part of the pipeline is trained."""
    for part in policy.pipeline.components.values():
        if isinstance(part, nn.Module):
            part.requires_grad_(False)


def _targets(policy: Policy, config: LoraConfig) -> tuple[str, ...]:
    return policy.lora_targets if config.targets is None else config.targets


def target_layers(policy: Policy, config: LoraConfig) -> set[str]:
    """The linear layers that get an adapter, also where they have one. Raises ValueError if a target matches none."""
    modules = policy.module.named_modules()
    linear = {name.removesuffix(".base_layer") for name, module in modules if isinstance(module, nn.Linear)}
    linear = {name for name in linear if ".lora_" not in name}
    found: set[str] = set()
    for target in _targets(policy, config):
        matching = {name for name in linear if name == target or name.endswith("." + target)}
        if not matching:
            endings = sorted({name.split(".", 2)[-1] for name in linear})
            raise ValueError(
                f"lora.targets: {target!r} matches no linear layer of the model; its layers end in {', '.join(endings)}"
            )
        found |= matching
    return found


def check_init(config: LoraConfig) -> None:
    """Raise FileNotFoundError if the adapter to go on from is not there, ValueError if it is damaged."""
    if config.init is not None:
        check_lora_file(lora_file(config.init, "lora.init"), "lora.init")


def read_init(policy: Policy, config: LoraConfig) -> Adapter | None:
    """The adapter that a run goes on from, None for a fresh one.

    Raises ValueError for one of another rank or of other layers than `config` asks for.
    """
    if config.init is None:
        return None
    adapter = read_adapter(policy, lora_file(config.init, "lora.init"), "lora.init")
    ranks = {len(value) for name, value in adapter.items() if name.endswith(DOWN)}
    if ranks != {config.rank}:
        there = " and ".join(map(str, sorted(ranks)))
        way = f"give --lora.rank {there}" if len(ranks) == 1 else "only one of a single rank can be trained on"
        raise ValueError(f"lora.init {config.init} has rank {there}, not {config.rank}: {way}")
    layers, asked = layers_of(adapter), target_layers(policy, config)
    other = sorted(layers ^ asked)
    if other:
        whose = "the file" if other[0] in layers else "lora.targets"
        raise ValueError(
            f"lora.init {config.init} was trained on another model or other layers (lora.targets): only {whose} names "
            f"{other[0]}, and {len(other) - 1} more differ"
        )
    return adapter


def layers_of(adapter: Adapter) -> set[str]:
    return {name.removesuffix(DOWN) for name in adapter if name.endswith(DOWN)}


def take_lora(policy: Policy, config: LoraConfig) -> Adapter | None:
    """Take the adapter off a pipeline in memory that has an active one, to be trained on; None if it has none.

    Raises ValueError, and leaves the pipeline as it is, unless it has exactly the form that `config` asks for.
    """
    network: Any = policy.module
    names = list(getattr(network, "peft_config", None) or {})
    if not names:
        return None
    layers = {name: layer for name, layer in network.named_modules() if isinstance(layer, LoraLayer)}
    fault = _fault(names, layers, target_layers(policy, config), config)
    if fault is not None:
        raise ValueError(
            f"the pipeline has an active LoRA that cannot be trained on: {fault}. To start beside it, make it part of the "
            "model, pipeline.fuse_lora() then pipeline.unload_lora_weights(); to start without it, the latter alone"
        )
    (name,) = names
    adapter = {layer + DOWN: each.lora_A[name].weight.detach().float().clone() for layer, each in layers.items()}
    adapter |= {layer + UP: each.lora_B[name].weight.detach().float() * each.scaling[name] for layer, each in layers.items()}
    network.unload_lora()
    return adapter


def _fault(names: list[str], layers: dict[str, Any], asked: set[str], config: LoraConfig) -> str | None:
    """Why the adapters of a network cannot be trained on, if so."""
    if config.init is not None:
        return f"the run goes on from another, lora.init {config.init}"
    if len(names) > 1:
        return f"there are {len(names)}, {', '.join(names)}"
    for layer in layers.values():
        if layer.merged or layer.disable_adapters or layer.active_adapters != names:
            return "it is merged or switched off"
        if names[0] in layer.lora_magnitude_vector:
            return "it is a DoRA"
    ranks = {layer.r[names[0]] for layer in layers.values()}
    if ranks != {config.rank}:
        return f"it has rank {', '.join(map(str, sorted(ranks)))}, not lora.rank={config.rank}"
    other = sorted(set(layers) ^ asked)
    return f"it is on other layers than lora.targets names: {other[0]} and {len(other) - 1} more differ" if other else None


@torch.no_grad()
def fill_lora(policy: Policy, config: LoraConfig, adapter: Adapter) -> None:
    """Put an adapter's weights into the one that `add_lora` added: bit for bit where alpha / rank is a power of two."""
    scale = config.alpha / config.rank
    for name, parameter in trainable(policy.module).items():
        value = adapter[name.replace(".default.", ".")]
        parameter.copy_(value / scale if name.endswith(".lora_B.default.weight") else value)


def load_lora(policy: Policy, place: Path, model: str) -> None:
    """Put a saved adapter of any rank into a policy to draw with it: one of the trained network, or whatever else the
    pipeline's own loader takes.

    Raises ValueError for an adapter of another network: diffusers would leave it out, or most of it, and say little.
    """
    path = lora_file(place, "--lora")
    source: dict[str, Any] = {"weight_name": path.name, "use_safetensors": True, "local_files_only": True}
    try:
        state = {f"{policy.network}.{name}": value for name, value in read_adapter(policy, path, "--lora").items()}
    except ForeignKeysError:
        state = None
    try:
        with without_loading_chatter():
            if state is None:
                policy.pipeline.load_lora_weights(path.parent, **source)
            else:
                policy.pipeline.load_lora_weights(state)
    except (torch.OutOfMemoryError, MemoryError):
        raise
    except Exception as error:  # a stranger's names and shapes in another library's code: it may stumble over anything
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"--lora {place} does not fit {model}; was it trained on another? {why}") from error
    if not adapted(policy.module):
        kind = type(policy.module).__name__
        raise ValueError(f"--lora {place} has no weights for the {kind} of {model}: it is of another model")


def trained_adapter(policy: Policy) -> Adapter:
    """The weights that are now in the network's adapter, at full strength."""
    network: Any = policy.module
    config = network.peft_config["default"]
    scale = config.lora_alpha / config.r
    state = get_peft_model_state_dict(network)
    return {name: (value * scale if name.endswith(UP) else value).contiguous() for name, value in state.items()}


def save_lora(policy: Policy, folder: Path) -> None:
    """Write `WEIGHTS`, which `pipeline.load_lora_weights(folder)` reads, whole or not at all.

    alpha / rank is in the weights, since most tools know of an alpha only as a tensor of other names; without one, all take
    alpha = rank.
    """
    folder.mkdir(parents=True, exist_ok=True)
    clear_drafts(folder)
    state = {f"{policy.network}.{name}": value.cpu() for name, value in trained_adapter(policy).items()}
    header = {PIPELINE: type(policy.pipeline).__name__}  # of several entries, safetensors writes them in any order
    with whole(folder / WEIGHTS) as draft:
        save_file(state, draft, metadata=header)
