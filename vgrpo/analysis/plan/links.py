"""How fast GPUs talk to each other: published bandwidths in one direction, of one GPU.

Sources: NVIDIA's data sheets of H100 (NVLink 4, 900 GB/s in both directions) and A100 (NVLink 3, 600), PCI Express 4.0 with 16
lanes; the user guide of DGX H100 (eight ConnectX-7 of 400 Gb/s, one for each GPU); Ethernet by its name, which the GPUs of a
machine share.
"""

from typing import NamedTuple


class Link(NamedTuple):
    gigabytes: float
    """GB/s in one direction: of a GPU, or of a machine whose GPUs share it."""
    shared: bool = False


INSIDE = {"nvlink4": Link(450), "nvlink3": Link(300), "pcie4": Link(32)}
"""Between the GPUs of a machine."""
BETWEEN = {
    "infiniband": Link(50),
    "ethernet400": Link(50, shared=True),
    "ethernet100": Link(12.5, shared=True),
    "ethernet25": Link(3.125, shared=True),
}
"""Between machines; the number is Gb/s."""
SHARE = 0.7
"""Of the published bandwidth that a collective operation is assumed to reach: assumed, and not measured here."""


def speed(link: Link, gpus_of_machine: int) -> float:
    """Bytes per second that a GPU sends, as it is assumed."""
    return SHARE * link.gigabytes * 1e9 / (gpus_of_machine if link.shared else 1)
