"""`vgrpo plan RECIPE`: what a job costs before anything is downloaded: network evaluations, memory by part, time."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from vgrpo import flow
from vgrpo.config import Config, MemoryConfig, require
from vgrpo.models.lora import add_lora
from vgrpo.plan.measure import Cost, cost
from vgrpo.plan.skeleton import PUBLISHED, from_folder, published
from vgrpo.samplers import num_evaluations
from vgrpo.types import Batch, Cond
from vgrpo.weights import trainable

GB = 2**30
DECODED_CHANNELS = 768  # three maps of 256 channels at full resolution are in memory at an image autoencoder's widest point
OVERHEAD = 1.5 * GB  # the CUDA context, its libraries' workspaces and fragmentation


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The GPU that a job is planned for."""

    gpu_memory: str = "80GB"
    """Memory of the GPU, e.g. 24GB."""
    tflops: float | str = 300.0
    """bf16 throughput it is assumed to reach, in TFLOP/s: a third to a half of its peak."""

    def __post_init__(self) -> None:
        require(
            self.bytes() > 0 and self.flops() > 0, f"--gpu-memory {self.gpu_memory}, --tflops {self.tflops}: must be above 0"
        )

    def bytes(self) -> float:
        return GB * _number("--gpu-memory", self.gpu_memory.removesuffix("GB"), "gigabytes, e.g. 24GB")

    def flops(self) -> float:
        """Per second."""
        return 1e12 * _number("--tflops", self.tflops, "TFLOP/s, e.g. 300")


