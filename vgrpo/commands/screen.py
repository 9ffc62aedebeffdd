"""The terminal: the one console of all commands."""

from typing import Any

from rich.console import Console as Console
from rich.console import ConsoleOptions as ConsoleOptions
from rich.console import RenderResult as RenderResult


class Screen(Console):
    """Prints a user's text as it is: `[red]` and `:heart:` in a prompt or a path are neither a style nor a picture."""

    def __init__(self, **options: Any) -> None:
        """`options` are rich's own, such as `record=True`."""
        super().__init__(highlight=False, soft_wrap=True, markup=False, emoji=False, **options)

    def on_broken_pipe(self) -> None:
        """Leave it to `main`; rich would end the process with status 1."""
        raise BrokenPipeError
