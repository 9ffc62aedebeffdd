"""The settings of an evaluation."""

from dataclasses import dataclass
from typing import ClassVar

from vgrpo.sampling.settings import Sampling
from vgrpo.support.checks import require, require_within

MOST_PICTURES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EvalConfig(Sampling):
    """The held-out evaluation before and after training, and the sample pictures in between."""

    section: ClassVar[str] = "eval."

    num_prompts: int = 256
    """Held-out prompts; 0 skips the evaluation."""
    num_images: int = 4
    """Images per prompt."""
    num_sample_prompts: int = 14
    """Prompts in the before/after grid."""
    sample_every: int = 20
    """Iterations between pictures under samples/."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.num_prompts >= 0, f"eval.num_prompts={self.num_prompts}: must not be negative; 0 skips the evaluation")
        require(self.num_images >= 1, f"eval.num_images={self.num_images}: at least 1 image per prompt")
        require(self.num_sample_prompts >= 1, f"eval.num_sample_prompts={self.num_sample_prompts}: at least 1")
        require(self.sample_every >= 1, f"eval.sample_every={self.sample_every}: at least 1 iteration between pictures")
        require_within(self, "eval.", num_prompts=(0, 100_000), num_images=(1, 10_000), num_sample_prompts=(1, 1000))
        total = self.num_prompts * self.num_images
        require(
            total <= MOST_PICTURES, f"eval.num_prompts times eval.num_images is {total:,}: at most {MOST_PICTURES:,} images"
        )
