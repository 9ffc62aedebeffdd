"""What a run is made of, and how it starts: everything that can be wrong is checked here, before the first iteration."""

import os
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from vgrpo import checkpoint
from vgrpo.config import Config, save_yaml
from vgrpo.images import to_pil
from vgrpo.models import Policy, load_pipeline, make_policy, model_folder
from vgrpo.models.lora import add_lora, save_lora
from vgrpo.objectives.base import Objective, WeightSet
from vgrpo.prompts import PromptSource, evaluation_prompts, from_list, training_prompts
from vgrpo.rewards import Reward, RewardError, load_reward, score_images
from vgrpo.rollout import draw_images, named_noise
from vgrpo.seeds import seed_of
from vgrpo.types import Prompt
from vgrpo.update import Optimizer
from vgrpo.weights import AverageWeights, WeightCopy, trainable


@dataclass(kw_only=True)
class Run:
    """The moving parts of a training run."""

    config: Config
    folder: Path
    policy: Policy
    rewards: list[Reward]
    prompts: PromptSource
    eval_prompts: list[Prompt]
    optimizer: Optimizer
    average: AverageWeights
    copies: dict[WeightSet, WeightCopy]
    iteration: int = 0

    @property
    def old_is_current(self) -> bool:
        """Whether the first step's behaviour weights are the current ones, so that `v_old` needs no forward: one step per
        rollout and no lag."""
        return self.config.update.num_minibatches * self.config.update.num_epochs == 1 and "old" not in self.copies

    def weights(self, name: WeightSet) -> AbstractContextManager[None]:
        """Other weights in the model for a while. "old" without a copy are the current ones."""
        return self.copies[name].active() if name in self.copies else nullcontext()

    def move_old_weights(self) -> None:
        decay = self.config.objective.old_decay(self.iteration)
        if "old" in self.copies and decay is not None:
            self.copies["old"].blend(decay)

    @property
    def reward_names(self) -> list[str]:
        names = [getattr(reward, "__name__", type(reward).__name__) for reward in self.rewards]
        return [name if names.count(name) == 1 else f"{name}.{index}" for index, name in enumerate(names)]

    @property
    def reward_weights(self) -> list[float]:
        return list(self.config.reward_weights or [1.0] * len(self.rewards))

    def state_dict(self) -> dict[str, Any]:
        """All that the next iteration depends on; randomness needs nothing, it is named by the iteration."""
        return {
            "iteration": self.iteration,
            "weights": {name: value.detach() for name, value in trainable(self.policy.module).items()},
            "average": self.average.values,
            "average_steps": self.average.num_steps,
            "optimizer": self.optimizer.inner.state_dict(),
            "optimizer_steps": self.optimizer.num_steps,
            "old": self.copies["old"].values if "old" in self.copies else None,
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.iteration = state["iteration"]
        for name, parameter in trainable(self.policy.module).items():
            parameter.copy_(state["weights"][name])
            self.average.values[name].copy_(state["average"][name])
            if "old" in self.copies:
                self.copies["old"].values[name].copy_(state["old"][name])
        self.average.num_steps = state["average_steps"]
        self.optimizer.inner.load_state_dict(state["optimizer"])
        self.optimizer.num_steps = state["optimizer_steps"]

    def save_weights(self) -> None:
        """`lora/` for `load_lora_weights`, or `pipeline/` after full fine-tuning."""
        if self.config.finetune == "lora":
            save_lora(self.policy.pipeline, self.folder / "lora")
        else:
            self.policy.pipeline.save_pretrained(self.folder / "pipeline")

    @torch.no_grad()
    def adopt_average(self) -> None:
        """Leave the averaged weights, the ones saved and evaluated, in the pipeline."""
        for name, parameter in trainable(self.policy.module).items():
            parameter.copy_(self.average.values[name])


def start_run(
    config: Config,
    *,
    pipeline: Any = None,
    reward: Reward | None = None,
    prompts: list[str] | list[Prompt] | None = None,
    resume: bool = False,
) -> Run:
    """Check everything, cheapest first, then load the model and, to resume, the last checkpoint."""
    rewards = [reward] if reward is not None else [load_reward(name) for name in config.reward]
    source, held_out = _prompts(config, prompts)
    if pipeline is None:
        model_folder(config.model)
    folder = _prepare_folder(config, resume)
    if pipeline is None:
        pipeline = load_pipeline(config.model, _device(config.device))
    policy = make_policy(
        pipeline,
        max_sequence_length=config.max_sequence_length,
        resolution=config.resolution,
        autocast=_autocast(config.precision, pipeline.device),
    )
    _make_trainable(policy, config)
    _try_rewards(policy, rewards, source(0, 2))
    average = AverageWeights(policy.module, config.ema_decay)
    run = Run(
        config=config,
        folder=folder,
        policy=policy,
        rewards=rewards,
        prompts=source,
        eval_prompts=held_out,
        optimizer=_make_optimizer(policy, config, average),
        average=average,
        copies=_copies(policy, config.objective),
    )
    if resume:
        run.load_state_dict(checkpoint.load_latest(folder / "checkpoints"))
    else:
        save_yaml(config, folder / "config.yaml")
    return run


def _prompts(config: Config, given: list[str] | list[Prompt] | None) -> tuple[PromptSource, list[Prompt]]:
    eval_name = config.eval_prompts or ("sprites" if config.prompts == "sprites" and given is None else None)
    held_out = evaluation_prompts(eval_name, config.eval.num_prompts)
    if given is None:
        return training_prompts(config.prompts, config.seed), held_out
    if not given:
        raise ValueError("prompts is empty; give at least one")
    return from_list([Prompt(text=item) if isinstance(item, str) else item for item in given], config.seed), held_out


def _prepare_folder(config: Config, resume: bool) -> Path:
    """Make the run's folder. Raises FileExistsError if it holds another run, PermissionError if it cannot be written."""
    folder = Path(config.output_dir or time.strftime(f"runs/{Path(config.model).name}-%Y%m%d-%H%M%S"))
    if resume:
        checkpoint.load_latest(folder / "checkpoints")
        return folder
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"--output-dir {folder} is not empty: it may hold another run; name a new folder, or add --resume"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise PermissionError(
            f"--output-dir {folder} cannot be made ({error.strerror}); name a folder you may write"
        ) from error
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"--output-dir {folder} cannot be written; name a folder you may write")
    return folder


