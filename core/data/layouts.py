"""Types of arrays as JSON can hold them."""

from __future__ import annotations

from typing import Any

import numpy as np


def layout_of(dtype: np.dtype) -> Any:
    """Text ("<i8"), or for a structured type a list of its fields."""
    return np.lib.format.dtype_to_descr(dtype)


def dtype_of(layout: Any) -> np.dtype:
    """The reverse of `layout_of`, before or after JSON. Raises ValueError or TypeError where it is no such."""
    dtype = np.lib.format.descr_to_dtype(_with_tuples(layout))
    if dtype.hasobject:
        raise ValueError("objects have no bytes of their own")
    return dtype


def _with_tuples(layout: Any) -> Any:
    """NumPy tells a field from a list of fields by its tuple, which JSON has not."""
    if isinstance(layout, str):
        return layout
    return [(str(name), _with_tuples(kind), *(tuple(shape) for shape in rest)) for name, kind, *rest in layout]
