"""Tables in the terminal: prose wraps at words; names, figures and paths stay whole, each one string to copy."""

from __future__ import annotations

import sys
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from rich.console import Console

GAP = "  "
NARROWEST = 24
"""Width that prose keeps, however little room there is."""


def print_table(
    console: Console,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Path]],
    prose: Collection[str] = (),
) -> None:
    """Aligned columns below their names.

    prose: names of the columns whose text wraps at words where the terminal is too narrow; a path never does. A line
    that is too long all the same runs on, and outside a terminal each row is one line.
    """
    room = console.width if console.is_terminal else sys.maxsize
    head, body = table_lines(columns, rows, prose, room)
    console.print(head, style="dim", soft_wrap=True)
    for line in body:
        console.print(line, soft_wrap=True)


def table_lines(
    columns: Sequence[str], rows: Sequence[Sequence[str | Path]], prose: Collection[str], room: int
) -> tuple[str, list[str]]:
    """(the line of names, the others). room: width that they should fit into where prose can give way."""
    wrapping = [number for number, name in enumerate(columns) if name in prose]
    widths = [max(cell_len(str(cell)) for cell in cells) for cells in zip(columns, *rows, strict=True)]
    spare = room - len(GAP) * (len(columns) - 1) - sum(widths) + sum(widths[number] for number in wrapping)
    # the narrow ones first: what they leave goes to the wide
    for left, number in zip(range(len(wrapping), 0, -1), sorted(wrapping, key=widths.__getitem__), strict=True):
        widths[number] = min(widths[number], max(NARROWEST, spare // left))
        spare -= widths[number]
    body = []
    for row in rows:
        cells = [
            _wrapped(cell, widths[number]) if number in wrapping and isinstance(cell, str) else [str(cell)]
            for number, cell in enumerate(row)
        ]
        body += [_line(parts, widths) for parts in zip_longest(*cells, fillvalue="")]
    return _line(columns, widths), body


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (cell + " " * (width - cell_len(cell)) for cell, width in zip(cells, widths, strict=True))
    return GAP.join(padded).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    """Lines of at most `width` where words allow it; a longer word stays whole."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if lines[-1] and cell_len(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
