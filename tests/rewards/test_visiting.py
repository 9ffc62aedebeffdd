"""Reward models that come to the GPU for a call and leave again, with torch's meta device in the GPU's place."""

import threading
import time

import pytest
import torch

from vgrpo.rewards.base import judges
from vgrpo.rewards.calls import NoAnswer, limited, name_of
from vgrpo.rewards.visiting import visiting


class Bright:
    """A reward with a network, as those of rewards/preference are made."""

    __name__ = "bright"

    def __init__(self, device):
        self.device = torch.device(device)
        self.network = torch.nn.Linear(1, 1)
        self.seen = []

    def judges(self, prompt):
        return prompt == "light"

    def __call__(self, images, prompts):
        self.seen.append(self.network.weight.device.type)
        if len(images) > 1:
            raise ValueError("too many")
        return images.mean((1, 2, 3))


def test_a_network_is_on_its_device_only_while_it_judges(monkeypatch):
    reward = Bright("meta")
    moves = []
    monkeypatch.setattr(reward.network, "to", lambda device: moves.append(device.type))
    guest = visiting(reward)
    assert moves == ["cpu"]
    assert guest(torch.ones(1, 3, 2, 2), ["light"]).tolist() == [1.0]
    assert moves == ["cpu", "meta", "cpu"]
    with pytest.raises(ValueError, match="too many"):
        guest(torch.ones(2, 3, 2, 2), ["light"] * 2)
    assert moves[-1] == "cpu"


def test_it_keeps_its_name_and_its_rule():
    guest = limited(visiting(Bright("meta")), 5.0)
    assert name_of(guest) == "bright"
    assert judges(guest, "light")
    assert not judges(guest, "dark")


def test_what_has_no_network_or_is_on_the_cpu_stays_as_it_is():
    for reward in (Bright("cpu"), lambda images, prompts: images.mean((1, 2, 3))):
        assert visiting(reward) is reward


def test_a_late_call_keeps_its_networks_where_it_needs_them(monkeypatch):
    go, moves = threading.Event(), []

    class Slow(Bright):
        def __call__(self, images, prompts):
            go.wait(10)
            return images.mean((1, 2, 3))

    reward = Slow("meta")
    monkeypatch.setattr(reward.network, "to", lambda device: moves.append(device.type))
    guest, image = limited(visiting(reward), 0.05), (torch.ones(1, 3, 2, 2), ["light"])
    with pytest.raises(NoAnswer, match="no answer within"):
        guest(*image)
    with pytest.raises(NoAnswer, match="still busy with an earlier call"):
        guest(*image)
    assert moves == ["cpu", "meta"]
    go.set()
    end = time.monotonic() + 10
    while moves[-1] != "cpu" and time.monotonic() < end:
        time.sleep(0.01)
    assert moves == ["cpu", "meta", "cpu"]
    assert limited(visiting(reward), 5.0)(*image).tolist() == [1.0]
