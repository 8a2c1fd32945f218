"""Makes the pictures of the README and of docs/method.md with the real program, in about two minutes:

python docs/make_pictures.py [NAME …]   # all, or those whose file names contain one of these: grid, draw, density, …

The window is shown on a screen or under Xvfb.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import method_pictures
from method_pictures import Material
from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication

from imagen_workbench.core.runs.files import write_atomically
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench.desktop import theme
from imagen_workbench.workbench.desktop.qt_thread import QtThread
from imagen_workbench.workbench.desktop.window import Window
from imagen_workbench.workbench.presenters.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Callable

IMAGES = Path(__file__).parent / "images"
SEED = 7
WINDOW = "draw.png"


def save_window(path: Path) -> None:
    """The window with sixteen digits drawn, the way of one of them below, and how likely it is."""
    app = QApplication(sys.argv[:1])
    theme.apply(app, dark=True)
    worker = Worker()
    bench = Bench(worker, QtThread(app))
    window = Window(bench)
    window.show()
    worker.start()
    bench.start()
    _wait(app, lambda: bench.drawing.state.drawn is not None)
    bench.drawing.set(count=16, seed=SEED)
    _wait(app, lambda: not bench.drawing.state.drawing)
    bench.drawing.select(7)
    _wait(app, lambda: bool(bench.drawing.state.likely) and bench.training.state.data is not None)
    window.grab().save(str(path))
    bench.close()
    _wait(app, lambda: bench.is_closed)
    worker.join(10)


def _wait(app: QApplication, until: Callable[[], bool], seconds: float = 120) -> None:
    """Lets the window live until it is so."""
    loop, limit = QEventLoop(), QTimer(app)
    limit.setSingleShot(True)
    limit.start(round(1000 * seconds))
    look = QTimer(app)
    look.timeout.connect(lambda: loop.quit() if until() or not limit.isActive() else None)
    look.start(20)
    loop.exec()
    look.stop()


def main(wanted: list[str]) -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="pictures-") as home:
        os.environ["IMAGEN_WORKBENCH_HOME"] = home
        material = Material(Path(home))
        for name, made in method_pictures.PICTURES.items():
            if _is_wanted(name, wanted):
                write_atomically(IMAGES / name, made(material))
        if _is_wanted(WINDOW, wanted):
            save_window(IMAGES / WINDOW)


def _is_wanted(name: str, wanted: list[str]) -> bool:
    return not wanted or any(each in name for each in wanted)


if __name__ == "__main__":
    main(sys.argv[1:])
