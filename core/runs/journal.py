"""A run's journal: one JSON object a line, only ever appended to.

A killed writer leaves at most one torn line, at the end of a segment; readers leave that out.
Each process that writes begins a new segment, so a torn line is never written on.
"""

from __future__ import annotations

import json
import math
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType


class Journal:
    """Appends to `folder`. Every record has `kind`, `time` (seconds since the epoch) and `step`."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = 1 + max((int(path.stem) for path in folder.glob("[0-9]*.jsonl")), default=-1)
        self.path = folder / f"{number:06d}.jsonl"
        self._file = self.path.open("a", encoding="utf-8")
        self.lines = 0

    def write(self, kind: str, step: int, **values: Any) -> None:
        """Appends one record and hands it to the operating system, so that a kill cannot lose it."""
        record = {"kind": kind, "time": round(time.time(), 3), "step": step, **values}
        self._file.write(json.dumps(_finite(record), ensure_ascii=False, allow_nan=False) + "\n")
        self._file.flush()
        self.lines += 1

    def sync(self) -> None:
        """Waits until the drive has it: a power cut cannot lose it either."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        if not self._file.closed:
            self.sync()
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Follower:
    """Reads a journal from where it last stopped; the writer may be another process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, int] = {}
        self.is_up_to_date = False
        """Whether the last call left nothing unread."""

    def news(self, most: int = 1 << 40) -> list[dict[str, Any]]:
        """The records that have come since the last call, in order: the first `most` bytes of them, or one line."""
        records = []
        self.is_up_to_date = True
        for path in sorted(self._folder.glob("[0-9]*.jsonl")):
            if most <= 0:
                self.is_up_to_date = False
                break
            with path.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                start = file.seek(self._read.get(path.name, 0))
                text = file.read(min(most, size - start)) + file.readline()
            self.is_up_to_date &= start + len(text) >= size
            most -= len(text)
            whole = text[: text.rfind(b"\n") + 1]
            self._read[path.name] = self._read.get(path.name, 0) + len(whole)
            records += [record for line in whole.splitlines() if (record := _parsed(line))]
        return records


def last_records(folder: Path, most: int = 16 << 10) -> list[dict[str, Any]]:
    """The last few records, in order, read from the journal's end."""
    for path in sorted(folder.glob("[0-9]*.jsonl"), reverse=True):
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - most))
            lines = file.read().splitlines()
        # the first is torn where the reading began in it
        records = [record for line in lines[size > most :] if (record := _parsed(line))]
        if records:
            return records
    return []


def read(folder: Path) -> list[dict[str, Any]]:
    """All records that count: what a resume did again replaces what it had done before."""
    return list(_last_attempt(Follower(folder).news()))


def _last_attempt(records: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """A `resumed` or `rolled_back` record at step s takes back the records of later steps before it; `started`, all."""
    kept: list[dict[str, Any]] = []
    for record in records:
        if record["kind"] == "started":
            kept = []
        elif record["kind"] in ("resumed", "rolled_back"):
            kept = [old for old in kept if old["step"] <= record["step"]]
        kept.append(record)
    yield from kept


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return None
    return record if isinstance(record.get("step"), int) else None


def _finite(value: Any) -> Any:
    """JSON has no NaN: such a number is written as null."""
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
