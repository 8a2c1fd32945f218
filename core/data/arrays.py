"""Images as arrays of values [h w k]: from NumPy files and many-band TIFFs, checked before they are unpacked, and
brought to the recipe's depth and channels.
"""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

COLOURS = (1, 3, 4)
"""Channel counts that stand for grey, colour and colour with transparency, and are converted to each other."""
LUMA = (0.299, 0.587, 0.114)
"""Grey of red, green and blue (ITU-R BT.601), as Pillow has it."""
MOST_HEADER = 1 << 14


def read_numpy(path: Path, channels: int) -> np.ndarray:
    """An .npy file, or an .npz file of one array → [h w] or [h w k]. Nothing is ever unpickled.

    A first axis of channels is taken for one where it cannot be anything else.
    """
    with path.open("rb") as file:
        if path.suffix.lower() == ".npy":
            return laid_out(_read_npy(file), channels)
        try:
            archive = zipfile.ZipFile(file)
        except zipfile.BadZipFile as error:
            raise DataError("not a NumPy archive") from error
        with archive:
            members = archive.namelist()
            if len(members) != 1:
                raise DataError(f"holds {len(members)} arrays; an image is one")
            with archive.open(members[0]) as member:
                return laid_out(_read_npy(member), channels)


def _read_npy(file: Any) -> np.ndarray:
    """The header is read first, and no more than it promises after it, however much there may be."""
    head = io.BytesIO(file.read(MOST_HEADER))
    try:
        version = np.lib.format.read_magic(head)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, fortran, dtype = read_header(head)
    except (ValueError, KeyError) as error:
        raise DataError("not a NumPy array") from error
    if any(size < 0 for size in shape):
        raise DataError("not a NumPy array")
    if dtype.hasobject:
        raise DataError("holds pickled objects, which are never opened")
    count = _checked_count(shape)
    rest = head.read()
    content = rest + file.read(max(0, count * dtype.itemsize - len(rest)))
    if len(content) < count * dtype.itemsize:
        raise DataError("is cut off")
    return np.frombuffer(content, dtype, count).reshape(shape, order="F" if fortran else "C")


def read_tiff(path: Path) -> np.ndarray:
    """A TIFF that Pillow cannot read → [h w] or [h w k], by tifffile where that is installed."""
    try:
        import tifffile  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise DataError("a TIFF beyond Pillow; pip install 'imagen-workbench[tiff]' reads it") from error
    with tifffile.TiffFile(path) as file:
        series = file.series[0]
        _checked_count(series.shape)
        axes = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX"]
        names = "".join(axis for axis, _ in axes)
        array = series.asarray().reshape([size for _, size in axes])
    if len(axes) > 3 or "Y" not in names or "X" not in names:
        raise DataError(f"a TIFF with axes {names} is no single image")
    order = [names.index("Y"), names.index("X"), *(at for at, name in enumerate(names) if name not in "YX")]
    return array.transpose(order)


def _checked_count(shape: tuple[int, ...]) -> int:
    """Values of an array of this shape. Raises DataError where Pillow would refuse an image of that size."""
    count, most = 1, (Image.MAX_IMAGE_PIXELS or 1 << 40) * 4
    for size in shape:
        count *= size
    if count > most:
        raise DataError(f"{count:,} values are more than the {most:,} that an image may have")
    return count


def laid_out(array: np.ndarray, channels: int) -> np.ndarray:
    """[h w], [h w k] or [k h w] → [h w] or [h w k]. Raises DataError where k may be the first or the last axis."""
    if array.ndim != 3:
        return array
    first, last = array.shape[0], array.shape[2]
    known = (channels,) if channels in (first, last) else COLOURS if channels in COLOURS else ()
    if first in known and last in known:
        raise DataError(f"of shape {array.shape}, whose channels may be the first axis or the last")
    return array.transpose(1, 2, 0) if first in known else array


def values_of(array: np.ndarray) -> np.ndarray:
    """[h w] or [h w k] of bool, uint8, uint16 or float in [0, 1] → [h w k] of uint8, uint16 or float64."""
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or 0 in array.shape:
        raise DataError(f"an array of shape {array.shape} is no image; give [h w] or [h w c]")
    dtype = array.dtype
    if dtype.kind == "b":
        return array.astype(np.uint8) * 255
    if np.issubdtype(dtype, np.floating):
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise DataError("floating-point values outside [0, 1]")
        return array.astype(np.float64)
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return array.astype(dtype.newbyteorder("="))
    raise DataError(f"values of type {dtype}; give uint8, uint16, or float in [0, 1]")


def to_depth(values: np.ndarray, bits: int) -> np.ndarray:
    """uint8, uint16, or float in [0, 1] → uint8 or uint16, rounded; white stays white."""
    white = 255 if bits == 8 else 65535
    kind = np.uint8 if bits == 8 else np.uint16
    if values.dtype == kind:
        return values
    had = {"uint8": 255.0, "uint16": 65535.0}.get(values.dtype.name, 1.0)
    return np.rint(values * (white / had)).astype(kind)


def with_channels(values: np.ndarray, channels: int) -> np.ndarray:
    """[h w k] integers → [h w channels].

    Grey, colour and transparency become each other, transparency laid on black; any other count must be the one
    that is asked for. Raises DataError naming both counts.
    """
    k = values.shape[2]
    if k == channels:
        return values
    if channels not in COLOURS or k not in COLOURS:
        raise DataError(f"has {k} channels, not the {channels} that the recipe asks for")
    white = np.iinfo(values.dtype).max
    colour, alpha = (values[..., :-1], values[..., -1:]) if k == 4 else (values, None)
    if channels == 4:
        opaque = np.full_like(values[..., :1], white)
        rgb = np.broadcast_to(colour, (*colour.shape[:2], 3))
        return np.concatenate([rgb, opaque if alpha is None else alpha], axis=2)
    shades = colour.astype(np.float64) * (1 if alpha is None else alpha / white)
    if channels == 1 and shades.shape[2] == 3:
        shades = shades @ np.asarray(LUMA)[:, None]
    return np.broadcast_to(np.rint(shades), (*values.shape[:2], channels)).astype(values.dtype)
