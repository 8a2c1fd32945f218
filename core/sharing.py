"""Sharing the processor with a face, a browser and whatever else the person runs."""

from __future__ import annotations

import os


def share_cores() -> None:
    """Lets torch's threads sleep instead of spin while they wait for each other. Call before torch is imported.

    A spinning thread holds the core that the thread it waits for may need: with one busy program beside it, training
    on two cores took six times as long. What the person has set stays.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
