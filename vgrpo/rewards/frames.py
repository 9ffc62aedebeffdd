"""What rewards see of a model's videos."""

from collections.abc import Iterable

from vgrpo.models.policy import Policy
from vgrpo.rewards.base import Reward, judges_videos


def show_to(rewards: Iterable[Reward], policy: Policy) -> None:
    """Have the model decode all frames where one of the rewards judges videos, and else the final one alone."""
    policy.all_frames = any(map(judges_videos, rewards))
