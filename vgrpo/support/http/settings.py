"""The settings that every service has."""

from dataclasses import dataclass

from vgrpo.support.checks import require, require_finite


@dataclass(frozen=True, kw_only=True)
class ServiceConfig:
    """Where a service listens, and what it lets in."""

    host: str = "127.0.0.1"
    """This machine alone. 0.0.0.0 lets other machines in, which must know VGRPO_TOKEN."""
    port: int = 8100
    allow_host: tuple[str, ...] = ()
    """Other names by which clients may call this server."""
    megabytes: int = 512
    """Of a request, at most."""
    max_images: int = 4096
    """Of a request, at most."""
    read_seconds: float = 60.0
    """For a request to arrive."""

    def __post_init__(self) -> None:
        require_finite(self)
        require(bool(self.host.strip()), f"--host {self.host!r}: name this machine's address, such as 127.0.0.1")
        require(0 <= self.port < 2**16, f"--port {self.port}: must lie in 0 to 65535; 0 takes any that is free")
        for name in ("megabytes", "max_images"):
            value = getattr(self, name)
            require(1 <= value < 2**31, f"{name}={value}: must be at least 1")
        require(0 < self.read_seconds < 1e6, f"read_seconds={self.read_seconds}: must be above 0")
