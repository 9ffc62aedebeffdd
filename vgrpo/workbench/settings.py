"""The settings of the workbench."""

import os
from dataclasses import dataclass
from pathlib import Path

from vgrpo.support.checks import require


def default_cache() -> Path:
    """Where a user's programs keep what they can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vgrpo" / "workbench"


@dataclass(frozen=True, kw_only=True)
class UiConfig:
    """How the page is served."""

    port: int = 0
    """On this machine's own address 127.0.0.1; 0 takes a free one."""
    browser: bool = True
    """Open the page in a browser."""
    cache_dir: Path | None = None
    """Where the index and sheets of thumbnails are kept; None is vgrpo/workbench in the user's cache folder."""

    while_pid: int | None = None
    """Serve as long as the process with this number lives; None is until Ctrl-C."""

    def __post_init__(self) -> None:
        pid = self.while_pid
        require(pid is None or 1 <= pid < 2**22, f"--while-pid {pid}: must be the number of a process, 1 to {2**22 - 1}")
        require(0 <= self.port <= 65535, f"--port {self.port}: must lie in 0 to 65535; 0 takes a free one")
