"""A dataset, decoded once: pixels, prepared conditions and the split, with what was set aside and why.

Kept in the user's cache folder under the fingerprint of source and settings, so that the second run starts at
once. `prepare` and `kept` are generators that report as they go; their caller may stop between any two images. All
that grows with the images is mapped from files.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError
from ..runs.files import folder_atomically, remove_folder
from .entries import data_folder
from .opening import Opened
from .rows import Aside, fetched, row_of, row_of_example
from .source import Stream
from .split import split
from .store import Store, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

    from ..conditioning import ConditioningScheme
    from ..recipe import Data
    from .rows import Row
    from .source import Source

FORMAT = 3
"""Rises when what is decoded would come out otherwise, or is kept otherwise."""
TURN = 0.05
"""Seconds of decoding between two reports."""
CAPTIONS = 8
"""How many are kept beside the images, for a model to draw where nothing is asked for."""


@dataclass(frozen=True)
class Dataset:
    """pixels: [n c h w] uint8 or uint16; prepared: [n …]; labels: [n], -1 for none; hashes: [n 32], SHA-256 of pixels.

    train, held_out: indices into them; set_aside: (name, reason) of what could not be used; captions: a few of them.
    The arrays may be mapped from files: take the rows that are needed.
    """

    pixels: np.ndarray
    prepared: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    hashes: np.ndarray
    names: Sequence[str]
    set_aside: tuple[tuple[str, str], ...]
    classes: tuple[str, ...]
    captions: tuple[str, ...] = ()

    def manifest(self) -> dict[str, Any]:
        """What a run keeps about its data."""
        return {
            "images": len(self.pixels),
            "training": len(self.train),
            "held_out": len(self.held_out),
            "classes": list(self.classes),
            "set_aside": [list(item) for item in self.set_aside],
            "digest": self._digest(self.train),
            "held_out_digest": self._digest(self.held_out),
        }

    def _digest(self, which: np.ndarray, chunk: int = 4096) -> str:
        digest = hashlib.sha256()
        for start in range(0, len(which), chunk):
            digest.update(self.hashes[which[start : start + chunk]].tobytes().hex().encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Reading:
    """How far preparing is, in images."""

    done: int
    total: int


def prepare(
    source: Source | Stream, scheme: ConditioningScheme, settings: Data, *, check: bool = True
) -> Generator[Reading, None, Dataset]:
    """Decodes every image of a source or stream in this process, or takes it from the cache; returns the dataset.

    For sources that are no plugins. Raises as `kept` does.
    """
    opened = Opened.of(source, settings)
    rows = functools.partial(rows_of, source, opened.length, settings, scheme)
    return (yield from kept(opened, scheme, settings, rows, check=check))


def rows_of(
    source: Source | Stream, length: int | None, settings: Data, scheme: ConditioningScheme
) -> Iterator[Row | Aside]:
    """Its rows, decoded in this process."""
    if isinstance(source, Stream):
        classes, told = len(source.classes), enumerate(fetched(source, None))
        return (
            row_of_example(example, f"No. {index}", classes, settings, scheme.prepare)
            for index, (_, example) in itertools.islice(told, settings.most or None)
        )
    assert length is not None
    return (row_of(source, index, settings, scheme.prepare) for index in range(length))


def kept(
    opened: Opened,
    scheme: ConditioningScheme,
    settings: Data,
    rows: Callable[[], Iterable[Row | Aside | None]],
    *,
    check: bool = True,
) -> Generator[Reading, None, Dataset]:
    """The dataset of an opened source: from the cache, or from its rows, which are then kept there.

    rows: begins them anew, in order of index; None among them where a turn has passed without one. check: whether
    cached pixels are read through for damage first. Raises DataError where nothing usable is left, or there is room
    for it neither in the cache nor in the folder for temporary files.
    """
    folder = _cache_folder(opened, scheme, settings)
    store = (yield from _from_cache(folder, check=check)) if folder else None
    if store is None and folder:
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
            remove_folder(folder)
            with folder_atomically(folder) as unfinished:
                yield from _fill(unfinished, rows(), opened, settings)
        store = yield from _from_cache(folder, check=False)
    if store is None:
        store = yield from _for_this_run(rows, opened, settings)
    train, held_out = split(store.hashes, settings.validation)
    total = len(store.pixels) + len(store.facts["set_aside"])
    yield Reading(total, total)
    return Dataset(
        store.pixels,
        store.prepared,
        store.labels,
        train,
        held_out,
        store.hashes,
        store.names,
        tuple((name, reason) for name, reason in store.facts["set_aside"]),
        tuple(store.facts["classes"]),
        tuple(store.facts["captions"]),
    )


def _fill(
    folder: Path, rows: Iterable[Row | Aside | None], opened: Opened, settings: Data
) -> Generator[Reading, None, None]:
    """Fills `folder` with rows, or raises DataError where none can be used."""
    done, aside = 0, list[tuple[str, str]]()
    captions: dict[str, None] = {}
    spread = {int(at) for at in np.linspace(0, (opened.length or 4 * CAPTIONS) - 1, 4 * CAPTIONS)}
    reported = time.perf_counter()
    with StoreWriter(folder) as writer:
        for row in rows:
            if isinstance(row, Aside):
                aside.append((row.name, row.reason))
            elif row is not None:
                assert row.prepared is not None
                try:
                    writer.append(row.pixels, row.prepared, row.label, row.name)
                except DataError as error:
                    aside.append((row.name, f"its condition is {error.what}"))
                if row.caption and done in spread and len(captions) < CAPTIONS:
                    captions[row.caption] = None
            done += row is not None
            if time.perf_counter() - reported > TURN:
                yield Reading(done, max(done, opened.length or 0))
                reported = time.perf_counter()
        _check(settings, writer.count, aside)
        transform = {"size": settings.size, "channels": settings.channels, "depth": settings.depth, "fit": settings.fit}
        writer.finish(
            {
                "source": settings.source,
                "path": settings.path,
                "transform": transform,
                "classes": opened.facts.classes,
                "captions": list(captions),
                "set_aside": aside,
            }
        )


def _for_this_run(
    rows: Callable[[], Iterable[Row | Aside | None]], opened: Opened, settings: Data
) -> Generator[Reading, None, Store]:
    """Decodes into a folder for temporary files, which is gone once its files are mapped."""
    try:
        # where a mapped file cannot be removed, as on Windows, it stays until the folder is emptied
        with tempfile.TemporaryDirectory(prefix="imagen-workbench-", ignore_cleanup_errors=True) as place:
            yield from _fill(Path(place), rows(), opened, settings)
            return Store.open(Path(place))
    except OSError as error:
        raise DataError(
            f"the decoded images cannot be kept: {error.strerror or error}",
            file=error.filename or tempfile.gettempdir(),
            fix="Make room, or name another place with IMAGEN_WORKBENCH_CACHE",
        ) from error


def _from_cache(folder: Path, *, check: bool) -> Generator[Reading, None, Store | None]:
    """What is cached; None where nothing is, or it is damaged."""
    try:
        store = Store.open(folder)
        tuple((name, reason) for name, reason in store.facts["set_aside"])
        tuple(store.facts["captions"])
    except (DataError, KeyError, TypeError, ValueError):
        return None
    for share, whole in store.pixels_checked() if check else ():
        if not whole:
            return None
        yield Reading(round(share * len(store.pixels)), len(store.pixels))
    with contextlib.suppress(OSError):
        os.utime(folder / "index.json")  # when it was last used
    return store


def _check(settings: Data, usable: int, aside: list[tuple[str, str]]) -> None:
    if usable:
        return
    place: Mapping[str, Any] = {"file": settings.path} if settings.path else {"field": "data.source"}
    if aside:
        name, reason = aside[0]
        raise DataError(
            f"none of {len(aside):,} images can be used; the first, {name}: {reason}",
            fix="Look at these files",
            **place,
        )
    raise DataError(f"{settings.source} has no images", fix="Choose another folder or source", **place)


def _cache_folder(opened: Opened, scheme: ConditioningScheme, settings: Data) -> Path | None:
    if not opened.fingerprint:
        return None
    told = opened.facts.as_dict()
    parts = {
        "format": FORMAT,
        "source": opened.kind,
        "fingerprint": opened.fingerprint,
        "options": opened.options,
        "scheme": f"{type(scheme).__module__}:{type(scheme).__qualname__}",
        "scheme_options": scheme.options.model_dump(mode="json"),
        "scheme_fingerprint": scheme.fingerprint(),
        "classes": told["classes"],
        "attributes": told["attributes"],
        "most": settings.most,
        "size": settings.size,
        "channels": settings.channels,
        "depth": settings.depth,
        "fit": settings.fit,
    }
    return data_folder() / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
