"""A network whose repeated blocks are compiled: one graph for all blocks of a kind, in seconds instead of minutes."""

from typing import Any

import torch

BLOCKS = {"SD3Transformer2DModel": ["JointTransformerBlock"], "SanaTransformer2DModel": ["SanaTransformerBlock"]}
"""Of the networks for which diffusers names none."""

MAX_GRAPHS = 64
"""For one kind of block: rollout, update, evaluation and the rest of each, with and without gradient, adapter and mixed
precision, make more than the 8 after which torch goes on without compiling, and says so once among its warnings."""


def compile_blocks(network: Any, backend: str = "inductor") -> None:
    """Compile the blocks in place at their first call; names of weights stay. Raises ValueError for an unknown architecture.

    Shapes are static: a rollout and an update each have one, and a switch to dynamic shapes between a forward and its
    recomputation would break gradient checkpointing.
    """
    kind = type(network).__name__
    names = network._repeated_blocks or BLOCKS.get(kind)
    if not names:
        raise ValueError(f"compile=True: the repeated blocks of a {kind} are not known; leave it False")
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, MAX_GRAPHS)
    for module in network.modules():
        if type(module).__name__ in names:
            module.compile(backend=backend, dynamic=False)
