"""Loader processes: a plugin's code runs in them while a dataset is read, and not here.

The rows come in order of index whatever the number of processes; an example at which one hangs or dies is set aside
by name, as one that raises is, and another process takes its place.
"""

from __future__ import annotations

import queue
import time
from typing import TYPE_CHECKING, Any, Self

from .. import errors
from ..errors import DataError, PluginError, WorkbenchError
from .opening import Opened
from .process import Process, Task
from .source import Bringing
from .work import ByIndex, InARow

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    import numpy as np

    from ..recipe import Recipe
    from .rows import Aside, Row
    from .work import Work

OPENING = 900.0
"""Seconds that opening a source may take, with a download; or making a conditioning scheme."""
FAULTS = 5
"""Examples that may hang or bring their process down before the plugin is given up."""
MOST = 8
"""Processes, however many cores there are: each has a copy of what the plugin holds."""
EACH = 64
"""Examples for which it is worth starting another process."""
TURN = 0.05
"""Seconds that are waited before the caller has its turn."""
LOOK = 0.2
"""Seconds between two looks at whether a process takes too long."""


class Loaders:
    """The processes that read one recipe's data. Leaving the `with` ends them.

    cores: how many may be used; blamed: who is named where a process goes down ("the plugin 'x' of y"); fix: what
    is to be done then.
    """

    def __init__(self, recipe: Recipe, cores: int, blamed: str, fix: str) -> None:
        self._recipe = recipe
        self._cores = cores
        self._blamed, self._fix = blamed, fix
        self._arrived: queue.SimpleQueue[tuple[Process, Any, Any]] = queue.SimpleQueue()
        self._processes: list[Process] = []
        self._looked = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends all processes; what is asked next begins new ones."""
        processes, self._processes = self._processes, []
        for process in processes:
            process.end()
        for process in processes:
            process.close()
        self._arrived = queue.SimpleQueue()

    def opened(self) -> Generator[Bringing | None, None, Opened]:
        """What the source tells of itself, asked in a first process; meanwhile what it brings here, or None.

        Raises what it raises, or PluginError.
        """
        self.close()
        self._start(fingerprint=True)
        while True:
            for process, told, _ in self._heard():
                if told is None:
                    raise self._lost(process)
                if told.get("say") == "bringing":
                    yield Bringing(str(told.get("what")), int(told.get("done", 0)), int(told.get("total", 0)))
                    continue
                process.tasks.popleft()
                return self._opened_of(told)
            yield None

    def rows(
        self, opened: Opened, *, prepare: bool, most: int = MOST, slow_start: bool = False
    ) -> Iterator[Row | Aside | None]:
        """Every example in order of index; None where none has come for a moment.

        prepare: whether conditions are made, too; most: processes; slow_start: whether the first examples of each may
        take as long as opening does. Raises as `opened` does; PluginError after too many faults.
        """
        kind = InARow if opened.streams else ByIndex
        if any(process.was_asked_to(kind.do) for process in self._processes):
            self.close()  # what an earlier round has left
        for process in self._processes:
            self._make_ready(process, prepare=prepare)
        wanted = 1 if opened.streams else max(1, min(self._cores, most, -(-(opened.length or 0) // EACH)))
        work = kind(self._recipe.data, opened, OPENING if slow_start else 0.0)
        while not work.is_done:
            if len(self._processes) < wanted and work.is_waiting:
                self._make_ready(self._start(fingerprint=False), prepare=prepare)
            for process in self._processes:
                work.give(process)
            for process, told, arrays in self._heard():
                if told is None:
                    self._processes.remove(process)
                    self._blame(process, work)
                    continue
                self._raise_error(told)
                if told.get("say") == "bringing":  # of one that is opened later: again
                    continue
                try:
                    work.take(process, told, arrays)
                except (KeyError, IndexError, TypeError, ValueError):
                    process.end("said what cannot be understood")
            yield from work.ready()
            yield None

    # --- processes --------------------------------------------------------------------------------

    def _start(self, *, fingerprint: bool) -> Process:
        process = Process(self._arrived)
        self._processes.append(process)
        process.ask(Task("open", OPENING), recipe=self._recipe.model_dump(mode="json"), fingerprint=fingerprint)
        return process

    def _make_ready(self, process: Process, *, prepare: bool) -> None:
        if prepare:
            process.ask(Task("scheme", OPENING))

    def _heard(self) -> Iterator[tuple[Process, dict[str, Any] | None, Sequence[np.ndarray]]]:
        """What has come by now, after waiting a moment for the first; None from a process that is gone."""
        if time.monotonic() - self._looked > LOOK:
            self._looked = time.monotonic()
            for process in self._processes:
                process.look()
        until = time.monotonic() + TURN
        while (left := until - time.monotonic()) > 0:
            try:
                message = self._arrived.get(timeout=left)
            except queue.Empty:
                return
            if message[0] in self._processes:
                yield message
            if self._arrived.empty():
                return

    # --- answers ----------------------------------------------------------------------------------

    def _opened_of(self, told: dict[str, Any]) -> Opened:
        self._raise_error(told)
        try:
            return Opened.from_dict(told)
        except (KeyError, TypeError, ValueError) as error:
            raise PluginError(f"{self._blamed} tells of its data what it should not: {error}", fix=self._fix) from error

    def _raise_error(self, told: dict[str, Any]) -> None:
        """The error that a process has met, as if it had been met here."""
        if told.get("say") != "error":
            return
        kind = getattr(errors, str(told.get("kind")), PluginError)
        if not (isinstance(kind, type) and issubclass(kind, WorkbenchError)):
            kind = PluginError
        parts = {name: str(told.get(name, "")) for name in ("field", "file", "tensor", "fix")}
        raise kind(str(told.get("what", "failed")), **parts)

    def _blame(self, process: Process, work: Work) -> None:
        """Sets aside the example that a process was at when it went, or gives up."""
        if process.tasks and process.tasks[0].do != work.do:
            raise self._lost(process)
        reason = process.why_gone()
        try:
            name = work.take_back(process, reason)
        except DataError as error:
            raise PluginError(f"{self._blamed} {error.what}", fix=error.fix) from error
        if work.faults >= FAULTS:
            what = f"failed at {work.faults} examples in ways that end its process, at last at {name}: {reason}"
            error = PluginError(f"{self._blamed} {what}", fix=self._fix)
            error.add_note(process.last_words())
            raise error

    def _lost(self, process: Process) -> PluginError:
        error = PluginError(f"{self._blamed} {process.why_gone()} while it was opened", fix=self._fix)
        error.add_note(process.last_words())
        return error
