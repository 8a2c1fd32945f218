"""How fast training goes, and how long it has left."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Pace:
    """Two clocks: that of the steps alone, for images per second, and that of everything, for the time left."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._first_seen = 0
        self._seen = 0
        self._rate = 0.0

    def begin(self, seen: int) -> None:
        """Training begins, or goes on, at this counter."""
        self._began = self._last = self._clock()
        self._first_seen = self._seen = seen

    def step(self, seen: int, images: int) -> None:
        """A step of so many images has just been made."""
        now = self._clock()
        rate = images / max(now - self._last, 1e-9)
        # a mean over about the last thirty steps
        share = max(0.03, images / max(seen - self._first_seen, images))
        self._rate += share * (rate - self._rate)
        self._last, self._seen = now, seen

    def rewind(self, seen: int) -> None:
        """Training goes on from an earlier counter; the time spent and the images seen in it stay what they were."""
        self._first_seen += seen - self._seen
        self._seen = seen
        self._last = self._clock()

    def skip(self) -> None:
        """What happened since the last step was not training."""
        self._last = self._clock()

    @property
    def images_per_second(self) -> float:
        return self._rate

    @property
    def seconds(self) -> float:
        """Since `begin`, pauses and draws among them."""
        return self._clock() - self._began

    def seconds_for(self, images: int) -> float:
        """How long that many more images take, with all that comes between the steps; NaN before the first."""
        done = self._seen - self._first_seen
        return images * self.seconds / done if done else float("nan")
