"""Sees that one call of a plugin's takes far too long: ends it where it can, and says so where it cannot.

Only calls of other people's plugins count; our own turns, a first compile among them, may take as long as they need.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING

from ..events import Hanging

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..events import Event
    from ..foreign import Watched

LIMIT = 60.0
"""Seconds that one call may take: as long as an example has in a loader process."""
GRACE = 10.0
"""Seconds that a call has to end, once it is ended."""
EVERY = 1.0
"""Seconds between two looks."""


class Watchdog:
    """tell: takes events, from this thread. Its time is that between its own looks: a machine asleep ages nobody."""

    def __init__(
        self, watched: Watched, tell: Callable[[Event], None], limit: float = LIMIT, grace: float = GRACE
    ) -> None:
        self._watched, self._tell = watched, tell
        self._limit, self._grace = limit, grace
        self._every = min(EVERY, limit / 4)
        self._count, self._waited = 0, 0.0
        self._has_told = False

    def look(self, seconds: float) -> None:
        """seconds: since the last look."""
        count, call = self._watched.now()
        if call is None or count != self._count:
            if self._has_told:
                self._has_told = False
                self._tell(Hanging())
            self._count, self._waited = count, 0.0
            return
        self._waited += min(seconds, 2 * self._every)
        if self._waited >= self._limit:
            self._watched.end(count)
        if self._waited >= self._limit + self._grace and not self._has_told:
            self._has_told = True
            self._tell(Hanging(0, call.plugin, call.package, call.part, self._waited))

    @contextlib.contextmanager
    def on_duty(self) -> Iterator[None]:
        """Looks again and again, on a thread of its own."""
        ending = threading.Event()

        def watch() -> None:
            last = time.monotonic()
            while not ending.wait(self._every):
                now = time.monotonic()
                self.look(now - last)
                last = now

        thread = threading.Thread(target=watch, name="imagen-workbench watchdog", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
