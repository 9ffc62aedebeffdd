"""How fast GPUs talk to each other: published bandwidths in one direction, of one GPU.

Sources: NVIDIA's data sheets of H100 (NVLink 4, 900 GB/s in both directions) and A100 (NVLink 3, 600), PCI Express 4.0 with 16
lanes; the user guide of DGX H100 (eight ConnectX-7 of 400 Gb/s, one for each GPU); Ethernet by its name, which the GPUs of a
machine share.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple

from vgrpo.support.checks import require

SHARE = 0.7
"""Of the published bandwidth that a collective operation is assumed to reach: assumed, and not measured here."""


class Link(NamedTuple):
    gigabytes: float
    """GB/s in one direction: of a GPU, or of a machine whose GPUs share it."""
    shared: bool = False
    share: float = SHARE
    """Of it that is reckoned with."""


INSIDE = {"nvlink4": Link(450), "nvlink3": Link(300), "pcie4": Link(32)}
"""Between the GPUs of a machine."""
BETWEEN = {
    "infiniband": Link(50),
    "ethernet400": Link(50, shared=True),
    "ethernet100": Link(12.5, shared=True),
    "ethernet25": Link(3.125, shared=True),
}
"""Between machines; the number is Gb/s."""


def link_of(option: str, text: str, known: Mapping[str, Link]) -> Link:
    """One of `known` by its name, or GB/s that each GPU was measured to send. Raises ValueError for anything else."""
    if text in known:
        return known[text]
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = 0.0
    require(
        math.isfinite(gigabytes) and gigabytes > 0,
        f"{option} {text}: must be one of {', '.join(known)}, or GB/s that each GPU sends, e.g. 0.5",
    )
    return Link(gigabytes, share=1.0)


def named(text: str, link: Link) -> str:
    """As a plan's line says it."""
    return text if link.share == SHARE else f"{link.gigabytes:g} GB/s"


def speed(link: Link, gpus_of_machine: int) -> float:
    """Bytes per second that a GPU sends, as it is assumed."""
    return link.share * link.gigabytes * 1e9 / (gpus_of_machine if link.shared else 1)
