"""Kernels and bytes of one forward of a published network, counted on the meta device: python benchmarks/traffic.py sd35-medium

As in training (adapters beside their layers, mixed precision) and as it draws (merged, all bf16). A kernel is whatever torch
dispatches that makes or changes numbers, attention being one; it reads its inputs and writes its outputs, each once.
"""

import argparse

import torch

from vgrpo.analysis.plan.kernels import gpu_kernels
from vgrpo.analysis.plan.measure import as_it_draws
from vgrpo.analysis.plan.moved import Moved
from vgrpo.models.lora import add_lora
from vgrpo.models.policy import Policy
from vgrpo.models.published import PUBLISHED
from vgrpo.models.settings import LoraConfig
from vgrpo.models.skeleton import published


def traffic(policy: Policy, rows: int) -> tuple[int, int]:
    """Kernels and bytes of one forward without gradient, under the policy's mixed precision."""
    x, t, text = (
        torch.empty(rows, *policy.latent_shape, device="meta"),
        torch.empty(rows, device="meta"),
        policy.blank_text(rows),
    )
    with torch.no_grad(), gpu_kernels(policy.autocast) as attended, Moved() as moved:
        policy.predict(x, t, text, 1.0)
    return moved.num_kernels + attended.num_kernels, moved.num_bytes + attended.num_bytes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=PUBLISHED)
    parser.add_argument("--rows", type=int, default=24)
    parser.add_argument("--resolution", type=int, default=512)
    args = parser.parse_args()
    policy = published(args.model, torch.bfloat16, resolution=args.resolution)
    policy.module.requires_grad_(False)
    policy.autocast = torch.bfloat16
    add_lora(policy, LoraConfig(), 0)
    found = {"as it trains": traffic(policy, args.rows)}
    with as_it_draws(policy):
        found["as it draws"] = traffic(policy, args.rows)
    for name, (kernels, moved) in found.items():
        print(f"{name}: {kernels:,} kernels, {moved / 1e9:.0f} GB for {args.rows} rows")


if __name__ == "__main__":
    main()
