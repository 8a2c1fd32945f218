"""Sets of images that may be larger than memory: a part at a time, as floating-point arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch

from ..data.unit import to_unit

if TYPE_CHECKING:
    import numpy as np

    from ..data.cache import Dataset


class Images(Protocol):
    """[n c h w] in [-1, 1]; a part of it, by slice or by indices, is an array. An array is one, too."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice | np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class StoredImages:
    """Those images of a dataset that `which` [n] points to, converted when they are asked for."""

    data: Dataset
    which: np.ndarray

    def __len__(self) -> int:
        return len(self.which)

    def __getitem__(self, part: slice | np.ndarray, /) -> np.ndarray:
        return to_unit(torch.from_numpy(self.data.images(self.which[part]))).numpy()
