"""The worker's way out: two lanes, neither of which grows behind a slow reader of progress."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from ..events import Event, Kept, Latest

if TYPE_CHECKING:
    from collections.abc import Callable


class Mailbox:
    """Kept events in order, and of each kind of `Latest` event only the newest.

    `wake` is called, on the worker's thread, when the box turns from empty to filled.
    """

    def __init__(self, wake: Callable[[], None] | None = None) -> None:
        self._lock = threading.Lock()
        self._filled = threading.Condition(self._lock)
        self._kept: list[Event] = []
        self._latest: dict[type[Event], Event] = {}
        self._wake = wake
        self._is_shut = False

    def listen(self, wake: Callable[[], None] | None) -> None:
        """Replaces the function that is woken; it is called at once if something waits."""
        with self._lock:
            self._wake = wake
            waiting = bool(self._kept or self._latest)
        if wake and waiting:
            wake()

    def shut(self) -> Callable[[], None] | None:
        """From now on nothing gets in, and nobody is woken. Returns the function that was."""
        with self._lock:
            self._is_shut = True
            self._kept.clear()
            self._latest.clear()
            wake, self._wake = self._wake, None
        return wake

    def put(self, event: Event) -> None:
        with self._lock:
            if self._is_shut:
                return
            was_empty = not (self._kept or self._latest)
            if isinstance(event, Kept):
                self._kept.append(event)
            elif isinstance(event, Latest):
                self._latest.pop(type(event), None)
                self._latest[type(event)] = event
            else:
                raise TypeError(f"{type(event).__name__} is in neither lane")
            wake = self._wake if was_empty else None
            self._filled.notify_all()
        if wake:
            wake()

    def take(self) -> list[Event]:
        """Everything that waits, facts first; the box is empty afterwards."""
        with self._lock:
            events = [*self._kept, *self._latest.values()]
            self._kept.clear()
            self._latest.clear()
        return events

    def wait(self, timeout: float) -> list[Event]:
        """As `take`, but waits up to `timeout` seconds for the first event."""
        with self._filled:
            self._filled.wait_for(lambda: bool(self._kept or self._latest), timeout)
        return self.take()