def _device(name: str) -> str:
    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def _autocast(precision: str, device: torch.device) -> torch.dtype | None:
    """bf16 where the hardware computes in it: on a CPU without such instructions it is slower than fp32."""
    has_bf16 = torch.cuda.is_bf16_supported() if device.type == "cuda" else torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if precision == "bf16" or (precision == "auto" and has_bf16) else None


def _make_trainable(policy: Policy, config: Config) -> None:
    pipeline = policy.pipeline
    for part in pipeline.components.values():
        if isinstance(part, torch.nn.Module):
            part.requires_grad_(False)
    if config.finetune == "full":
        policy.module.requires_grad_(True)
    else:
        add_lora(policy.module, config.lora, seed_of(config.seed, "lora"))
    for parameter in trainable(policy.module).values():
        parameter.data = parameter.data.float()


def _copies(policy: Policy, objective: Objective) -> dict[WeightSet, WeightCopy]:
    """The weight sets that an algorithm needs beside the current one, all equal to the start."""
    names: list[WeightSet] = [name for name in objective.baselines if name == "ref"]
    if objective.old_decay(0) is not None:
        names.append("old")
    return {name: WeightCopy(policy.module) for name in names}


def _make_optimizer(policy: Policy, config: Config, average: AverageWeights) -> Optimizer:
    parameters = list(trainable(policy.module).values())
    adamw = torch.optim.AdamW(
        parameters, lr=config.update.lr, betas=config.update.betas, weight_decay=config.update.weight_decay
    )
    num_steps = config.num_iterations * config.update.num_epochs * config.update.num_minibatches
    return Optimizer(
        inner=adamw,
        parameters=parameters,
        lr=config.update.lr,
        num_warmup_steps=config.update.num_warmup_steps,
        max_grad_norm=config.update.max_grad_norm,
        num_decay_steps=num_steps if config.update.lr_schedule == "linear" else None,
        after_step=average.step,
    )


def _try_rewards(policy: Policy, rewards: list[Reward], prompts: list[Prompt]) -> None:
    """Call every reward once on two cheap images, so that a broken one fails now and not after minutes."""
    noise = torch.stack([named_noise(policy, "trial", index) for index in range(2)])
    _, images = draw_images(policy, prompts, noise, solver="euler", num_steps=2, guidance=1.0)
    for reward in rewards:
        try:
            score_images(reward, images, prompts)
        except RewardError as error:
            name = getattr(reward, "__name__", type(reward).__name__)
            raise ValueError(f"reward {name}, tried on two images before training: {error}") from error


def save_samples(run: Run) -> None:
    """Pictures of fixed prompts and seeds under the averaged weights: samples/000020/03.png is prompt 3, four images."""
    settings = run.config.eval
    prompts = run.eval_prompts or run.prompts(0, settings.num_sample_prompts)
    prompts = prompts[:: max(1, len(prompts) // settings.num_sample_prompts)][: settings.num_sample_prompts]
    folder = run.folder / "samples" / f"{run.iteration:06d}"
    folder.mkdir(parents=True, exist_ok=True)
    num_images = 4
    noise = torch.stack([named_noise(run.policy, "sample", p, i) for p in range(len(prompts)) for i in range(num_images)])
    repeated = [prompt for prompt in prompts for _ in range(num_images)]
    with run.average.active():
        _, images = draw_images(
            run.policy,
            repeated,
            noise,
            solver=settings.solver,
            num_steps=settings.num_steps,
            guidance=settings.guidance,
            batch_size=run.config.rollout.batch_size,
        )
    for index, row in enumerate(images.unflatten(0, (len(prompts), num_images))):
        strip: Image.Image = to_pil(torch.cat(list(row), 2))
        strip.save(folder / f"{index:02d}.png")
    (folder / "prompts.txt").write_text("\n".join(prompt.text for prompt in prompts) + "\n")
