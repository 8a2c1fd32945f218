"""The grid of images in the middle: pixel-exact, selectable, still while previews stream in."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QSizePolicy, QWidget

from . import theme
from .pictures import Exact, shrunk, to_images, whole_scale

if TYPE_CHECKING:
    import numpy as np
    from PySide6.QtGui import QFocusEvent, QImage, QKeyEvent, QMouseEvent, QPaintEvent, QResizeEvent

MARGIN = 16
GAPS = (8, 4, 2, 1)


@dataclass(frozen=True)
class Layout:
    """How images lie. scale: device pixels for an image pixel; all else in logical pixels."""

    columns: int
    rows: int
    scale: float
    gap: int
    width: float
    height: float
    left: float
    top: float

    def cell(self, index: int) -> QRectF:
        """Where an image lies."""
        row, column = divmod(index, self.columns)
        x, y = self.left + column * (self.width + self.gap), self.top + row * (self.height + self.gap)
        return QRectF(x, y, self.width, self.height)


def fit(count: int, height: int, width: int, room: QSize, ratio: float) -> Layout:
    """The layout in which images are largest; of nearly as large ones a full rectangle, then the squarer one.

    Scales are whole numbers of device pixels; where not even 1 fits, a fraction.
    """
    best: tuple[tuple[float, float, float], Layout] | None = None
    for gap in GAPS:
        for columns in range(1, count + 1):
            rows = math.ceil(count / columns)
            across = (room.width() - 2 * MARGIN - (columns - 1) * gap) / columns * ratio / width
            down = (room.height() - 2 * MARGIN - (rows - 1) * gap) / rows * ratio / height
            scale = min(across, down)
            if scale <= 0:
                continue
            scale = math.floor(scale + 1e-9) if scale >= 1 else scale
            ragged = columns * rows - count
            # a ragged last row must buy a fifth more size; a single row of many, too
            worth = scale * (1.0 if not ragged else 0.8)
            squareness = -abs(math.log((columns * width) / (rows * height) * room.height() / room.width()))
            key = (worth, -ragged, squareness)
            if best is None or key > best[0]:
                best = (key, _placed(columns, rows, scale, gap, height, width, room, ratio))
        if best is not None and best[1].scale >= 1:
            break  # smaller gaps only where images would have to shrink
    return best[1] if best else _placed(count, 1, 0.01, 0, height, width, room, ratio)


def _placed(
    columns: int,
    rows: int,
    scale: float,
    gap: int,
    height: int,
    width: int,
    room: QSize,
    ratio: float,
) -> Layout:
    cell_width, cell_height = max(1, round(width * scale)) / ratio, max(1, round(height * scale)) / ratio
    across, down = columns * (cell_width + gap) - gap, rows * (cell_height + gap) - gap
    left, top = (round((room.width() - across) / 2 * ratio) / ratio, round((room.height() - down) / 2 * ratio) / ratio)
    return Layout(columns, rows, scale, gap, cell_width, cell_height, left, top)


class ImageGrid(QWidget):
    """Shows images and lets one be selected by click or arrow keys; `selected` tells which."""

    selected = Signal(int)
    activated = Signal(int)
    """Return or double-click on an image."""

    def __init__(self, name: str = "", empty: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("Images")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(160, 120)
        self.setAttribute(Qt.WidgetAttribute.WA_OpaquePaintEvent)
        self._images: list[QImage] = []
        self._tiles: list[QImage] | None = None
        self._shape = (0, 0, 0)
        self._selected = 0
        self._layout: Layout | None = None
        self._empty = empty

    @property
    def count(self) -> int:
        return len(self._images)

    @property
    def current(self) -> int:
        return self._selected

    def cell(self, index: int) -> QRectF:
        """Where an image lies in the widget."""
        layout = self._fitted()
        return layout.cell(index) if layout else QRectF()

    @property
    def layout_now(self) -> Layout | None:
        """How the images lie now."""
        return self._fitted()

    def show_images(self, array: np.ndarray | None) -> None:
        """Shows uint8 images [n h w] or [n h w c]; None or none of them shows the empty place."""
        self._images = to_images(array)
        self._tiles = None
        shape = (len(self._images), *(array.shape[1:3] if array is not None and self._images else (0, 0)))
        if shape != self._shape:
            self._shape, self._layout = shape, None
        self.update()

    def show_selected(self, index: int) -> None:
        """Shows which image is selected, telling nobody."""
        if index != self._selected:
            self._selected = index
            self.update()

    def show_empty_text(self, text: str) -> None:
        """What the empty place says."""
        self._empty = text
        self.update()

    def sizeHint(self) -> QSize:
        return QSize(640, 480)

    # --- within -----------------------------------------------------------------------------------

    def _fitted(self) -> Layout | None:
        if self._layout is None and self._images:
            count, height, width = self._shape
            self._layout = fit(count, height, width, self.size(), self.devicePixelRatioF())
            self._tiles = None
        return self._layout if self._images else None

    def _select(self, index: int) -> None:
        if 0 <= index < len(self._images) and index != self._selected:
            self._selected = index
            self.update()
            self.selected.emit(index)

    def _index_at(self, where: QPointF) -> int:
        layout = self._fitted()
        if layout is None:
            return -1
        half = layout.gap / 2
        for index in range(len(self._images)):
            if layout.cell(index).adjusted(-half, -half, half, half).contains(where):
                return index
        return -1

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        painter.fillRect(self.rect(), look.color("canvas"))
        layout = self._fitted()
        if layout is None:
            painter.setPen(look.color("quiet"))
            room = self.rect().adjusted(theme.XL, theme.XL, -theme.XL, -theme.XL)
            painter.drawText(room, Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap, self._empty)
            return
        ratio = self.devicePixelRatioF()
        if self._tiles is None:
            self._tiles = self._images
            if layout.scale < 1:
                self._tiles = shrunk(self._images, round(layout.width * ratio), round(layout.height * ratio))
        with Exact(painter, ratio) as exact:
            for index, tile in enumerate(self._tiles):
                painter.drawImage(exact.device(layout.cell(index)), tile)
            if len(self._images) > 1 and 0 <= self._selected < len(self._images):
                wide = layout.gap >= 8
                color = look.color("accent")
                line = 2 if layout.gap > 1 else 1
                exact.outline(layout.cell(self._selected), color, gap=2 if wide else 0, width=line)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._layout = None

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._layout = None
            self.update()
        return super().event(event)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() == Qt.MouseButton.LeftButton:
            self._select(self._index_at(event.position()))

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        index = self._index_at(event.position())
        if index >= 0:
            self.activated.emit(index)

    def focusInEvent(self, event: QFocusEvent) -> None:
        super().focusInEvent(event)
        self.update()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        layout = self._fitted()
        columns = layout.columns if layout else 1
        steps = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -columns,
            Qt.Key.Key_Down: columns,
        }
        key = Qt.Key(event.key())
        if key in steps:
            self._select(self._selected + steps[key])
        elif key == Qt.Key.Key_Home:
            self._select(0)
        elif key == Qt.Key.Key_End:
            self._select(len(self._images) - 1)
        else:
            super().keyPressEvent(event)


class Thumbnails(QWidget):
    """As many small images as fit into a few rows: a look at a dataset."""

    GAP, MOST = 4, 32

    def __init__(self, name: str = "", rows: int = 2) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("Some of the images")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._rows = rows
        self._images: list[QImage] = []
        self.setFixedHeight(rows * (28 + self.GAP))

    @property
    def count(self) -> int:
        return len(self._images)

    def show_images(self, array: np.ndarray | None) -> None:
        """Shows uint8 images [n h w] or [n h w c]."""
        self._images = to_images(array)
        if self._images:
            side = self._side(self._images[0])
            self.setFixedHeight(int(self._rows * (side[1] + self.GAP)))
        self.update()

    def _side(self, image: QImage) -> tuple[float, float]:
        ratio = self.devicePixelRatioF()
        scale = whole_scale(max(image.width(), image.height()), self.MOST * ratio)
        return round(image.width() * scale) / ratio, round(image.height() * scale) / ratio

    def paintEvent(self, event: QPaintEvent) -> None:
        if not self._images:
            return
        width, height = self._side(self._images[0])
        columns = max(1, int((self.width() + self.GAP) // (width + self.GAP)))
        with Exact(QPainter(self), self.devicePixelRatioF()) as exact:
            for at, image in enumerate(self._images[: columns * self._rows]):
                row, column = divmod(at, columns)
                exact.image(image, QRectF(column * (width + self.GAP), row * (height + self.GAP), width, height))
