"""A loader process: runs a plugin's code where nothing is lost if it hangs, crashes or prints.

It is asked and answers in frames (see `frames`): to open a recipe's source, to make its conditioning scheme, to
decode examples. It ends when nobody listens any more.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import queue
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO

from ..errors import WorkbenchError
from ..recipe import Recipe
from .frames import read_frame, write_frame
from .opening import Opened
from .rows import LONGEST, Aside, fetched, name_of, reason_of, row_of, row_of_example
from .source import Source, Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np

    from ..conditioning import ConditioningScheme
    from .rows import Row
    from .source import Example, Facts, Position

GRACE = 30.0
"""Seconds beyond its limit after which a process ends by itself, if nobody has ended it."""
WATCHED = 5.0
"""Seconds after which the watch is wound up again."""


def serve(
    make_source: Callable[[Recipe], Source | Stream],
    ask: Callable[[Recipe, Callable[[], Any]], Any],
    make_scheme: Callable[[Recipe, Facts], ConditioningScheme],
) -> None:
    """The life of a loader process. ask: calls a source's code, and names its plugin in what that raises."""
    requests, answers = _take_pipes()
    faulthandler.enable()
    _leave_no_core()
    inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(requests, inbox), daemon=True).start()
    loader = Loader(answers, make_source, ask, make_scheme)
    while True:
        request = inbox.get()
        loader.wind(request["limit"])
        loader.answer(request)
        faulthandler.cancel_dump_traceback_later()


class Loader:
    """What is open in this process."""

    def __init__(
        self,
        answers: BinaryIO,
        make_source: Callable[[Recipe], Source | Stream],
        ask: Callable[[Recipe, Callable[[], Any]], Any],
        make_scheme: Callable[[Recipe, Facts], ConditioningScheme],
    ) -> None:
        self._answers = answers
        self._make_source, self._ask, self._make_scheme = make_source, ask, make_scheme
        self._recipe = Recipe.of({})
        self._source: Source | Stream | None = None
        self._fetched: Iterator[tuple[Position, Any]] = iter(())
        self._facts: Facts | None = None
        self._prepare: Callable[[Example], np.ndarray] | None = None
        self._limit = 0.0
        self._wound = 0.0

    def wind(self, limit: float) -> None:
        """From now on this process may take `limit` seconds, and the grace, before it ends by itself.

        By a watch that needs no interpreter: code that hangs may hold that, and then nothing is heard of us.
        """
        self._limit, self._wound = limit, time.monotonic()
        faulthandler.dump_traceback_later(limit + WATCHED + GRACE, exit=True)

    def answer(self, request: dict[str, Any]) -> None:
        try:
            match request["do"]:
                case "open":
                    self._open(request)
                case "scheme":
                    self._make(request)
                case "decode":
                    self._decode(request["first"], request["end"])
                case "stream":
                    self._stream(request)
        except WorkbenchError as error:
            self._say({"say": "error", **told(error)})
        except Exception as error:  # noqa: BLE001 - what has no better name is told as it is
            self._say({"say": "error", "kind": "PluginError", "what": reason_of(error)})

    def _open(self, request: dict[str, Any]) -> None:
        self._recipe = recipe = Recipe.of(request["recipe"])
        self._source = source = self._make_source(recipe)
        brought = self._ask(recipe, lambda: iter(source.bring()))
        while (told := self._ask(recipe, lambda: next(brought, None))) is not None:
            self._say({"say": "bringing", **asdict(told)})
            self.wind(self._limit)
        opened = self._ask(recipe, lambda: Opened.of(source, recipe.data, fingerprint=request["fingerprint"]))
        self._facts = opened.facts
        self._say({"say": "opened", **opened.as_dict()})

    def _make(self, _request: dict[str, Any]) -> None:
        assert self._facts is not None
        self._prepare = self._make_scheme(self._recipe, self._facts).prepare
        self._say({"say": "ready"})

    def _decode(self, first: int, end: int) -> None:
        """Says which example comes next before it is begun, so that it is known if nothing more is heard."""
        source = self._source
        assert isinstance(source, Source)
        self._say({"say": "next", "name": name_of(source, first)})
        for index in range(first, end):
            try:
                row = row_of(source, index, self._recipe.data, self._prepare)
            except BaseException as error:  # noqa: BLE001 - SystemExit, too: it is an example that is to blame
                row = Aside(name_of(source, index), reason_of(error))
            self._say_row(index, row, {"next": name_of(source, index + 1)} if index + 1 < end else {})

    def _stream(self, request: dict[str, Any]) -> None:
        """Goes on where it was, or from the position that it is asked to begin at. Says where it could go on from
        after each example before that is decoded.
        """
        stream = self._source
        assert isinstance(stream, Stream)
        if "position" in request:
            self._fetched = fetched(stream, request["position"])
        for index in range(request["first"], request["end"]):
            found = self._ask(self._recipe, lambda: next(self._fetched, None))
            if found is None:
                self._say({"say": "end"})
                return
            position, example = found
            name = getattr(example, "name", "")
            name = name if isinstance(name, str) and name else f"No. {index}"
            self._say({"say": "next", "name": name[:LONGEST], "position": position})
            try:
                row = row_of_example(example, name, len(stream.classes), self._recipe.data, self._prepare)
            except BaseException as error:  # noqa: BLE001 - as above
                row = Aside(name, reason_of(error))
            self._say_row(index, row, {})

    def _say_row(self, index: int, row: Row | Aside, following: dict[str, str]) -> None:
        if isinstance(row, Aside):
            self._say({"say": "aside", "index": index, "name": row.name, "reason": row.reason, **following})
        else:
            arrays = [row.pixels] if row.prepared is None else [row.pixels, row.prepared]
            words = {"label": row.label, "name": row.name, "caption": row.caption, "attributes": dict(row.attributes)}
            self._say({"say": "row", "index": index, **words, **following}, arrays)
        if time.monotonic() - self._wound > WATCHED:
            self.wind(self._limit)

    def _say(self, said: dict[str, Any], arrays: list[np.ndarray] | None = None) -> None:
        try:
            write_frame(self._answers, said, arrays or [])
        except OSError:
            os._exit(0)  # nobody listens


def told(error: WorkbenchError) -> dict[str, str]:
    """An error as JSON can hold it."""
    parts = {name: getattr(error, name) for name in ("what", "field", "file", "tensor", "fix")}
    return {"kind": type(error).__name__, **parts}


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """(requests, answers), taken from standard input and output; what plugins print goes where errors go."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=1 << 18)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _hear(requests: BinaryIO, inbox: queue.SimpleQueue[dict[str, Any]]) -> None:
    with contextlib.suppress(OSError, ValueError):
        while (frame := read_frame(requests)) is not None:
            inbox.put(frame[0])
    os._exit(0)  # whoever asked is gone


def _leave_no_core() -> None:
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
