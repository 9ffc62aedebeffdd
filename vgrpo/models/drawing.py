"""A network as it draws pictures: no gradient is needed, so it does less than in training."""

from collections.abc import Iterator
from contextlib import contextmanager

from vgrpo.models.policy import Policy
from vgrpo.models.weight_sets import can_merge, merged


@contextmanager
def for_drawing(policy: Policy) -> Iterator[None]:
    """Adapters are merged into their layers. A network that is then bf16 throughout needs no mixed precision: it computes as
    in its own pipeline, without a conversion at every norm and every adapter."""
    autocast = policy.autocast
    with merged(policy.module):
        if autocast == policy.dtype and can_merge(policy.module):
            policy.autocast = None
        try:
            yield
        finally:
            policy.autocast = autocast
