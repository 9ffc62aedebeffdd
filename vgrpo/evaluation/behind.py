"""Batches of pictures that are judged while the next is drawn."""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from typing import NamedTuple

from torch import Tensor

from vgrpo.evaluation.judged import Judged
from vgrpo.evaluation.pictures import Picture, draw, prompts_of
from vgrpo.models.policy import Policy
from vgrpo.rewards.judging import Judging
from vgrpo.rewards.lanes import Lane
from vgrpo.rewards.panel import Panel
from vgrpo.sampling.draw import Between, nothing
from vgrpo.sampling.settings import Sampling
from vgrpo.worlds.base import World


class JudgedBatch(NamedTuple):
    """Pictures that are drawn and judged."""

    pictures: list[Picture]
    images: Tensor  # [B, 3, H, W]
    judged: Judged


class _Drawn(NamedTuple):
    """Pictures that are drawn, and may not be judged yet."""

    pictures: list[Picture]
    images: Tensor
    judging: Judging


def judge_batches(
    policy: Policy,
    batches: Iterable[list[Picture]],
    panel: Panel,
    settings: Sampling,
    world: World | None = None,
    between: Between = nothing,
    *,
    size: int | None = None,
) -> Iterator[JudgedBatch]:
    """Each batch in turn, after the next one is drawn. Every call of a reward has `size` pictures, or all of a batch.

    Raises RewardError where a reward fails on all pictures of a batch.
    """
    before: _Drawn | None = None
    with Lane(1) as lane, ExitStack() as begun:
        for pictures in batches:
            judging = begun.enter_context(panel.judging(size=size, device=policy.device, lane=lane))
            images = draw(policy, pictures, settings, between, judging.add)
            judging.flush()
            last, before = before, _Drawn(pictures, images, judging)
            if last is not None:
                yield _finished(last, panel, world)
        if before is not None:
            yield _finished(before, panel, world)


def _finished(drawn: _Drawn, panel: Panel, world: World | None) -> JudgedBatch:
    prompts = prompts_of(drawn.pictures)
    scores = panel.scores(drawn.judging, prompts)
    drawn.judging.close()
    strict = world.strict(drawn.images, prompts) if world else None
    return JudgedBatch(drawn.pictures, drawn.images, Judged(rewards=scores.values, failed=scores.failed, strict=strict))
