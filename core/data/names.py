"""Many names at little cost: their text one after another, perhaps mapped from a file, and where each ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

if TYPE_CHECKING:
    import numpy as np


class Names(Sequence[str]):
    """text: [m] uint8, UTF-8; ends: [n] rising positions in it. A name becomes a string when it is asked for."""

    def __init__(self, text: np.ndarray, ends: np.ndarray) -> None:
        self._text = text
        self._ends = ends

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[str, ...]: ...
    def __getitem__(self, index: int | slice) -> str | tuple[str, ...]:
        if isinstance(index, slice):
            return tuple(self[at] for at in range(*index.indices(len(self))))
        at = range(len(self))[index]
        begin = int(self._ends[at - 1]) if at else 0
        return self._text[begin : int(self._ends[at])].tobytes().decode(errors="replace")
