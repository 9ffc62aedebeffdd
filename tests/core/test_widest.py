"""Numbers for devices that have no fp64."""

import torch

from vgrpo.core.widest import widest


def test_fp64_but_on_apples_gpus():
    assert widest(torch.device("cpu")) == widest(torch.device("cuda", 1)) == torch.float64
    assert widest(torch.device("mps")) == torch.float32
