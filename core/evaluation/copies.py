"""Copying or learning? How near generated images come to training images, beside held-out real ones.

A held-out image cannot be a copy, so its distance to the nearest training image says how near images of this
kind lie to each other anyway. Generated images that come nearer than nearly all held-out ones are suspect;
their share, beside the same share of held-out images, is the copy rate and its baseline.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

CHUNK = 256


@dataclass(frozen=True)
class Copies:
    """quantile: that of the held-out distances below which an image is called near (its own share is the baseline).

    near: share of generated images that are; generated, held_out: [n], [m] distances (RMS per pixel in [-1, 1]);
    nearest: [n] index of the nearest training image.
    """

    quantile: float
    near: float
    generated: np.ndarray
    held_out: np.ndarray
    nearest: np.ndarray

    @property
    def standard_error(self) -> float:
        """Of `near`, if generated images were as near as held-out ones."""
        return float(np.sqrt(self.quantile * (1 - self.quantile) / len(self.generated)))

    @property
    def ratio(self) -> float:
        """Median distance of generated images, as a multiple of the held-out ones'."""
        return float(np.median(self.generated) / np.median(self.held_out))


def copies(generated: np.ndarray, train: np.ndarray, held_out: np.ndarray, quantile: float = 0.05) -> Copies:
    """generated [n …], train [k …], held_out [m …]: arrays of one kind of image, in [-1, 1]."""
    near_generated, which = nearest(generated, train)
    near_held_out, _ = nearest(held_out, train)
    threshold = np.quantile(near_held_out, quantile)
    return Copies(quantile, float((near_generated < threshold).mean()), near_generated, near_held_out, which)


def nearest(images: np.ndarray, among: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """([n] RMS distance to the nearest, [n] its index), pixel by pixel."""
    flat = images.reshape(len(images), -1).astype(np.float32)
    others = among.reshape(len(among), -1).astype(np.float32)
    lengths = np.square(others).sum(axis=1)
    distances, indices = [], []
    for start in range(0, len(flat), CHUNK):
        part = flat[start : start + CHUNK]
        squares = np.square(part).sum(axis=1)[:, None] - 2 * part @ others.T + lengths
        best = squares.argmin(axis=1)
        indices.append(best)
        distances.append(np.sqrt(np.maximum(squares[np.arange(len(part)), best], 0) / flat.shape[1]))
    return np.concatenate(distances), np.concatenate(indices)
