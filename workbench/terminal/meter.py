"""How far a command has come: a bar on a terminal, plain lines in a log file or a pipe."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.progress import BarColumn, Progress, TextColumn

from ..presenters.numbers import spoken_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from rich.console import Console

EVERY = 10.0
"""Seconds between two lines where there is no terminal."""
SOONEST = 2.0
"""Seconds of work after which the time left is estimated."""


class Meter:
    """A bar inside its `with` block where a person looks at a terminal. Elsewhere a line whenever other work begins,
    and every ten seconds: "step 120 of 2,000, 480 images/s, loss 0.213, 3 min 5 s left".

    clock: seconds, from any beginning.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._clock = clock
        # a log that is asked for colours is still a log
        watched = console.is_interactive and console.file.isatty()
        self._bar = _bar(console) if watched else None
        self._task = self._bar.add_task("Starting", total=None, facts="") if self._bar else None
        self._what = ""
        self._began, self._first, self._told = 0.0, 0, 0.0

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.live.transient = not self._what  # a bar that never moved is taken away
            self._bar.stop()

    def say(self, line: str) -> None:
        """A line of its own, which stays."""
        self._console.print(line, soft_wrap=True)

    def show(self, what: str, done: int, total: int, *facts: str, seconds_left: float | None = None) -> None:
        """what: the work, in words; done of total: how far it has come; facts: what else there is to tell.

        seconds_left: by default estimated from the time that this work has taken so far; NaN where nobody knows.
        """
        now = self._clock()
        other = what != self._what
        if other:
            self._what, self._began, self._first = what, now, done
        if seconds_left is None:
            seconds_left = self._estimate(done, total, now)
        words = f"{what} {done:,} of {total:,}" if total else what
        told = [fact for fact in facts if fact]
        if seconds_left == seconds_left:  # not NaN
            told.append(f"{spoken_time(seconds_left)} left")
        if self._bar and self._task is not None:
            self._bar.update(self._task, description=words, completed=done, total=total or None, facts="  ".join(told))
        elif other or now - self._told >= EVERY:
            self._told = now
            self.say(", ".join([words, *told]))

    def _estimate(self, done: int, total: int, now: float) -> float:
        passed, made = now - self._began, done - self._first
        return passed * (total - done) / made if made > 0 and passed >= SOONEST else float("nan")


def _bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        console=console,
    )
