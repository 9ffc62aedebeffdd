"""Reward models that are on the GPU only while they judge."""

from threading import Lock
from typing import Any

import torch
from torch import Tensor, nn

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Reward
from vgrpo.rewards.calls import NoAnswer, keep_name


def visiting(reward: Reward) -> Reward:
    """The same reward, whose networks wait in the CPU's memory and come to the reward's device for each call. One without
    networks among its fields, or on the CPU, stays as it is."""
    networks = [part for part in getattr(reward, "__dict__", {}).values() if isinstance(part, nn.Module)]
    where: torch.device | str | None = getattr(reward, "device", None)
    if not networks or where is None or torch.device(where).type == "cpu":
        return reward
    device = torch.device(where)
    _move(networks, torch.device("cpu"))
    busy = Lock()

    def judge(images: Tensor, prompts: list[Prompt]) -> Any:
        if not busy.acquire(blocking=False):  # a call that was late goes on in a thread, and would move them at its end
            raise NoAnswer("its networks are still busy with an earlier call, which was late")
        try:
            _move(networks, device)
            return reward(images, prompts)
        finally:
            _move(networks, torch.device("cpu"))
            busy.release()

    return keep_name(judge, reward)


def _move(networks: list[nn.Module], device: torch.device) -> None:
    for network in networks:
        network.to(device)