def _number(option: str, value: float | str, what: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise ValueError(f"{option} {value}: give a number of {what}") from None


@dataclass(frozen=True, kw_only=True)
class Job:
    """A config's model, measured without its weights."""

    config: Config
    num_weights: int
    num_trained: int
    other_parts: dict[str, int]
    num_points: float  # where the network is asked in training, per image
    num_branches: int
    pixels: int
    num_blocks: int
    plain: Cost
    checkpointed: Cost

    @property
    def num_images(self) -> int:
        return self.config.rollout.num_prompts * self.config.rollout.group_size

    @property
    def micro_batch_size(self) -> int:
        return self.config.update.micro_batch_size or self.num_images // self.config.update.num_minibatches

    def evaluations(self) -> dict[str, float]:
        """Network evaluations of an iteration, both branches of guidance counted."""
        config = self.config
        sampler = config.objective.path_sampler(0)
        steps = config.rollout.num_steps
        rollout = sampler.num_evaluations(steps) if sampler else num_evaluations(config.rollout.solver, steps)
        trained = self.num_images * self.num_branches * self.num_points * config.update.keep_share
        return {
            "rollout": self.num_images * self.num_branches * rollout,
            "other weights": trained * len(config.objective.frozen(config.update.num_steps)),
            "training": trained * config.update.num_epochs,
        }

    def flops(self) -> float:
        """Per iteration. A backward through frozen layers costs one forward, and one more where their weights are trained;
        gradient checkpointing adds a forward."""
        counts = self.evaluations()
        passes = (2 if self.config.finetune == "lora" else 3) + self.config.memory.gradient_checkpointing
        return self.plain.forward_flops * (counts["rollout"] + counts["other weights"] + passes * counts["training"])

    def memory(self, memory: MemoryConfig, micro_batch_size: int) -> dict[str, float]:
        """Bytes by part."""
        config, lora = self.config, self.config.finetune == "lora"
        copies = 1 + len(config.objective.kept)
        rows = round(micro_batch_size * self.num_points * self.num_branches)
        each = self.plain.activation_bytes
        if memory.gradient_checkpointing:
            each = self.checkpointed.activation_bytes + each / self.num_blocks  # inputs of all blocks, one block's insides
        decoded = 1 if memory.vae_slicing else (config.rollout.batch_size or self.num_images)
        encoders = sum(size for name, size in self.other_parts.items() if name != "vae")
        vae = DECODED_CHANNELS * self.pixels**2 * 4.0 * decoded
        # Training and decoding take turns, so the larger of the two counts.
        return {
            "network": (self.num_weights - self.num_trained if lora else 0) * 2.0,
            "trained weights, gradient, AdamW": self.num_trained * 16.0,
            "averages and copies": self.num_trained * 4.0 * copies,
            "text encoders": 0.0 if memory.offload_encoders else encoders * 2.0,
            "autoencoder": self.other_parts["vae"] * 4.0,
            f"activations, {rows} rows" if rows * each > vae else f"decoding, {decoded} images": max(rows * each, vae),
            "overhead": OVERHEAD,
        }


def points_per_image(config: Config) -> float:
    """Ask the algorithm: one group with latents of a single number, drawn by a model that never moves."""
    size, steps, objective = config.rollout.group_size, config.rollout.num_steps, config.objective
    noise, group = torch.zeros(size, 1, 1, 1), torch.zeros(size, dtype=torch.long)
    sampler, path = objective.path_sampler(0), None
    if sampler is not None:
        _, path = sampler(lambda x, *_: torch.zeros_like(x), noise, flow.schedule(steps), torch.randn(size, steps, 1, 1, 1))
    batch = Batch(
        probes=objective.probes(noise, group, 0, path=path),
        cond=Cond(sequence=noise[:, 0]),
        advantage=torch.linspace(-1, 1, size),
        group=group,
        valid=torch.ones(size, dtype=torch.bool),
    )
    batch = objective.credit(batch, 0)
    return len(batch) * batch.probes.times().shape[1] / size


def measure_job(config: Config, num_tokens: int | None = None) -> Job:
    """Build the network on the meta device and follow one forward. Raises ValueError for an unknown model."""
    if config.model in PUBLISHED:
        policy, parts = published(config.model), PUBLISHED[config.model]["parts"]
        pixels = config.resolution or PUBLISHED[config.model]["resolution"]
    else:
        policy, parts = from_folder(config.model)
        pixels = config.resolution or policy.pipeline.default_sample_size * policy.pipeline.vae_scale_factor
    policy.resolution = pixels
    module: Any = policy.module
    module.requires_grad_(config.finetune == "full")
    if config.finetune == "lora":
        add_lora(policy, config.lora, 0)
        module.to(torch.bfloat16)
    tokens = num_tokens or {"unet": 77}.get(policy.network, config.max_sequence_length)
    if type(policy).__name__ == "SD3Policy":
        tokens += 77  # CLIP's tokens come first
    plain = cost(policy, tokens, config.rollout.guidance)
    module.enable_gradient_checkpointing()
    module.train()
    blocks = [part for part in module.modules() if "gradient_checkpointing" in vars(part) and part is not module]
    depth = sum(len(part) for part in module.children() if isinstance(part, torch.nn.ModuleList))
    return Job(
        config=config,
        num_weights=sum(parameter.numel() for parameter in module.parameters()),
        num_trained=sum(parameter.numel() for parameter in trainable(module).values()),
        other_parts=parts,
        num_points=points_per_image(config),
        num_branches=policy.num_branches(config.rollout.guidance),
        pixels=pixels,
        num_blocks=max(depth, len(blocks), 1),
        plain=plain,
        checkpointed=cost(policy, tokens, config.rollout.guidance),
    )


def advise(job: Job, limit: float) -> tuple[list[str], dict[str, float]]:
    """What to switch on, cheapest first, until the job fits, and the memory it then takes. The options are all there are if it
    does not fit even so."""
    memory, size = job.config.memory, job.micro_batch_size
    options: list[str] = []
    steps: list[tuple[str, dict[str, Any], int | None]] = [
        ("--memory.vae-slicing True", {"vae_slicing": True}, None),
        ("--memory.offload-encoders True", {"offload_encoders": True}, None),
        *((f"--update.micro-batch-size {n}", {}, n) for n in (16, 8, 4)),
        ("--memory.gradient-checkpointing True", {"gradient_checkpointing": True}, None),
        *((f"--update.micro-batch-size {n}", {}, n) for n in (2, 1)),
    ]
    for option, change, smaller in steps:
        if sum(job.memory(memory, size).values()) <= limit:
            break
        if smaller is not None and smaller >= size:
            continue
        if smaller is not None:
            options = [known for known in options if "micro-batch" not in known]
            size = smaller
        memory = replace(memory, **change)
        options.append(option)
    return options, job.memory(memory, size)


def plan(config: Config, machine: Machine, console: Console | None = None) -> Job:
    """Measure and print."""
    console = console or Console(highlight=False)
    job = measure_job(config)
    parts = job.memory(config.memory, job.micro_batch_size)
    table = Table(title=f"{config.model}, {job.pixels} pixels, {config.finetune}: memory")
    table.add_column("part")
    table.add_column("GB", justify="right")
    for name, value in parts.items():
        table.add_row(name, f"{value / GB:.1f}")
    table.add_section()
    table.add_row("in all", f"{sum(parts.values()) / GB:.1f}", style="bold")
    console.print(table)
    counts = job.evaluations()
    console.print(
        f"{job.num_images} images per iteration, {sum(counts.values()):,.0f} network evaluations: "
        + ", ".join(f"{name} {value:,.0f}" for name, value in counts.items() if value)
    )
    seconds = job.flops() / machine.flops()
    console.print(
        f"{job.flops() / 1e15:,.1f} PFLOP per iteration: {seconds:,.0f} s at {machine.tflops} TFLOP/s, "
        f"{seconds * config.num_iterations / 3600:,.1f} h for {config.num_iterations} iterations on one GPU"
    )
    limit = machine.bytes()
    options, after = advise(job, limit)
    total = sum(after.values()) / GB
    if not options:
        console.print(f"fits into {machine.gpu_memory}")
    elif total * GB <= limit:
        console.print(f"does not fit into {machine.gpu_memory}; with {' '.join(options)} it takes {total:.1f} GB")
    else:
        console.print(f"does not fit into {machine.gpu_memory}: with {' '.join(options)} it still takes {total:.1f} GB")
    return job
