"""The terminal as every command writes to it: names and paths as they are, whatever brackets and colons they hold."""

from __future__ import annotations

from rich.console import Console


def plain_console(*, stderr: bool = False) -> Console:
    """Writes to stdout or stderr, with no markup in its text."""
    return Console(stderr=stderr, highlight=False, markup=False, emoji=False)
