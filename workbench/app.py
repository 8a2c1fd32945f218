"""The desktop's entry. Nothing heavy is imported here; torch comes in on the worker's thread."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType

SIGNALS_SEEN_EVERY = 250
"""Milliseconds: Python looks at Ctrl+C only when it runs, which an idle Qt loop does not."""


def run() -> int:
    """Opens the window and returns the exit code when it is closed."""
    from PySide6.QtCore import QTimer
    from PySide6.QtWidgets import QApplication

    from ..core.worker import Worker
    from .desktop import theme
    from .desktop.qt_thread import QtThread
    from .desktop.window import Window
    from .presenters.bench import Bench

    app = QApplication(sys.argv[:1])
    app.setApplicationName("imagen-workbench")
    app.setApplicationDisplayName("Imagen Workbench")
    app.setDesktopFileName("imagen-workbench")
    theme.apply(app)
    worker = Worker()
    bench = Bench(worker, QtThread(app))
    window = Window(bench)
    window.show()

    def interrupted(_signal: int, _frame: FrameType | None) -> None:
        bench.close()

    signal.signal(signal.SIGINT, interrupted)
    ticking = QTimer(app)
    ticking.start(SIGNALS_SEEN_EVERY)
    worker.start()
    bench.start()
    code = app.exec()
    bench.worker.join(30)
    return code
