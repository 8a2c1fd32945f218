"""The panel's own thread: presenters live on it, and it empties the worker's mailbox at its own pace."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..presenters.bench import Bench
    from ..presenters.ui_thread import UiThread

SOON = 1 / 30
"""Seconds from one look into the mailbox to the next while a draw runs."""
CALM = 0.25
"""The same while there is only training to follow: each look costs the interpreter, which training needs, too."""


class NotebookThread:
    """A UiThread of our own, since the kernel's threads are busy with cells or come and go.

    All of it may be called from any thread. on_error: told of a job that failed, on the thread.
    """

    def __init__(self, on_error: Callable[[Exception], None]) -> None:
        self._on_error = on_error
        self._changed = threading.Condition()
        self._jobs: deque[Callable[[], None]] = deque()
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="imagen-workbench panel", daemon=True)
        self._thread.start()

    def post(self, job: Callable[[], None]) -> None:
        with self._changed:
            if not self._ending:
                self._jobs.append(job)
                self._changed.notify()

    def call_later(self, seconds: float, job: Callable[[], None]) -> None:
        with self._changed:
            heapq.heappush(self._later, (time.monotonic() + seconds, next(self._order), job))
            self._changed.notify()

    def is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def close(self, timeout: float | None = None) -> bool:
        """Runs what has been posted, then ends; says whether it has ended."""
        with self._changed:
            self._ending = True
            self._changed.notify()
        if not self.is_here():
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except Exception as error:  # noqa: BLE001 - the panel shows it, and lives on
                self._on_error(error)

    def _next(self) -> Callable[[], None] | None:
        """The next job, when there is one; None at the end."""
        with self._changed:
            while True:
                now = time.monotonic()
                if self._jobs:
                    return self._jobs.popleft()
                if self._ending:
                    return None
                if self._later and self._later[0][0] <= now:
                    return heapq.heappop(self._later)[2]
                self._changed.wait(self._later[0][0] - now if self._later else None)


class Pacer:
    """Pumps a bench soon while a draw runs, and a few times a second otherwise.

    Takes the place of the bench's own way of waking, which would hand on every step of training by itself.
    """

    def __init__(self, bench: Bench, ui: UiThread, clock: Callable[[], float] = time.monotonic) -> None:
        self._bench, self._ui, self._clock = bench, ui, clock
        self._last = float("-inf")
        self._filled = False
        self._planned = float("inf")
        bench.worker.mailbox.listen(self._wake)
        bench.drawing.changed.connect(self._hurry)

    def _wake(self) -> None:
        """On the worker's thread: the mailbox is no longer empty."""
        self._ui.post(self._fill)

    def _hurry(self) -> None:
        """A draw may have begun. Not at once, since a presenter is in the middle of something."""
        if self._filled:
            self._ui.post(self._consider)

    def _fill(self) -> None:
        self._filled = True
        self._consider()

    def _consider(self) -> None:
        """Pumps when it is time, or plans to."""
        if not self._filled:
            return
        now = self._clock()
        due = self._last + (SOON if self._bench.drawing.state.drawing else CALM)
        if due <= now:
            self._filled, self._last = False, now
            self._bench.pump()
        elif due < self._planned:
            self._planned = due
            self._ui.call_later(due - now, self._planned_now)

    def _planned_now(self) -> None:
        self._planned = float("inf")
        self._consider()
