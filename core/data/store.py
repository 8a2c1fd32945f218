"""Decoded images on the drive: arrays that grow row by row, are mapped when read, and show when they were damaged.

A folder holds `pixels`, `prepared`, `labels`, `hashes`, `name_text` and `name_ends`, each an .npy file, perhaps
`parts` or `buckets`, and `index.json`, which tells their shapes and checksums, and its own. Nothing is held in memory
but what is being written; rows are appended rather than written through a map, because a full drive is an error to
the one and the end of the process to the other.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Self

import numpy as np

from ..errors import DataError
from ..runs.files import write_atomically
from .layouts import dtype_of, layout_of
from .names import Names
from .split import content_hash

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from types import TracebackType

HEADER = 128
"""Bytes before the rows: the header's length does not hang on their number, so that it can be written last."""
BLOCK = 1 << 24
"""Bytes under one checksum."""
CHECKED = 8 << 30
"""Bytes of pixels that are read to find damage; of larger sets, blocks spread evenly, for reading all takes minutes."""


class Rows:
    """An .npy file of rows of one shape and type, whose header is written once their number is known."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._shape: tuple[int, ...] | None = None
        self._dtype = np.dtype(np.uint8)
        self._checksums: list[int] = []
        self._in_block = BLOCK
        self.count = 0
        file.write(bytes(HEADER))

    def append(self, row: np.ndarray) -> None:
        """Raises DataError, with nothing written, where the row is unlike those before it."""
        if self._shape is None and not row.dtype.hasobject:
            self._shape, self._dtype = row.shape, row.dtype
        if (row.shape, row.dtype) != (self._shape, self._dtype):
            raise DataError(f"{row.dtype} of shape {row.shape} after {self._dtype} of shape {self._shape}")
        self.extend(row.tobytes())
        self.count += 1

    def extend(self, content: bytes) -> None:
        """Bytes of whole rows or parts of them, under checksums of `BLOCK` bytes each."""
        rest = memoryview(content)
        while rest:
            if self._in_block == BLOCK:
                if self._checksums:
                    self._settle()
                self._checksums.append(0)
                self._in_block = 0
            part = rest[: BLOCK - self._in_block]
            self._checksums[-1] = zlib.crc32(part, self._checksums[-1])
            self._file.write(part)
            self._in_block += len(part)
            rest = rest[len(part) :]

    def finish(self) -> dict[str, Any]:
        """Writes the header and closes; returns what the index keeps of it."""
        shape = (self.count, *(self._shape or ()))
        self._file.seek(0)
        # a structured type is bytes here, and told by the index: its header would be longer
        descr = self._dtype.str
        np.lib.format.write_array_header_1_0(self._file, {"descr": descr, "fortran_order": False, "shape": shape})
        self._file.close()
        return {"shape": shape, "dtype": layout_of(self._dtype), "crc32": self._checksums}

    def _settle(self) -> None:
        """Block by block, so that the drive is not waited for at the end, all at once."""
        self._file.flush()
        os.fsync(self._file.fileno())


class StoreWriter:
    """Fills a folder with a decoded dataset; the folder is one once `finish` has been called."""

    ARRAYS = ("pixels", "prepared", "labels", "hashes", "name_text", "name_ends")
    NUMBERS = ("parts", "buckets")
    """A small number for each row, where there is one."""

    def __init__(self, folder: Path, numbers: tuple[str, ...] = ()) -> None:
        """numbers: those of `NUMBERS` that each row has."""
        self._folder = folder
        self._open = ExitStack()
        self._rows = {
            name: Rows(self._open.enter_context((folder / f"{name}.npy").open("wb", buffering=1 << 20)))
            for name in (*self.ARRAYS, *numbers)
        }
        self._text = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def count(self) -> int:
        return self._rows["pixels"].count

    def append(self, pixels: np.ndarray, prepared: np.ndarray, label: int, name: str, **numbers: int) -> None:
        """One image [c h w] with its prepared condition. Raises DataError where it is unlike those before."""
        self._rows["prepared"].append(prepared)
        self._rows["pixels"].append(pixels)
        self._rows["labels"].append(np.asarray(label, np.int64))
        self._rows["hashes"].append(content_hash(pixels))
        for kind, number in numbers.items():
            self._rows[kind].append(np.asarray(number, np.uint8))
        text = np.frombuffer(name.encode(errors="backslashreplace"), np.uint8)
        self._text += len(text)
        self._rows["name_text"].extend(text.tobytes())
        self._rows["name_text"].count = self._text
        self._rows["name_ends"].append(np.asarray(self._text, np.int64))

    def finish(self, facts: dict[str, Any]) -> None:
        """facts: what else the index should tell, as JSON can."""
        arrays = {name: rows.finish() for name, rows in self._rows.items()}
        write_index(self._folder, {**facts, "arrays": arrays})


@dataclass(frozen=True)
class Store:
    """A decoded dataset as it lies in a folder, its arrays mapped. facts: what `StoreWriter.finish` was told."""

    facts: dict[str, Any]
    pixels: np.ndarray
    prepared: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray
    names: Names
    parts: np.ndarray | None = None
    buckets: np.ndarray | None = None

    @classmethod
    def open(cls, folder: Path) -> Store:
        """Raises DataError where there is none, or anything but the pixels is damaged."""
        facts = read_index(folder)
        try:
            there = [*StoreWriter.ARRAYS, *(name for name in StoreWriter.NUMBERS if name in facts["arrays"])]
            maps = {name: _mapped(folder / f"{name}.npy", facts["arrays"][name]) for name in there}
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"cannot be mapped: {error}", file=folder) from error
        for name, array in maps.items():
            if name != "pixels" and not all(_whole(array, facts["arrays"][name]["crc32"])):
                raise DataError("is damaged", file=folder / f"{name}.npy")
        names = Names(maps["name_text"], maps["name_ends"])
        numbers = {name: maps[name] for name in StoreWriter.NUMBERS if name in maps}
        store = cls(facts, maps["pixels"], maps["prepared"], maps["labels"], maps["hashes"], names, **numbers)
        rows = (store.pixels, store.prepared, store.labels, store.hashes, store.names, *numbers.values())
        if len({len(each) for each in rows}) > 1:
            raise DataError("its arrays differ in length", file=folder)
        return store

    def pixels_checked(self) -> Iterator[tuple[float, bool]]:
        """(share done, whether the block just read is whole), block by block; see `CHECKED`."""
        checksums = self.facts["arrays"]["pixels"]["crc32"]
        stride = max(1, -(-self.pixels.nbytes // CHECKED))
        for at, whole in enumerate(_whole(self.pixels, checksums, stride), 1):
            yield at * stride / len(checksums), whole


def write_index(folder: Path, facts: dict[str, Any]) -> None:
    """facts: what `read_index` gives back, as JSON can."""
    index = json.dumps(facts)
    write_atomically(folder / "index.json", f"{_digest(index)}\n{index}")


def read_index(folder: Path) -> dict[str, Any]:
    """What a folder holds, without opening its arrays. Raises DataError where it cannot be told."""
    try:
        digest, _, index = (folder / "index.json").read_text(encoding="utf-8").partition("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read: {error}", file=folder / "index.json") from error
    if digest != _digest(index):
        raise DataError("is damaged", file=folder / "index.json")
    return json.loads(index)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _mapped(path: Path, facts: dict[str, Any]) -> np.ndarray:
    """Raises ValueError where the file is not of the size and kind that the index says."""
    shape, dtype = tuple(facts["shape"]), dtype_of(facts["dtype"])
    size = HEADER + dtype.itemsize * int(np.prod(shape, dtype=np.int64))
    if path.stat().st_size != size:
        raise ValueError(f"{path.name} has {path.stat().st_size:,} bytes instead of {size:,}")
    if 0 in shape:
        return np.zeros(shape, dtype)
    array = np.lib.format.open_memmap(path, mode="r")
    if (array.shape, array.dtype) != (shape, np.dtype(dtype.str)):
        raise ValueError(f"{path.name} is {array.dtype} of shape {array.shape}")
    return np.asarray(array).view(dtype)


def _whole(array: np.ndarray, checksums: list[int], stride: int = 1) -> Iterator[bool]:
    """Whether each `stride`-th block has the checksum that was written with it."""
    content = array.reshape(-1).view(np.uint8)
    for at in range(0, len(checksums), stride):
        yield zlib.crc32(content[at * BLOCK : (at + 1) * BLOCK].data) == checksums[at]
