"""The settings of a run. Frozen, typed, checked when made; what is saved as config.yaml repeats the run."""

from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, Self

from vgrpo.evaluation.settings import EvalConfig
from vgrpo.models.bundled import bundled_models
from vgrpo.models.defaults import Defaults
from vgrpo.models.precision import Precision, check_device
from vgrpo.models.resolution import Resolution
from vgrpo.models.settings import LoraConfig, MemoryConfig, ModelSettings
from vgrpo.objectives import VGRPO, ForwardObjective, Objective
from vgrpo.objectives.advantage import Advantages
from vgrpo.objectives.base import WeightSet
from vgrpo.prompts.sources import shares_of
from vgrpo.rewards.loading import check_calls
from vgrpo.support.checks import require, require_finite, require_within
from vgrpo.support.secrets import require_no_secret
from vgrpo.training.rollouts.settings import RolloutConfig as RolloutConfig
from vgrpo.training.settings.tasks import TaskConfig, check_rewards


@dataclass(frozen=True, kw_only=True)
class UpdateConfig:
    """How a rollout becomes optimiser steps."""

    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps its state in a quarter of the memory, rounded (pip install "vgrpo[bitsandbytes]")."""
    lr: float | None = None
    """Learning rate; None is that of what is trained: 3e-4 for a LoRA, 1e-5 for a whole network and 2e-4 for all of the small
    bundled one."""
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    """The gradient is scaled down to this norm; 0 leaves it as it is."""
    max_bad_steps: int = 5
    """A step whose loss or gradient is not finite is left out and counted; so many in a row stop the run."""
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
    guidance: float | None = None
    """Classifier-free guidance of the forwards that are trained; None is the rollout's. Algorithms on points of the forward
    process may learn without guidance from images drawn with it."""
    micro_batch_size: int | None = None
    """Images per forward and backward; None is all. Changes memory, not the gradient."""
    keep_old: bool = False
    """Algorithms on steps take old likelihoods from the rollout instead of a forward; the first ratio is 1 but for rounding."""

    def __post_init__(self) -> None:
        require_finite(self, "update.")
        require(self.lr is None or self.lr > 0, f"update.lr={self.lr}: the learning rate must be above 0")
        require(
            self.max_grad_norm >= 0,
            f"update.max_grad_norm={self.max_grad_norm}: must not be negative; 0 turns clipping off",
        )
        require(all(0 <= beta < 1 for beta in self.betas), f"update.betas={self.betas}: each must lie in [0, 1)")
        require(self.weight_decay >= 0, f"update.weight_decay={self.weight_decay}: must not be negative")
        require(self.num_warmup_steps >= 0, f"update.num_warmup_steps={self.num_warmup_steps}: must not be negative")
        require(
            self.guidance is None or self.guidance >= 1,
            f"update.guidance={self.guidance}: must be at least 1, which is no guidance; None is the rollout's",
        )
        for name in ("num_minibatches", "num_epochs", "max_bad_steps"):
            require(getattr(self, name) >= 1, f"update.{name}={getattr(self, name)}: must be at least 1")
        require(0 < self.keep_share <= 1, f"update.keep_share={self.keep_share}: must lie in (0, 1]; 1 trains on every image")
        require(
            self.micro_batch_size is None or self.micro_batch_size >= 1,
            f"update.micro_batch_size={self.micro_batch_size}: must be at least 1; None is the whole minibatch",
        )
        require_within(self, "update.", lr=(0, 1000), weight_decay=(0, 1000), num_epochs=(1, 1000))

    @property
    def num_steps(self) -> int:
        """Optimiser steps per rollout."""
        return self.num_minibatches * self.num_epochs


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
    adapter: str | None = None
    """Your own adapter for a pipeline class, as my_file:MyPolicy."""
    max_sequence_length: int | None = None
    """Tokens of the longest text encoder (zero vectors for a T5 that Stable Diffusion 3 is without); None is the pipeline's own
    default, such as 256 for Stable Diffusion 3 and 512 for FLUX, and 0 for sprites."""
    resolution: Resolution | None = None
    """Pixels per side, or WIDTHxHEIGHT as 832x1216; None is the model's own."""
    num_frames: int | None = None
    """Frames of a video, 4k + 1 for Wan; None is 17."""
    prompts: str = "sprites"
    """`sprites` (generated; `sprites:text` is one kind of them), or a file: .txt, one prompt a line, or
    .jsonl, .json, .csv or .tsv with the text in `prompt`, `prompts`, `caption` or `text`."""
    prompt_shares: tuple[str, ...] = ()
    """Draw prompts by their `tag`, in shares such as `position=7 counting=5`; by default all prompts of a file in turn."""
    eval_prompts: str | None = None
    """A file of held-out prompts; without one, some of the prompts of a file are held out."""
    held_out_prompts: int | None = None
    """How many of the prompts of a file are held out; None is a tenth, at most eval.num_prompts."""
    reward: tuple[str, ...] = ("sprites",)
    """Names of rewards, or your own as `my_file:my_reward`."""
    reward_weights: tuple[float, ...] | None = None
    """One weight per reward, negative for a penalty; None weighs them equally."""
    tasks: tuple[TaskConfig, ...] = ()
    """Beside that of `prompts` and `reward`: --task-words.prompts ocr.jsonl --task-words.reward ocr (see docs/prompts.md)."""
    monitor: tuple[str, ...] = ()
    """Rewards that are measured and logged but not trained on; an alarm sounds when one falls while the reward is up."""
    reward_timeout: float | None = None
    """Seconds for one call of a reward; None waits for ever."""
    stop_on_alarm: bool = False
    """End the run, as if it were complete, when a monitor sounds the alarm."""
    finetune: Literal["lora", "full"] = "lora"
    precision: Precision = "auto"
    """Arithmetic of the network; auto is bf16 where a GPU has it, and on a CPU what is faster there. Weights and losses stay
    fp32."""
    device: str = "auto"
    """auto is cuda where there is one."""
    reward_device: str | None = None
    """Where reward models compute, such as cuda:1 or cpu; None is `device`."""
    reward_workers: int = 0
    """Processes that call rewards which compute on the CPU, such as `ocr`; 0 calls them in the run's own."""
    compile: bool = False
    """Compile the network's repeated blocks (torch.compile): minutes at the start, faster steps on a GPU."""
    attention: str | None = None
    """A back end of diffusers for attention, such as native, flash or flash_hub; None is the network's own choice."""
    ema_decay: float = 0.9
    """Decay of the averaged weights, which are the ones evaluated and saved."""
    checkpoint_every: int = 25
    """Iterations between checkpoints."""
    keep_checkpoints: int = 2
    """The newest so many stay on the disk; one more than 1 lets a damaged one be done without."""
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    """Where numbers, pictures and scores are sent as well; each is an extra (pip install "vgrpo[wandb]")."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    objective: Objective[Any] = field(default_factory=VGRPO)
    advantage: Advantages = field(default_factory=Advantages)
    update: UpdateConfig = field(default_factory=UpdateConfig)
    lora: LoraConfig = field(default_factory=LoraConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)

    @property
    def model_settings(self) -> ModelSettings:
        """Which model, and how it is loaded; the fields have the same names here."""
        return ModelSettings(**{each.name: getattr(self, each.name) for each in fields(ModelSettings)})

    def resolved(self, own: Defaults) -> Self:
        """With what the drawing of pictures leaves to the model as it was found. Raises ValueError as `Config` does."""
        return replace(self, rollout=self.rollout.filled(own), eval=self.eval.filled(own))

    @property
    def eval_sampling(self) -> EvalConfig:
        """How the evaluation and sample pictures are drawn: by default as many at once as in the rollout."""
        return replace(self.eval, batch_size=self.eval.batch_size or self.rollout.batch_size)

    @property
    def needed(self) -> list[tuple[WeightSet, ...]]:
        """Which baselines cost a forward, for each minibatch of a rollout."""
        update, late = self.update, self.rollout.lag > 0
        count, epochs, kept = update.num_minibatches, update.num_epochs, update.keep_old
        return [self.objective.needed(index, epochs, kept, late) for index in range(count)]

    @property
    def training_guidance(self) -> float:
        """Guidance of the forwards that are trained, once it is known."""
        guidance = self.rollout.guidance if self.update.guidance is None else self.update.guidance
        assert guidance is not None
        return guidance

    @property
    def learning_rate(self) -> float:
        """Full fine-tuning takes 30 to 300 times less than a LoRA, whose product starts at 0; the bundled network, of a few
        million weights, takes more than a published one."""
        if self.update.lr is not None:
            return self.update.lr
        return 3e-4 if self.finetune == "lora" else 2e-4 if self.model in bundled_models() else 1e-5

    @property
    def reward_names(self) -> tuple[str, ...]:
        """Of all rewards that are asked for: each task's, and the monitors."""
        return (*self.reward, *(name for task in self.tasks for name in task.reward), *self.monitor)

    @property
    def device_of_rewards(self) -> str:
        return self.reward_device or self.device

    def __post_init__(self) -> None:
        require(self.num_iterations >= 1, f"num_iterations={self.num_iterations}: must be at least 1")
        require_no_secret(self)
        require_finite(self)
        self.model_settings.check()
        if self.reward_device is not None:
            check_device(self.reward_device, "reward_device")
        shares_of(self.prompt_shares)
        require_finite(self.objective, "objective.")
        require(self.checkpoint_every >= 1, f"checkpoint_every={self.checkpoint_every}: must be at least 1 iteration")
        require(self.keep_checkpoints >= 1, f"keep_checkpoints={self.keep_checkpoints}: keep at least 1")
        require(0 <= self.ema_decay < 1, f"ema_decay={self.ema_decay}: must lie in [0, 1); 0 turns averaging off")
        require_within(self, held_out_prompts=(0, 1_000_000))
        no_adapter = self.finetune == "full"
        require(not (no_adapter and self.lora.init), "lora.init goes on from an adapter, and --finetune full trains none")
        names = [task.name for task in self.tasks]
        check_calls(self.reward_workers, self.reward_timeout)
        check_rewards(self.reward, self.reward_weights)
        require(len(set(names)) == len(names), f"tasks {', '.join(names)}: each needs a name of its own")
        require(
            self.update.num_minibatches <= self.rollout.num_prompts,
            f"update.num_minibatches={self.update.num_minibatches}: a minibatch holds whole groups, so at most "
            f"rollout.num_prompts={self.rollout.num_prompts}; make it that, or more prompts",
        )
        rollout = self.rollout
        size = rollout.batch_size
        if rollout.num_steps is not None:
            self.objective.drawing.check(group_size=rollout.group_size, num_steps=rollout.num_steps, batch_size=size)
        require(
            rollout.guidance is None
            or self.training_guidance == rollout.guidance
            or isinstance(self.objective, ForwardObjective),
            f"update.guidance={self.update.guidance}: {type(self.objective).__name__} trains on the steps of its rollouts, so "
            f"it needs their guidance, rollout.guidance={rollout.guidance}; leave it out",
        )
        require(
            rollout.lag == 0 or "old" in self.objective.baselines,
            f"rollout.lag={rollout.lag}: {type(self.objective).__name__}, as it is set, reads no likelihood under the weights "
            "that drew its images, so nothing corrects for their age; leave it 0, or take another algorithm such as vgrpo",
        )
        require(
            not (self.update.keep_old and isinstance(self.objective, ForwardObjective)),
            f"update.keep_old: {type(self.objective).__name__} trains on points that no rollout passes; leave it out",
        )
