"""How this process was launched: alone, or as one of several that train together. Free of torch."""

from __future__ import annotations

import os

COUNTS = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")
RANKS = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")
"""Variables by which launchers tell a process of the others: torchrun's, then those of MPI. The first set counts."""


def process_count() -> int:
    """How many processes train together, this one among them."""
    return max(1, _told(COUNTS, 1))


def is_follower() -> bool:
    """Whether another process is the main one."""
    return process_count() > 1 and _told(RANKS, 0) > 0


def _told(names: tuple[str, ...], default: int) -> int:
    found = (os.environ[name] for name in names if os.environ.get(name, "").isdigit())
    return int(next(found, default))
