"""`vgrpo train --ui`: the workbench's page, served by a process beside the training."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from vgrpo.training.record.events import Event, RunStarted

STDERR = 2
"""Where the page's address is printed: stdout may be for a program that reads --json."""
SECONDS = 10.0
"""In which the page has to end."""


class PageBeside:
    """Serves a run's folder, or that of its curriculum, from the run's start to its end."""

    def __init__(self, folder: Path | None = None) -> None:
        """Without a `folder` it is the run's own. Raises ValueError if what the page needs is not installed."""
        missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
        if missing:
            raise ValueError(f'--ui needs {" and ".join(missing)}; pip install "vgrpo[ui]", or leave it out')
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, RunStarted) and self.process is None:
            place, pid = str(self.folder or event.folder), str(os.getpid())
            command = [sys.executable, "-m", "vgrpo", "ui", place, "--while-pid", pid]
            # In a group of its own: Ctrl-C in the terminal stops the training, whose end is then still on the page.
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=STDERR, start_new_session=True)

    def close(self) -> None:
        if self.process is None:
            return
        self.process.terminate()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
