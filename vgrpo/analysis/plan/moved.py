"""Kernels, and the bytes that they read from and write to a GPU's memory, counted on the meta device."""

from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

MAKES_NOTHING = ("empty", "empty_like", "new_empty", "detach", "empty_strided", "_unsafe_view")


class Moved(TorchDispatchMode):
    """While it is on, counts. A kernel is whatever torch dispatches that makes or changes numbers; it reads its inputs and
    writes its outputs, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.num_kernels = self.num_bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        wrote = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        storages = {leaf.untyped_storage()._cdata for leaf in read}
        is_view = bool(wrote) and all(leaf.untyped_storage()._cdata in storages for leaf in wrote)
        if func._schema.name.split("::")[1] not in MAKES_NOTHING and (func._schema.is_mutable or not is_view):
            self.num_kernels += 1
            self.num_bytes += sum(leaf.nbytes for leaf in (*read, *wrote))
        return result
