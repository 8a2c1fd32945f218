"""Makes the README's pictures with the real program: python docs/make_pictures.py, on a screen or under Xvfb."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication

from imagen_workbench.core import open_model
from imagen_workbench.core.runs.picture import save_png
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench.desktop import theme
from imagen_workbench.workbench.desktop.qt_thread import QtThread
from imagen_workbench.workbench.desktop.window import Window
from imagen_workbench.workbench.presenters.bench import Bench
from imagen_workbench.workbench.reports.pictures import labelled_grid

IMAGES = Path(__file__).parent / "images"
SEED = 7


def wait(app: QApplication, until: object, seconds: float = 120) -> None:
    """Lets the window live until it is so."""
    loop, limit = QEventLoop(), QTimer(app)
    limit.setSingleShot(True)
    limit.start(round(1000 * seconds))
    look = QTimer(app)
    look.timeout.connect(lambda: loop.quit() if until() or not limit.isActive() else None)  # type: ignore[operator]
    look.start(20)
    loop.exec()
    look.stop()


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    model = open_model("digits")
    digits = [str(digit) for digit in range(10) for _ in range(10)]
    drawn = model.draw(digits, 100, seed=SEED)
    assert drawn.drawn.images is not None
    save_png(IMAGES / "grid.png", labelled_grid(drawn.drawn.images, model.scheme.choices, 10, 1), drawn.recipe)

    os.environ["IMAGEN_WORKBENCH_HOME"] = tempfile.mkdtemp(prefix="pictures-")
    app = QApplication(sys.argv[:1])
    theme.apply(app, dark=True)
    worker = Worker()
    bench = Bench(worker, QtThread(app))
    window = Window(bench)
    window.show()
    worker.start()
    bench.start()
    wait(app, lambda: bench.drawing.state.drawn is not None)
    bench.drawing.set(count=16, seed=SEED)
    wait(app, lambda: not bench.drawing.state.drawing)
    bench.drawing.select(7)
    wait(app, lambda: bench.training.state.data is not None)
    window.grab().save(str(IMAGES / "draw.png"))
    window.go_to("train")
    bench.training.set("training.preview_every", "40")
    bench.training.start()
    wait(app, lambda: len(bench.training.state.rows) >= 6, 300)
    window.grab().save(str(IMAGES / "train.png"))
    bench.close()
    wait(app, lambda: bench.is_closed)
    worker.join(10)


if __name__ == "__main__":
    main()
