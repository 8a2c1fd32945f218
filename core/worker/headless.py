"""The worker without a face: turned by the caller's own thread."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from ..commands import Command, Stop, Train
from ..events import Failed
from ..launch import is_follower, process_count
from ..runs.folder import Run, new_run_path
from .thread import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import FrameType

    from ..events import Event
    from ..recipe import Recipe


def events_of(worker: Worker, *commands: Command) -> Iterator[Event]:
    """Posts commands and turns the worker until it has nothing more to do, yielding what it says."""
    for command in commands:
        worker.post(command)
    with worker.watching():
        while worker.turn():
            yield from worker.mailbox.take()
    yield from worker.mailbox.take()


@contextlib.contextmanager
def stopping_on_interrupt(worker: Worker, say: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within it the first Ctrl+C asks the worker to stop training where its state is whole, and calls `say`;
    a second one interrupts at once, unless several processes train: their launcher sends a second one by itself.
    On other threads than the main one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler if process_count() == 1 else signal.SIG_IGN)
        worker.post(Stop())
        say()

    before = signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def train(
    recipe: Recipe,
    run: Path | str | None = None,
    *,
    minutes: float | None = None,
    resume: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """Trains a recipe to its end, or to Ctrl+C, which saves first; returns its run folder.

    Where several processes train together, each calls this, and the main one alone has a folder and events.
    Raises RunError with the worker's own words where it fails.
    """
    folder = Run(run or new_run_path(recipe.name))
    if is_follower():
        from .following import follow  # with torch, as the worker's engine

        follow(recipe)
        return folder
    failed: Failed | None = None
    worker, command = Worker(), Train(1, str(folder.path), recipe, resume, minutes)
    with stopping_on_interrupt(worker):
        for event in events_of(worker, command):
            failed = failed or (event if isinstance(event, Failed) else None)
            if on_event:
                on_event(event)
    if failed:
        raise failed.as_error()
    return folder
