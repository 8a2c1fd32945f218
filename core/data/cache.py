"""A dataset, decoded once: pixels, prepared conditions and the split, with what was set aside and why.

Kept in the user's cache folder under the fingerprint of source and settings, so that the second run starts at
once. `prepare` is a generator that reports as it goes; its caller may stop between any two images. All that grows
with the images is mapped from files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, WorkbenchError
from ..runs.files import folder_atomically, remove_folder
from .decode import to_pixels
from .entries import data_folder
from .split import split
from .store import Store, StoreWriter

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from ..conditioning import ConditioningScheme
    from ..recipe import Data
    from .source import Source

FORMAT = 2
"""Rises when what is decoded would come out otherwise, or is kept otherwise."""
TURN = 0.05
"""Seconds of decoding between two reports."""


@dataclass(frozen=True)
class Dataset:
    """pixels: [n c h w] uint8 or uint16; prepared: [n …]; labels: [n], -1 for none; hashes: [n 32], SHA-256 of pixels.

    train, held_out: indices into them; set_aside: (name, reason) of what could not be used. The arrays may be mapped
    from files: take the rows that are needed.
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
    source: Source, scheme: ConditioningScheme, settings: Data, *, check: bool = True
) -> Generator[Reading, None, Dataset]:
    """Decodes every image of a source, or takes it from the cache; returns the dataset.

    check: whether cached pixels are read through for damage first. Raises DataError where nothing usable is left,
    or there is room for it neither in the cache nor in the folder for temporary files.
    """
    total = len(source)
    folder = _cache_folder(source, scheme, settings)
    store = (yield from _from_cache(folder, total, check=check)) if folder else None
    if store is None and folder:
        with contextlib.suppress(OSError):  # a cache that cannot be written is no reason to fail
            remove_folder(folder)
            with folder_atomically(folder) as unfinished:
                yield from _decode(source, scheme, settings, unfinished)
        store = yield from _from_cache(folder, total, check=False)
    if store is None:
        store = yield from _for_this_run(source, scheme, settings)
    train, held_out = split(store.hashes, settings.validation)
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
    )


def _decode(source: Source, scheme: ConditioningScheme, settings: Data, folder: Path) -> Generator[Reading, None, None]:
    """Fills `folder` with the images of a source, or raises DataError where none can be used."""
    total, aside = len(source), []
    reported = time.perf_counter()
    with StoreWriter(folder) as writer:
        for index in range(total):
            name = source.name_of(index)
            try:
                example = source[index]
                name = example.name or name
                pixels, prepared = to_pixels(example.image, settings), np.asarray(scheme.prepare(example))
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its image is set aside by name
                what = error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
                aside.append((name, what))
            else:
                label = -1 if example.label is None else example.label
                try:
                    writer.append(pixels, prepared, label, name)
                except DataError as error:
                    aside.append((name, f"its condition is {error.what}"))
            if time.perf_counter() - reported > TURN:
                yield Reading(index + 1, total)
                reported = time.perf_counter()
        _check(settings, writer.count, aside)
        transform = {"size": settings.size, "channels": settings.channels, "depth": settings.depth, "fit": settings.fit}
        writer.finish(
            {
                "source": settings.source,
                "path": settings.path,
                "transform": transform,
                "classes": source.classes,
                "set_aside": aside,
            }
        )


def _for_this_run(source: Source, scheme: ConditioningScheme, settings: Data) -> Generator[Reading, None, Store]:
    """Decodes into a folder for temporary files, which is gone once its files are mapped."""
    try:
        # where a mapped file cannot be removed, as on Windows, it stays until the folder is emptied
        with tempfile.TemporaryDirectory(prefix="imagen-workbench-", ignore_cleanup_errors=True) as place:
            yield from _decode(source, scheme, settings, Path(place))
            return Store.open(Path(place))
    except OSError as error:
        raise DataError(
            f"the decoded images cannot be kept: {error.strerror or error}",
            file=error.filename or tempfile.gettempdir(),
            fix="Make room, or name another place with IMAGEN_WORKBENCH_CACHE",
        ) from error


def _from_cache(folder: Path, total: int, *, check: bool) -> Generator[Reading, None, Store | None]:
    """What is cached; None where nothing is, or it is damaged."""
    try:
        store = Store.open(folder)
        tuple((name, reason) for name, reason in store.facts["set_aside"])
    except (DataError, KeyError, TypeError, ValueError):
        return None
    for share, whole in store.pixels_checked() if check else ():
        if not whole:
            return None
        yield Reading(round(share * total), total)
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


def _cache_folder(source: Source, scheme: ConditioningScheme, settings: Data) -> Path | None:
    fingerprint = source.fingerprint()
    if not fingerprint:
        return None
    parts = {
        "format": FORMAT,
        "source": f"{type(source).__module__}:{type(source).__qualname__}",
        "fingerprint": fingerprint,
        "options": source.options.model_dump(mode="json"),
        "scheme": f"{type(scheme).__module__}:{type(scheme).__qualname__}",
        "scheme_options": scheme.options.model_dump(mode="json"),
        "classes": source.classes,
        "size": settings.size,
        "channels": settings.channels,
        "depth": settings.depth,
        "fit": settings.fit,
    }
    return data_folder() / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
