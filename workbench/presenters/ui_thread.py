"""What a face hands in about its own thread, and a clock that tests turn by hand."""

from __future__ import annotations

import heapq
import itertools
import threading
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class UiThread(Protocol):
    """The thread on which presenters live."""

    def post(self, job: Callable[[], None]) -> None:
        """Runs `job` there, soon. May be called from any thread."""
        ...

    def call_later(self, seconds: float, job: Callable[[], None]) -> None:
        """Runs `job` there after that time. Called there."""
        ...

    def is_here(self) -> bool:
        """Whether the caller is on it."""
        ...


class Sparing:
    """Does a job when it is first asked for, and then once in a while as long as it is asked for.

    For what comes faster than anybody looks: reading and painting every step would take the cores from training.
    """

    def __init__(self, ui: UiThread, seconds: float, job: Callable[[], None]) -> None:
        self._ui, self._seconds, self._job = ui, seconds, job
        self._is_resting = self._is_asked = False

    def ask(self) -> None:
        """The job, now or once the rest is over."""
        self._is_asked = True
        if not self._is_resting:
            self._is_resting = True
            self._ui.call_later(self._seconds, self._rested)
            self.now()

    def now(self) -> None:
        """The job at once, where it has been asked for."""
        if self._is_asked:
            self._is_asked = False
            self._job()

    def _rested(self) -> None:
        self._is_resting = False
        if self._is_asked:
            self.ask()


class ManualThread:
    """A UiThread that runs nothing until it is told to; its clock stands still meanwhile."""

    def __init__(self) -> None:
        self.now = 0.0
        self._owner = threading.get_ident()
        self._lock = threading.Lock()
        self._posted: list[Callable[[], None]] = []
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()

    def post(self, job: Callable[[], None]) -> None:
        with self._lock:
            self._posted.append(job)

    def call_later(self, seconds: float, job: Callable[[], None]) -> None:
        heapq.heappush(self._later, (self.now + seconds, next(self._order), job))

    def is_here(self) -> bool:
        return threading.get_ident() == self._owner

    def run(self) -> None:
        """Runs what is posted, and what that posts."""
        while True:
            with self._lock:
                jobs, self._posted = self._posted, []
            if not jobs:
                return
            for job in jobs:
                job()

    def advance(self, seconds: float) -> None:
        """Turns the clock on, running what falls due, in order."""
        end = self.now + seconds
        while self._later and self._later[0][0] <= end:
            self.now, _, job = heapq.heappop(self._later)
            job()
            self.run()
        self.now = end
