"""A network whose weights are spread over processes by torch's fully_shard (FSDP2), after ZeRO (arXiv:1910.02054) and FSDP
(arXiv:2304.11277).

Every block, and what is outside of the blocks, is cut along the first dimension of its weights. It is gathered for its forward
and for its backward, and let go after each, so that both are steps which all processes with a part take together.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, Shard

from vgrpo.core.processes import Processes
from vgrpo.models.compiled import blocks_of


class Spread:
    """A network's weights over processes. `sharers` hold parts of one copy, `replicas` are those with the same part. With
    `gather` it is whole while images are drawn."""

    def __init__(self, network: nn.Module, sharers: Processes, replicas: Processes, *, gather: bool) -> None:
        self.network, self.sharers, self.replicas, self.gather = network, sharers, replicas, gather
        self.kind: Any = type(network)
        """Its class, in whose place torch puts one of its own."""
        self.announces = False
        """Whether processes may have different numbers of forwards, and so each is announced."""

    def announce(self) -> None:
        """A forward follows; those that are done make one of nothing."""
        if self.announces:
            self.sharers.most(1)

    def sum_copies(self, *, last: bool) -> None:
        """Before the backward of each chunk of an optimiser step: gradients go between copies of the network after the `last`
        alone. Until then each copy adds up its own, in parts over those who share it."""
        network: Any = self.network
        network.set_requires_all_reduce(last)

    def others_go_on(self) -> bool:
        """For a process that is done: whether another one announces a forward."""
        return self.sharers.most(0) > 0

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """The whole network in every process: a forward inside concerns nobody else. Weights must not be changed inside."""
        network: Any = self.network
        parts = [module for module in network.modules() if isinstance(module, FSDPModule)]
        network.set_reshard_after_forward(False)
        for part in parts:
            part.unshard()
        try:
            yield
        finally:
            network.set_reshard_after_forward(True)
            for part in parts:
                part.reshard()

    def whole_weights(self) -> Iterator[tuple[str, Tensor]]:
        """The weights by name, each gathered in turn, on the CPU; all processes must take them. Buffers are not spread."""
        for name, value in self.network.state_dict().items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            yield name, whole.detach().cpu()


def spread(network: nn.Module, mesh: DeviceMesh, ignored: set[nn.Parameter]) -> None:
    """Spread a network in place over the mesh's last dimension, with copies over the first of two. `ignored` weights stay whole
    in every process. Gradients become sums over processes, and the caller divides: what a mean is over, the loss knows.

    Raises ValueError for an architecture whose blocks are not known.
    """
    for parameter in ignored:  # what is spread is moved where it belongs; these are left alone
        parameter.data = parameter.data.to(mesh.device_type)
    parts = [*blocks_of(network, "memory.shard"), network]
    for part in parts:
        module = fully_shard(part, mesh=mesh, reshard_after_forward=True, ignored_params=ignored)
        # A mean by gloo is a sum in a reduce-scatter (pytorch#162338), so a sum is asked of all backends.
        module.set_gradient_divide_factor(1.0)
        module.set_force_sum_reduction_for_comms(True)
    # It warns of changes in place of a forward's answer, which nothing here makes.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")


def is_spread(network: nn.Module) -> bool:
    return isinstance(network, FSDPModule)


@dataclass(frozen=True, kw_only=True)
class OwnPart:
    """What this process holds of a spread tensor, on whichever device."""

    part: Tensor
    shape: tuple[int, ...]
    """Of the whole."""


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor, with the same memory: of one that is not spread, all."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def own_rows(tensor: Tensor) -> slice:
    """Where that is along the first dimension. Parts are as large as those of `torch.chunk`."""
    if not isinstance(tensor, DTensor):
        return slice(0, len(tensor) if tensor.dim() > 0 else None)
    (dimension,) = (index for index, placement in enumerate(tensor.placements) if isinstance(placement, Shard))
    mesh = tensor.device_mesh
    return rows_of_part(len(tensor), mesh.get_local_rank(dimension), mesh.size(dimension))


def rows_of_part(num_rows: int, index: int, count: int) -> slice:
    """Of `num_rows` in `count` parts, those of one."""
    size = -(-num_rows // count)
    return slice(min(num_rows, index * size), min(num_rows, (index + 1) * size))


def spread_like(part: Tensor, like: Tensor) -> Tensor:
    """This process's part of a tensor as one that is spread as another is."""
    if not isinstance(like, DTensor):
        return part
    part = part.to(like.device)
    return DTensor.from_local(part, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride())
