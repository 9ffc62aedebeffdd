"""The settings of `vgrpo serve-reward`."""

from dataclasses import dataclass

from vgrpo.support.checks import require
from vgrpo.support.http.settings import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class ServeConfig(ServiceConfig):
    """Serve a reward to training runs."""

    device: str = "auto"
    """Where the reward's models compute: cuda:1, cpu; auto is cuda where there is one."""
    max_images: int = 4096
    """Of a request, at most."""
    max_pixels: int = 2**22
    """Of an image, at most, width times height."""
    score_seconds: float | None = None
    """For the reward to answer; None waits for ever."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("max_images", "max_pixels"):
            value = getattr(self, name)
            require(1 <= value < 2**31, f"{name}={value}: must be at least 1")
        require(self.score_seconds is None or self.score_seconds > 0, f"score_seconds={self.score_seconds}: must be above 0")
