"""Other weights for a while: averages of the trainable parameters, and adapters merged into their layers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

from vgrpo.models.sharding import is_spread, own_part


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class WeightCopy:
    """The trainable parameters as they were, or a slow version of them. Of a spread network, this process's parts."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.values = {name: parameter.detach().clone() for name, parameter in trainable(module).items()}

    @torch.no_grad()
    def blend(self, decay: float) -> None:
        """Become `decay * self + (1 - decay) * current`."""
        for name, parameter in trainable(self.module).items():
            own_part(self.values[name]).lerp_(own_part(parameter), 1 - decay)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Put the average into the module; afterwards, also after an exception, restore its own weights bit for bit."""
        parameters = trainable(self.module)
        own = {name: own_part(parameter.detach()).clone() for name, parameter in parameters.items()}
        try:  # values are copied, tensors are not swapped: the optimiser and compiled graphs hold on to these tensors
            _assign(parameters, self.values)
            yield
        finally:
            _assign(parameters, own)


class AverageWeights(WeightCopy):
    """An exponential moving average of the trainable parameters, stepped once per optimiser step.

    The decay is min(decay, (1 + n) / (10 + n)) after n steps, so that a short run is not held back by its start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        super().__init__(module)
        self.decay, self.num_steps = decay, 0

    def step(self) -> None:
        self.num_steps += 1
        self.blend(min(self.decay, (1 + self.num_steps) / (10 + self.num_steps)))


def adapted(module: nn.Module) -> list[Tensor]:
    """The weights of the layers that have a LoRA adapter."""
    return [layer.get_base_layer().weight for layer in module.modules() if isinstance(layer, LoraLayer)]


@contextmanager
def merged(module: nn.Module) -> Iterator[None]:
    """Fold LoRA adapters into the layers they adapt, as sampling needs no gradient and a merged layer is one product instead
    of three; afterwards restore the layers bit for bit (to subtract the adapter again would leave rounding errors).

    Layers kept in bf16 stay as they are: rounding would leave half of a young adapter, whose entries are below a weight's last
    digit, and the images would be drawn by another policy than the one that is trained.
    """
    # Then the adapter stays beside its layer, as in training. A spread layer is not in one place to be changed.
    if is_spread(module) or any(weight.dtype != torch.float32 for weight in adapted(module)):
        yield
        return
    layers = [layer for layer in module.modules() if isinstance(layer, LoraLayer)]
    own = [weight.detach().clone() for weight in adapted(module)]
    try:
        for layer in layers:
            layer.merge()
        yield
    finally:
        for layer, weight in zip(layers, own, strict=True):
            if layer.merged:  # not, where adapters are switched off
                layer.unmerge()
            layer.get_base_layer().weight.data.copy_(weight)


@torch.no_grad()
def _assign(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        own_part(parameter).copy_(own_part(values[name]))
