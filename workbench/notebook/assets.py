"""What the page gets: scripts and style sheets that lie beside the Python files."""

from __future__ import annotations

from pathlib import Path


def asset(*names: str) -> str:
    """The text of the files, one after the other.

    The text, not the path: anywidget would watch a path with a thread of its own.
    """
    return "\n".join(Path(__file__).with_name(name).read_text(encoding="utf-8") for name in names)
