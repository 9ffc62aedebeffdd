"""A network's repeated blocks, and what compiles them: one graph for all blocks of a kind, in seconds instead of minutes."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import nn

BLOCKS = {"SD3Transformer2DModel": ["JointTransformerBlock"], "SanaTransformer2DModel": ["SanaTransformerBlock"]}
"""Of the networks for which diffusers names none."""

MAX_GRAPHS = 64
"""For one kind of block: rollout, update, evaluation and the rest of each, with and without gradient, adapter and mixed
precision, make more than the 8 after which torch goes on without compiling, and says so once among its warnings."""


def blocks_of(network: Any, setting: str) -> list[nn.Module]:
    """The repeated blocks. Raises ValueError, naming the setting that needs them, for an unknown architecture."""
    kind = type(network).__name__
    names = network._repeated_blocks or BLOCKS.get(kind)
    if not names:
        raise ValueError(f"{setting}: the repeated blocks of a {kind} are not known; leave it out")
    return [module for module in network.modules() if type(module).__name__ in names]


def compile_blocks(network: Any, backend: str = "inductor") -> None:
    """Compile the blocks in place at their first call; names of weights stay. Raises ValueError for an unknown architecture.

    Shapes are static: a rollout and an update each have one, and a switch to dynamic shapes between a forward and its
    recomputation would break gradient checkpointing.
    """
    for block in blocks_of(network, "compile=True"):
        block.compile(backend=backend, dynamic=False)
        compiled: Any = block._compiled_call_impl
        block._compiled_call_impl = _with_room(compiled)


def is_compiled(network: nn.Module) -> bool:
    """Whether a change of how its layers compute would have its blocks compiled again."""
    return any(getattr(module, "_compiled_call_impl", None) is not None for module in network.modules())


def _with_room(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call with room for MAX_GRAPHS graphs. The limit is torch's for the whole process, so it is raised no longer than a
    block runs: other compiled code keeps its own."""

    @wraps(call)
    def run(*args: Any, **kwargs: Any) -> Any:
        limit = max(torch._dynamo.config.recompile_limit, MAX_GRAPHS)
        with torch._dynamo.config.patch(recompile_limit=limit):
            return call(*args, **kwargs)

    return run
