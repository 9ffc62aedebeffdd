"""A job's memory, network evaluations and arithmetic, from its config and what was measured of its model."""

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from vgrpo.analysis.plan.measure import Cost, cost, decoding
from vgrpo.core import flow
from vgrpo.core.solvers import num_evaluations
from vgrpo.core.types import Batch, Cond
from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.lora import add_lora
from vgrpo.models.policy import CACHE_BYTES, Policy
from vgrpo.models.precision import frozen_dtype
from vgrpo.models.published import HUB_IDS, PUBLISHED
from vgrpo.models.quiet import without_loading_chatter
from vgrpo.models.skeleton import from_folder, published
from vgrpo.models.weight_sets import adapted, trainable
from vgrpo.rewards.downloads import gpu_bytes
from vgrpo.support.checks import require
from vgrpo.training.config import Config, RolloutConfig
from vgrpo.training.optimizer import STATE_BYTES

GB = 2**30
OVERHEAD = 1.5 * GB  # the CUDA context, its libraries' workspaces and fragmentation


@dataclass(frozen=True, kw_only=True)
class Job:
    """A config's model, measured without its weights. All figures are those of the GPU with the most to do."""

    config: Config
    num_gpus: int
    num_weights: int
    num_trained: int
    num_adapted: int
    """Weights of the layers with an adapter."""
    encoders: int
    autoencoder: int
    num_points: float
    """Where the network is asked in training, per image."""
    num_branches: int
    num_drawn_branches: int
    """The same where images are drawn, in the rollout or for pictures and the evaluation."""
    image: tuple[int, ...]
    """[3, H, W]"""
    row_bytes: float
    """What an iteration keeps of an image on the GPU: its latents, noise and answers. Pixels wait on the CPU."""
    text_bytes: float
    """Of one encoded text."""
    decode_bytes: float
    plain: Cost
    checkpointed: Cost

    @property
    def num_images(self) -> int:
        """Whole groups are drawn on one GPU."""
        return math.ceil(self.config.rollout.num_prompts / self.num_gpus) * self.config.rollout.group_size

    def micro_batch_size(self, config: Config) -> int:
        trained = self.num_images * config.update.keep_share / config.update.num_minibatches
        return min(config.update.micro_batch_size or self.num_images, math.ceil(trained))

    def rollout_batch_size(self, config: Config) -> int:
        return min(config.rollout.batch_size or self.num_images, self.num_images)

    def evaluations(self) -> dict[str, float]:
        """Network evaluations of an iteration, both branches of guidance counted."""
        config = self.config
        sampler = config.objective.drawing.step_sampler(0, 0)
        steps = config.rollout.num_steps
        rollout = sampler.num_evaluations(steps) if sampler else num_evaluations(config.rollout.solver, steps)
        trained = self.num_images * self.num_branches * self.num_points * config.update.keep_share
        count, epochs = config.update.num_minibatches, config.update.num_epochs
        needed = sum(len(config.objective.needed(index, epochs, config.update.keep_old)) for index in range(count)) / count
        return {
            "rollout": self.num_images * self.num_branches * rollout,
            "other weights": trained * needed,
            "training": trained * config.update.num_epochs,
        }

    def flops(self) -> float:
        """Per iteration. A backward through frozen layers costs one forward, and one more where their weights are trained;
        gradient checkpointing adds a forward."""
        counts = self.evaluations()
        passes = (2 if self.config.finetune == "lora" else 3) + self.config.memory.gradient_checkpointing
        return self.plain.forward_flops * (counts["rollout"] + counts["other weights"] + passes * counts["training"])

    def gradient_bytes(self) -> float:
        """What GPUs exchange in an iteration: a gradient in fp32 per optimiser step."""
        return 4.0 * self.num_trained * self.config.update.num_steps if self.num_gpus > 1 else 0.0

    def memory(self, config: Config) -> dict[str, float]:
        """Bytes by part, under a config that differs from the job's in batch sizes, `memory` and where rewards are at most."""
        size = float(frozen_dtype(config.memory.weights, True, full=config.finetune == "full").itemsize)
        name, most = max(self.phases(config, size).items(), key=lambda phase: phase[1])
        return {
            "network": (self.num_weights - self.num_trained if config.finetune == "lora" else 0) * size,
            "trained weights, gradient, AdamW": self.num_trained * (8.0 + STATE_BYTES[config.update.optimizer]),
            "averages and copies": self.num_trained * 4.0 * (1 + len(config.objective.copies)),
            "text encoders": 0.0 if config.memory.offload_encoders else self.encoders * size,
            "autoencoder": self.autoencoder * 4.0,
            "rewards": reward_bytes(config),
            "latents of an iteration": self.num_images * self.row_bytes,
            "encoded texts": self.encoded_bytes(config),
            f"at most, while {name}": most,
            "overhead": OVERHEAD,
        }

    def encoded_bytes(self, config: Config) -> float:
        """An iteration's texts, for the rollout and for the update, and the cache of all."""
        num_texts = config.rollout.num_prompts / self.num_gpus
        return 2 * num_texts * self.text_bytes + min(CACHE_BYTES, num_texts * config.num_iterations * self.text_bytes)

    def phases(self, config: Config, size: float) -> dict[str, float]:
        """What comes and goes. Phases take turns, so the largest counts."""
        drawn = self.rollout_batch_size(config)
        decoded = 1 if config.memory.vae_slicing else drawn
        rows = round(self.micro_batch_size(config) * self.num_points * self.num_branches)
        row = (self.checkpointed if config.memory.gradient_checkpointing else self.plain).update_bytes
        merges = config.finetune == "lora" and size == 4
        own = self.num_adapted * size if merges else 0.0  # of layers into which an adapter is merged, to restore them
        casts = self.num_trained * 2.0 if config.finetune == "full" else 0.0  # autocast's copies
        branches = drawn * self.num_drawn_branches
        return {
            "encoding texts": self.encoders * size if config.memory.offload_encoders else 0.0,
            f"drawing {drawn} images, {branches} rows": own + casts + branches * self.plain.forward_bytes,
            f"decoding, {decoded} at once": own + decoded * self.decode_bytes,
            f"training, {rows} rows": casts + rows * row,
        }


