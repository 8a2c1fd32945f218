"""What loader processes and we say to each other: JSON with arrays after it, over a pipe. Nothing is unpickled."""

from __future__ import annotations

import json
import math
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .layouts import dtype_of, layout_of

if TYPE_CHECKING:
    from collections.abc import Sequence

SIZES = struct.Struct("<IQ")
"""Bytes of JSON, bytes of arrays."""
MOST_JSON = 1 << 27
MOST_ARRAYS = 1 << 34


def write_frame(pipe: BinaryIO, told: dict[str, Any], arrays: Sequence[np.ndarray] = ()) -> None:
    """Raises OSError where nobody reads any more."""
    layouts = [[layout_of(array.dtype), array.shape] for array in arrays]
    text = json.dumps({**told, "arrays": layouts}).encode()
    body = b"".join(array.tobytes() for array in arrays)
    pipe.write(SIZES.pack(len(text), len(body)) + text)
    pipe.write(body)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> tuple[dict[str, Any], list[np.ndarray]] | None:
    """(what was told, its arrays), or None at the end of the pipe. Raises ValueError where it is no frame of ours."""
    sizes = pipe.read(SIZES.size)
    if len(sizes) < SIZES.size:
        return None
    text_size, body_size = SIZES.unpack(sizes)
    if text_size > MOST_JSON or body_size > MOST_ARRAYS:
        raise ValueError("no frame")
    text, body = pipe.read(text_size), pipe.read(body_size)
    if len(text) < text_size or len(body) < body_size:
        return None
    try:
        told = json.loads(text)
        return told, _arrays(told.pop("arrays"), body)
    except (TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no frame: {error}") from error


def _arrays(layouts: Sequence[tuple[Any, Sequence[int]]], body: bytes) -> list[np.ndarray]:
    found, at = [], 0
    for layout, shape in layouts:
        dtype, count = dtype_of(layout), math.prod(shape)
        size = dtype.itemsize * count
        found.append(np.frombuffer(body, dtype, count, at).reshape(shape) if size else np.zeros(shape, dtype))
        at += size
    if at != len(body):
        raise ValueError(f"{len(body):,} bytes for arrays of {at:,}")
    return found
