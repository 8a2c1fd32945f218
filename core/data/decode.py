"""Any image, as a uint8 array of the recipe's size and channels.

Orientation is applied, transparency laid on black (or kept), 16 bits scaled to 8, animations give their
first frame. The shorter side is resized with an antialiased filter, then the middle cut out, unless the
recipe says pad or stretch.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from ..errors import DataError

if TYPE_CHECKING:
    from ..recipe import Data

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def to_pixels(image: Image.Image | np.ndarray | Path, settings: Data) -> np.ndarray:
    """→ [c h w] uint8. Raises DataError with the reason where it cannot be done."""
    upright = _upright(image)
    try:
        converted = _converted(upright, settings.channels)
        fitted = _fitted(converted, settings.size, settings.fit)
    except (OSError, SyntaxError, ValueError, MemoryError) as error:
        raise DataError(f"cannot be decoded: {error}") from error
    array = np.asarray(fitted)
    return np.ascontiguousarray(array[None] if array.ndim == 2 else array.transpose(2, 0, 1))


def _upright(image: Image.Image | np.ndarray | Path) -> Image.Image:
    """The whole image, turned as it was taken."""
    if isinstance(image, np.ndarray):
        return _from_array(image)
    try:
        return ImageOps.exif_transpose(image) if isinstance(image, Image.Image) else _read(Path(image))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        reason = "not an image that Pillow knows" if "cannot identify" in str(error) else str(error)
        raise DataError(f"cannot be read: {reason}") from error


def _read(path: Path) -> Image.Image:
    """The first frame of a file, which is closed again."""
    if path.stat().st_size == 0:
        raise DataError("the file is empty")
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with Image.open(path) as opened:
            opened.load()
            return ImageOps.exif_transpose(opened)


def _from_array(array: np.ndarray) -> Image.Image:
    """[h w] or [h w c]; uint8, uint16, bool, or float in [0, 1]."""
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)) or 0 in array.shape:
        raise DataError(f"an array of shape {array.shape} is no image; give [h w] or [h w c] with 1, 3 or 4 channels")
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    elif np.issubdtype(array.dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DataError("floating-point values outside [0, 1]")
        array = np.rint(array * 255).astype(np.uint8)
    elif array.dtype == np.uint16:
        array = _to_8_bit(array)
    elif array.dtype != np.uint8:
        raise DataError(f"values of type {array.dtype}; give uint8, uint16, or float in [0, 1]")
    return Image.fromarray(array)


def _converted(image: Image.Image, channels: int) -> Image.Image:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image)
        if image.mode == "F":
            low, high = float(values.min()), float(values.max())
            if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 255:
                raise DataError("floating-point pixels outside [0, 255]")
            # two conventions are in use; a picture of the second would be all but black in the first
            image = Image.fromarray(np.rint(values * 255 if high <= 1 else values).astype(np.uint8))
        else:
            image = Image.fromarray(_to_8_bit(values))
    transparent = "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")
    if transparent and channels != 4:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, layer)
    return image.convert(MODES[channels])


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """16-bit values, by Pillow perhaps held in 32 → 8 bits, rounded."""
    if values.min() < 0 or values.max() > 65535:
        raise DataError("integer pixels outside 0 to 65,535")
    return np.rint(values.astype(np.float64) / 257).astype(np.uint8)


def _fitted(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    height, width = size
    if image.size == (width, height):
        return image
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if fit == "pad":
        return ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)
