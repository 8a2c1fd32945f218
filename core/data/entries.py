"""Where decoded data lies, what is there, and how it is cleared away."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from ..errors import DataError
from ..runs.files import remove_folder
from .store import read_index

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Entry:
    """One decoded dataset. size: its bytes on the drive; last_used: seconds since 1970; images: None where damaged."""

    id: str
    source: str
    path: str
    images: int | None
    shape: tuple[int, ...]
    size: int
    last_used: float
    folder: Path


def cache_home() -> Path:
    """Where decoded data is kept: `IMAGEN_WORKBENCH_CACHE`, or the platform's cache folder. Safe to delete."""
    chosen = os.environ.get("IMAGEN_WORKBENCH_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("imagen-workbench", appauthor=False)


def data_folder() -> Path:
    """The folder of the cache whose subfolders are entries."""
    return cache_home() / "data"


def entries() -> list[Entry]:
    """All that is there, the last used first; half-written ones, too, which a killed process has left."""
    try:
        folders = [folder for folder in data_folder().iterdir() if folder.is_dir() and not folder.is_symlink()]
    except OSError:
        return []
    return sorted((_entry(folder) for folder in folders), key=lambda entry: (-entry.last_used, entry.id))


def clear(wanted: Sequence[str] = ()) -> list[Entry]:
    """Removes entries by id, by the beginning of one, or by source; all where none are named. Returns those removed.

    A run that reads one goes on with it. Raises DataError where there is no such entry or it cannot be removed.
    """
    found = entries()
    chosen = [entry for entry in found if not wanted or any(_is(entry, name) for name in wanted)]
    for name in wanted:
        if not any(_is(entry, name) for entry in found):
            known = sorted({entry.source for entry in found if entry.source} | {entry.id for entry in found})
            raise DataError(
                f"the cache has no {name!r}", file=data_folder(), fix=f"It has {', '.join(known) or 'nothing'}"
            )
    for entry in chosen:
        try:
            remove_folder(entry.folder)
        except OSError as error:
            raise DataError(
                f"cannot be removed: {error.strerror or error}", file=entry.folder, fix="Close what uses it"
            ) from error
    return chosen


def _is(entry: Entry, name: str) -> bool:
    return bool(name) and (entry.source == name or entry.id.startswith(name))


def _entry(folder: Path) -> Entry:
    try:
        facts: dict[str, Any] = read_index(folder)
        images, *shape = (int(n) for n in facts["arrays"]["pixels"]["shape"])
        source, path = str(facts["source"]), str(facts["path"])
    except (DataError, KeyError, TypeError, ValueError):
        images, shape, source, path = None, [], "", ""
    size, last_used = 0, 0.0
    for file in folder.iterdir():
        stat = file.lstat()
        size, last_used = size + stat.st_size, max(last_used, stat.st_mtime)
    return Entry(folder.name, source, path, images, tuple(shape), size, last_used, folder)
