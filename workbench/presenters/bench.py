"""A face's side of the worker: commands in, events to the panes, on the face's own thread."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import TYPE_CHECKING

from psygnal import Signal

from ...core.commands import LIVE, Close, Command, ReadCatalogue
from ...core.events import (
    ClosedDown,
    DataShown,
    Drawn,
    Event,
    Failed,
    Hanging,
    ModelOpened,
    Phase,
    PhaseChanged,
    Progress,
)
from .drawing import FIRST_MODEL, DrawingPresenter
from .status import Status, status_after
from .training import TrainingPresenter
from .ui_thread import Sparing

if TYPE_CHECKING:
    from ...core.worker import Worker
    from .ui_thread import UiThread

PROGRESS_EVERY = 0.25
"""Seconds between two steps that are told to the panes."""


class Bench:
    """Both panes over one worker. `start` asks the first questions; `close` ends the worker."""

    status_changed = Signal(Status)
    closed = Signal()

    def __init__(self, worker: Worker, ui: UiThread) -> None:
        self.worker = worker
        self.ui = ui
        self._tickets = itertools.count(1)
        self.drawing = DrawingPresenter(self.post, self.next_ticket, ui, self.abandon)
        self.training = TrainingPresenter(self.post, self.next_ticket, ui, self.abandon)
        self.status = Status()
        self.is_closed = False
        self._is_hanging = False
        self._progress: Progress | None = None
        self._telling = Sparing(ui, PROGRESS_EVERY, self._tell_progress)
        worker.mailbox.listen(self._wake)

    def next_ticket(self) -> int:
        return next(self._tickets)

    def post(self, command: Command) -> None:
        self.worker.post(command)

    def start(self, model: str = FIRST_MODEL) -> None:
        """Opens the first model, whose pictures follow at once, and asks what there is to choose from."""
        self.drawing.start(model)
        self.post(ReadCatalogue(self.next_ticket()))

    def draw_live(self) -> None:
        """Draws from the run that trains now."""
        if not self.training.state.why_not("draw"):
            self.drawing.choose_model(LIVE)

    def abandon(self) -> None:
        """Gives up a worker that hangs in a plugin's call: a new one takes its place, and a run that trained waits."""
        if not self._is_hanging:
            return
        run = self.training.state.run if self.training.state.busy else ""
        self.worker = self.worker.abandon()
        self._telling.now()
        self._tell(Hanging())
        if run:
            self._tell(PhaseChanged(phase=Phase.IDLE, run=run, reason="It was given up; what was saved is kept."))

    def close(self) -> None:
        """Saves a run that trains and ends the worker; `closed` follows. One that hangs cannot save."""
        if self._is_hanging:
            self._is_hanging = False
            self.worker = self.worker.abandon()
        self.post(Close(self.next_ticket()))

    def pump(self) -> None:
        """Hands on everything that waits in the mailbox. Called on the face's thread."""
        for event in self.worker.mailbox.take():
            self._hand_on(event)

    def _wake(self) -> None:
        self.ui.post(self.pump)

    def _hand_on(self, event: Event) -> None:
        if isinstance(event, Progress):
            self._progress = event
            self._telling.ask()
            return
        self._telling.now()  # what comes after it must find it told
        self._tell(event)

    def _tell_progress(self) -> None:
        assert self._progress is not None
        self._tell(self._progress)

    def _tell(self, event: Event) -> None:
        if isinstance(event, Hanging):
            self._is_hanging = bool(event.plugin)
        self.drawing.on_event(event)
        self.training.on_event(event)
        if isinstance(event, DataShown | Drawn | Failed | Hanging | ModelOpened | PhaseChanged | Progress):
            self._show_status(event)
        if isinstance(event, ClosedDown):
            self.is_closed = True
            self._show_status(PhaseChanged(phase=Phase.CLOSED))
            self.worker.mailbox.listen(None)
            self.closed.emit()

    def _show_status(self, event: Event) -> None:
        after = status_after(self.status, event)
        if isinstance(event, PhaseChanged) and not self.training.state.run:
            after = replace(after, run="")  # it ended before there was a folder of that name
        if after != self.status:
            self.status = after
            self.status_changed.emit(after)
