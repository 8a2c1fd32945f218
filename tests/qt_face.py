"""The desktop window, driven by mouse and keys: what `face_scenarios` operates."""

from __future__ import annotations

import gc
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from face_scenarios import Face
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, Qt, QTimer
from PySide6.QtGui import QImage
from PySide6.QtTest import QTest
from PySide6.QtWidgets import (
    QAbstractButton,
    QAbstractItemView,
    QApplication,
    QFileDialog,
    QLabel,
    QLineEdit,
    QMenu,
    QMessageBox,
    QScrollArea,
    QWidget,
)

from imagen_workbench.core.worker.thread import real_engine
from imagen_workbench.workbench.desktop import window as window_module
from imagen_workbench.workbench.desktop.canvas import ImageGrid, Thumbnails
from imagen_workbench.workbench.desktop.chips import Chips
from imagen_workbench.workbench.desktop.controls import ChoiceControl, SwitchControl
from imagen_workbench.workbench.desktop.film import FilmStrip
from imagen_workbench.workbench.desktop.parts import Slider
from imagen_workbench.workbench.desktop.qt_thread import QtThread
from imagen_workbench.workbench.desktop.rail import Subject
from imagen_workbench.workbench.desktop.rows import Control, Field
from imagen_workbench.workbench.desktop.seed_table import SeedTable
from imagen_workbench.workbench.presenters.bench import Bench

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pytest
    from pytestqt.qtbot import QtBot

LEFT, NO, CTRL = Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, Qt.KeyboardModifier.ControlModifier
NAMES = {"roll-seed": "seed-dice", "lock-seed": "seed-lock", "subject": "train-bar-subject"}
"""Where a control's name in the window differs from the scenarios'."""
MANY_TURNS = 1_000
PATIENCE = 20_000
"""Milliseconds."""

W = TypeVar("W", bound=QWidget)


class PromptThread(QtThread):
    """Qt's loop, but what is due later is due at once; knows how much still waits."""

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self.waiting = 0

    def post(self, job: Callable[[], None]) -> None:
        super().post(self._counted(job))

    def call_later(self, seconds: float, job: Callable[[], None]) -> None:
        super().call_later(0 * seconds, self._counted(job))

    def _counted(self, job: Callable[[], None]) -> Callable[[], None]:
        with self._lock:
            self.waiting += 1

        def run() -> None:
            with self._lock:
                self.waiting -= 1
            job()

        return run


