"""Plain statistics of pixels: what can be said of images without knowing what they show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .images import Images

EDGE = 1 - 1 / 255
"""Values beyond ± this are the darkest and brightest of an 8-bit image, once rounded."""
PART = 256


@dataclass(frozen=True)
class PixelStatistics:
    """mean, spread: of each channel over all pixels and images, in [-1, 1]; error: standard error of the means, the
    image being the unit; saturated: share of values that are the darkest or brightest there are.
    """

    count: int
    mean: tuple[float, ...]
    error: tuple[float, ...]
    spread: tuple[float, ...]
    saturated: float


class PixelSums:
    """Sums over images as they come, so that none must be kept."""

    def __init__(self, channels: int) -> None:
        self._count = self._values = self._at_edge = 0
        self._means, self._squared_means, self._squares = (np.zeros(channels) for _ in range(3))

    def add(self, images: np.ndarray) -> None:
        """images: [n c h w] in [-1, 1]."""
        means = images.mean(axis=(2, 3), dtype=np.float64)
        self._count += len(images)
        self._values += images.size
        self._at_edge += int((np.abs(images) > EDGE).sum())
        self._means += means.sum(axis=0)
        self._squared_means += np.square(means).sum(axis=0)
        self._squares += np.square(images, dtype=np.float64).mean(axis=(2, 3)).sum(axis=0)

    def statistics(self) -> PixelStatistics:
        """Of at least one image; the errors are 0 for a single one."""
        n = self._count
        mean = self._means / n
        variance_of_means = np.maximum(self._squared_means / n - mean**2, 0) * n / max(1, n - 1)
        spread = np.sqrt(np.maximum(self._squares / n - mean**2, 0))
        error = np.sqrt(variance_of_means / n)
        return PixelStatistics(
            n, tuple(mean.tolist()), tuple(error.tolist()), tuple(spread.tolist()), self._at_edge / self._values
        )


def pixel_statistics(images: Images) -> PixelStatistics:
    """Of a whole set, a part at a time."""
    sums = PixelSums(images[:1].shape[1])
    for start in range(0, len(images), PART):
        sums.add(images[start : start + PART])
    return sums.statistics()
