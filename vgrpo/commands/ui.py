"""`vgrpo ui`: a local page over the folders of runs."""

from pathlib import Path

from vgrpo.commands.options import parse, take_name
from vgrpo.workbench.settings import UiConfig

DESCRIPTION = (
    "Look at runs in a browser, also while they go on: pictures, groups, curves, what the numbers say, and blind comparisons. "
    "RUNS_DIR is a run's folder or one that runs lie in; runs/ by default. The page is served on this machine alone, at an "
    "address with a token in it."
)


def run(words: list[str]) -> None:
    words, folder = take_name(words, "runs")
    config: UiConfig = parse(UiConfig, words, prog="vgrpo ui [RUNS_DIR]", description=DESCRIPTION)
    try:
        from vgrpo.workbench.server import serve
    except ImportError as error:
        raise ValueError(f'the page needs {error.name}, which is not installed; pip install "vgrpo[ui]"') from error
    serve(Path(folder), config, say=lambda text: print(text, flush=True))
