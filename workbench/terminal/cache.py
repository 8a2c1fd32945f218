"""`imagen-workbench cache`: what is kept on the drive, and how it is cleared away."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ...core.data.entries import cache_home, clear, entries
from .console import plain_console
from .table import print_table

if TYPE_CHECKING:
    import argparse

    from ...core.data.entries import Entry


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser(
        "cache", help="show what is kept: decoded images, encoded texts, classifiers; or clear it"
    )
    command.add_argument(
        "--clear",
        metavar="NAME",
        nargs="*",
        help="remove the entries of a source (of `classifier`, the classifiers) or with an id; all where none is named",
    )
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(work=_cache)


def _cache(options: argparse.Namespace) -> int:
    cleared = options.clear is not None
    found = clear(options.clear) if cleared else entries()
    total = sum(entry.size for entry in found)
    if options.json:
        facts = {"folder": str(cache_home()), "removed" if cleared else "entries": [_facts(entry) for entry in found]}
        sys.stdout.write(json.dumps(facts | {"bytes": total}, ensure_ascii=False, indent=2) + "\n")
        return 0
    console = plain_console()
    if cleared:
        entry = "entry" if len(found) == 1 else "entries"
        console.print(f"Removed {len(found):,} {entry}, {_megabytes(total)}, from {cache_home()}", soft_wrap=True)
        return 0
    if found:
        rows = [_row(entry) for entry in found]
        print_table(console, ("id", "source", "images", "size", "last used", "from"), rows)
    console.print(f"{_megabytes(total)} in {cache_home()}", soft_wrap=True)
    return 0


def _row(entry: Entry) -> tuple[str, ...]:
    if entry.images is None:
        return entry.id, "not whole", "", _megabytes(entry.size), _when(entry), ""
    images = f"{entry.images:,}"
    if entry.shape:
        channels, height, width = entry.shape
        images += f" of {height} × {width} × {channels}"
    return entry.id, entry.source, images, _megabytes(entry.size), _when(entry), entry.path


def _facts(entry: Entry) -> dict[str, Any]:
    """One of --json."""
    return {
        "id": entry.id,
        "source": entry.source,
        "path": entry.path,
        "images": entry.images,
        "shape": list(entry.shape),
        "bytes": entry.size,
        "last_used": datetime.fromtimestamp(entry.last_used, UTC).isoformat(timespec="seconds"),
    }


def _megabytes(size: int) -> str:
    return f"{size / (1 << 20):,.1f} MB"


def _when(entry: Entry) -> str:
    return datetime.fromtimestamp(entry.last_used).astimezone().strftime("%Y-%m-%d %H:%M")
