"""The settings of `vgrpo serve-reward`."""

from dataclasses import dataclass

from vgrpo.support.checks import require
from vgrpo.support.http.settings import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class ServeConfig(ServiceConfig):
    """Serve a reward to training runs."""

    device: str = "auto"
    """Where the reward's models compute: cuda:1, cpu; auto is cuda where there is one."""
    max_pixels: int = 2**22
    """Of an image, at most, width times height."""
    score_seconds: float | None = None
    """For the reward to answer; None waits for ever."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(1 <= self.max_pixels < 2**31, f"max_pixels={self.max_pixels}: must be at least 1")
        require(self.score_seconds is None or self.score_seconds > 0, f"score_seconds={self.score_seconds}: must be above 0")
