"""A job's memory, network evaluations and arithmetic, from its config and what was measured of its model."""

import math
from dataclasses import dataclass

from vgrpo.analysis.plan.figures import measure_model
from vgrpo.analysis.plan.measure import Cost, Decoding
from vgrpo.analysis.plan.rows import Rows, rows_per_image
from vgrpo.analysis.plan.work import Work
from vgrpo.core.solvers import num_evaluations
from vgrpo.models.defaults import Defaults
from vgrpo.models.policy import CACHE_BYTES
from vgrpo.models.precision import frozen_dtype
from vgrpo.models.quantised import LINEAR_BYTES, is_quantised
from vgrpo.rewards.downloads import gpu_bytes
from vgrpo.sampling.settings import Sampling
from vgrpo.support.checks import require
from vgrpo.training.optimizer import STATE_BYTES
from vgrpo.training.settings.config import Config

GB = 2**30
OVERHEAD = 1.5 * GB  # the CUDA context, its libraries' workspaces and fragmentation


@dataclass(frozen=True, kw_only=True)
class Job:
    """A config's model, measured without its weights. All figures are those of the GPU with the most to do."""

    config: Config
    own: Defaults
    """How the model's pipeline draws, but for the time shift, which costs nothing."""
    num_gpus: int
    """On all machines."""
    num_nodes: int
    """Machines, each with as many GPUs."""
    num_weights: int
    num_trained: int
    largest_block: int
    """Weights of it, and of what is outside of the blocks, without an adapter's."""
    outside_blocks: int
    num_adapted: int
    """Weights of the layers with an adapter."""
    num_linear: int
    """Weights of the layers that can be quantised."""
    encoders: tuple[int, ...]
    autoencoder: int
    rows: Rows
    num_branches: int
    num_evaluated_branches: int
    """The same in the evaluation, and for sample pictures."""
    latents: int
    """Numbers in an image's latents."""
    text_bytes: float
    """Of one encoded text."""
    decoding: Decoding
    slices: bool
    """Whether the autoencoder can decode images one at a time."""
    plain: Cost
    checkpointed_bytes: float
    """`plain.update_bytes` with gradient checkpointing."""

    @property
    def rollout(self) -> Sampling:
        return self.config.rollout.resolved(self.own)

    @property
    def evaluation(self) -> Sampling:
        return self.config.eval.resolved(self.own)

    @property
    def num_images(self) -> int:
        """Whole groups are drawn on one GPU."""
        return math.ceil(self.config.rollout.num_prompts / self.num_gpus) * self.config.rollout.group_size

    def micro_batch_size(self, config: Config) -> int:
        trained = self.num_images * config.update.keep_share / config.update.num_minibatches
        return min(config.update.micro_batch_size or self.num_images, math.ceil(trained))

    def rollout_batch_size(self, config: Config) -> int:
        return min(config.rollout.batch_size or self.num_images, self.num_images)

    @property
    def rollout_forwards(self) -> float:
        """Of an image, without guidance."""
        sampler, steps = self.config.objective.drawing.step_sampler(0, 0), self.rollout.num_steps
        return sampler.num_evaluations(steps) if sampler else num_evaluations(self.rollout.solver, steps)

    def evaluations(self) -> dict[str, float]:
        """Network evaluations of an iteration, both branches of guidance counted."""
        config = self.config
        trained = self.num_images * self.num_branches * self.rows.points * config.update.keep_share
        return {
            "rollout": self.num_images * self.num_branches * self.rollout_forwards,
            "other weights": trained * sum(map(len, config.needed)) / config.update.num_minibatches,
            "training": trained * config.update.num_epochs,
        }

    def flops(self) -> float:
        """Of the network, per iteration. A backward through frozen layers costs one forward, and one more where their weights
        are trained; gradient checkpointing adds a forward."""
        counts = self.evaluations()
        passes = (2 if self.config.finetune == "lora" else 3) + self.config.memory.gradient_checkpointing
        return self.plain.forward_flops * (counts["rollout"] + counts["other weights"] + passes * counts["training"])

    def work(self) -> Work:
        """Per iteration, images' decoding included."""
        counts, again = self.evaluations(), self.plain.forward_moved * self.config.memory.gradient_checkpointing
        moved = (
            self.plain.drawn_moved * counts["rollout"]
            + self.plain.forward_moved * counts["other weights"]
            + (self.plain.update_moved + again) * counts["training"]
        )
        return Work(self.flops(), moved) + self.decoded(self.num_images)

    def decoded(self, num_images: int) -> Work:
        """The autoencoder is fp32, and TF32 has half the speed of bf16."""
        return Work(2 * self.decoding.flops, 0.0, self.decoding.moved) * num_images

    def evaluation_work(self) -> Work:
        """Of one evaluation of all held-out prompts, whose pictures GPUs share."""
        settings, drawing = self.config.eval, self.evaluation
        images = math.ceil(settings.num_prompts * settings.num_images / self.num_gpus)
        forwards = images * self.num_evaluated_branches * num_evaluations(drawing.solver, drawing.num_steps)
        return Work(self.plain.forward_flops, self.plain.drawn_moved) * forwards + self.decoded(images)

    @property
    def num_held_out(self) -> int:
        """Evaluations of a run: before its first iteration, after its last, and those on the way."""
        every = self.config.eval.every
        return 2 + ((self.config.num_iterations - 1) // every if every else 0)

    def total_work(self) -> Work:
        """To the run's end."""
        return self.work() * self.config.num_iterations + self.evaluation_work() * self.num_held_out

    def sharers(self, config: Config) -> int:
        """GPUs that share one copy of the network's weights."""
        shard = config.memory.shard
        return 1 if shard == "none" else self.num_gpus if shard == "full" else self.num_gpus // self.num_nodes

    def spread_bytes(self, config: Config) -> float:
        """Of all weights that can be shared, gathered."""
        full = config.finetune == "full"
        num_weights = self.num_trained if full else self.num_weights - self.num_trained
        return float(num_weights * frozen_dtype(config.memory.weights, True, full=full).itemsize)

    def memory(self, config: Config) -> dict[str, float]:
        """Bytes by part, under a config that differs from the job's in batch sizes, `memory` and where rewards are at most."""
        full = config.finetune == "full"
        size = float(frozen_dtype(config.memory.weights, True, full=full).itemsize)
        part = 1 / self.sharers(config)
        kept = self.num_trained * (part if full else 1.0)
        name, most = max(self.phases(config, size).items(), key=lambda phase: phase[1])
        return {
            "network": 0.0 if full else self.frozen_bytes(config, size) * part,
            "trained weights, gradient, AdamW": kept * (8.0 + STATE_BYTES[config.update.optimizer]),
            "averages and copies": 0.0 if config.memory.offload_copies else kept * 4.0 * self.num_copies(config),
            "text encoders": 0.0 if config.memory.offload_encoders else sum(self.encoders) * size,
            "autoencoder": self.autoencoder * 4.0,
            "rewards": 0.0 if config.memory.offload_rewards else sum(reward_bytes(config)),
            "latents of an iteration": self.num_images * self.rows.held * self.latent_bytes,
            "encoded texts": self.encoded_bytes(config),
            f"at most, while {name}": most,
            "overhead": OVERHEAD,
        }

    @staticmethod
    def num_copies(config: Config) -> int:
        """Of what is trained: the average, those that the objective asks, those of images drawn ahead, and the current weights
        while another set is in their place."""
        return 2 + len(config.objective.copies) + 2 * config.rollout.lag

    def frozen_bytes(self, config: Config, size: float) -> float:
        """Of the network. Only its linear layers are quantised."""
        linear = self.num_linear * LINEAR_BYTES.get(config.memory.weights, size)
        return linear + (self.num_weights - self.num_trained - self.num_linear) * size

    @property
    def latent_bytes(self) -> float:
        return 4.0 * self.latents

    def encoded_bytes(self, config: Config) -> float:
        """An iteration's texts, for the rollout and for the update, and the cache of all."""
        num_texts = config.rollout.num_prompts / self.num_gpus
        return 2 * num_texts * self.text_bytes + min(CACHE_BYTES, num_texts * config.num_iterations * self.text_bytes)

    @property
    def stored_texts(self) -> float:
        """Bytes that all of a run's encoded texts take on a disk, if no two are the same."""
        return self.text_bytes * (self.config.num_iterations * self.config.rollout.num_prompts + self.config.eval.num_prompts)

    def phases(self, config: Config, size: float) -> dict[str, float]:
        """What comes and goes. Phases take turns, so the largest counts."""
        drawn = self.rollout_batch_size(config)
        decoded = 1 if config.memory.vae_slicing and self.slices else drawn
        rows = round(self.micro_batch_size(config) * self.rows.points * self.num_branches)
        row = self.checkpointed_bytes if config.memory.gradient_checkpointing else self.plain.update_bytes
        full, spread = config.finetune == "full", self.sharers(config) > 1
        merges = not full and not is_quantised(config.memory.weights) and not spread
        own = self.num_adapted * size if merges else 0.0  # of layers into which an adapter is merged, to restore them
        casts = drawn_casts = self.num_trained * 2.0 if full else 0.0  # autocast's copies
        gathered = blocks = 0.0
        if spread:
            # Outside of the blocks, one that is at work and the next; a block's gradient is whole until it is summed.
            blocks = (self.outside_blocks + 2 * self.largest_block) * size
            gathered = self.spread_bytes(config) if config.memory.gather else blocks
            blocks += 2 * self.largest_block * 4.0 if full else 0.0
            drawn_casts = self.largest_block * 2.0 if full else 0.0
            casts = drawn_casts if config.memory.gradient_checkpointing else casts
        branches = drawn * max(self.num_branches, self.num_evaluated_branches)
        own += self.num_images * self.rows.drawn * self.latent_bytes
        judging = max(reward_bytes(config), default=0.0) if config.memory.offload_rewards else 0.0
        return {
            "encoding texts": max(self.encoders, default=0) * size if config.memory.offload_encoders else 0.0,
            "judging": judging,
            f"drawing {drawn} images, {branches} rows": own + gathered + drawn_casts + branches * self.plain.drawn_bytes,
            f"decoding, {decoded} at once": own + (gathered if config.memory.gather else 0.0) + decoded * self.decoding.bytes,
            f"training, {rows} rows": casts + blocks + rows * row,
        }


def reward_bytes(config: Config) -> list[float]:
    """Of the weights of each reward and monitor, where they are on the GPU that trains."""
    own = config.reward_device in (None, "auto", config.device)
    return [gpu_bytes(reward) for reward in dict.fromkeys(config.reward_names)] if own else []


def measure_job(config: Config, num_gpus: int = 1, num_nodes: int = 1) -> Job:
    """Build the model on the meta device and follow a forward, an update and a decoding. `num_gpus` are those of all machines.

    Raises ValueError or FileNotFoundError for an unknown model, ValueError for more GPUs than prompts.
    """
    require(
        1 <= num_gpus <= config.rollout.num_prompts,
        f"{num_gpus} GPUs: an iteration draws rollout.num_prompts={config.rollout.num_prompts} groups, and a group is drawn "
        "on one GPU; give a number from 1 to that",
    )
    measured = measure_model(config)
    rows = rows_per_image(config, config.rollout.resolved(measured["own"]).num_steps)
    return Job(config=config, num_gpus=num_gpus, num_nodes=num_nodes, rows=rows, **measured)
