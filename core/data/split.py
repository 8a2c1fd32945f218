"""The held-out split, by rank of content hash: whatever the folder's order, the same images are held out."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence


def content_hash(pixels: np.ndarray) -> str:
    """SHA-256 of the decoded pixels."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def held_out_count(total: int, validation: float) -> int:
    """A share below 1, rounded, or a count. Raises DataError where nothing would be left to train on."""
    count = round(total * validation) if validation < 1 else int(validation)
    if count >= total:
        raise DataError(
            f"{count:,} of {total:,} usable images would be held out, leaving none to train on",
            field="data.validation",
            fix="Hold out fewer, or add images",
        )
    return count


def split(hashes: Sequence[str], validation: float) -> tuple[np.ndarray, np.ndarray]:
    """(training, held out): indices into `hashes`; the first by hash are held out, exactly so many.

    Both in order of hash, so that the folder's order does not decide the order of training either.
    """
    order = np.asarray(sorted(range(len(hashes)), key=lambda index: (hashes[index], index)), np.int64)
    count = held_out_count(len(hashes), validation)
    return order[count:], order[:count]
