"""Tar shards as WebDataset keeps them.

Read by ourselves: the library webdataset unpickles what an archive asks it to, runs commands that stand in a path, and
reads in a row, where an index lets several processes share the samples.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from imagen_workbench.core import Attribute, Bringing, DataError, Example, KeptArrays, Source

from .annotations import SIDECAR
from .columns import Columns, note_of
from .encoded import picture_of
from .file_list import stamp
from .shard_names import shards_of
from .tar_shards import TarShards, printable_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from PIL import Image

    from .tar_shards import Member

PICTURES = ("avif", "bmp", "gif", "jfif", "jp2", "jpeg", "jpg", "pbm", "pgm", "png", "pnm", "ppm", "tga", "tif", "tiff",
            "webp")  # fmt: skip
CLASSES = "classes.txt"
MOST_CLASSES = 10_000
INDEX = 1
"""Rises when a search would find something else in the same archives."""
WORTH_KEEPING = 5000
"""Samples from which on what a search has found is kept for the next process."""
TABLE = 1 << 16
"""Bytes of a sample's .json that are read."""


class WebDataset(Source):
    """Samples of tar archives: a picture, and what files of the same name tell of it.

    .txt is the caption, .cls the class's number, .json a table with `caption`, `label` and attributes. Beside the
    archives, classes.txt names the classes, a line each.
    """

    title = "Tar shards (WebDataset)"
    summary = "A folder of tar archives, or many-{000..010}.tar; captions in .txt, classes in .cls, more in .json."
    needs_path = True
    opens_slowly = True
    defaults = {"size": [32, 32], "channels": 3, "validation": 0.1}  # noqa: RUF012

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> Example:
        sample = self._samples.sample(index, _is_wanted)
        picture = _picture(sample)
        note = note_of(_table(sample.get("json") or b""), self._attribute_names)
        caption = _text(sample.get("txt") or b"")[:SIDECAR] or note.caption or None
        label = self._label_of(_text(sample.get("cls") or b"") or note.label)
        return Example(picture, label, self.name_of(index), caption, note.attributes)

    def name_of(self, index: int) -> str:
        return self._samples.name_of(index)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self._looked.attributes

    @property
    def fields(self) -> tuple[str, ...]:
        return (*super().fields, *(("caption",) if self._looked.has_captions else ()))

    def fingerprint(self) -> str:
        """Of names, sizes and times of change, as of a folder of images."""
        digest = hashlib.sha256()
        for path in (*self._shards, self._shards[0].parent / CLASSES):
            digest.update(os.fsencode(path.resolve()))
            stamp(digest, path)
        return digest.hexdigest()

    @cached_property
    def _shards(self) -> list[Path]:
        return shards_of(self.settings.path)

    def bring(self) -> Iterator[Bringing]:
        """Looks through the archives, which may take long, unless that was done before."""
        looked = self._kept_index()
        if looked is None:
            looked = _Looked(self._shards)
            for done in looked.samples.search(looked.look):
                yield Bringing("Looking through archives", done, len(self._shards))
            self._keep(looked)
        self._looked = looked

    @cached_property
    def _looked(self) -> _Looked:
        """The samples, and what the search for them has seen."""
        for _ in self.bring():
            pass
        return self._looked

    @property
    def _kept(self) -> KeptArrays:
        return KeptArrays("webdataset", f"index of {self.settings.path}", f"{INDEX} {self.fingerprint()}")

    def _kept_index(self) -> _Looked | None:
        """What an earlier search has found, perhaps in another process."""
        kept = self._kept
        told, bounds, firsts = (kept.get(name) for name in ("told", "bounds", "firsts"))
        if told is None or bounds is None or firsts is None:
            return None
        return _Looked(self._shards, json.loads(told.tobytes()), bounds.tolist(), firsts.tolist())

    def _keep(self, looked: _Looked) -> None:
        if len(looked.samples) < WORTH_KEEPING:
            return
        kept = self._kept
        kept.put("told", np.frombuffer(json.dumps(looked.told()).encode(), np.uint8))
        kept.put("bounds", np.asarray(looked.samples.bounds, np.uint64))
        kept.put("firsts", np.asarray(looked.samples.firsts, np.uint64))

    @property
    def _samples(self) -> TarShards:
        return self._looked.samples

    @cached_property
    def _attribute_names(self) -> list[str]:
        return [each.name for each in self.attributes]

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        if named := _named_classes(self._shards[0].parent / CLASSES):
            return named
        if self._looked.has_names:
            return tuple(sorted(self._looked.labels))
        return tuple(str(number) for number in range(self._looked.highest + 1))

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    @cached_property
    def _has_only_names(self) -> bool:
        return self._looked.has_names and self.classes == tuple(sorted(self._looked.labels))

    def _label_of(self, text: str) -> int | None:
        """Where classes are only known by name, a number is a name, too."""
        if not text:
            return None
        number = None if self._has_only_names else number_in(text)
        label = self._numbers.get(text) if number is None else number
        if label is None or label >= len(self.classes):
            raise DataError(f"its class {text[:40]!r} is none of {len(self.classes)}")
        return label


