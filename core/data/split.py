"""The held-out split, by rank of content hash: whatever the folder's order, the same images are held out."""

from __future__ import annotations

import hashlib

import numpy as np

from ..errors import DataError


def content_hash(pixels: np.ndarray) -> np.ndarray:
    """[32] uint8: SHA-256 of the decoded pixels."""
    return np.frombuffer(hashlib.sha256(np.ascontiguousarray(pixels).data).digest(), np.uint8)


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


def split(hashes: np.ndarray, validation: float) -> tuple[np.ndarray, np.ndarray]:
    """hashes: [n 32] uint8 → (training, held out): int32 indices; the first by hash are held out, exactly so many.

    Both in order of hash, so that the folder's order does not decide the order of training either.
    """
    keys = np.ascontiguousarray(hashes).view("S32").reshape(-1)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    count = held_out_count(len(hashes), validation)
    return order[count:], order[:count]
