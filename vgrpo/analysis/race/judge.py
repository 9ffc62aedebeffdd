"""What a run has come to: scores on fixed prompts, how varied its images are and how far from the base model's."""

from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.prompts.sources import evaluation_prompts, training_prompts
from vgrpo.sampling.draw import draw_images, named_noise
from vgrpo.training.run import Run
from vgrpo.worlds.sprites.verifier import score

TRAINING_SEED = 12345  # of the prompts that tuning is judged by; no run trains with it


class Judge:
    """The same prompts and noise for every evaluation: scores, how varied a prompt's images are, how far from the base's."""

    def __init__(self, num_prompts: int, num_images: int, held_out: bool) -> None:
        if held_out:
            self.prompts = evaluation_prompts("sprites", num_prompts)
        else:
            self.prompts = training_prompts("sprites", seed=TRAINING_SEED)(0, num_prompts)
        self.num_images = num_images
        self.base: Tensor | None = None

    def _draw(self, run: Run) -> tuple[list[Prompt], Tensor, Tensor]:
        jobs: list[tuple[Prompt, int, int]] = [(p, i, m) for i, p in enumerate(self.prompts) for m in range(self.num_images)]
        noise = torch.stack([named_noise(run.policy, "bench", index, member) for _, index, member in jobs])
        prompts = [prompt for prompt, _, _ in jobs]
        latents, images = draw_images(run.policy, prompts, noise, run.config.eval)
        return prompts, latents, images

    def __call__(self, run: Run) -> dict[str, float]:
        if self.base is None:
            network: Any = run.policy.module
            network.disable_adapters()
            self.base = self._draw(run)[1]
            network.enable_adapters()
        with run.average.active():
            prompts, latents, images = self._draw(run)
        scores = score(images, prompts)
        tags = [str(prompt.metadata["tag"]) for prompt in prompts]
        spread = latents.unflatten(0, (-1, self.num_images)).flatten(2).std(1).mean().item() if self.num_images > 1 else 0.0
        return {
            "strict": _mean_over_tags(scores.strict, tags),
            "reward": _mean_over_tags(scores.reward, tags),
            "diversity": spread,
            "drift": (latents - self.base).square().mean().sqrt().item(),
        }


def _mean_over_tags(values: Tensor, tags: list[str]) -> float:
    means = [values[[t == tag for t in tags]].mean().item() for tag in dict.fromkeys(tags)]
    return sum(means) / len(means)
