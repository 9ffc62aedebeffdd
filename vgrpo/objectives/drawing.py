"""What an algorithm asks of the way its rollouts are drawn."""

from collections.abc import Callable
from dataclasses import dataclass

from vgrpo.core.sde import StepSampler
from vgrpo.support.checks import require


class Drawing:
    """Nothing: any solver will do, and every image starts from noise of its own."""

    def check(self, *, group_size: int, num_steps: int, batch_size: int | None) -> None:
        """Raise ValueError for a form of rollout that the algorithm cannot use. Called when a `Config` is made."""
        return

    def initial_noise(self, member: int) -> int:
        """From which of its group's noises an image starts."""
        return member

    def step_sampler(self, iteration: int, *seed: int | str) -> StepSampler | None:
        """The stochastic sampler of an iteration, in place of the run's solver; None leaves it at that. `seed` names what is
        random about it."""
        return None


@dataclass(frozen=True, kw_only=True)
class StepDrawing(Drawing):
    """Stochastic steps that are kept to be trained on."""

    sampler: Callable[..., StepSampler]
    """What `step_sampler` returns, from its arguments."""
    images_per_noise: int | None = 1
    """So many neighbours start from the same noise; None is the whole group."""

    def check(self, *, group_size: int, num_steps: int, batch_size: int | None) -> None:
        require(
            num_steps >= 2, f"rollout.num_steps={num_steps}: the last step adds no noise, so at least 2 leave one to train on"
        )

    def initial_noise(self, member: int) -> int:
        return 0 if self.images_per_noise is None else member // self.images_per_noise

    def step_sampler(self, iteration: int, *seed: int | str) -> StepSampler:
        return self.sampler(iteration, *seed)
