"""The worker: one thread, one loop, two lanes out."""

from __future__ import annotations

from .mailbox import Mailbox
from .thread import Worker

__all__ = ["Mailbox", "Worker"]
