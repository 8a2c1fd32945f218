"""A dataset, decoded once: pixels, prepared conditions and the split, with what was set aside and why.

Kept in the user's cache folder under the fingerprint of source and settings, so that the second run starts at
once. `prepare` and `kept` are generators that report as they go; their caller may stop between any two images. All
that grows with the images is mapped from files.
"""

from __future__ import annotations

import bisect
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
from .buckets import brought_to, on_canvas
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
    from .buckets import Shape
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

    train, held_out: indices into them; set_aside: (name, reason) of what could not be used; captions: a few of them;
    parts: [n] uint8, of a mixture: which of the recipe's parts each image is of; buckets: [n] uint8, where images are
    of several `shapes` (height, width): which of them each is of. It then lies in the top left corner of its pixels.
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
    parts: np.ndarray | None = None
    buckets: np.ndarray | None = None
    shapes: tuple[Shape, ...] = ()

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """[c h w] of what `images` gives."""
        _, channels, height, width = self.pixels.shape
        if self.buckets is not None:
            height, width = self.shapes[0]
        return channels, height, width

    def images(self, which: np.ndarray) -> np.ndarray:
        """[k c h w]: those images, at one size. Of several shapes, each fills the first one, and its middle is left."""
        if self.buckets is None:
            return self.pixels[which]
        found = np.empty((len(which), *self.image_shape), self.pixels.dtype)
        for _, places in self.by_bucket(which):
            found[places] = brought_to(self.batch(which[places]), self.shapes[0])
        return found

    def batch(self, which: np.ndarray) -> np.ndarray:
        """[k c h w]: those images, all of one bucket, at its size."""
        if self.buckets is None or not len(which):
            return self.pixels[which]
        height, width = self.shapes[self.buckets[which[0]]]
        return self.pixels[which][..., :height, :width]

    def by_bucket(self, which: np.ndarray) -> list[tuple[int, np.ndarray]]:
        """(bucket, [k] places in `which` of its images) of those that there are."""
        if self.buckets is None:
            return [(0, np.arange(len(which)))] if len(which) else []
        found = self.buckets[which]
        return [(int(bucket), np.flatnonzero(found == bucket)) for bucket in np.unique(found)]

    def manifest(self) -> dict[str, Any]:
        """What a run keeps about its data."""
        several = {}
        for name, numbers in (("training_of_parts", self.parts), ("training_of_buckets", self.buckets)):
            if numbers is not None:
                several[name] = np.bincount(numbers[self.train]).tolist()
        return {
            "images": len(self.pixels),
            "training": len(self.train),
            "held_out": len(self.held_out),
            "classes": list(self.classes),
            "set_aside": [list(item) for item in self.set_aside],
            "digest": self._digest(self.train),
            "held_out_digest": self._digest(self.held_out),
            **several,
        }

    def _digest(self, which: np.ndarray, chunk: int = 4096) -> str:
        digest = hashlib.sha256()
        for start in range(0, len(which), chunk):
            digest.update(self.hashes[which[start : start + chunk]].tobytes().hex().encode())
        return digest.hexdigest()


@dataclass(frozen=True)
class Reading:
    """How far preparing is, in images, or in what `what` says."""

    done: int
    total: int
    what: str = "Reading images"


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
    if store.parts is not None:
        _check_parts(settings, store, train)
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
        store.parts,
        store.buckets,
        settings.shapes if store.buckets is not None else (),
    )


def _fill(
    folder: Path, rows: Iterable[Row | Aside | None], opened: Opened, settings: Data
) -> Generator[Reading, None, None]:
    """Fills `folder` with rows, or raises DataError where none can be used."""
    done, aside = 0, list[tuple[str, str]]()
    captions: dict[str, None] = {}
    ends = list(itertools.accumulate(opened.parts))
    spread = {int(at) for at in np.linspace(0, (opened.length or 4 * CAPTIONS) - 1, 4 * CAPTIONS)}
    reported = time.perf_counter()
    numbers: dict[str, int] = {name: 0 for name, there in (("parts", ends), ("buckets", settings.buckets)) if there}
    with StoreWriter(folder, tuple(numbers)) as writer:
        for row in rows:
            if isinstance(row, Aside):
                aside.append((row.name, row.reason))
            elif row is not None:
                assert row.prepared is not None
                pixels = row.pixels
                if ends:
                    numbers["parts"] = bisect.bisect_right(ends, done)
                if settings.buckets:
                    numbers["buckets"] = settings.shapes.index(pixels.shape[1:])
                    pixels = on_canvas(pixels, settings.canvas)
                try:
                    writer.append(pixels, row.prepared, row.label, row.name, **numbers)
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


def _check_parts(settings: Data, store: Store, train: np.ndarray) -> None:
    """Raises DataError where one of a mixture's parts has no image to train on."""
    assert store.parts is not None
    usable, shown = (np.bincount(each, minlength=len(settings.parts)) for each in (store.parts, store.parts[train]))
    for at, part in enumerate(settings.parts):
        if shown[at]:
            continue
        first = next((each for each in store.facts["set_aside"] if each[0].startswith(f"{part.name}: ")), None)
        if usable[at]:
            what, fix = f"all {usable[at]:,} usable images of {part.name} are held out", "Hold out fewer"
        elif first is not None:
            what = f"no image of {part.name} can be used; the first, {first[0]}: {first[1]}"
            fix = "Look at these files, or leave the part out"
        else:
            what, fix = f"{part.name} has no images", "Leave it out"
        raise DataError(what, field=f"data.parts.{at}", fix=fix)


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
    if settings.buckets:
        parts["buckets"] = settings.buckets
    return data_folder() / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]