class QtFace(Face):
    """A real window over a worker that the test turns. Call `close` at the end: it fails where something is left."""

    def __init__(self, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, ui: QtThread | None = None) -> None:
        super().__init__()
        self._others = set(QApplication.topLevelWidgets())
        self.qtbot, self._monkeypatch = qtbot, monkeypatch
        self.ui = ui or PromptThread()
        self._bench = Bench(self.first_worker, self.ui)
        self.window = window_module.Window(self._bench)
        self.gone, self.began_at = False, ""
        self.window.destroyed.connect(self._note_end)
        self.window.show()
        qtbot.waitExposed(self.window)
        self.window.activateWindow()
        qtbot.waitUntil(self.window.isActiveWindow)

    def _note_end(self) -> None:
        self.gone = True

    @property
    def bench(self) -> Bench:
        return self._bench

    def settle(self) -> None:
        for _ in range(MANY_TURNS):
            QCoreApplication.processEvents()
            QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
            if not getattr(self.ui, "waiting", 0):
                break
        else:
            raise AssertionError("the face never comes to rest")
        QCoreApplication.processEvents()

    def close(self) -> None:
        """Ends bench, worker and window as the person's closing does, and looks for what is left."""
        self.bench.close()
        self.work()
        self.end()

    def end(self) -> None:
        """Waits for the window's end and looks for what is left."""
        self.qtbot.waitUntil(self._is_gone, timeout=PATIENCE)
        assert self.bench.is_closed
        del self.window
        gc.collect()
        left = [type(each).__name__ for each in QApplication.topLevelWidgets() if each not in self._others]
        assert not left, f"left open: {', '.join(left)}"
        assert not self.ui.findChildren(QTimer), "a timer is left"

    def drop(self) -> None:
        """Takes everything away, whatever state it is in."""
        window: QWidget | None = getattr(self, "window", None)
        if window is not None:
            del self.window
        self.bench.close()
        while self.worker.turn():
            pass
        if not self.gone and window is not None:
            window.deleteLater()
        del window
        gc.collect()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)

    def _is_gone(self) -> bool:
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        return self.gone

    # --- finding ----------------------------------------------------------------------------------

    def find(self, kind: type[W], name: str) -> W:
        """The widget of this name that the person can see; scrolled into view."""
        found = self._seen(kind, name)
        assert found, f"no {kind.__name__} {name} can be seen"
        assert len(found) == 1, f"{len(found)} of {name}"
        self._scroll_to(found[0])
        return found[0]

    def _seen(self, kind: type[W], name: str) -> list[W]:
        return [each for each in self.window.findChildren(kind, name) if each.isVisible()]

    def _scroll_to(self, widget: QWidget) -> None:
        parent = widget.parentWidget()
        while parent is not None:
            if isinstance(parent, QScrollArea):
                parent.ensureWidgetVisible(widget)
                QCoreApplication.processEvents()
            parent = parent.parentWidget()

    def press(self, widget: QWidget, where: QPoint | None = None) -> None:
        """A click that the person could make: the widget is enabled, and nothing lies over it."""
        where = where or widget.rect().center()
        if not self.window.isActiveWindow():
            self.window.activateWindow()
            self.qtbot.waitUntil(self.window.isActiveWindow)
        assert widget.isEnabled(), f"{widget.objectName()} cannot be pressed: {widget.toolTip()}"
        top = widget.window()
        under = top.childAt(widget.mapTo(top, where)) or top
        assert under is widget or widget.isAncestorOf(under), f"{widget.objectName()} lies under {under.objectName()}"
        self.qtbot.mouseClick(widget, LEFT, NO, where)

    # --- doing ------------------------------------------------------------------------------------

    def go_to(self, place: str) -> None:
        self.press(self.find(QWidget, f"rail-{place}"))
        self.settle()

    def type_into(self, name: str, text: str) -> None:
        field = self.find(Field, f"{name}-field")
        self.press(field)
        self.qtbot.keyClick(field, Qt.Key.Key_A, CTRL)
        self.qtbot.keyClick(field, Qt.Key.Key_Backspace)
        self.qtbot.keyClicks(field, text)
        self.qtbot.keyClick(field, Qt.Key.Key_Tab)

    def slide(self, name: str, value: float) -> None:
        """Grips the handle and drags, halving the way that is left, until the number fits."""
        slider, control = self.find(Slider, f"{name}-slider"), self.find(Control, name)
        middle = slider.height() // 2
        at = QPoint(round(slider.x_of(slider.value())), middle)
        self.qtbot.mousePress(slider, LEFT, NO, at)
        low, high = 0, slider.width()
        while high - low > 1:
            x = (low + high) // 2
            self.qtbot.mouseMove(slider, QPoint(x, middle))
            low, high = (x, high) if float(getattr(control, "value")) < value else (low, x)  # noqa: B009
        self.qtbot.mouseMove(slider, QPoint(high, middle))
        self.qtbot.mouseRelease(slider, LEFT, NO, QPoint(high, middle))

    def choose(self, name: str, choice: str) -> None:
        if name == "model":
            self.choose_from_menu("draw-bar-subject", choice)
            return
        controls: list[Any] = self._seen(QWidget, name)
        assert len(controls) == 1 or name == "condition", f"{len(controls)} of {name}"
        control: Any = controls[0] if controls else self.find(QWidget, f"{name}-choice")
        self._scroll_to(control)
        if isinstance(control, Chips):
            self.press(self.find(QWidget, f"{name}-{choice}"))
        elif isinstance(control, SwitchControl):
            if control.value != (choice == "yes"):
                self.press(control.box, QPoint(8, control.box.height() // 2))
        else:
            assert isinstance(control, ChoiceControl), name
            texts = [text for value, text in control.choices if choice in (value, text)]
            assert texts, f"{choice} is not among {[text for _, text in control.choices]}"
            self._pick(control, texts[0])

    def _pick(self, control: ChoiceControl, text: str) -> None:
        combo = control.combo
        if combo.isEditable():
            line = combo.lineEdit()
            assert line is not None
            self.press(line)
            self.qtbot.keyClick(line, Qt.Key.Key_A, CTRL)
            self.qtbot.keyClicks(line, text)
            popup = QApplication.activePopupWidget()  # the keys go where Qt sends them
            self.qtbot.keyClick(popup or line, Qt.Key.Key_Return)
            return
        self.press(combo)
        view: QAbstractItemView = combo.view()
        self.qtbot.waitUntil(view.isVisible)
        for key in (Qt.Key.Key_Home, *[Qt.Key.Key_Down] * combo.findText(text), Qt.Key.Key_Return):
            self.qtbot.keyClick(view, key)
        self.qtbot.waitUntil(lambda: not view.isVisible())

    def choose_from_menu(self, subject: str, text: str) -> None:
        """Presses a bar's subject and then the menu's line that begins with this text."""
        self.press(self.find(Subject, subject))
        menus = [each for each in self.window.findChildren(QMenu) if each.isVisible()]
        assert len(menus) == 1
        actions = [each for each in menus[0].actions() if each.text().startswith(text)]
        assert actions, f"{text} is not among {[each.text() for each in menus[0].actions()]}"
        QTest.mouseClick(menus[0], LEFT, NO, menus[0].actionGeometry(actions[0]).center())
        self.settle()
        assert not self.window.findChildren(QMenu), "a menu is left"

    def unfold(self) -> None:
        self.click("more")
        self.settle()

    def click(self, name: str) -> None:
        name = NAMES.get(name, name)
        self.press(self.find(QWidget, name))

    def click_image(self, index: int) -> None:
        grid = self.find(ImageGrid, "images")
        self.press(grid, grid.cell(index).center().toPoint())

    def click_film(self, column: int) -> None:
        film = self.find(FilmStrip, "film")
        self.press(film, film.column_rect(column).center().toPoint())

    def close_window(self, answer: str) -> None:
        """Closes the window, answering its question with the button of this text; empty expects no question."""
        asked = []

        def press() -> None:
            box = self.window.findChild(QMessageBox, "close-question")
            if box is not None:
                asked.append(box.text())
                QTest.mouseClick(next(each for each in box.buttons() if each.text() == answer), LEFT)

        self.ui.call_later(0, press)
        self.window.close()
        self.settle()
        assert bool(asked) == bool(answer), asked

    def answer_dialogs(self, path: Path | str) -> None:
        """What the system's file dialogs will say; `began_at` is where the last one for a folder began."""

        def folder(_parent: QWidget, _title: str, begin: str = "") -> str:
            self.began_at = begin
            return str(path)

        for name in ("getOpenFileName", "getSaveFileName"):
            self._monkeypatch.setattr(QFileDialog, name, lambda *_args, **_kw: (str(path), ""))
        self._monkeypatch.setattr(QFileDialog, "getExistingDirectory", folder)

    def save_picture(self, path: Path) -> None:
        self.answer_dialogs(path)
        self.click("save")
        self.settle()

    # --- seeing -----------------------------------------------------------------------------------

    def is_enabled(self, name: str) -> bool:
        found = self._seen(QWidget, NAMES.get(name, name))
        return bool(found) and found[0].isEnabled()

    def is_there(self, name: str) -> bool:
        return bool(self._seen(QWidget, name))

    def is_primary(self, name: str) -> bool:
        return any(each.property("kind") == "primary" for each in self._seen(QWidget, name))

    def label(self, name: str) -> str:
        return self.find(QAbstractButton, NAMES.get(name, name)).text()

    def shown(self, name: str) -> str:
        if name == "model-facts":
            return self.find(Subject, "draw-bar-subject").facts
        if name == "image-likely":
            return self.find(QLabel, name).text()
        for suffix in ("field", "combo"):
            for widget in self._seen(QWidget, f"{name}-{suffix}"):
                return widget.text() if isinstance(widget, QLineEdit) else str(widget.property("currentText"))
        control = self.find(SwitchControl, name)
        return "yes" if control.value else "no"

    def error_at(self, name: str) -> str:
        found = self._seen(QLabel, f"{name}-message")
        return found[0].text() if found and found[0].property("tone") == "error" else ""

    def grid(self) -> np.ndarray | None:
        """Read back from what is painted, a pixel of the screen from the middle of each pixel of the images."""
        grid = self._only(ImageGrid, "images")
        layout = grid.layout_now
        if layout is None:
            return None
        assert layout.scale >= 1, "the images do not fit"
        screen = _pixels(grid.grab().toImage())
        ratio, scale = grid.devicePixelRatioF(), int(layout.scale)
        images = []
        for index in range(grid.count):
            cell = grid.cell(index)
            top, left = round(cell.y() * ratio), round(cell.x() * ratio)
            height, width = round(cell.height() * ratio), round(cell.width() * ratio)
            inside = screen[top : top + height, left : left + width]
            images.append(inside[scale // 2 :: scale, scale // 2 :: scale])
        return np.stack(images)

    def film_columns(self) -> int:
        return len(self.find(FilmStrip, "film").columns)

    def seed_steps(self) -> list[int]:
        return list(self.find(SeedTable, "seeds").columns)

    def loss_points(self) -> int:
        points, _ = self.window.train_page.loss._smoothed.getData()
        return 0 if points is None else len(points)

    def data_words(self) -> str:
        return self._only(QLabel, "data-words").text()

    def data_images(self) -> int:
        return self.find(Thumbnails, "data-images").count

    def problem(self) -> str:
        found = [each for name in ("draw-problem", "train-problem") for each in self._seen(QLabel, name)]
        return "".join(each.text() for each in found if each.property("tone") == "error")

    def status(self) -> str:
        return "  ".join(self.find(QLabel, f"status-{side}").text() for side in ("left", "right"))

    def _only(self, kind: type[W], name: str) -> W:
        found: Any = self.window.findChild(kind, name)
        assert found is not None
        return found


class RealFace(QtFace):
    """The window over the real engine, on the worker's own thread and Qt's own clock."""

    def __init__(self, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(qtbot, monkeypatch, QtThread())
        self.worker.start()
        self.bench.start()

    def _make_engine(self, emit: Any) -> Any:
        return real_engine(emit)

    def work(self, turns: int | None = None) -> None:
        raise NotImplementedError("the worker turns itself")

    def until(self, condition: Callable[[], object], patience: int = PATIENCE) -> None:
        """Lets the loop turn until the condition holds."""
        self.qtbot.waitUntil(lambda: bool(condition()), timeout=patience)

    def close(self) -> None:
        if not self.bench.is_closed:
            self.bench.close()
        self.end()
        assert self.worker.join(10), "the worker's thread lives on"


def _pixels(image: QImage) -> np.ndarray:
    """[h w 3] uint8."""
    image = image.convertToFormat(QImage.Format.Format_RGB888)
    rows = np.frombuffer(image.constBits(), np.uint8).reshape(image.height(), image.bytesPerLine())
    return rows[:, : 3 * image.width()].reshape(image.height(), image.width(), 3).copy()
