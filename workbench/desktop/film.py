"""The film strip: how one image came out of noise, step by step; x_t above, x̂_0 below, σ under both."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QFont, QFontMetricsF, QPainter
from PySide6.QtWidgets import QSizePolicy, QWidget

from . import theme
from .parts import KEY_REASONS, paint_ring
from .pictures import Exact, evenly, to_images, whole_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PySide6.QtGui import QFocusEvent, QImage, QKeyEvent, QMouseEvent, QPaintEvent, QResizeEvent

LABELS = 27
"""Room of the row labels on the left."""
TOP, BETWEEN, GAP, MOST = 12, 4, 8, 64
SIGMA = 18
"""Height of the row of noise levels."""
HEIGHT = TOP + 2 * (MOST + BETWEEN) + SIGMA + 6
NARROWEST = 40
"""Of a column, so that σ can be read."""


def spoken_sigma(sigma: float) -> str:
    """Three figures: 80, 30.8, 6.74, 0.142."""
    return f"{sigma:.3g}" if sigma >= 0.001 or sigma == 0 else f"{sigma:.1e}"


class FilmStrip(QWidget):
    """Steps as columns, the shown one marked; click, drag or arrow keys go to another, which `scrubbed` tells.

    Columns are thinned evenly where there are more steps than fit; the shown step is always among them.
    """

    scrubbed = Signal(int)

    def __init__(self, name: str = "", empty: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("Steps from noise to image")
        self.setFixedHeight(HEIGHT)
        self.setMinimumWidth(LABELS + 3 * MOST)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self._above: list[QImage] = []
        self._below: list[QImage] = []
        self._sigmas: tuple[float, ...] = ()
        self._current = 0
        self._shown: list[int] = []
        self._side = (0.0, 0.0)
        self._empty = empty
        self._has_ring = False

    @property
    def count(self) -> int:
        """Steps in all."""
        return len(self._sigmas)

    @property
    def current(self) -> int:
        return self._current

    @property
    def columns(self) -> tuple[int, ...]:
        """Which steps have a column now."""
        return tuple(self._shown)

    def show_film(self, above: np.ndarray | None, below: np.ndarray | None, sigmas: Sequence[float] = ()) -> None:
        """Shows x_t and x̂_0, uint8 [s h w] or [s h w c], at noise levels [s]; None shows the empty place."""
        self._above, self._below = to_images(above), to_images(below)
        self._sigmas = tuple(sigmas) if self._above else ()
        self._current = min(self._current, max(0, len(self._sigmas) - 1))
        self._lay_out()

    def show_current(self, step: int) -> None:
        """Marks a step, telling nobody; −1 is the last."""
        step = len(self._sigmas) - 1 if step < 0 else min(step, len(self._sigmas) - 1)
        if step != self._current and self._sigmas:
            self._current = step
            self._lay_out()

    def show_empty_text(self, text: str) -> None:
        self._empty = text
        self.update()

    def column_rect(self, at: int) -> QRectF:
        """Where a column's area lies, both images and σ."""
        pitch = self._pitch()
        return QRectF(LABELS + at * pitch - GAP / 2, 0, pitch, self.height())

    def sizeHint(self) -> QSize:
        return QSize(LABELS + 11 * MOST, HEIGHT)

    # --- within -----------------------------------------------------------------------------------

    def _pitch(self) -> float:
        return max(self._side[0], NARROWEST) + GAP

    def _lay_out(self) -> None:
        self._shown = []
        if self._above:
            ratio = self.devicePixelRatioF()
            image = self._above[0]
            scale = whole_scale(max(image.width(), image.height()), MOST * ratio)
            self._side = (round(image.width() * scale) / ratio, round(image.height() * scale) / ratio)
            room = int((self.width() - LABELS + GAP) // self._pitch())
            self._shown = evenly(len(self._sigmas), max(2, room), [self._current])
        self.update()

    def _go(self, step: int) -> None:
        step = min(max(step, 0), len(self._sigmas) - 1)
        if self._sigmas and step != self._current:
            self._current = step
            self._lay_out()
            self.scrubbed.emit(step)

    def _step_at(self, x: float) -> int:
        """The step under the pointer; the columns as they would be without the current one, so that nothing jumps."""
        room = len(self._shown)
        plain = evenly(len(self._sigmas), room)
        at = int((x - LABELS + GAP / 2) // self._pitch())
        return plain[min(max(at, 0), room - 1)]

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self._shown:
            painter.setPen(look.color("quiet"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignVCenter | Qt.TextFlag.TextWordWrap, self._empty)
            return
        width, height = self._side
        second = TOP + height + BETWEEN
        third = second + height + BETWEEN
        paint_symbol(painter, "x", "t", QPointF(0, TOP + height / 2))
        paint_symbol(painter, "x\N{COMBINING CIRCUMFLEX ACCENT}", "0", QPointF(0, second + height / 2))
        paint_symbol(painter, "σ", "", QPointF(0, third + 9))
        with Exact(painter, self.devicePixelRatioF()) as exact:
            for at, step in enumerate(self._shown):
                x = self._image_x(at)
                exact.image(self._above[step], QRectF(x, TOP, width, height))
                exact.image(self._below[step], QRectF(x, second, width, height))
        painter.setFont(theme.font(theme.NOTE))
        for at, step in enumerate(self._shown):
            text = spoken_sigma(self._sigmas[step])
            middle = self._image_x(at) + width / 2
            chip = QRectF(middle - 24, third, 48, SIGMA)
            if step == self._current:
                half = theme.text_width(text, theme.NOTE) / 2 + 7
                painter.setPen(Qt.PenStyle.NoPen)
                painter.setBrush(look.color("accent"))
                painter.drawRoundedRect(QRectF(middle - half, third, 2 * half, SIGMA), 3, 3)
            painter.setPen(look.color("on_accent" if step == self._current else "quiet"))
            painter.drawText(chip, Qt.AlignmentFlag.AlignCenter, text)
        if self.hasFocus() and self._has_ring:
            at = self._shown.index(self._current)
            around = QRectF(self._image_x(at), TOP, width, third + SIGMA - TOP)
            paint_ring(painter, around.adjusted(-3, -3, 3, 3), 3)

    def _image_x(self, at: int) -> float:
        return LABELS + at * self._pitch() + (max(self._side[0], NARROWEST) - self._side[0]) / 2

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._has_ring = False
        if event.button() == Qt.MouseButton.LeftButton and self._shown:
            self._press(event)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if event.buttons() & Qt.MouseButton.LeftButton and self._shown:
            self._go(self._step_at(event.position().x()))

    def _press(self, event: QMouseEvent) -> None:
        at = int((event.position().x() - LABELS + GAP / 2) // self._pitch())
        self._go(self._shown[min(max(at, 0), len(self._shown) - 1)])

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._has_ring = event.reason() in KEY_REASONS
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        steps = {Qt.Key.Key_Left: self._current - 1, Qt.Key.Key_Right: self._current + 1}
        steps |= {Qt.Key.Key_Home: 0, Qt.Key.Key_End: len(self._sigmas) - 1}
        key = Qt.Key(event.key())
        if key in steps:
            self._go(steps[key])
        else:
            super().keyPressEvent(event)


def paint_symbol(painter: QPainter, base: str, below: str, at: QPointF) -> None:
    """A letter with its subscript, as in the papers; its left middle is `at`."""
    painter.setPen(theme.tokens().color("quiet"))
    large, small = QFont(theme.font(theme.BODY)), theme.font(10)
    painter.setFont(large)
    metrics = QFontMetricsF(large)
    baseline = at.y() + metrics.xHeight() / 2
    painter.drawText(QPointF(at.x(), baseline), base)
    if below:
        painter.setFont(small)
        painter.drawText(QPointF(at.x() + metrics.horizontalAdvance(base[0]) + 0.5, baseline + 3), below)
