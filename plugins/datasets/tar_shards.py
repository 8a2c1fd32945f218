"""Samples in tar files: where each begins, and what it consists of.

A sample is a row of files of the same name up to the first dot, as `tar --sort=name` puts them. Names are only
names: nothing is unpacked, no link is followed. Of each sample no more than its place is held.
"""

from __future__ import annotations

import os
import tarfile
from array import array
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from imagen_workbench.core import DataError

from .image_folder import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

BLOCK = tarfile.BLOCKSIZE
MOST_HEADER = 1 << 16
"""Bytes of a long name, or of a header's further fields."""
MOST_SIZE = 1 << 48
"""Bytes that a member may say it has: beyond, its header is damaged."""
MOST_FILE = 1 << 28
"""Bytes of one file in a sample."""
COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}
PAX = (tarfile.XHDTYPE, tarfile.SOLARIS_XHDTYPE)
LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)


@dataclass(frozen=True)
class Member:
    """A file or link of an archive. start: of its headers; begin: of its content."""

    name: str
    is_file: bool
    start: int
    begin: int
    size: int

    @property
    def key(self) -> str:
        """What it shares with the other files of its sample."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.partition(".")[0]

    @property
    def suffix(self) -> str:
        """What follows the first dot, in lower case."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()

    def read(self, file: BinaryIO) -> bytes:
        """Raises DataError where it is no file, too long or cut off."""
        if not self.is_file:
            raise DataError(f"{printable_name(self.name)} is a link, and none is followed")
        if self.size > MOST_FILE:
            raise DataError(f"{printable_name(self.name)} has {self.size:,} bytes, more than {MOST_FILE:,}")
        file.seek(self.begin)
        content = file.read(self.size)
        if len(content) < self.size:
            raise DataError(f"the archive is cut off within {printable_name(self.name)}")
        return content


class TarShards:
    """The samples of several archives, in order.

    What cannot be read, as an archive from where it is damaged on, counts as a sample, so that reading it tells why.
    """

    def __init__(self, paths: Sequence[Path], bounds: Iterable[int] = (), firsts: Iterable[int] = ()) -> None:
        """bounds, firsts: where samples are, as an earlier `search` has found them."""
        self._paths = paths
        self.firsts = list(firsts)
        """Of each archive: which sample is its first."""
        self.bounds = array("Q", bounds)
        """Of each archive: where its samples begin, and where the last one ends."""

    def search(self, look: Callable[[BinaryIO, Member], None]) -> Iterator[int]:
        """Finds them, telling how many archives are done. look: is shown (file, member) of each member."""
        for done, path in enumerate(self._paths, 1):
            self.firsts.append(len(self.bounds) - len(self.firsts))
            self._search(path, look)
            yield done

    def __len__(self) -> int:
        return len(self.bounds) - len(self._paths)

    def name_of(self, index: int) -> str:
        path, start, end = self._place(index)
        try:
            with path.open("rb") as file:
                first = next(_shown(file, start, end), None)
        except (DataError, OSError):
            first = None
        name = printable_name(first.key) if first else f"from byte {start:,} on"
        return f"{printable_name(path.name)}/{name}"

    def sample(self, index: int, is_wanted: Callable[[str], bool]) -> dict[str, bytes | None]:
        """Its files by their suffixes, the first of each; None for those that are not wanted.

        Raises DataError where one cannot be read.
        """
        path, start, end = self._place(index)
        try:
            with path.open("rb") as file:
                found: dict[str, bytes | None] = {}
                for member in _shown(file, start, end):
                    if member.suffix not in found:
                        found[member.suffix] = member.read(file) if is_wanted(member.suffix) else None
                return found
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror or error}") from error

    def _place(self, index: int) -> tuple[Path, int, int]:
        which = bisect_right(self.firsts, index) - 1
        at = index + which  # each archive before has one bound more than samples
        return self._paths[which], self.bounds[at], self.bounds[at + 1]

    def _search(self, path: Path, look: Callable[[BinaryIO, Member], None]) -> None:
        key, at, end = None, 0, 0
        try:
            with path.open("rb") as file:
                end = file.seek(0, os.SEEK_END)
                for member in members(file):
                    at = member.begin + _padded(member.size)
                    if not is_shown(member):
                        continue
                    if member.key != key:
                        key = member.key
                        self.bounds.append(member.start)
                    look(file, member)
        except (DataError, OSError):
            self.bounds.append(at)
            end = max(end, at + 1)  # so that it is looked at, and tells why
        self.bounds.append(max(at, end))


