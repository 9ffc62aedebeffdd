"""Confidence intervals by the bootstrap over prompts, whose images are not independent of each other.

Prompts are resampled inside each category, as the categories themselves are fixed. The resamples of a category are named by it,
so those of base and tuned weights hold the same prompts, and the difference of two estimates is a paired one.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vgrpo.core.seeds import generator
from vgrpo.evaluation.pictures import Picture, rows_by_tag

NUM_RESAMPLES = 1000
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A mean and what it is in each resample [NUM_RESAMPLES], NaN where there are too few prompts to resample."""

    mean: float
    resamples: Tensor

    def __sub__(self, other: "Estimate") -> "Estimate":
        return Estimate(self.mean - other.mean, self.resamples - other.resamples)

    def entry(self) -> dict[str, float | None]:
        """The mean and the percentile interval for eval.json; None where there is none."""
        ends = torch.tensor([(1 - LEVEL) / 2, (1 + LEVEL) / 2], dtype=torch.float64)
        low, high = self.resamples.quantile(ends).tolist()
        values = {"mean": self.mean, "low": low, "high": high}
        return {name: None if value != value else round(value, 6) for name, value in values.items()}


def estimates(values: Tensor, pictures: list[Picture]) -> dict[str, Estimate]:
    """By category, from one value per image [B]; NaN is a value that failed and is left out."""
    found = rows_by_tag(pictures)
    return {tag: _estimate(values[rows], [pictures[row].index for row in rows], tag) for tag, rows in found.items()}


def over_categories(parts: dict[str, Estimate]) -> Estimate:
    """The mean over the categories that have a value; NaN if none has one."""
    parts = {tag: part for tag, part in parts.items() if part.mean == part.mean} or parts
    means = [part.mean for part in parts.values()]
    return Estimate(sum(means) / len(means), torch.stack([part.resamples for part in parts.values()]).mean(0))


def _estimate(values: Tensor, prompts: list[int], tag: str) -> Estimate:
    """From values [B] and the prompt that each belongs to."""
    values = values.double()
    prompt = torch.tensor(prompts).unique(return_inverse=True)[1]
    num_prompts = int(prompt.max()) + 1
    sums = values.new_zeros(num_prompts).index_add(0, prompt, values.nan_to_num(0.0))
    counts = values.new_zeros(num_prompts).index_add(0, prompt, (~values.isnan()).double())
    mean = float(sums.sum() / counts.sum())
    if num_prompts < 2:
        return Estimate(mean, values.new_full((NUM_RESAMPLES,), torch.nan))
    drawn = torch.randint(num_prompts, (NUM_RESAMPLES, num_prompts), generator=generator("bootstrap", tag))
    return Estimate(mean, sums[drawn].sum(1) / counts[drawn].sum(1))
