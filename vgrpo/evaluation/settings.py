"""The settings of an evaluation."""

from dataclasses import dataclass
from typing import ClassVar

from vgrpo.sampling.settings import OwnSampling
from vgrpo.support.checks import require, require_within

MOST_PICTURES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class EvalConfig(OwnSampling):
    """The held-out evaluation before, after and perhaps during training, and the sample pictures."""

    section: ClassVar[str] = "eval."

    num_prompts: int = 256
    """Held-out prompts; 0 skips the evaluation."""
    num_images: int = 4
    """Images per prompt."""
    num_sample_prompts: int = 14
    """Prompts in the before/after grid."""
    sample_every: int = 20
    """Iterations between pictures under samples/."""
    every: int = 0
    """Iterations between evaluations on the way, of which the best weights are kept; 0 for none."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self)
        require(self.num_sample_prompts >= 1, f"eval.num_sample_prompts={self.num_sample_prompts}: at least 1")
        require(self.sample_every >= 1, f"eval.sample_every={self.sample_every}: at least 1 iteration between pictures")
        require(
            not self.every or self.num_prompts > 0,
            f"eval.every={self.every}: eval.num_prompts=0 leaves nothing to evaluate on; give some, or leave eval.every out",
        )
        require_within(self, "eval.", num_sample_prompts=(1, 1000), every=(0, 10**6))


@dataclass(frozen=True, kw_only=True)
class EvalOptions(OwnSampling):
    """An evaluation of a model that no run says how to draw with."""

    section: ClassVar[str] = "eval."

    num_prompts: int = 256
    """Held-out prompts."""
    num_images: int = 4
    """Images per prompt."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self)


def _check_counts(settings: EvalConfig | EvalOptions) -> None:
    prompts, images = settings.num_prompts, settings.num_images
    require(prompts >= 0, f"eval.num_prompts={prompts}: must not be negative; 0 skips the evaluation")
    require(images >= 1, f"eval.num_images={images}: at least 1 image per prompt")
    require_within(settings, "eval.", num_prompts=(0, 100_000), num_images=(1, 10_000))
    total = prompts * images
    require(total <= MOST_PICTURES, f"eval.num_prompts times eval.num_images is {total:,}: at most {MOST_PICTURES:,} images")