def is_shown(member: Member) -> bool:
    """Whether its name begins with no dot, as the hidden ones do that macOS adds."""
    return not member.name.rpartition("/")[2].startswith(".")


def _shown(file: BinaryIO, start: int, end: int) -> Iterator[Member]:
    return (member for member in members(file, start, end) if is_shown(member))


def members(file: BinaryIO, at: int = 0, end: int | None = None) -> Iterator[Member]:
    """Files and links from byte `at` on, to `end` or the archive's own. Raises DataError where it is damaged."""
    further: dict[str, str] = {}
    start = at
    while end is None or at < end:
        file.seek(at)
        block = file.read(BLOCK)
        if not any(block) and not further and (at or len(block) == BLOCK):
            return  # as archives end; some end without
        kind, size, name = _header(block, at)
        begin = at + BLOCK
        if kind in (*PAX, *LONG, tarfile.XGLTYPE):
            if kind != tarfile.XGLTYPE:
                further |= _further(file, kind, size)
            at = begin + _padded(size)
            continue
        try:
            size = int(further.get("size", size))
        except ValueError:
            size = -1
        if not 0 <= size <= MOST_SIZE or kind == tarfile.GNUTYPE_SPARSE:
            raise DataError(f"the archive holds at byte {at:,} what no picture is kept as")
        name = further.get("path", name)
        is_file = kind in tarfile.REGULAR_TYPES and not name.endswith("/")
        if not is_file:
            size = 0
        if is_file or kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
            yield Member(name, is_file, start, begin, size)
        start = at = begin + _padded(size)
        further = {}


def _header(block: bytes, at: int) -> tuple[bytes, int, str]:
    """(type, size, name). By hand: the standard library takes five times as long, for fields that nobody asks for."""
    if at == 0 and block[:2] in COMPRESSED:
        raise DataError(f"the archive is compressed with {COMPRESSED[block[:2]]}; unpack it to a plain .tar")
    if len(block) < BLOCK:
        raise DataError(f"the archive is cut off at byte {at:,}" if at else "is no tar archive")
    try:
        checksum, size = _number(block[148:156]), _number(block[124:136])
    except ValueError:
        checksum, size = -1, 0
    if checksum != sum(block) - sum(block[148:156]) + 8 * ord(" ") or size > MOST_SIZE:
        raise DataError(f"the archive is damaged at byte {at:,}" if at else "is no tar archive")
    name = block[:100].partition(b"\0")[0]
    if block[257:263] == b"ustar\0" and block[345]:
        name = block[345:500].partition(b"\0")[0] + b"/" + name
    return block[156:157], size, name.decode("utf-8", "surrogateescape")


def _number(text: bytes) -> int:
    """Octal digits; or, where they would not do, the first bit set and the rest the number."""
    if text[0] == 0x80:
        return int.from_bytes(text[1:], "big")
    digits = text.partition(b"\0")[0].strip()
    if digits and not digits.isdigit():  # a sign, or an underline
        raise ValueError
    return int(digits or b"0", 8)


def _further(file: BinaryIO, kind: bytes, size: int) -> dict[str, str]:
    """What a header before the header says: GNU's long name, or PAX records "length key=value\\n"."""
    content = file.read(size) if size <= MOST_HEADER else b""
    if len(content) < size:
        raise DataError("the archive has a name that is cut off, or too long")
    if kind == tarfile.GNUTYPE_LONGNAME:
        return {"path": content.partition(b"\0")[0].decode("utf-8", "surrogateescape")}
    found: dict[str, str] = {}
    while kind in PAX and content.strip(b"\0"):
        length, _, _ = content.partition(b" ")
        if not (length.isdigit() and len(length) <= 8 and len(length) < int(length) <= len(content)):
            raise DataError("the archive has a damaged header")
        record, content = content[: int(length)], content[int(length) :]
        key, _, value = record[len(length) + 1 : -1].partition(b"=")
        found[key.decode("utf-8", "surrogateescape")] = value.decode("utf-8", "surrogateescape")
    return found


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def printable_name(name: str) -> str:
    return printable(name.encode("utf-8", "surrogateescape"))
