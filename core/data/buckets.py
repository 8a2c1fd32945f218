"""Images of several shapes: which bucket each goes to, and how they are kept and looked at in one array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

Shape = tuple[int, int]
"""(height, width)"""


def nearest(height: int, width: int, shapes: Sequence[Shape]) -> Shape:
    """The one whose aspect ratio is nearest, in proportion; of equals the first."""
    ratio = math.log(height / width)
    return min(shapes, key=lambda shape: abs(math.log(shape[0] / shape[1]) - ratio))


def on_canvas(pixels: np.ndarray, canvas: Shape) -> np.ndarray:
    """[c h w] → [c *canvas], the picture in the top left corner, and nothing beside it."""
    whole = np.zeros((len(pixels), *canvas), pixels.dtype)
    whole[:, : pixels.shape[1], : pixels.shape[2]] = pixels
    return whole


def brought_to(pixels: np.ndarray, size: Shape) -> np.ndarray:
    """[n c h w] uint8 or uint16 → [n c *size], scaled until it fills that, and the middle cut out."""
    import torch  # here alone: loader processes do without
    from torch.nn import functional

    shape: Shape = pixels.shape[2:]
    if shape == size or not len(pixels):
        return pixels[..., : size[0], : size[1]]
    scale = max(size[0] / shape[0], size[1] / shape[1])
    scaled = [max(after, round(before * scale)) for before, after in zip(shape, size, strict=True)]
    values = functional.interpolate(torch.from_numpy(pixels).float(), scaled, mode="bilinear", antialias=True)
    top, left = (scaled[0] - size[0]) // 2, (scaled[1] - size[1]) // 2
    middle = values[..., top : top + size[0], left : left + size[1]].numpy()
    return np.rint(middle.clip(0, np.iinfo(pixels.dtype).max)).astype(pixels.dtype)
