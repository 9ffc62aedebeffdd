"""Kernels and bytes of one forward of a published network, counted on the meta device: python benchmarks/traffic.py sd35-medium

As in training (adapters beside their layers, mixed precision) and as it draws (merged, all bf16). A kernel is whatever torch
dispatches that makes or changes numbers, attention being one; it reads its inputs and writes its outputs, each once.
"""

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vgrpo.analysis.plan import kernels
from vgrpo.models.lora import add_lora
from vgrpo.models.policy import Policy
from vgrpo.models.published import PUBLISHED
from vgrpo.models.settings import LoraConfig
from vgrpo.models.skeleton import published

MAKES_NOTHING = ("empty", "empty_like", "new_empty", "detach", "empty_strided", "_unsafe_view")


class Traffic(TorchDispatchMode):
    """Counts kernels and the bytes that they read and write."""

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
            self.add(read, wrote)
        return result

    def add(self, read: list[Tensor], wrote: list[Tensor]) -> None:
        self.num_kernels += 1
        self.num_bytes += sum(leaf.nbytes for leaf in (*read, *wrote))


def traffic(policy: Policy, rows: int) -> Traffic:
    """Of one forward without gradient, under the policy's mixed precision."""
    x, t, text = (
        torch.empty(rows, *policy.latent_shape, device="meta"),
        torch.empty(rows, device="meta"),
        policy.blank_text(rows),
    )
    counted, attend = Traffic(), kernels._FusedAttention.apply

    def attention(query: Tensor, key: Tensor, value: Tensor) -> Any:
        out = attend(query, key, value)
        counted.add([query, key, value], [out])
        return out

    kernels._FusedAttention.apply = attention
    try:
        with torch.no_grad(), kernels.gpu_kernels(policy.autocast), counted:
            policy.predict(x, t, text, 1.0)
    finally:
        kernels._FusedAttention.apply = attend
    return counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=PUBLISHED)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--resolution", type=int, default=512)
    args = parser.parse_args()
    for name in ("as it trains", "as it draws"):
        policy = published(args.model, torch.bfloat16, resolution=args.resolution)
        policy.module.requires_grad_(False)
        if name == "as it trains":
            policy.autocast = torch.bfloat16
            add_lora(policy, LoraConfig(), 0)
        found = traffic(policy, args.rows)
        print(f"{name}: {found.num_kernels:,} kernels, {found.num_bytes / 1e9:.0f} GB for {args.rows} rows")


if __name__ == "__main__":
    main()
