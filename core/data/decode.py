"""Any image, as an array of the recipe's size, channels and depth.

Orientation is applied, transparency laid on black (or kept), animations give their first frame. The shorter side
is resized with an antialiased filter, then the middle cut out, unless the recipe says pad or stretch. Grey and
colour at 8 bits are Pillow's; 16 bits and other channel counts keep to the source's own values.
"""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from ..errors import DataError
from ..recipe import Recipe
from .arrays import COLOURS, read_numpy, read_tiff, to_depth, values_of, with_channels
from .buckets import nearest

if TYPE_CHECKING:
    from ..recipe import Data

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
OWN_VALUES = {"L", "LA", "RGB", "RGBA", "CMYK"}
"""Pillow's modes whose values are channels as they stand."""
NARROWED = "has 16-bit colours, of which Pillow reads 8 bits; save it as .npy"


def to_pixels(image: Image.Image | np.ndarray | Path, settings: Data) -> np.ndarray:
    """→ [c h w] uint8 or uint16, of one of the settings' shapes. Raises DataError where it cannot be done."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of a file that can be read after all
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            upright = _upright(image, settings)
            return _pixels(upright, _bucket(upright, settings) if settings.buckets else settings)
    except DataError:
        raise
    except UnidentifiedImageError as error:
        raise DataError("cannot be read: not an image that Pillow knows") from error
    except MemoryError as error:
        raise DataError("cannot be decoded: it does not fit into memory") from error
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # decoders of many makers, fed with anyone's bytes: whatever they raise, the image is at fault
        raise DataError(f"cannot be decoded: {error or type(error).__name__}") from error


def picture_array(
    image: Image.Image | np.ndarray | Path, size: tuple[int, int], channels: int, fit: str = "crop"
) -> np.ndarray:
    """Any picture as [c h w] float32 in [-1, 1], of this (height, width). Raises DataError with the reason."""
    settings = Recipe.of({"data": {"size": size, "channels": channels, "fit": fit}}).data
    return to_pixels(image, settings).astype(np.float32) / 127.5 - 1


def png_bytes(pixels: np.ndarray) -> bytes:
    """[c h w] uint8 or uint16 of 1, 3 or 4 channels → a PNG file of 8 bits. Raises DataError for other channels."""
    if len(pixels) not in MODES:
        raise DataError(f"{len(pixels)} channels are no picture", field="data.channels", fix="Take 1, 3 or 4")
    values = (pixels >> 8).astype(np.uint8) if pixels.dtype == np.uint16 else pixels
    file = io.BytesIO()
    Image.fromarray(values[0] if len(values) == 1 else values.transpose(1, 2, 0)).save(file, "PNG")
    return file.getvalue()


def _bucket(image: Image.Image | np.ndarray, settings: Data) -> Data:
    """The settings with the size of the image's own bucket."""
    height, width = image.shape[:2] if isinstance(image, np.ndarray) else (image.height, image.width)
    return settings.of_shape(nearest(height, width, settings.shapes))


def _upright(image: Image.Image | np.ndarray | Path, settings: Data) -> Image.Image | np.ndarray:
    if isinstance(image, np.ndarray):
        return image
    if not isinstance(image, Image.Image):
        return _read(Path(image), settings)
    if settings.depth == 16 and _is_narrowed(image):
        raise DataError(NARROWED)
    return ImageOps.exif_transpose(image)


def _read(path: Path, settings: Data) -> Image.Image | np.ndarray:
    """The first frame of a file, which is closed again; or its values, where it has more than Pillow's modes hold."""
    if path.stat().st_size == 0:
        raise DataError("the file is empty")
    suffix = path.suffix.lower()
    if suffix in (".npy", ".npz"):
        return read_numpy(path, settings.channels)
    try:
        with Image.open(path) as opened:
            pages = getattr(opened, "n_frames", 1)
            if opened.format == "TIFF" and settings.channels not in COLOURS and pages == settings.channels:
                return np.stack([_values(page.copy(), 1)[..., 0] for page in ImageSequence.Iterator(opened)], axis=2)
            if not (settings.depth == 16 and _is_narrowed(opened)):
                opened.load()
                return ImageOps.exif_transpose(opened)
            if opened.format != "TIFF":
                raise DataError(NARROWED)
    except UnidentifiedImageError:
        if suffix not in (".tif", ".tiff"):
            raise
    return read_tiff(path)


