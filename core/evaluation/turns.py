"""Long measurements as generators of short turns, so that a worker can do other things between two of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Turn:
    """A turn has passed. what: the part of the measurement, in words; done of total: how far that part has come."""

    what: str
    done: int
    total: int
