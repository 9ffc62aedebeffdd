"""What a run has come to: scores on fixed prompts, how varied its images are and how far from the base model's."""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from vgrpo.evaluation.core import mean_over_tags
from vgrpo.evaluation.pictures import pictures_of, prompts_of
from vgrpo.prompts.sources import evaluation_prompts, training_prompts
from vgrpo.rewards.base import Reward
from vgrpo.rewards.registry import load_reward
from vgrpo.sampling.draw import all_noise, draw_images
from vgrpo.training.run import Run
from vgrpo.worlds.registry import find_world

TRAINING_SEED = 12345  # of the prompts that tuning is judged by; no run trains with it


class Exam:
    """The same prompts and noise for every evaluation: scores, how varied a prompt's images are, how far from the base's."""

    def __init__(self, prompts: str, num_prompts: int, num_images: int, held_out: bool) -> None:
        """`prompts` names a world, whose first reward stands beside its strict score. Raises ValueError for any other name."""
        found = find_world(prompts)
        if found is None:
            raise ValueError(f"prompts {prompts}: a race needs a world's, whose verifier judges the methods")
        self.world, self.reward = found[0], load_reward(found[0].rewards[0])
        chosen = (
            evaluation_prompts(prompts, num_prompts)
            if held_out
            else training_prompts(prompts, seed=TRAINING_SEED)(0, num_prompts)
        )
        self.pictures, self.num_images = pictures_of(chosen, num_images), num_images
        self.base: tuple[Tensor, Tensor] | None = None  # latents and images

    def _draw(self, run: Run) -> tuple[Tensor, Tensor]:
        """Latents and images."""
        noise = all_noise(run.policy, [("bench", picture.index, picture.member) for picture in self.pictures])
        return draw_images(run.policy, prompts_of(self.pictures), noise, run.config.eval.known)

    def __call__(self, run: Run) -> dict[str, float]:
        if self.base is None:
            network: Any = run.policy.module
            network.disable_adapters()
            self.base = self._draw(run)
            network.enable_adapters()
        if run.iteration == 0:  # fresh adapters change nothing, so every lane's first score is the base's
            return self._scores(run, *self.base, self.base[0])
        with run.average.active():
            latents, images = self._draw(run)
        return self._scores(run, latents, images, self.base[0])

    def _scores(self, run: Run, latents: Tensor, images: Tensor, base: Tensor) -> dict[str, float]:
        prompts = prompts_of(self.pictures)
        judges: dict[str, Reward] = {"strict": self.world.strict, "reward": self.reward}
        if run.config.reward != (self.world.rewards[0],):
            judges["trained"] = run.task.panel.rewards[0]
        scores = torch.stack([judge(images, prompts) for judge in judges.values()], 1)
        spread = latents.unflatten(0, (-1, self.num_images)).flatten(2).std(1).mean().item() if self.num_images > 1 else 0.0
        drift = (latents - base).square().mean().sqrt().item()
        return dict(zip(judges, mean_over_tags(scores, self.pictures), strict=True)) | {"diversity": spread, "drift": drift}


@cache
def exam_of(prompts: str, num_prompts: int, num_images: int, held_out: bool) -> Exam:
    """An exam, once for all lanes of a process: the base model takes it once."""
    return Exam(prompts, num_prompts, num_images, held_out)
