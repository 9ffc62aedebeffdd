"""Other weights for a while: averages of the trainable parameters, and adapters merged into their layers."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vgrpo.core.seeds import seed_of
from vgrpo.models.shard_files import rows_of
from vgrpo.models.sharding import OwnPart, is_spread, own_part


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class WeightCopy:
    """The trainable parameters as they were, or a slow version of them, on a device of their own if one is given. Of a spread
    network, this process's parts."""

    def __init__(self, module: nn.Module, device: torch.device | None = None) -> None:
        self.module = module
        self.values = _own_parts(module, device)

    @torch.no_grad()
    def blend(self, decay: float) -> None:
        """Become `decay * self + (1 - decay) * current`."""
        for name, parameter in trainable(self.module).items():
            value = self.values[name]
            value.lerp_(own_part(parameter).to(value.device), 1 - decay)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Put the average into the module; afterwards, also after an exception, restore its own weights bit for bit."""
        device = next((value.device for value in self.values.values()), None)
        own = _own_parts(self.module, device)
        try:  # values are copied, tensors are not swapped: the optimiser and compiled graphs hold on to these tensors
            self.put_in()
            yield
        finally:
            _assign(self.module, own)

    def put_in(self) -> None:
        """Leave these weights in the module."""
        _assign(self.module, self.values)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {name: _as_saved(self.values[name], parameter) for name, parameter in trainable(self.module).items()}

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        for name, parameter in trainable(self.module).items():
            self.values[name].copy_(rows_of(state[name], parameter))


class AverageWeights(WeightCopy):
    """An exponential moving average of the trainable parameters, stepped once per optimiser step.

    The decay is min(decay, (1 + n) / (10 + n)) after n steps, so that a short run is not held back by its start.
    """

    def __init__(self, module: nn.Module, decay: float, device: torch.device | None = None) -> None:
        super().__init__(module, device)
        self.decay, self.num_steps = decay, 0

    def step(self) -> None:
        self.num_steps += 1
        self.blend(min(self.decay, (1 + self.num_steps) / (10 + self.num_steps)))


def is_fresh(module: nn.Module) -> bool:
    """Whether all that is trained are adapters that change nothing yet."""
    weights = trainable(module)
    ups = [value for name, value in weights.items() if ".lora_B." in name]
    return len(ups) > 0 and len(weights) == 2 * len(ups) and not any(bool(up.any()) for up in ups)


@contextmanager
def without_adapter(module: Any) -> Iterator[None]:
    """The untrained model: what a fresh adapter adds is 0, and so is left out."""
    module.disable_adapters()
    try:
        yield
    finally:
        module.enable_adapters()


def adapted(module: nn.Module) -> list[Tensor]:
    """The weights of the layers that have a LoRA adapter."""
    return [layer.get_base_layer().weight for layer in module.modules() if isinstance(layer, LoraLayer)]


@contextmanager
def merged(module: nn.Module) -> Iterator[None]:
    """Fold LoRA adapters into the layers they adapt, as sampling needs no gradient and a merged layer is one product instead
    of three; afterwards restore the layers bit for bit (to subtract the adapter again would leave rounding errors). Quantised
    layers stay as they are, with the adapter beside them, and so do spread ones, which are not in one place to be changed.
    """
    if not can_merge(module):
        yield
        return
    layers = [layer for layer in module.modules() if isinstance(layer, LoraLayer)]
    own = [weight.detach().clone() for weight in adapted(module)]
    try:
        _merge(layers)
        yield
    finally:
        for layer, weight in zip(layers, own, strict=True):
            if layer.merged:  # not, where adapters are switched off
                layer.unmerge()
            layer.get_base_layer().weight.data.copy_(weight)


def can_merge(module: nn.Module) -> bool:
    """Whether every adapter can become part of its layer; so, too, where there is none."""
    quantised = getattr(module, "is_quantized", False)
    return not (quantised or is_spread(module)) and all(
        weight.dtype in (torch.float32, torch.bfloat16) for weight in adapted(module)
    )


@torch.no_grad()
def _merge(layers: list[LoraLayer]) -> None:
    """The sum of a layer and its adapter in fp32, and back in the layer's own tensor, which compiled graphs hold on to."""
    rng: torch.Generator | None = None
    for layer in layers:
        weight = layer.get_base_layer().weight
        kept = weight.data
        if kept.dtype == torch.float32:
            layer.merge()
            continue
        rng = rng or torch.Generator(kept.device).manual_seed(seed_of("rounding"))
        try:
            weight.data = kept.float()
            layer.merge()
            kept.copy_(rounded_fairly(weight.data, rng))
        finally:
            weight.data = kept


def rounded_fairly(values: Tensor, rng: torch.Generator) -> Tensor:
    """fp32 numbers as bf16: up or down, as likely as they are close to either, so that they are right on average.

    The weights of a bf16 layer lie on bf16's grid. Rounding to the nearest would take them back there from all changes below
    half a step, and with them most of a young adapter: the images would be drawn by another policy than the one that is
    trained. Rounded so, the error of a layer's output is noise of the size that arithmetic in bf16 has anyway.
    """
    noise = torch.randint(0, 2**16, values.shape, generator=rng, dtype=torch.int32, device=values.device)
    bits = values.contiguous().view(torch.int32) + noise  # the lower half of the bits is what bf16 leaves out
    return (bits & -(2**16)).view(torch.float32).bfloat16()


def _own_parts(module: nn.Module, device: torch.device | None) -> dict[str, Tensor]:
    """A copy of what is trained, on its own device if none is given."""
    parts = {name: own_part(parameter.detach()) for name, parameter in trainable(module).items()}
    return {name: part.to(device or part.device, copy=True) for name, part in parts.items()}


def _as_saved(part: Tensor, parameter: nn.Parameter) -> Tensor | OwnPart:
    return OwnPart(part=part, shape=tuple(parameter.shape)) if isinstance(parameter, DTensor) else part


@torch.no_grad()
def _assign(module: nn.Module, values: dict[str, Tensor]) -> None:
    for name, parameter in trainable(module).items():
        own_part(parameter).copy_(values[name])
