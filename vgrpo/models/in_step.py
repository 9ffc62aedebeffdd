"""Processes that share a network's weights in step: its forwards are taken by all of them, or by none."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from vgrpo.models.policy import Policy


def idle(policy: Policy) -> Tensor:
    """v [1, *D] of a row that means nothing, by a process that has none where others have some."""
    text = policy.blank_text(1)
    blank = text.map(lambda part: torch.zeros_like(part) if part.is_floating_point() else part)  # a mask stays as it is
    x_t, t = (torch.full(shape, 0.5, device=policy.device) for shape in ((1, *policy.latent_shape), (1,)))
    return policy.velocity(x_t, t, replace(blank, empty=None))


@contextmanager
def drawing(policy: Policy) -> Iterator[None]:
    """While images are drawn, of which processes may have different numbers, or none. All must come, and nothing else that they
    do together may be inside. Alone, and with a network that is whole in every process, it does nothing."""
    spread = policy.spread
    if spread is None:
        yield
    elif spread.gather:
        with spread.gathered():
            yield
    else:
        spread.announces = True
        try:
            yield
        finally:
            spread.announces = False
        with torch.no_grad():
            while spread.others_go_on():
                idle(policy)
