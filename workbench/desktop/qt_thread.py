"""Qt's event loop as a face's own thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, QTimer, Signal, Slot

if TYPE_CHECKING:
    from collections.abc import Callable


class QtThread(QObject):
    """A `UiThread`: `post` from anywhere, run in the loop of the thread that made this object."""

    _posted = Signal(object)

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._owner = threading.get_ident()
        self._posted.connect(self._run, Qt.ConnectionType.QueuedConnection)

    def post(self, job: Callable[[], None]) -> None:
        self._posted.emit(job)

    def call_later(self, seconds: float, job: Callable[[], None]) -> None:
        QTimer.singleShot(round(1000 * seconds), self, job)

    def is_here(self) -> bool:
        return threading.get_ident() == self._owner

    @Slot(object)
    def _run(self, job: Callable[[], None]) -> None:
        job()
