"""The same seeds over training: a column for each time they were drawn, a row for each seed."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QSizePolicy, QWidget

from . import theme
from .pictures import Exact, to_images, whole_scale

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from PySide6.QtGui import QFocusEvent, QImage, QKeyEvent, QMouseEvent, QPaintEvent, QResizeEvent

HEAD, GAP, ROW_GAP = 24, 8, 4
WIDEST_ROW_GAP = 12
SMALLEST, LARGEST = 6, 64
"""Of an image's side on the screen."""


def thinned(count: int, room: int) -> list[int]:
    """Every k-th of `count` columns and the newest, k as small as fits: columns keep their places while they can."""
    stride = max(1, math.ceil((count - 1) / max(1, room - 1))) if count > 1 else 1
    shown = list(range(0, count, stride))
    if shown and shown[-1] != count - 1:
        shown.append(count - 1)
    return shown


class SeedTable(QWidget):
    """Images by step and seed; the pointer and the arrow keys highlight one, which `highlighted` tells (step, seed)."""

    highlighted = Signal(int, int)

    def __init__(self, name: str = "", empty: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("The same seeds over training")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, HEAD + 4 * (SMALLEST + ROW_GAP))
        self._empty = empty
        self._steps: list[int] = []
        self._columns: dict[int, tuple[np.ndarray, list[QImage]]] = {}
        self._shown: list[int] = []
        self._cell = (0.0, 0.0)
        self._pitch = (1.0, 1.0)
        self._at: tuple[int, int] | None = None

    @property
    def columns(self) -> tuple[int, ...]:
        """The steps that have a column now."""
        return tuple(self._steps[at] for at in self._shown)

    @property
    def current(self) -> tuple[int, int] | None:
        """(step, seed's row) that is highlighted."""
        return self._at

    def show_rows(self, rows: Sequence[tuple[int, np.ndarray]]) -> None:
        """Shows (step, images [n h w] or [n h w c] uint8), oldest first; known ones are not converted again."""
        known = self._columns
        self._columns = {
            step: known[step] if step in known and known[step][0] is images else (images, to_images(images))
            for step, images in rows
        }
        self._steps = list(self._columns)
        if self._at is not None and self._at[0] not in self._columns:
            self._at = None
        self._lay_out()

    def show_empty_text(self, text: str) -> None:
        self._empty = text
        self.update()

    def cell(self, column: int, row: int) -> QRectF:
        """Where an image lies."""
        return QRectF(column * self._pitch[0], HEAD + row * self._pitch[1], *self._cell)

    def sizeHint(self) -> QSize:
        return QSize(600, HEAD + 8 * 32)

    # --- within -----------------------------------------------------------------------------------

    def _seeds(self) -> int:
        return max((len(images) for _, images in self._columns.values()), default=0)

    def _lay_out(self) -> None:
        self._shown = []
        first = next((images[0] for _, images in self._columns.values() if images), None)
        if first is not None:
            ratio = self.devicePixelRatioF()
            seeds = self._seeds()
            room = min(max((self.height() - HEAD) / seeds - ROW_GAP, SMALLEST), LARGEST)
            scale = whole_scale(max(first.width(), first.height()), room * ratio)
            self._cell = (round(first.width() * scale) / ratio, round(first.height() * scale) / ratio)
            widest = theme.text_width(f"{self._steps[-1]:,}", theme.NOTE)
            least = max(self._cell[0] + GAP, widest + GAP)
            fit = max(2, int((self.width() + least - self._cell[0]) // least))
            self._shown = thinned(len(self._steps), fit)
            tallest = self._cell[1] + WIDEST_ROW_GAP
            down = max(self._cell[1] + ROW_GAP, min((self.height() - HEAD) / seeds, tallest))
            self._pitch = (round(least * ratio) / ratio, round(down * ratio) / ratio)
        self.update()

    def _highlight(self, column: int, row: int) -> None:
        if not self._shown:
            return
        column, row = min(max(column, 0), len(self._shown) - 1), min(max(row, 0), self._seeds() - 1)
        at = (self._steps[self._shown[column]], row)
        if at != self._at:
            self._at = at
            self.update()
            self.highlighted.emit(*at)

    def _column_of(self, step: int) -> int:
        """The column of a step, or of the last one before it."""
        return max((at for at, index in enumerate(self._shown) if self._steps[index] <= step), default=0)

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        if not self._shown:
            painter.setPen(look.color("quiet"))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._empty)
            return
        column_now = self._column_of(self._at[0]) if self._at else -1
        painter.setFont(theme.font(theme.NOTE))
        for at, index in enumerate(self._shown):
            painter.setPen(look.color("text" if at == column_now else "quiet"))
            middle = self.cell(at, 0).center().x()
            half = max(middle, self._pitch[0] / 2) if at == 0 else self._pitch[0] / 2
            text = f"{self._steps[index]:,}"
            where = QRectF(middle - half, 0, 2 * half, HEAD - 6)
            painter.drawText(where, Qt.AlignmentFlag.AlignCenter, text)
        with Exact(painter, self.devicePixelRatioF()) as exact:
            for at, index in enumerate(self._shown):
                for row, image in enumerate(self._columns[self._steps[index]][1]):
                    exact.image(image, self.cell(at, row))
            if self._at is not None:
                exact.outline(self.cell(column_now, self._at[1]), look.color("accent"), gap=0, width=2)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._lay_out()

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        self._point_at(event.position())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        self._point_at(event.position())

    def _point_at(self, where: QPointF) -> None:
        column, row = int(where.x() // self._pitch[0]), int((where.y() - HEAD) // self._pitch[1])
        if 0 <= column < len(self._shown) and 0 <= row < self._seeds():
            self._highlight(column, row)

    def leaveEvent(self, event: QEvent) -> None:
        super().leaveEvent(event)
        if not self.hasFocus():
            self._at = None
            self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        super().focusOutEvent(event)
        self._at = None
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        moves = {
            Qt.Key.Key_Left: (-1, 0),
            Qt.Key.Key_Right: (1, 0),
            Qt.Key.Key_Up: (0, -1),
            Qt.Key.Key_Down: (0, 1),
        }
        move = moves.get(Qt.Key(event.key()))
        if move is None:
            super().keyPressEvent(event)
        elif self._at is None:
            self._highlight(len(self._shown) - 1, 0)
        else:
            self._highlight(self._column_of(self._at[0]) + move[0], self._at[1] + move[1])
