"""What lies beside images in a folder: captions in text files, and tables that tell of each image.

The tables are those of Hugging Face's ImageFolder: metadata.jsonl or metadata.csv in any folder, whose column
`file_name` names images from that folder on.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagen_workbench.core import DataError

from .columns import FILE, Columns, Note, note_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imagen_workbench.core import Attribute

TABLES = ("metadata.jsonl", "metadata.csv")
SIDECAR = 4096
"""Characters of a text file that are read."""


@dataclass(frozen=True)
class Annotations:
    """Notes by the image's path from the root on; attributes: what their other columns tell."""

    notes: dict[bytes, Note]
    attributes: tuple[Attribute, ...]
    digest: str
    """Over the tables' bytes."""

    @property
    def labels(self) -> tuple[str, ...]:
        return tuple(sorted({note.label for note in self.notes.values() if note.label}))

    @property
    def has_captions(self) -> bool:
        return any(note.caption for note in self.notes.values())


def annotations_in(root: Path, folders: Iterable[bytes]) -> Annotations:
    """Those of the tables in these folders below the root. Raises DataError naming the table and the line."""
    rows: dict[bytes, dict[str, Any]] = {}
    digest = hashlib.sha256()
    for folder in dict.fromkeys([b"", *folders, *_parents(folders)]):
        for name in TABLES:
            path = root / os.fsdecode(folder) / name
            if path.is_file():
                digest.update(folder + b"/" + name.encode())
                for file, row in _rows(path, digest):
                    rows[os.path.normpath(os.path.join(folder, os.fsencode(file)))] = row  # noqa: PTH118 - bytes
    columns = Columns()
    for row in rows.values():
        columns.add(row)
    attributes = columns.attributes()
    names = [each.name for each in attributes]
    notes = {path: note_of(row, names) for path, row in rows.items()}
    return Annotations(notes, attributes, digest.hexdigest() if rows else "")


def sidecar(image: bytes) -> str:
    """The caption in the text file of an image's name, in one line; empty where there is none.

    Raises DataError where it cannot be read as text.
    """
    path = Path(os.fsdecode(image)).with_suffix(".txt")
    try:
        with path.open(encoding="utf-8-sig") as file:
            return " ".join(file.read(SIDECAR).split())
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"its caption {path.name} cannot be read as text: {error}") from error


def _parents(folders: Iterable[bytes]) -> Iterator[bytes]:
    """Folders above those with images, below the root: a table may stand there."""
    for folder in folders:
        above = os.path.dirname(folder)  # noqa: PTH120 - bytes
        while above:
            yield above
            above = os.path.dirname(above)  # noqa: PTH120 - bytes


def _rows(path: Path, digest: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file_name, all columns) of a table, line by line."""
    try:
        content = path.read_bytes()
        digest.update(content)
        lines = content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text: {error}", file=path, fix="Save it as UTF-8") from error
    for number, row in enumerate(csv.DictReader(lines) if path.suffix == ".csv" else _json_lines(lines, path), 1):
        name = row.get(FILE)
        if not isinstance(name, str) or not name:
            raise DataError(f"row {number} has no {FILE}", file=path, fix=f"Name each image in the column {FILE}")
        yield name, row


def _json_lines(lines: list[str], path: Path) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(f"line {number} is no JSON: {error}", file=path, fix="Write one object a line") from error
        if not isinstance(row, dict):
            raise DataError(f"line {number} is no JSON object", file=path, fix="Write one object a line")
        yield row
