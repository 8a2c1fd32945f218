"""Sharing the processor with a face, a browser and whatever else the person runs."""

from __future__ import annotations

import os

SPINS = "2000"
"""Rounds that a waiting thread spins before it sleeps: about the time between two small operations."""


def share_cores() -> None:
    """Lets torch's threads spin only briefly while they wait for each other. Call before torch is imported.

    A spinning thread holds the core that the thread it waits for may need; a sleeping one wakes late. Measured on two
    cores, images per second of the digits recipe, alone and beside one busy program: by default 446 and 121, sleeping
    at once 310 and 233, so 450 and 170. What the person has set stays. (libgomp's variable; others do not know it.)
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
