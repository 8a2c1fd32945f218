"""What loader processes are given to do, and what of it has come: rows, brought into their order."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .opening import Opened
from .process import Process, Task
from .rows import Aside, Row

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np

    from ..recipe import Data

EXAMPLE = 60.0
"""Seconds that one example may take."""
CHUNK = 16
"""Examples that a process is asked for at once."""
IN_LINE = 2
"""Chunks that it is asked for in advance."""
ASKED = 1 << 22
"""Bytes of pixels that one chunk may have."""
AHEAD = 1 << 28
"""Bytes of pixels that may wait for one that comes before them."""
FEWEST_AHEAD, MOST_AHEAD = 256, 4096
"""Examples that may."""


class Work(ABC):
    """The examples of one reading. They are given out in order and may come in any; `ready` has them in order again."""

    do: str

    def __init__(self, data: Data, opened: Opened, first_limit: float = 0.0) -> None:
        """first_limit: seconds that each example may take of those that a process is asked for first, if longer."""
        self._opened = opened
        self._first_limit = first_limit
        self._shapes = {(data.channels, *shape) for shape in data.shapes}
        row = data.channels * data.canvas[0] * data.canvas[1] * data.depth // 8
        self._chunk = max(1, min(CHUNK, ASKED // row))
        self._ahead = max(FEWEST_AHEAD, min(MOST_AHEAD, AHEAD // row))
        self._come: dict[int, Row | Aside] = {}
        self._next = 0
        self.faults = 0

    @property
    @abstractmethod
    def is_done(self) -> bool: ...

    @property
    @abstractmethod
    def is_waiting(self) -> bool:
        """Whether there is anything to be given out now."""

    @abstractmethod
    def _give_chunk(self, process: Process) -> None: ...

    @abstractmethod
    def take_back(self, process: Process, reason: str) -> str:
        """What a process that is gone had still to do; sets aside the example it was at, and returns its name.

        Raises DataError where there is no way past it.
        """

    def give(self, process: Process) -> None:
        """As much as a process should be asked for in advance."""
        while self.is_waiting and sum(task.do == self.do for task in process.tasks) < IN_LINE:
            self._give_chunk(process)

    def _limit(self, process: Process) -> float:
        return EXAMPLE if process.was_asked_to(self.do) else max(EXAMPLE, self._first_limit)

    def take(self, process: Process, told: dict[str, Any], arrays: Sequence[np.ndarray]) -> None:
        """What a process says. Raises KeyError, IndexError, TypeError or ValueError where it makes no sense.

        Raises DataError where the data is other data than when it was first opened.
        """
        task = process.tasks[0]
        match task.do, told["say"]:
            case "open", "opened":
                opened = Opened.from_dict(told)
                if (opened.length, opened.facts) != (self._opened.length, self._opened.facts):
                    raise DataError("the data has changed while it was read", fix="Try again once it keeps still")
                process.tasks.popleft()
            case "scheme", "ready":
                process.tasks.popleft()
            case self.do, "row" | "aside":
                if told["index"] != task.first:
                    raise ValueError(f"example {told['index']} instead of {task.first}")
                self._come[task.first] = self._row_of(told, arrays)
                task.first, task.name = task.first + 1, str(told.get("next", ""))
                if task.first == task.end:
                    process.tasks.popleft()
            case self.do, "next":
                self._begun(task, told)
            case self.do, "end":
                self._ended(task)
                process.tasks.popleft()
            case _:
                raise ValueError(f"{told['say']} is no answer to {task.do}")

    def ready(self) -> Iterator[Row | Aside]:
        """What has come, as far as nothing is missing before it."""
        while self._next in self._come:
            row = self._come.pop(self._next)
            self._next += 1
            yield row

    def _begun(self, task: Task, told: dict[str, Any]) -> None:
        task.name = str(told["name"])

    def _ended(self, task: Task) -> None:
        raise ValueError(f"an end at {task.first}")

    def _row_of(self, told: dict[str, Any], arrays: Sequence[np.ndarray]) -> Row | Aside:
        name = str(told["name"])
        if told["say"] == "aside":
            return Aside(name, str(told["reason"]))
        pixels, *rest = arrays
        if pixels.shape not in self._shapes:
            raise ValueError(f"pixels of shape {pixels.shape}")
        prepared = rest[0] if rest else None
        return Row(pixels, prepared, int(told["label"]), name, told["caption"], dict(told["attributes"]))


class ByIndex(Work):
    """A source's: any process reads any of them."""

    do = "decode"

    def __init__(self, data: Data, opened: Opened, first_limit: float = 0.0) -> None:
        super().__init__(data, opened, first_limit)
        self._end = opened.length or 0
        self._left = [(at, min(at + self._chunk, self._end)) for at in range(0, self._end, self._chunk)]

    @property
    def is_done(self) -> bool:
        return self._next >= self._end

    @property
    def is_waiting(self) -> bool:
        return bool(self._left) and self._left[0][0] < self._next + self._ahead

    def _give_chunk(self, process: Process) -> None:
        first, end = heapq.heappop(self._left)
        process.ask(Task(self.do, self._limit(process), first, end))

    def take_back(self, process: Process, reason: str) -> str:
        self.faults += 1
        name = ""
        for task in (task for task in process.tasks if task.do == self.do):
            if not name:
                name = task.name or f"No. {task.first}"
                self._come[task.first] = Aside(name, reason)
                task.first += 1
            if task.first < task.end:
                heapq.heappush(self._left, (task.first, task.end))
        process.tasks.clear()
        return name


class InARow(Work):
    """A stream's: one process reads it; another goes on from the last position that is known."""

    do = "stream"

    def __init__(self, data: Data, opened: Opened, first_limit: float = 0.0) -> None:
        super().__init__(data, opened, first_limit)
        self._end = data.most or None
        self._given = 0
        self._position: Any = None
        self._lost_at: list[Any] = []

    @property
    def is_done(self) -> bool:
        return self._end is not None and self._next >= self._end

    @property
    def is_waiting(self) -> bool:
        return self._given < self._next + self._ahead and (self._end is None or self._given < self._end)

    def _give_chunk(self, process: Process) -> None:
        end = self._given + self._chunk
        end = end if self._end is None else min(end, self._end)
        begins = {} if process.was_asked_to(self.do) else {"position": self._position}
        process.ask(Task(self.do, self._limit(process), self._given, end), **begins)
        self._given = end

    def take_back(self, process: Process, reason: str) -> str:
        self.faults += 1
        task = next((task for task in process.tasks if task.do == self.do), None)
        process.tasks.clear()
        if task is None:
            return ""
        self._given = task.first
        if task.name:
            self._come[task.first] = Aside(task.name, reason)
            self._given += 1
        elif self._position in self._lost_at:
            raise DataError(f"{reason} twice after {task.first:,} examples", fix="Take fewer: data.most")
        else:
            self._lost_at = [self._position]
        return task.name or f"No. {task.first}"

    def _begun(self, task: Task, told: dict[str, Any]) -> None:
        super()._begun(task, told)
        self._position = told["position"]

    def _ended(self, task: Task) -> None:
        self._end = task.first if self._end is None else min(self._end, task.first)
