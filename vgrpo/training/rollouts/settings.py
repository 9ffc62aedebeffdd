"""The settings of a rollout."""

from dataclasses import dataclass
from typing import ClassVar

from vgrpo.sampling.settings import OwnSampling
from vgrpo.support.checks import require, require_within

MOST_IMAGES = 100_000  # of an iteration


@dataclass(frozen=True, kw_only=True)
class RolloutConfig(OwnSampling):
    """How images are drawn for training."""

    section: ClassVar[str] = "rollout."

    num_prompts: int = 16
    """Prompts per iteration."""
    group_size: int = 16
    """Images per prompt."""
    lag: int = 0
    """With 1 the images of the next iteration are drawn and judged while the model is trained, by weights that are one
    iteration older; the ratio corrects for that. 0 waits."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_prompts >= 1, f"rollout.num_prompts={self.num_prompts}: at least 1 prompt per iteration")
        require(
            self.group_size >= 2,
            f"rollout.group_size={self.group_size}: an image is judged against others of its prompt, so a group needs "
            "at least 2; 12 to 24 is usual",
        )
        require(self.lag in (0, 1), f"rollout.lag={self.lag}: images are drawn for this iteration, 0, or for the next, 1")
        require_within(self, "rollout.", num_prompts=(1, 10_000), group_size=(2, 10_000))
        total = self.num_prompts * self.group_size
        require(
            total <= MOST_IMAGES, f"rollout.num_prompts times rollout.group_size is {total:,}: at most {MOST_IMAGES:,} images"
        )
