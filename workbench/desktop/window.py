"""The desktop window: places on the left, one of them in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QHBoxLayout, QMainWindow, QMessageBox, QStackedWidget, QWidget

from . import theme
from .draw_page import DrawPage
from .parts import set_property
from .rail import Rail
from .train_page import TrainPage

if TYPE_CHECKING:
    from PySide6.QtGui import QCloseEvent

    from ..presenters.bench import Bench

PLACES = (("draw", "Draw", "draw"), ("train", "Train", "train"))


class Window(QMainWindow):
    """Both places over one bench. Closing it saves a run that trains, after asking, and ends the worker."""

    def __init__(self, bench: Bench) -> None:
        super().__init__()
        self.bench = bench
        self.setWindowTitle("Imagen Workbench")
        self.setWindowIcon(theme.icon("imagen-workbench", size=64))
        self.resize(1280, 800)
        self.setMinimumSize(QSize(900, 600))
        self.rail = Rail(PLACES)
        self.draw_page = DrawPage(bench.drawing)
        self.train_page = TrainPage(bench.training)
        self.pages = QStackedWidget()
        self.pages.addWidget(self.draw_page)
        self.pages.addWidget(self.train_page)
        inside = QWidget()
        row = QHBoxLayout(inside)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(0)
        row.addWidget(self.rail)
        row.addWidget(self.pages, 1)
        self.setCentralWidget(inside)
        self._asked_to_close = False

        self.rail.chosen.connect(self.go_to)
        self.train_page.draw_wanted.connect(self._draw_live)
        bench.status_changed.connect(self._show_status)
        bench.closed.connect(self._closed)
        self._show_status(None)
        self.go_to("draw")

    def go_to(self, place: str) -> None:
        """Opens a place: `draw` or `train`."""
        self.rail.show_current(place)
        self.pages.setCurrentWidget(self.draw_page if place == "draw" else self.train_page)

    def _draw_live(self) -> None:
        self.bench.draw_live()
        self.go_to("draw")

    def _show_status(self, _status: object) -> None:
        self.draw_page.show_status(self.bench.status)
        self.train_page.show_status(self.bench.status)

    # --- the end ----------------------------------------------------------------------------------

    def closeEvent(self, event: QCloseEvent) -> None:
        """Closes once the worker has ended; before that asks, where a run would be interrupted."""
        if self.bench.is_closed:
            event.accept()
            return
        event.ignore()
        if self._asked_to_close:
            return
        if self.bench.training.state.busy and not self._may_close():
            return
        self._asked_to_close = True
        self.setEnabled(False)
        self.bench.close()

    def _may_close(self) -> bool:
        run = self.bench.training.state.run_name
        box = QMessageBox(self)
        box.setObjectName("close-question")
        box.setIcon(QMessageBox.Icon.NoIcon)
        box.setText(f"{run} is in training.")
        saves = self.bench.training.state.hanging is None
        state = "Its state will be saved" if saves else "Its last checkpoint is kept"
        box.setInformativeText(f"{state}, and it can go on later from the Train place.")
        save = box.addButton("Save and close" if saves else "Close", QMessageBox.ButtonRole.AcceptRole)
        set_property(save, "kind", "primary")
        box.addButton("Keep training", QMessageBox.ButtonRole.RejectRole)
        box.setDefaultButton(save)
        box.exec()
        chosen = box.clickedButton()
        box.deleteLater()
        return chosen is save

    def _closed(self) -> None:
        self.draw_page.release()
        self.train_page.release()
        self.bench.status_changed.disconnect(self._show_status)
        self.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        self.close()
