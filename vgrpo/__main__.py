import sys
from pathlib import Path

if not sys.flags.safe_path and Path(sys.path[0]) == Path.cwd():
    del sys.path[0]  # `python -m` puts the current folder first: a torch.py here must not become torch

from vgrpo.commands.main import main

raise SystemExit(main())
