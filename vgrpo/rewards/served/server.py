"""A reward in a process of its own: `vgrpo serve-reward NAME`, for training runs that ask by `--reward remote=http://HOST:PORT`."""

from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any

import torch
from torch import Tensor

from vgrpo.core.types import Prompt
from vgrpo.rewards.base import Reward, RewardError, judge_images
from vgrpo.rewards.calls import name_of
from vgrpo.rewards.registry import load_reward
from vgrpo.rewards.served.settings import ServeConfig
from vgrpo.rewards.served.wire import Limits, unpack
from vgrpo.support.http.server import Answer, Service
from vgrpo.support.version import VERSION


class RewardServer(Service):
    """Loads a reward and answers for it, one batch at a time.

    Raises ValueError or FileNotFoundError as `load_reward`, and what `Service` raises.
    """

    def __init__(self, name: str, config: ServeConfig) -> None:
        super().__init__(config)
        self.name, self.seconds, self.scoring = name, config.score_seconds, Lock()
        self.limits = Limits(images=config.max_images, pixels=config.max_pixels)
        with self.opened():
            self.reward: Reward = load_reward(name, config.device)

    def answer(self, path: str, body: bytearray) -> Answer:
        with TemporaryDirectory() as folder:  # of source pictures
            return Answer.json(self.scores(*unpack(body, self.limits, Path(folder))))

    def greeting(self) -> dict[str, Any]:
        """What a client must know: servers of one reward must be alike, and some rewards judge a prompt's images together."""
        groups = bool(getattr(self.reward, "judges_groups", False))
        return {"reward": self.name, "called": name_of(self.reward), "version": VERSION, "judges_groups": groups}

    def scores(self, images: Tensor, prompts: list[Prompt]) -> dict[str, Any]:
        """What a request is answered with; if the reward failed on all its images, also why."""
        with self.scoring, torch.no_grad():  # one batch at a time on the reward's device
            try:
                found = judge_images(self.reward, images, prompts, timeout=self.seconds, notice=_ignore)
            except RewardError as error:
                return {"scores": [None] * len(images), "abstained": [], "error": str(error)}
        values, silent = found.values.tolist(), found.values.isnan() & ~found.failed
        return {
            "scores": [None if value != value else value for value in values],
            "abstained": silent.nonzero().flatten().tolist(),
        }


def make_server(name: str, config: ServeConfig) -> RewardServer:
    """A server that has loaded the reward and waits."""
    return RewardServer(name, config)


def _ignore(text: str) -> None:
    """The client sees which scores are missing."""
