"""The cache: where decoded data and what was learnt from it lie, what is there, and how it is cleared away."""

from __future__ import annotations

import contextlib
import functools
import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from ..errors import DataError
from ..runs.files import remove_folder
from .store import read_index

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLASSIFIER = "classifier"
ARRAYS = "arrays.sqlite"
"""The file with the arrays of a folder in `arrays_folder`."""
PATIENCE = 10.0
"""Seconds that are waited while another process writes into it."""


@dataclass(frozen=True)
class Entry:
    """A decoded dataset; a classifier, whose source is `CLASSIFIER` and whose images are those it was trained on; or
    arrays that a plugin keeps: their number stands for the images, what they are of for the path, and shape is empty.

    size: its bytes on the drive; last_used: seconds since 1970; images: None where damaged.
    """

    id: str
    source: str
    path: str
    images: int | None
    shape: tuple[int, ...]
    size: int
    last_used: float
    folder: Path


def cache_home() -> Path:
    """Where that is kept: `IMAGEN_WORKBENCH_CACHE`, or the platform's cache folder. Safe to delete."""
    chosen = os.environ.get("IMAGEN_WORKBENCH_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("imagen-workbench", appauthor=False)


def data_folder() -> Path:
    """The folder of the cache whose subfolders are decoded datasets."""
    return cache_home() / "data"


def classifier_folder() -> Path:
    """The folder of the cache whose subfolders are classifiers."""
    return cache_home() / "classifiers"


def arrays_folder() -> Path:
    """The folder of the cache whose subfolders are arrays that plugins keep (see `KeptArrays`)."""
    return cache_home() / "arrays"


def entries() -> list[Entry]:
    """All that is there, the last used first; half-written ones, too, which a killed process has left."""
    found = [_entry(folder, _data) for folder in _subfolders(data_folder())]
    found += [_entry(folder, _classifier) for folder in _subfolders(classifier_folder())]
    found += [_entry(folder, functools.partial(_arrays, folder)) for folder in _subfolders(arrays_folder())]
    return sorted(found, key=lambda entry: (-entry.last_used, entry.id))


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
                f"the cache has no {name!r}", file=cache_home(), fix=f"It has {', '.join(known) or 'nothing'}"
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


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [inner for inner in folder.iterdir() if inner.is_dir() and not inner.is_symlink()]
    except OSError:
        return []


def _data(facts: dict[str, Any]) -> tuple[str, str, list[int]]:
    """An index → (source, path, shape [n c h w])."""
    return str(facts["source"]), str(facts["path"]), facts["arrays"]["pixels"]["shape"]


def _classifier(facts: dict[str, Any]) -> tuple[str, str, list[int]]:
    """As `_data`."""
    return CLASSIFIER, "", facts["shape"]


def _arrays(folder: Path, facts: dict[str, Any]) -> tuple[str, str, list[int]]:
    """As `_data`. Raises ValueError where the file with the arrays is none."""
    source, about, count = str(facts["source"]), str(facts["about"]), 0
    if (folder / ARRAYS).exists():
        try:
            with contextlib.closing(sqlite3.connect(folder / ARRAYS, timeout=PATIENCE)) as database:
                count = int(database.execute("SELECT count(*) FROM arrays").fetchone()[0])
        except sqlite3.Error as error:
            raise ValueError(f"{ARRAYS} cannot be read: {error}") from error
    return source, about, [count]


def _entry(folder: Path, told: Callable[[dict[str, Any]], tuple[str, str, list[int]]]) -> Entry:
    try:
        source, path, sizes = told(read_index(folder))
        images, *shape = (int(n) for n in sizes)
    except (DataError, KeyError, TypeError, ValueError):
        images, shape, source, path = None, [], "", ""
    size, last_used = 0, 0.0
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):  # a journal is gone once its writer is done
            stat = file.lstat()
            size, last_used = size + stat.st_size, max(last_used, stat.st_mtime)
    return Entry(folder.name, source, path, images, tuple(shape), size, last_used, folder)
