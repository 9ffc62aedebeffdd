"""Real-size networks with random weights, nothing to download: python benchmarks/gpu.py --model sd35-medium

Measures on the GPU at hand, for a LoRA or full fine-tuning, eager or compiled: images per second of a rollout and of an update,
peak memory by part, and the share of the GPU's bf16 peak that the network's multiplications reach (model FLOPs utilisation; a
LoRA update counts two forwards per point, full fine-tuning three). Text is random, nothing is decoded. Appends a line to
benchmarks/gpu.jsonl.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from vgrpo.analysis.plan.measure import cost
from vgrpo.core import flow
from vgrpo.core.types import Batch
from vgrpo.models.compiled import compile_blocks
from vgrpo.models.drawing import for_drawing
from vgrpo.models.loading import load_pipeline, make_policy
from vgrpo.models.lora import add_lora
from vgrpo.models.published import PUBLISHED
from vgrpo.models.settings import LoraConfig
from vgrpo.models.skeleton import from_folder, published
from vgrpo.models.text_store import text_encoders
from vgrpo.models.weight_sets import trainable
from vgrpo.objectives import VGRPO
from vgrpo.sampling.draw import draw_latents
from vgrpo.training.update import backward

PEAKS = {"H200": 989, "H100": 989, "H800": 989, "A100": 312, "L40S": 362, "4090": 165}  # dense bf16 TFLOP/s by the data sheets
GB = 2**30


class Meter:
    """Time and memory of a device."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")

    def memory(self) -> float:
        """GB allocated now."""
        return torch.cuda.memory_allocated() / GB if self.cuda else 0.0

    def measure(self, job: Callable[[], Any], repeats: int) -> tuple[float, float]:
        """Median seconds and peak GB; the first call warms up and is not counted."""
        seconds = []
        for index in range(repeats + 1):
            if self.cuda:
                torch.cuda.synchronize()
                torch.cuda.reset_peak_memory_stats()
            started = time.perf_counter()
            job()
            if self.cuda:
                torch.cuda.synchronize()
            if index:
                seconds.append(time.perf_counter() - started)
        return statistics.median(seconds), torch.cuda.max_memory_allocated() / GB if self.cuda else 0.0


def build(args: argparse.Namespace) -> Any:
    """The policy to measure, with what is trained set up."""
    dtype = torch.bfloat16 if args.finetune == "lora" else torch.float32
    if args.model in PUBLISHED:
        policy = published(args.model, dtype, args.device, **shape(args))
    else:
        policy = make_policy(load_pipeline(args.model, args.device), **shape(args))
        for part in (policy.pipeline.vae, *text_encoders(policy.pipeline)):
            part.to("meta")
    policy.autocast = torch.bfloat16
    module = policy.module
    module.requires_grad_(args.finetune == "full")
    if args.finetune == "lora":
        add_lora(policy, LoraConfig(), 0)
    for parameter in trainable(module).values():
        parameter.data = parameter.data.float()
    if args.checkpointing:
        module.enable_gradient_checkpointing()
    if args.compile:
        compile_blocks(module)
    return policy


def shape(args: argparse.Namespace) -> dict[str, Any]:
    """What the size of a forward depends on."""
    return {"max_sequence_length": args.max_sequence_length, "resolution": args.resolution}


def condition(policy: Any, rows: int) -> Any:
    cond = policy.blank_text(rows)
    for part in (cond.sequence, cond.pooled):
        if part is not None:
            part.normal_()
    return cond


def make_rollout(policy: Any, args: argparse.Namespace) -> Callable[[], Any]:
    noise = torch.randn(args.rollout_batch, *policy.latent_shape, device=policy.device)
    cond, times = condition(policy, args.rollout_batch), flow.schedule(args.steps)

    def rollout() -> None:
        with torch.no_grad(), for_drawing(policy):
            draw_latents(policy, cond, noise, solver="dpm_solver_2m", times=times, guidance=1.0)

    return rollout


def make_update(policy: Any, args: argparse.Namespace) -> Callable[[], Any]:
    count, device = args.update_images, policy.device
    objective = VGRPO(num_probes=args.probes)
    x_0 = torch.randn(count, *policy.latent_shape, device=device)
    group = torch.zeros(count, dtype=torch.long, device=device)
    batch = Batch(
        points=objective.points(x_0, group, 0),
        cond=condition(policy, count),
        advantage=torch.randn(count, device=device),
        group=group,
        valid=torch.ones(count, dtype=torch.bool, device=device),
    )
    optimizer = torch.optim.AdamW(trainable(policy.module).values(), lr=1e-4)

    def update() -> None:
        backward(policy, objective, batch, {}, 1.0, args.micro_batch)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return update


def forward_flops(args: argparse.Namespace) -> float:
    """Of one row, from the graph."""
    build_skeleton = published if args.model in PUBLISHED else from_folder
    policy = build_skeleton(args.model, **shape(args))
    return cost(policy, 1.0).forward_flops


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="sd35-medium", help=f"{', '.join(PUBLISHED)}, or a pipeline's folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--max-sequence-length", type=int, default=256, help="tokens, as in vgrpo train")
    parser.add_argument("--finetune", choices=("lora", "full"), default="lora")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, default=40, help="solver steps of the rollout")
    parser.add_argument("--rollout-batch", type=int, default=24)
    parser.add_argument("--update-images", type=int, default=24)
    parser.add_argument("--micro-batch", type=int, default=8)
    parser.add_argument("--probes", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peak", type=float, help="the GPU's bf16 TFLOP/s, where its name is not known")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_name("gpu.jsonl"))
    args = parser.parse_args()
    if args.model not in PUBLISHED:
        args.resolution = None

    meter = Meter(args.device)
    name = torch.cuda.get_device_name() if meter.cuda else "cpu"
    peak = args.peak or next((value for key, value in PEAKS.items() if key in name), None)
    policy = build(args)
    weights = meter.memory()
    rollout_seconds, rollout_memory = meter.measure(make_rollout(policy, args), args.repeats)
    update_seconds, update_memory = meter.measure(make_update(policy, args), args.repeats)
    flops = forward_flops(args)
    passes = 2 if args.finetune == "lora" else 3
    reached = {
        "rollout": flops * args.rollout_batch * args.steps / rollout_seconds / 1e12,
        "update": flops * args.update_images * args.probes * passes / update_seconds / 1e12,
    }
    line = {
        "gpu": name,
        "torch": torch.__version__,
        **{key: value for key, value in vars(args).items() if key not in ("output", "peak", "device")},
        "rollout_images_per_second": round(args.rollout_batch / rollout_seconds, 3),
        "update_images_per_second": round(args.update_images / update_seconds, 3),
        "memory_gb": {"weights": round(weights, 2), "rollout": round(rollout_memory, 2), "update": round(update_memory, 2)},
        "tflops": {part: round(value, 4) for part, value in reached.items()},
        "utilisation": {part: round(value / peak, 3) for part, value in reached.items()} if peak else None,
    }
    with args.output.open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line, indent=1))


if __name__ == "__main__":
    main()
