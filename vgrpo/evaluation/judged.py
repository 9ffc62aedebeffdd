"""What pictures scored."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What B pictures scored."""

    rewards: Tensor  # [B, R], NaN where a reward failed or abstained
    failed: Tensor  # [B, R] bool, where it failed
    strict: Tensor | None = None  # [B], the world's 0 or 1; None where the prompts or the rewards are of no world
