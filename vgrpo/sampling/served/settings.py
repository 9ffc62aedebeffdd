"""The settings of `vgrpo serve-rollout`."""

from dataclasses import dataclass

from vgrpo.models.settings import ModelSettings
from vgrpo.support.http.settings import ServiceConfig


@dataclass(frozen=True, kw_only=True)
class ServeRolloutConfig(ServiceConfig, ModelSettings):
    """Draw images for training runs. The model's settings must be those of the run."""

    port: int = 8200
    megabytes: int = 2048
    """Of a request, at most: the weights of an adapter are one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check()
