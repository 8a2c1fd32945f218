"""A dataset, decoded once: pixels, prepared conditions and the split, with what was set aside and why.

Kept in the user's cache folder under the fingerprint of source and settings, so that the second run starts at
once. `prepare` is a generator that reports as it goes; its caller may stop between any two images.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import platformdirs

from ..errors import DataError, WorkbenchError
from ..runs.files import folder_atomically, remove_folder, write_atomically
from .decode import to_pixels
from .split import content_hash, split

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from ..conditioning import ConditioningScheme
    from ..recipe import Data
    from .source import Source

FORMAT = 1
"""Rises when what is decoded would come out otherwise."""
TURN = 0.05
"""Seconds of decoding between two reports."""


@dataclass(frozen=True)
class Dataset:
    """pixels: [n c h w] uint8, perhaps mapped from a file; prepared: [n …]; train, held_out: indices into both.

    set_aside: (name, reason) of what could not be used; hashes: SHA-256 of each image's pixels.
    """

    pixels: np.ndarray
    prepared: np.ndarray
    labels: np.ndarray
    train: np.ndarray
    held_out: np.ndarray
    hashes: tuple[str, ...]
    names: tuple[str, ...]
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
            "digest": hashlib.sha256("".join(self.hashes[index] for index in self.train).encode()).hexdigest(),
            "held_out_digest": hashlib.sha256(
                "".join(self.hashes[index] for index in self.held_out).encode()
            ).hexdigest(),
        }


@dataclass(frozen=True)
class Reading:
    """How far preparing is, in images."""

    done: int
    total: int


def prepare(source: Source, scheme: ConditioningScheme, settings: Data) -> Generator[Reading, None, Dataset]:
    """Decodes every image of a source, or takes it from the cache; returns the dataset.

    Raises DataError where nothing usable is left.
    """
    total = len(source)
    folder = _cache_folder(source, scheme, settings)
    dataset = _from_cache(folder, settings) if folder else None
    if dataset is None:
        pixels, prepared, labels, names, aside = [], [], [], [], []
        reported = time.perf_counter()
        for index in range(total):
            name = source.name_of(index)
            try:
                example = source[index]
                name = example.name or name
                image = to_pixels(example.image, settings)
                ready = np.asarray(scheme.prepare(example))
            except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its image is set aside by name
                what = error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
                aside.append((name, what))
            else:
                pixels.append(image)
                prepared.append(ready)
                labels.append(-1 if example.label is None else example.label)
                names.append(name)
            if time.perf_counter() - reported > TURN:
                yield Reading(index + 1, total)
                reported = time.perf_counter()
        _check(settings, pixels, aside)
        hashes = tuple(content_hash(image) for image in pixels)
        train, held_out = split(hashes, settings.validation)
        dataset = Dataset(
            np.stack(pixels),
            np.stack(prepared),
            np.asarray(labels, np.int64),
            train,
            held_out,
            hashes,
            tuple(names),
            tuple(aside),
            source.classes,
        )
        if folder:
            _to_cache(folder, dataset)
    yield Reading(total, total)
    return dataset


def _check(settings: Data, pixels: list[np.ndarray], aside: list[tuple[str, str]]) -> None:
    if pixels:
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


def cache_home() -> Path:
    """Where decoded data is kept: `IMAGEN_WORKBENCH_CACHE`, or the platform's cache folder. Safe to delete."""
    chosen = os.environ.get("IMAGEN_WORKBENCH_CACHE")
    return Path(chosen) if chosen else platformdirs.user_cache_path("imagen-workbench", appauthor=False)


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
        "fit": settings.fit,
    }
    return cache_home() / "data" / hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _to_cache(folder: Path, dataset: Dataset) -> None:
    """A cache that cannot be written is no reason to fail: the next run decodes again."""
    try:
        remove_folder(folder)
        with folder_atomically(folder) as unfinished:
            for name in ("pixels", "prepared", "labels"):
                buffer = io.BytesIO()
                np.save(buffer, getattr(dataset, name), allow_pickle=False)
                write_atomically(unfinished / f"{name}.npy", buffer.getvalue())
            index = {
                "hashes": dataset.hashes,
                "names": dataset.names,
                "set_aside": dataset.set_aside,
                "classes": dataset.classes,
            }
            write_atomically(unfinished / "index.json", json.dumps(index))
    except OSError:
        return


def _array(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _from_cache(folder: Path, settings: Data) -> Dataset | None:
    """The cached dataset with the split of these settings; None where there is none, or it is damaged."""
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        pixels = np.lib.format.open_memmap(folder / "pixels.npy", mode="r")
        prepared, labels = (_array(folder / f"{name}.npy") for name in ("prepared", "labels"))
        hashes, names, classes = (tuple(index[name]) for name in ("hashes", "names", "classes"))
        aside = tuple((name, reason) for name, reason in index["set_aside"])
        if not len(pixels) == len(prepared) == len(labels) == len(hashes) == len(names):
            return None
    except Exception:  # noqa: BLE001 - however it is damaged, the images are decoded again
        return None
    train, held_out = split(hashes, settings.validation)
    return Dataset(
        pixels,
        prepared,
        labels,
        train,
        held_out,
        hashes,
        names,
        aside,
        classes,
    )
