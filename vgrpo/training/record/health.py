"""Signs of illness in an iteration's numbers, in words: what was seen and what usually helps."""

import math
from statistics import median
from typing import Any

from vgrpo.training.record.events import Values
from vgrpo.training.record.signs import COLLAPSED, FIRST_RATIO, SPIKE

WINDOW = 20  # iterations


class Health:
    """Fed with the lines of metrics.jsonl; says each thing when it begins, not again while it lasts."""

    def __init__(self, *, lags: bool) -> None:
        self.lags = lags  # the old weights lag behind, so that the first ratio is not 1
        self.norms: list[float] = []
        self.lasting: set[str] = set()

    def add(self, values: Values) -> list[str]:
        """What is new about this iteration."""
        found = {
            "spike": self._spike(values),
            "collapsed": self._collapsed(values),
            "ratio": self._ratio(values),
            "bad": self._bad(values),
        }
        new = [text for kind, text in found.items() if text is not None and kind not in self.lasting]
        self.lasting = {kind for kind, text in found.items() if text is not None}
        return new

    def state_dict(self) -> dict[str, Any]:
        return {"norms": list(self.norms), "lasting": sorted(self.lasting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.norms, self.lasting = list(state["norms"]), set(state["lasting"])

    def _spike(self, values: Values) -> str | None:
        norm, usual = values.get("grad_norm", math.nan), median(self.norms) if len(self.norms) >= 5 else math.nan
        if math.isfinite(norm):
            self.norms = [*self.norms, norm][-WINDOW:]
        if not norm > SPIKE * usual:
            return None
        return (
            f"the gradient's norm is {norm:.3g}, {norm / usual:.0f} times its median; a smaller update.max_grad_norm bounds it"
        )

    def _collapsed(self, values: Values) -> str | None:
        share = values.get("reward/zero_std_groups", 0.0)
        if share < COLLAPSED:
            return None
        return (
            f"in {share:.0%} of the groups all images earned the same, so they teach nothing: the prompts are too easy or too "
            "hard, the groups too small, or the reward too coarse"
        )

    def _ratio(self, values: Values) -> str | None:
        ratio = values.get("ratio/first", 1.0)
        if self.lags or abs(ratio - 1) <= FIRST_RATIO:
            return None
        return (
            f"before the first optimiser step the ratio is {ratio:.4f} and not 1: old and current answers differ although the "
            "weights are the same. Dropout in the network or a kernel that is not deterministic does that; try --precision fp32"
        )

    def _bad(self, values: Values) -> str | None:
        count = values.get("bad_steps", 0)
        return f"{count:.0f} optimiser steps were left out: the loss or the gradient was not finite" if count else None
