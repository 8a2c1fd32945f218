"""Which archives a path names: those of a folder, one, or many by a pattern with braces."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING

from imagen_workbench.core import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
"""Compressed ones, too: they are set aside by name."""
MOST_SHARDS = 100_000
BRACES = re.compile(r"\{(?:(\d+)\.\.(\d+)|([^{}]*))\}")


def shards_of(path: str) -> list[Path]:
    """The archives of a folder in order of name, or those that a pattern names. Raises DataError where one is not."""
    if "://" in path or path.startswith("pipe:"):
        raise DataError("is no file here", file=path, fix="Download the shards first, and name their folder")
    named = list(itertools.islice(expanded(path), MOST_SHARDS + 1))
    if len(named) > MOST_SHARDS:
        raise DataError(f"names more than {MOST_SHARDS:,} archives", file=path, fix="Name fewer")
    found: list[Path] = []
    for each in (Path(name).expanduser() for name in named):
        try:
            if each.is_dir():
                inside = sorted(inner for inner in each.iterdir() if _is_archive(inner))
                if not inside:
                    raise DataError("no tar archives are in this folder", file=each, fix="They end in .tar")
                found += inside
            elif each.is_file():
                found.append(each)
            else:
                raise DataError("no such archive or folder", file=each, fix="Check the path")
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", file=each, fix="Choose another folder") from error
    return found


def expanded(pattern: str) -> Iterator[str]:
    """ "a-{00..02}.tar" → a-00.tar, a-01.tar, a-02.tar; "{a,b}.tar" → a.tar, b.tar. Numbers keep their zeros."""
    found = BRACES.search(pattern)
    if found is None:
        yield pattern
        return
    low, high, words = found.groups()
    if words is not None and "," not in words:  # braces that are part of a name
        for rest in expanded(pattern[found.end() :]):
            yield pattern[: found.end()] + rest
        return
    width = len(low) if low and low.startswith("0") else 0
    parts = (f"{k:0{width}}" for k in range(int(low), int(high) + 1)) if words is None else words.split(",")
    for part in parts:
        for rest in expanded(pattern[found.end() :]):
            yield f"{pattern[: found.start()]}{part}{rest}"


def _is_archive(path: Path) -> bool:
    return path.name.lower().endswith(ARCHIVES) and not path.name.startswith(".") and path.is_file()
