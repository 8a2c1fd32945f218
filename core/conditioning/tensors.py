"""Prepared conditions as tensors: one tensor, or a dictionary of them where the type is structured."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

Tensors = Tensor | dict[str, "Tensors"]


def tensors_of(prepared: np.ndarray) -> Tensors:
    """[b …] of any type; a structured one gives a dictionary by the names of its fields, however deep."""
    if prepared.dtype.names is None:
        return torch.from_numpy(prepared.copy())  # packed records are not aligned as torch wants them
    return {name: tensors_of(prepared[name]) for name in prepared.dtype.names}


def each_tensor(tensors: Tensors, change: Callable[[Tensor], Tensor]) -> Tensors:
    """The same structure with every tensor changed."""
    if isinstance(tensors, Tensor):
        return change(tensors)
    return {name: each_tensor(part, change) for name, part in tensors.items()}
