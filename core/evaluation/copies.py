"""Copying or learning? How near generated images come to training images, beside held-out real ones.

A held-out image cannot be a copy, so its distance to the nearest training image says how near images of this
kind lie to each other anyway. Generated images that come nearer than nearly all held-out ones are suspect;
their share, beside the same share of held-out images, is the copy rate and its baseline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..generators import finish
from .turns import Turn

if TYPE_CHECKING:
    from collections.abc import Generator

    from .images import Images

MARKS = (0.01, 0.05)
"""Shares of held-out images that are called near to a training image."""
COMPARED, PART_BYTES = 256, 16 << 20
"""Images that are compared at once, and the size of the part of the training set that they are compared with."""


@dataclass(frozen=True)
class Copies:
    """generated, held_out: [n], [m] distances to the nearest training image (RMS per pixel in [-1, 1]);
    nearest: [n] its index.
    """

    generated: np.ndarray
    held_out: np.ndarray
    nearest: np.ndarray

    def near(self, quantile: float) -> float:
        """Share of generated images that lie nearer than the nearest `quantile` of held-out ones."""
        return float((self.generated < np.quantile(self.held_out, quantile)).mean())

    def standard_error(self, quantile: float) -> float:
        """Of `near`, if generated images were as near as held-out ones."""
        return math.sqrt(quantile * (1 - quantile) / len(self.generated))

    @property
    def ratio(self) -> float:
        """Median distance of generated images, as a multiple of the held-out ones'; infinite where theirs is 0."""
        baseline = float(np.median(self.held_out))
        return float(np.median(self.generated)) / baseline if baseline else math.inf


def copies(generated: Images, train: Images, held_out: Images) -> Copies:
    """The distances of generated [n …] and held-out [m …] images to training images [k …], all in [-1, 1]."""
    distances, which = nearest(generated, train)
    return Copies(distances, nearest(held_out, train)[0], which)


def nearest(images: Images, among: Images) -> tuple[np.ndarray, np.ndarray]:
    """([n] RMS distance to the nearest of `among`, [n] its index), pixel by pixel."""
    return finish(nearest_in_turns(images, among))


def nearest_in_turns(images: Images, among: Images) -> Generator[Turn, None, tuple[np.ndarray, np.ndarray]]:
    """As `nearest`, in memory that does not grow with `among`.

    ‖a − b‖² = ‖a‖² − 2 a·b + ‖b‖² finds the nearest fast; its distance is then taken from the difference itself,
    since the sum of three large terms would not let a copy be at distance 0.
    """
    n, k = len(images), len(among)
    least, which = np.full(n, np.inf, np.float32), np.zeros(n, np.int64)
    distances = np.zeros(n)
    rows = max(1, PART_BYTES // max(1, 4 * among[:1].size))
    for at in range(0, k, rows):
        others = _flat(among[at : at + rows])
        lengths = np.square(others).sum(axis=1)
        for start in range(0, n, COMPARED):
            part = slice(start, start + COMPARED)
            flat = _flat(images[part])
            squares = lengths - 2 * flat @ others.T  # ‖a‖² is the same for all of a row
            best = squares.argmin(axis=1)
            found = squares[np.arange(len(flat)), best]
            nearer = found < least[part]
            least[part] = np.where(nearer, found, least[part])
            which[part] = np.where(nearer, at + best, which[part])
            distances[part] = np.where(nearer, _rms(flat - others[best]), distances[part])
            yield Turn("Looking for copies", min(at + rows, k), k)
    return distances, which


def _flat(images: np.ndarray) -> np.ndarray:
    return images.reshape(len(images), -1).astype(np.float32, copy=False)


def _rms(differences: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(differences, dtype=np.float64).mean(axis=1))