def reward_bytes(config: Config) -> float:
    """Of the weights of rewards and monitors, where they are on the GPU that trains."""
    own = config.reward_device in (None, "auto", config.device)
    return float(sum(gpu_bytes(reward) for reward in dict.fromkeys(config.reward_names))) if own else 0.0


def points_per_image(config: Config) -> float:
    """Ask the algorithm: one group with latents of a single number, drawn by a model that never moves."""
    size, steps, objective = config.rollout.group_size, config.rollout.num_steps, config.objective
    noise, group = torch.zeros(size, 1, 1, 1), torch.zeros(size, dtype=torch.long)
    sampler, trajectory = objective.drawing.step_sampler(0, 0), None
    if sampler is not None:
        step_noise = torch.randn(size, steps, 1, 1, 1)
        _, trajectory = sampler(lambda x, *_: torch.zeros_like(x), noise, flow.schedule(steps), step_noise)
    batch = Batch(
        points=objective.points(noise, group, 0, trajectory=trajectory),
        cond=Cond(sequence=noise[:, 0]),
        advantage=torch.linspace(-1, 1, size),
        group=group,
        valid=torch.ones(size, dtype=torch.bool),
    )
    batch = objective.credit.assign(batch, 0)
    return len(batch) * batch.points.times().shape[1] / size


def measure_job(config: Config, num_gpus: int = 1) -> Job:
    """Build the model on the meta device and follow a forward, an update and a decoding.

    Raises ValueError or FileNotFoundError for an unknown model, ValueError for more GPUs than prompts.
    """
    require(
        1 <= num_gpus <= config.rollout.num_prompts,
        f"--gpus {num_gpus}: an iteration draws rollout.num_prompts={config.rollout.num_prompts} groups, and a group is drawn "
        "on one GPU; give a number from 1 to that",
    )
    # All that the model's own figures depend on, so that a curriculum's stages are measured once.
    model = Config(
        model=config.model,
        adapter=config.adapter,
        max_sequence_length=config.max_sequence_length,
        resolution=config.resolution,
        num_frames=config.num_frames,
        finetune=config.finetune,
        precision=config.precision,
        lora=config.lora,
        memory=config.memory,
        rollout=RolloutConfig(guidance=config.rollout.guidance),
        eval=EvalConfig(guidance=config.eval.guidance),
    )
    figures, (image, text, latents) = _measure_model(model)
    points = points_per_image(config)
    rows = 4.0 * latents * (1 + 2 * points)  # noise and an answer for each point
    return Job(config=config, num_gpus=num_gpus, num_points=points, image=image, row_bytes=rows, text_bytes=text, **figures)


@cache
def _measure_model(config: Config) -> tuple[dict[str, Any], tuple[tuple[int, ...], int, int]]:
    """The fields of a `Job` that its model decides; an image's shape, the bytes of its text, the size of its latents."""
    policy, guidance = skeleton(config), config.rollout.guidance
    module: Any = policy.module
    plain = cost(policy, guidance)
    module.enable_gradient_checkpointing()
    module.train()
    checkpointed = cost(policy, guidance)
    decode_bytes, image = decoding(policy)
    sizes = {name: _count(part) for name, part in policy.pipeline.components.items() if isinstance(part, torch.nn.Module)}
    figures = {
        "num_weights": sizes.pop(policy.network),
        "num_trained": sum(parameter.numel() for parameter in trainable(module).values()),
        "num_adapted": sum(weight.numel() for weight in adapted(module)),
        "autoencoder": sizes.pop("vae"),
        "encoders": sum(sizes.values()),
        "num_branches": policy.num_branches(guidance),
        "num_drawn_branches": policy.num_branches(max(guidance, config.eval.guidance)),
        "decode_bytes": decode_bytes,
        "plain": plain,
        "checkpointed": checkpointed,
    }
    return figures, (image, policy.blank_text(1).nbytes, math.prod(policy.latent_shape))


def skeleton(config: Config) -> Policy:
    """The config's model on the meta device with what is trained set up, in the types of a run on a GPU."""
    name = HUB_IDS.get(config.model, config.model)
    build = published if name in PUBLISHED else from_folder
    with without_loading_chatter():
        policy = build(
            name,
            dtype=frozen_dtype(config.memory.weights, True, full=config.finetune == "full"),
            max_sequence_length=config.max_sequence_length,
            resolution=config.resolution,
            num_frames=config.num_frames,
            adapter=config.adapter,
            autocast=None if config.precision == "fp32" else torch.bfloat16,
        )
    policy.module.requires_grad_(False)
    if config.finetune == "full":
        policy.module.float().requires_grad_(True)
    else:
        add_lora(policy, config.lora, 0)
    return policy


def _count(part: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())
