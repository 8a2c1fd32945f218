"""The images of a folder, however many: found in one order, and held at little more than the cost of their names."""
# Paths are bytes: a name may be no text, and as `Path` a million of them would be slow.
# ruff: noqa: PTH110, PTH116, PTH118

from __future__ import annotations

import heapq
import mmap
import os
import tempfile
from array import array
from bisect import bisect_right
from collections import deque
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import hashlib
    from collections.abc import Callable, Iterable, Iterator

RUN = 1 << 15
"""Names that are sorted at once; those of larger folders are merged from sorted runs that lie on the drive."""

Identity = tuple[int, int]


class FileList:
    """Files whose names `is_wanted` takes, below `root` in folders whose names `is_entered` takes; in order of name.

    Links to folders are followed, each real folder once: one that lies below the root is found in its own place, and
    links in circles lead to nothing new. What cannot be read, a folder too, is listed, so that reading it tells why.
    """

    def __init__(self, root: Path, is_wanted: Callable[[bytes], bool], is_entered: Callable[[bytes], bool]) -> None:
        self._root = os.fsencode(root)
        self._is_wanted, self._is_entered = is_wanted, is_entered
        self._text = bytearray()
        self._ends = array("Q")
        self._firsts: list[int] = []
        self.folders: list[bytes] = []
        """Folders with files, below the root; the root itself is empty."""
        self._find()

    def __len__(self) -> int:
        return len(self._ends)

    def folder_of(self, index: int) -> int:
        """Where in `folders` a file's is."""
        return bisect_right(self._firsts, index) - 1

    def below_root(self, index: int) -> bytes:
        """A file's path from the root on."""
        begin = self._ends[index - 1] if index else 0
        return os.path.join(self.folders[self.folder_of(index)], bytes(self._text[begin : self._ends[index]]))

    def path(self, index: int) -> bytes:
        return os.path.join(self._root, self.below_root(index))

    def _find(self) -> None:
        """Real folders first, so that a link never takes one away from its own place."""
        above = Path(os.fsdecode(self._root)).resolve().parents
        visited = {_identity(os.fsencode(folder)) for folder in above}
        starts = deque([b""])
        while starts:
            waiting = [starts.popleft()]
            links: list[bytes] = []
            while waiting:
                folder = waiting.pop()
                identity = _identity(os.path.join(self._root, folder))
                if identity in visited:
                    continue
                visited.add(identity)
                inner: list[bytes] = []
                self._take(folder, _in_order(self._read(folder, inner, links)))
                waiting += sorted(inner, reverse=True)
            starts += sorted(links)

    def _read(self, folder: bytes, inner: list[bytes], links: list[bytes]) -> Iterator[bytes]:
        """Names of its files as they come; adds its subfolders to `inner` and its links to folders to `links`."""
        try:
            with os.scandir(os.path.join(self._root, folder)) as entries:
                for entry in entries:
                    if _is_folder(entry):
                        if self._is_entered(entry.name):
                            (links if entry.is_symlink() else inner).append(os.path.join(folder, entry.name))
                    elif self._is_wanted(entry.name) and _is_file(entry):
                        yield entry.name
        except OSError:
            yield b""  # the folder itself, to be set aside

    def _take(self, folder: bytes, names: Iterable[bytes]) -> None:
        first = len(self._ends)
        for name in names:
            self._text += name
            self._ends.append(len(self._text))
        if len(self._ends) > first:
            self._firsts.append(first)
            self.folders.append(folder)


def _identity(path: bytes) -> Identity | None:
    """What a folder is, by whatever name; None, which is seen as one folder, where it cannot be told."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_dev, stat.st_ino


def _is_folder(entry: os.DirEntry[bytes]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _is_file(entry: os.DirEntry[bytes]) -> bool:
    """Also a link that leads nowhere; not a pipe, which would be waited for."""
    try:
        return entry.is_file() or (entry.is_symlink() and not os.path.exists(entry.path))
    except OSError:
        return True


def _in_order(names: Iterator[bytes]) -> Iterator[bytes]:
    """Sorted, whatever their number, with no more than `RUN` in memory."""
    run = sorted(islice(names, RUN))
    if len(run) < RUN:
        yield from run
        return
    with tempfile.TemporaryFile() as file:
        bounds = [0]
        while run:
            file.write(b"\0".join(run) + b"\0")
            bounds.append(file.tell())
            run = sorted(islice(names, RUN))
        file.flush()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text:
            yield from heapq.merge(*(_names(text, begin, end) for begin, end in pairwise(bounds)))


def _names(text: mmap.mmap, begin: int, end: int) -> Iterator[bytes]:
    while begin < end:
        stop = text.find(b"\0", begin, end)
        yield text[begin:stop]
        begin = stop + 1


def stamp(digest: hashlib._Hash, path: bytes | Path) -> None:
    """Adds a file's size and time of change to a digest, or that it cannot be looked at."""
    try:
        stat = os.stat(path)
        digest.update(f"|{stat.st_size}|{stat.st_mtime_ns}\n".encode())
    except OSError:
        digest.update(b"|\n")
