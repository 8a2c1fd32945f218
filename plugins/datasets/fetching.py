"""Files of well-known datasets: where a copy lies, and how one is brought here where there is none.

Archives are read member by member into memory or files of our own naming, and never further than their contents
should go; nothing in them is executed, and no name in them decides where anything is written.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
import urllib.request
import zlib
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np

from imagen_workbench.core import Bringing, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

PATIENCE = 30.0
"""Seconds that a server may be silent."""
CHUNK = 1 << 20


def mapped(path: Path) -> np.ndarray:
    """A file as [n] uint8, without reading it."""
    if path.stat().st_size == 0:
        raise DataError("the file is empty", file=path, fix="Bring it again")
    return np.memmap(path, np.uint8, "r")


def gunzipped(path: Path, most: int) -> np.ndarray:
    """A .gz file as [n] uint8. Raises DataError where it is damaged, or holds more than `most` bytes."""
    try:
        with gzip.open(path) as file:
            content = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"cannot be unpacked: {error}", file=path, fix="Bring it again") from error
    if len(content) > most:
        raise DataError(f"holds more than the {most:,} bytes it should", file=path, fix="Bring it again")
    return np.frombuffer(content, np.uint8)


def members(path: Path, sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Files of a .tar.gz by their last names, each [n] uint8, wherever in the archive they lie.

    Raises DataError where it is damaged, one is missing, or one is not of the size that `sizes` says.
    """
    found: dict[str, np.ndarray] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                name = PurePosixPath(member.name).name
                if not member.isfile() or sizes.get(name) != member.size or name in found:
                    continue
                content = cast("BinaryIO", archive.extractfile(member)).read(member.size)
                found[name] = np.frombuffer(content, np.uint8)
                if len(found) == len(sizes):
                    return found
    except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError) as error:
        raise DataError(f"cannot be unpacked: {error}", file=path, fix="Bring it again") from error
    missing = ", ".join(sorted(set(sizes) - set(found)))
    raise DataError(f"lacks {missing}, or they are damaged", file=path, fix="Bring it again")


def fetch(
    url: str, sha256: str, unpack: Callable[[Path], Mapping[str, np.ndarray]], home: Path, by_hand: str
) -> Iterator[Bringing]:
    """Downloads a file, telling how far it is, checks it, and writes what `unpack` makes of it into `home`, by name.

    by_hand: what a person can do without a network. Raises DataError where it cannot be had.
    """
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".unfinished-", dir=home) as place:
            packed = Path(place) / "packed"
            if (yield from _download(url, packed)) != sha256:
                raise DataError("what came is not what was asked for", file=url, fix=by_hand)
            for name, content in unpack(packed).items():
                part = Path(place) / name
                part.write_bytes(cast("Any", content).data)
                part.replace(home / name)
    except OSError as error:  # urllib's errors and time-outs are OSErrors, too
        reason = getattr(error, "reason", None) or error.strerror or error
        raise DataError(f"cannot be downloaded: {reason}", file=url, fix=by_hand) from error


def _download(url: str, to: Path) -> Generator[Bringing, None, str]:
    """Returns the SHA-256 of what came."""
    digest, done = hashlib.sha256(), 0
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer, to.open("wb") as file:  # noqa: S310 - ours, https
        whole = (getattr(answer, "length", None) or 0) // CHUNK
        while chunk := answer.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
            done += len(chunk)
            yield Bringing("Downloading megabytes", done // CHUNK, whole)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()
