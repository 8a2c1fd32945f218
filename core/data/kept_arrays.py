"""Arrays that are costly to make, kept on the drive under a name: the outputs of a frozen encoder, by their text.

Many small arrays in one SQLite file, which any number of processes may read and add to.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sqlite3
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..errors import DataError
from .entries import ARRAYS, PATIENCE, arrays_folder
from .store import read_index, write_index

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

Result = TypeVar("Result")

TABLE = "CREATE TABLE IF NOT EXISTS arrays (name BLOB PRIMARY KEY, content BLOB NOT NULL, digest BLOB NOT NULL)"
ROW = "SELECT content, digest FROM arrays WHERE name = ?"


class KeptArrays:
    """A place in the person's cache folder, where `imagen-workbench cache` shows and clears it.

    source: who keeps them, as the cache names them; about: of what, in words; identity: changes whenever other arrays
    would come out under the same names, such as the hash of an encoder. Names are kept as hashes only.
    Nothing here ever fails: what is damaged, locked or cannot be written is as if it had never been kept.
    """

    def __init__(self, source: str, about: str, identity: str) -> None:
        self._facts = {"kind": "arrays", "source": source, "about": about, "identity": identity}
        self._source, self._identity = source, identity
        self._used: Path | None = None

    def get(self, name: str) -> np.ndarray | None:
        """The array of this name; None where there is none, or it is damaged."""
        if not self._file.is_file():
            return None
        found = self._do(lambda database: database.execute(ROW, (_hash(name),)).fetchone())
        if found is None or not isinstance(found[0], bytes) or _digest(found[0]) != found[1]:
            return None
        self._mark_used()
        try:
            return np.lib.format.read_array(io.BytesIO(found[0]), allow_pickle=False)
        except ValueError:
            return None

    def put(self, name: str, array: np.ndarray) -> None:
        """Keeps an array; one of the same name is replaced."""
        file = io.BytesIO()
        np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)
        content = file.getvalue()

        def write(database: sqlite3.Connection) -> None:
            database.execute("PRAGMA synchronous = OFF")  # what a power cut damages is seen, and made anew
            database.execute(TABLE)
            row = (_hash(name), content, _digest(content))
            database.execute("INSERT OR REPLACE INTO arrays VALUES (?, ?, ?)", row)

        if self._is_begun():
            self._do(write)

    @property
    def _folder(self) -> Path:
        whole = hashlib.sha256(f"{self._source}\n{self._identity}".encode()).hexdigest()
        return arrays_folder() / whole[:32]

    @property
    def _file(self) -> Path:
        return self._folder / ARRAYS

    def _is_begun(self) -> bool:
        """Whether there is a folder with its index, which is written where it is missing or damaged.

        Nothing is removed: another process may be at the same.
        """
        with contextlib.suppress(DataError, KeyError, TypeError, ValueError):
            if read_index(self._folder)["identity"] == self._identity:
                return True
        try:
            write_index(self._folder, self._facts)
        except OSError:
            return False
        return True

    def _mark_used(self) -> None:
        """For the list of the cache: once is enough."""
        if self._used != self._folder:
            self._used = self._folder
            with contextlib.suppress(OSError):
                os.utime(self._folder / "index.json")

    def _do(self, work: Callable[[sqlite3.Connection], Result]) -> Result | None:
        """Something with the database; None where it cannot be done. A file that is no database is removed."""
        try:
            with contextlib.closing(sqlite3.connect(self._file, timeout=PATIENCE, isolation_level=None)) as database:
                return work(database)
        except (sqlite3.OperationalError, OSError):
            return None  # locked, full, not to be written, or gone
        except sqlite3.Error:
            with contextlib.suppress(OSError):
                self._file.unlink()
            return None


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode(errors="surrogatepass")).digest()


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]
