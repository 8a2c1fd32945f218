"""Calls into plugins' code, marked so that a watchdog on another thread sees one that hangs, and can end it."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Result = TypeVar("Result")


@dataclass(frozen=True)
class Call:
    """Whose code it is, and which part of it: "parse", "its encoder"."""

    plugin: str
    package: str
    part: str


class Overdue(BaseException):
    """Raised within a call that has taken too long. Not an Exception: a plugin that goes on after those ends, too."""


class Abandoned(BaseException):
    """Raised where a thread comes back that was given up: it ends, and tells nobody."""


class Watched:
    """What a thread that calls plugins shows of itself. Made on that thread; looked at from another one."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._call: Call | None = None
        self._count = 0
        self._is_overdue = self._is_abandoned = False

    # --- on its own thread ------------------------------------------------------------------------

    def call(self, call: Call, work: Callable[[], Result]) -> Result:
        """Does the work. Raises PluginError where it was ended, Abandoned where the thread was given up meanwhile."""
        if self._call is not None:
            return work()  # of a call within a call the outer one counts
        try:
            self._enter(call)
            try:
                return work()
            finally:
                self._leave()
        except Overdue:
            self._leave()  # it may have come in the midst of leaving
            raise PluginError(
                f"the plugin {call.plugin!r} of {call.package} did not come back from {call.part} and was ended",
                fix=f"Try again, a run from its last checkpoint; if it stays so, tell the makers of {call.package}",
            ) from None

    def _enter(self, call: Call) -> None:
        with self._lock:
            self._call = call
            self._count += 1

    def _leave(self) -> None:
        with self._lock:
            self._call = None
            if self._is_overdue:
                self._is_overdue = False
                _raise_in(self._thread, None)  # it came back by itself, just in time
        if self._is_abandoned:
            raise Abandoned

    # --- on the watchdog's ------------------------------------------------------------------------

    def now(self) -> tuple[int, Call | None]:
        """The call that is under way, and how many there have been with it."""
        with self._lock:
            return self._count, self._call

    def end(self, count: int) -> None:
        """Ends this call at its next line of Python, unless it is over. One within native code ends after that."""
        with self._lock:
            if self._call is not None and self._count == count and not self._is_overdue:
                self._is_overdue = True
                _raise_in(self._thread, Overdue)

    def abandon(self) -> None:
        """Gives the thread up: should its call ever end, so does the thread."""
        with self._lock:
            self._is_abandoned = True


_HERE = threading.local()
"""What the present thread shows of itself, where it is watched."""


@contextlib.contextmanager
def watched() -> Iterator[Watched]:
    """Within it, this thread's calls of plugins can be seen from others."""
    before = getattr(_HERE, "watched", None)
    _HERE.watched = Watched()
    try:
        yield _HERE.watched
    finally:
        _HERE.watched = before


def call_foreign(plugin: str, package: str, part: str, work: Callable[[], Result]) -> Result:
    """Does a plugin's work, marked as such where this thread is watched."""
    here: Watched | None = getattr(_HERE, "watched", None)
    return work() if here is None else here.call(Call(plugin, package, part), work)


def _raise_in(thread: int, kind: type[BaseException] | None) -> None:
    """Raises it in another thread, as soon as that runs Python; None takes back one that has not come yet."""
    import ctypes

    what: Any = None if kind is None else ctypes.py_object(kind)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), what)
