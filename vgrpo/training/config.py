"""The settings of a run. Frozen, typed, checked when made; what is saved as config.yaml repeats the run."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vgrpo.core.solvers import Solver
from vgrpo.models.precision import Precision, Weights
from vgrpo.objectives import VGRPO, Objective
from vgrpo.objectives.advantage import Advantages


def require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """How images are drawn for training."""

    num_prompts: int = 16
    """Prompts per iteration."""
    group_size: int = 16
    """Images per prompt."""
    solver: Solver = "dpm_solver_2m"
    num_steps: int = 10
    """Solver steps."""
    shift: float = 1.0
    """Time shift of the solver's schedule; above 1 spends more steps at high noise."""
    guidance: float = 1.0
    """Classifier-free guidance, in the rollout and in training; 1 is none."""
    batch_size: int | None = None
    """Images drawn at once; None is all."""

    def __post_init__(self) -> None:
        require(self.num_prompts >= 1, f"rollout.num_prompts={self.num_prompts}: at least 1 prompt per iteration")
        require(
            self.group_size >= 2,
            f"rollout.group_size={self.group_size}: an image is judged against others of its prompt, so a group needs "
            "at least 2; 12 to 24 is usual",
        )
        require(self.num_steps >= 1, f"rollout.num_steps={self.num_steps}: the solver needs at least 1 step")
        require(self.shift > 0, f"rollout.shift={self.shift}: the time shift must be above 0; 1 is none")
        require(self.guidance >= 1, f"rollout.guidance={self.guidance}: must be at least 1, which is no guidance")


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """The low-rank adapter that is trained (arXiv:2106.09685)."""

    rank: int = 32
    alpha: int = 64
    targets: tuple[str, ...] | None = None
    """Endings of the names of the linear layers that get an adapter; None is the architecture's attention."""
    init: Path | None = None
    """A folder with a saved adapter, such as a run's lora/, to go on from; None starts with a fresh one."""

    def __post_init__(self) -> None:
        require(self.rank >= 1, f"lora.rank={self.rank}: must be at least 1; --finetune full trains without an adapter")
        require(self.alpha > 0, f"lora.alpha={self.alpha}: must be above 0, usually the rank or twice the rank")


@dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """How a rollout becomes optimiser steps."""

    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps its state in a quarter of the memory, rounded (pip install "vgrpo[bitsandbytes]")."""
    lr: float = 3e-4
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    num_warmup_steps: int = 0
    """Optimiser steps of linear warm-up."""
    lr_schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up keep the learning rate, or let it fall to a tenth by the last iteration."""
    num_minibatches: int = 1
    """Optimiser steps per pass over a rollout, each on whole groups."""
    num_epochs: int = 1
    """Passes over a rollout. With one minibatch and one epoch training is on-policy."""
    keep_share: float = 1.0
    """Share of every group that is trained on, its best and its worst images; 1 is all, less is cheaper."""
    micro_batch_size: int | None = None
    """Images per forward and backward; None is all. Changes memory, not the gradient."""

    def __post_init__(self) -> None:
        require(self.lr > 0, f"update.lr={self.lr}: the learning rate must be above 0")
        for name in ("num_minibatches", "num_epochs"):
            require(getattr(self, name) >= 1, f"update.{name}={getattr(self, name)}: must be at least 1")
        require(0 < self.keep_share <= 1, f"update.keep_share={self.keep_share}: must lie in (0, 1]; 1 trains on every image")
        require(
            self.micro_batch_size is None or self.micro_batch_size >= 1,
            f"update.micro_batch_size={self.micro_batch_size}: must be at least 1; None is the whole minibatch",
        )

    @property
    def num_steps(self) -> int:
        """Optimiser steps per rollout."""
        return self.num_minibatches * self.num_epochs


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """The held-out evaluation before and after training, and the sample pictures in between."""

    num_prompts: int = 256
    """Held-out prompts; 0 skips the evaluation."""
    num_images: int = 4
    """Images per prompt."""
    solver: Solver = "dpm_solver_2m"
    num_steps: int = 16
    shift: float = 1.0
    """Time shift of the solver's schedule."""
    guidance: float = 1.0
    num_sample_prompts: int = 14
    """Prompts in the before/after grid."""
    sample_every: int = 20
    """Iterations between pictures under samples/."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """What lets a large model fit. None of it changes what is learned."""

    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them: about a third slower, far less memory."""
    weights: Weights = "auto"
    """How frozen weights are kept; auto is bf16 for a LoRA on a GPU that has it. What is trained stays fp32."""
    vae_slicing: bool = False
    """Decode images one at a time."""
    vae_tiling: bool = False
    """Decode large images in overlapping tiles."""
    offload_encoders: bool = False
    """Keep the text encoders in the CPU's memory while nothing is encoded."""
    prompt_cache: Path | None = None
    """Folder of encoded prompts, which later runs read instead of running the text encoders."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """A training run. The defaults are the main job: the bundled sprites model, its verifier, V-GRPO."""

    output_dir: Path | None = None
    """The run's folder; by default a new one under runs/."""
    seed: int = 0
    num_iterations: int = 75
    """Rollout, judge, update: how often."""
    model: str = "sprites"
    """`sprites`, the folder of a diffusers pipeline, or its ORG/NAME on the hub."""
    max_sequence_length: int | None = None
    """Tokens of the longest text encoder (zero vectors for a T5 that Stable Diffusion 3 is without); None is the pipeline's own
    default, such as 256 for Stable Diffusion 3 and 512 for FLUX."""
    resolution: int | None = None
    """Pixels per side; None is the model's own."""
    num_frames: int | None = None
    """Frames of a video, 4k + 1 for Wan; None is 17."""
    prompts: str = "sprites"
    """`sprites` (generated, with held-out prompts for evaluation; `sprites:text` is one kind of them), or a .txt (one a line),
    .jsonl or .csv (`prompt`) file."""
    prompt_shares: tuple[str, ...] = ()
    """Draw prompts by their `tag`, in shares such as `position=7 counting=5`; by default all prompts of a file in turn."""
    eval_prompts: str | None = None
    """A file of held-out prompts; needed for an evaluation when --prompts is a file."""
    reward: tuple[str, ...] = ("sprites",)
    """Names of rewards, or your own as `my_file:my_reward`."""
    reward_weights: tuple[float, ...] | None = None
    """One weight per reward; None weighs them equally."""
    monitor: tuple[str, ...] = ()
    """Rewards that are measured and logged but not trained on; an alarm sounds when one falls while the reward is up."""
    stop_on_alarm: bool = False
    """End the run, as if it were complete, when a monitor sounds the alarm."""
    finetune: Literal["lora", "full"] = "lora"
    precision: Precision = "auto"
    """Arithmetic of the network; auto is bf16 where the hardware has it. Weights and losses stay fp32."""
    device: str = "auto"
    """auto is cuda where there is one."""
    reward_device: str | None = None
    """Where reward models compute, such as cuda:1 or cpu; None is `device`."""
    compile: bool = False
    """Compile the network's repeated blocks (torch.compile): minutes at the start, faster steps on a GPU."""
    attention: str | None = None
    """A back end of diffusers for attention, such as native, flash or flash_hub; None is the network's own choice."""
    ema_decay: float = 0.9
    """Decay of the averaged weights, which are the ones evaluated and saved."""
    checkpoint_every: int = 25
    """Iterations between checkpoints."""
    tensorboard: bool = False
    """Also write TensorBoard events (pip install "vgrpo[tensorboard]")."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    objective: Objective = field(default_factory=VGRPO)
    advantage: Advantages = field(default_factory=Advantages)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    @property
    def device_of_rewards(self) -> str:
        return self.reward_device or self.device

    def __post_init__(self) -> None:
        require(self.num_iterations >= 1, f"num_iterations={self.num_iterations}: must be at least 1")
        require(0 <= self.ema_decay < 1, f"ema_decay={self.ema_decay}: must lie in [0, 1); 0 turns averaging off")
        require(len(self.reward) >= 1, "reward is empty: name at least one, e.g. --reward sprites")
        full = self.finetune == "full"
        require(
            not (full and self.lora.init), "lora.init goes on from an adapter, and --finetune full trains none; leave it out"
        )
        weights = self.reward_weights
        require(
            weights is None or len(weights) == len(self.reward),
            f"reward_weights={weights}: give one weight for each of the rewards {self.reward}",
        )
        require(
            self.update.num_minibatches <= self.rollout.num_prompts,
            f"update.num_minibatches={self.update.num_minibatches}: a minibatch holds whole groups, so at most "
            f"rollout.num_prompts={self.rollout.num_prompts}",
        )
        rollout = self.rollout
        self.objective.check_rollout(group_size=rollout.group_size, num_steps=rollout.num_steps, batch_size=rollout.batch_size)
