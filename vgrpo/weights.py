"""Named copies of the trainable parameters."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    return {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}


class AverageWeights:
    """An exponential moving average of the trainable parameters, stepped once per optimiser step.

    The decay is min(decay, (1 + n) / (10 + n)) after n steps, so that a short run is not held back by its start.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.decay, self.num_steps = module, decay, 0
        self.values = {name: parameter.detach().clone() for name, parameter in trainable(module).items()}

    @torch.no_grad()
    def step(self) -> None:
        self.num_steps += 1
        decay = min(self.decay, (1 + self.num_steps) / (10 + self.num_steps))
        for name, parameter in trainable(self.module).items():
            self.values[name].lerp_(parameter, 1 - decay)

    @contextmanager
    def active(self) -> Iterator[None]:
        """Put the average into the module; afterwards, also after an exception, restore its own weights bit for bit."""
        parameters = trainable(self.module)
        own = {name: parameter.detach().clone() for name, parameter in parameters.items()}
        try:
            _assign(parameters, self.values)
            yield
        finally:
            _assign(parameters, own)


@torch.no_grad()
def _assign(parameters: dict[str, nn.Parameter], values: dict[str, Tensor]) -> None:
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