class _Looked:
    """Samples, and what all of them tell of classes, captions and attributes, gathered in one search."""

    def __init__(
        self,
        shards: list[Path],
        told: Mapping[str, Any] | None = None,
        bounds: Iterable[int] = (),
        firsts: Iterable[int] = (),
    ) -> None:
        """told, bounds, firsts: of an earlier search."""
        self.samples = TarShards(shards, bounds, firsts)
        known = told or {"has_captions": False, "labels": (), "has_names": False, "highest": -1, "attributes": ()}
        self.has_captions: bool = known["has_captions"]
        self.labels: set[str] = set(known["labels"])
        self.has_names: bool = known["has_names"]
        """Whether a label is no number."""
        self.highest: int = known["highest"]
        """Of those that are."""
        self._columns = Columns()
        self._attributes = [Attribute(name, tuple(words), low, high) for name, words, low, high in known["attributes"]]

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return (*self._attributes, *self._columns.attributes())

    def told(self) -> dict[str, Any]:
        """As JSON can hold it."""
        attributes = [(each.name, each.choices, each.low, each.high) for each in self.attributes]
        names = ("has_captions", "has_names", "highest")
        return {name: getattr(self, name) for name in names} | {"labels": sorted(self.labels), "attributes": attributes}

    def look(self, file: BinaryIO, member: Member) -> None:
        suffix = member.suffix
        if suffix == "txt":
            self.has_captions = True
        if suffix not in ("cls", "json") or member.size > TABLE:
            return
        try:
            content = member.read(file)
            if suffix == "cls":
                self._take(_text(content), can_be_name=False)
                return
            row = _table(content)
        except DataError:
            return  # the sample is set aside once it is read
        note = note_of(row, ())
        self._columns.add(row)
        self.has_captions = self.has_captions or bool(note.caption)
        self._take(note.label, can_be_name=True)

    def _take(self, label: str, *, can_be_name: bool) -> None:
        number = number_in(label)
        if label and (can_be_name or number is not None) and len(self.labels) < MOST_CLASSES:
            self.labels.add(label)
            self.has_names = self.has_names or number is None
            self.highest = max(self.highest, -1 if number is None else number)


def number_in(text: str) -> int | None:
    """A class's number; None where it is none, or beyond all measure."""
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None
    return number if number is not None and number < MOST_CLASSES else None


def _named_classes(path: Path) -> tuple[str, ...]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except FileNotFoundError:
        return ()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read as text: {error}", file=path, fix="Save it as UTF-8") from error
    names = tuple(line for line in lines if line)
    if len(set(names)) < len(names):
        raise DataError("names a class twice", file=path, fix="Each line is another class")
    return names


def _is_wanted(suffix: str) -> bool:
    return suffix in ("txt", "cls", "json") or suffix.rpartition(".")[2] in PICTURES


def _picture(sample: dict[str, bytes | None]) -> Image.Image:
    """Of several, that whose whole suffix says so, as .png before .mask.png."""
    suffixes = sorted(sample, key=lambda suffix: suffix not in PICTURES)
    content = next((sample[suffix] for suffix in suffixes if suffix.rpartition(".")[2] in PICTURES), None)
    if content is None:
        others = ", ".join(printable_name(f".{suffix}") for suffix in sample)
        raise DataError(f"has no picture, only {others}" if others else "has no picture")
    return picture_of(content)


def _table(content: bytes) -> dict[str, Any]:
    if not content:
        return {}
    if len(content) > TABLE:
        raise DataError(f"its .json has more than {TABLE:,} bytes")
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DataError(f"its .json is no JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataError("its .json is no object")
    return row


def _text(content: bytes) -> str:
    """In one line. Raises DataError where it is no text."""
    try:
        return " ".join(content.decode("utf-8-sig").split())
    except UnicodeDecodeError as error:
        raise DataError(f"its words cannot be read as text: {error}") from error