def _is_narrowed(image: Image.Image) -> bool:
    """Whether the file holds 16-bit colours, which Pillow would give as 8-bit ones."""
    tiles = getattr(image, "tile", ())
    return image.mode in ("RGB", "RGBA", "RGBX", "LA", "CMYK") and any(";16" in str(tile[3]) for tile in tiles)


def _pixels(image: Image.Image | np.ndarray, settings: Data) -> np.ndarray:
    plain = settings.depth == 8 and settings.channels in COLOURS
    if isinstance(image, np.ndarray):
        values = to_depth(values_of(image), settings.depth)
        if plain and values.shape[2] in COLOURS:
            image = Image.fromarray(values[..., 0] if values.shape[2] == 1 else values)
    if plain and isinstance(image, Image.Image):
        fitted = np.asarray(_fitted(_converted(image, settings.channels), settings.size, settings.fit))
        return np.ascontiguousarray(fitted[None] if fitted.ndim == 2 else fitted.transpose(2, 0, 1))
    values = to_depth(_values(image, settings.channels), settings.depth)
    return _fitted_planes(with_channels(values, settings.channels), settings)


def _values(image: Image.Image | np.ndarray, channels: int) -> np.ndarray:
    """The values that an image has of itself, [h w k] of uint8, uint16 or float64."""
    if isinstance(image, np.ndarray):
        return values_of(image)
    if image.mode.startswith("I") or image.mode == "F":
        return _deep_values(image)[..., None]
    if image.mode == "1":
        image = image.convert("L")
    elif image.mode not in OWN_VALUES or (
        channels in COLOURS and (image.mode in ("LA", "CMYK") or "transparency" in image.info)
    ):
        image = image.convert("RGBA" if _is_transparent(image) else "RGB")
    return values_of(np.asarray(image))


def _deep_values(image: Image.Image) -> np.ndarray:
    """Pillow's 16-bit, 32-bit and floating-point modes → [h w] uint16, or float64 in [0, 1]."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        if not (np.isfinite(low) and np.isfinite(high)) or low < 0 or high > 255:
            raise DataError("floating-point pixels outside [0, 255]")
        # two conventions are in use; a picture of the second would be all but black in the first
        return values.astype(np.float64) / (1 if high <= 1 else 255)
    if low < 0 or high > 65535:
        raise DataError("integer pixels outside 0 to 65,535")
    return values.astype(np.uint16)


def _converted(image: Image.Image, channels: int) -> Image.Image:
    """To Pillow's grey, colour, or colour with transparency, at 8 bits."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(to_depth(_deep_values(image), 8))
    if _is_transparent(image) and channels != 4:
        layer = image.convert("RGBA")
        black = Image.new("RGBA", layer.size, (0, 0, 0, 255))
        image = Image.alpha_composite(black, layer)
    return image.convert(MODES[channels])


def _is_transparent(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "La", "RGBa")


def _fitted(image: Image.Image, size: tuple[int, int], fit: str) -> Image.Image:
    height, width = size
    if image.size == (width, height):
        return image
    if fit == "stretch":
        return image.resize((width, height), Image.Resampling.LANCZOS)
    if fit == "pad":
        return ImageOps.pad(image, (width, height), Image.Resampling.LANCZOS)
    return ImageOps.fit(image, (width, height), Image.Resampling.LANCZOS)


def _fitted_planes(values: np.ndarray, settings: Data) -> np.ndarray:
    """[h w c] integers → [c height width] of the same kind, each channel by itself."""
    if values.shape[:2] == tuple(settings.size):
        return np.ascontiguousarray(values.transpose(2, 0, 1))
    limits = np.iinfo(cast("np.dtype[np.integer]", values.dtype))
    planes = [
        np.asarray(_fitted(Image.fromarray(values[..., k].astype(np.float32)), settings.size, settings.fit))
        for k in range(values.shape[2])
    ]
    return np.rint(np.stack(planes).clip(limits.min, limits.max)).astype(values.dtype)
