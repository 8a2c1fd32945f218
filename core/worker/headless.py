"""The worker without a face: turned by the caller's own thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..commands import Command, Train
from ..errors import RunError
from ..events import Failed
from ..runs.folder import Run, new_run_path
from .thread import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..events import Event
    from ..recipe import Recipe


def events_of(worker: Worker, *commands: Command) -> Iterator[Event]:
    """Posts commands and turns the worker until it has nothing more to do, yielding what it says."""
    for command in commands:
        worker.post(command)
    while worker.turn():
        yield from worker.mailbox.take()
    yield from worker.mailbox.take()


def train(
    recipe: Recipe,
    run: Path | str | None = None,
    *,
    minutes: float | None = None,
    resume: bool = False,
    on_event: Callable[[Event], None] | None = None,
) -> Run:
    """Trains a recipe to its end, here and now, and returns its run folder.

    Raises RunError with the worker's own words where it fails.
    """
    folder = Run(run or new_run_path(recipe.name))
    failed: Failed | None = None
    command = Train(1, str(folder.path), recipe, resume, minutes)
    for event in events_of(Worker(), command):
        failed = failed or (event if isinstance(event, Failed) else None)
        if on_event:
            on_event(event)
    if failed:
        raise RunError(failed.what, field=failed.field, file=failed.file, fix=failed.fix)
    return folder
