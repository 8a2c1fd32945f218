"""Arrays as pictures on the screen: converted once, drawn pixel-exact wherever they fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QRect, QRectF, Qt
from PySide6.QtGui import QImage, QPainter

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

FORMATS = {
    1: QImage.Format.Format_Grayscale8,
    3: QImage.Format.Format_RGB888,
    4: QImage.Format.Format_RGBA8888,
}


def to_images(array: np.ndarray | None) -> list[QImage]:
    """Images for [n h w] or [n h w c] uint8; of other numbers of channels the first three, or the first."""
    if array is None or array.size == 0:
        return []
    pixels = array[..., None] if array.ndim == 3 else array
    channels = pixels.shape[-1]
    if channels not in FORMATS:
        pixels = pixels[..., :3] if channels > 4 else pixels[..., :1]
    pixels = np.ascontiguousarray(pixels, np.uint8)
    _, height, width, channels = pixels.shape
    shown = QImage.Format.Format_ARGB32_Premultiplied if channels == 4 else QImage.Format.Format_RGB32
    # converting copies: the images own their pixels
    return [
        QImage(each.data, width, height, width * channels, FORMATS[channels]).convertToFormat(shown) for each in pixels
    ]


def whole_scale(side: int, room: float) -> float:
    """The largest whole number of device pixels for an image pixel that fits; below 1 where none does."""
    whole = int(room // max(1, side))
    return float(whole) if whole >= 1 else room / max(1, side)


class Exact:
    """Paints in device pixels: rectangles given in logical ones land on whole device pixels."""

    def __init__(self, painter: QPainter, ratio: float) -> None:
        self._painter, self._ratio = painter, ratio
        painter.save()
        painter.scale(1 / ratio, 1 / ratio)
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform, on=False)

    def __enter__(self) -> Exact:
        return self

    def __exit__(self, *_: object) -> None:
        self._painter.restore()

    def device(self, rect: QRectF) -> QRect:
        """The rectangle in device pixels."""
        return QRect(*(round(side * self._ratio) for side in (rect.x(), rect.y(), rect.width(), rect.height())))

    def image(self, image: QImage, rect: QRectF) -> None:
        """Draws an image into a rectangle: nearest neighbour when it grows, smooth when it must shrink."""
        where = self.device(rect)
        if where.width() < image.width() or where.height() < image.height():
            image = shrunk([image], where.width(), where.height())[0]
        self._painter.drawImage(where, image)

    def outline(self, rect: QRectF, color: object, *, gap: float = 2, width: float = 2) -> None:
        """A frame around a rectangle, parted from it by a gap."""
        inner = self.device(rect.adjusted(-gap, -gap, gap, gap))
        line = max(1, round(width * self._ratio))
        outer = inner.adjusted(-line, -line, line, line)
        for side in (
            QRect(outer.x(), outer.y(), outer.width(), line),
            QRect(outer.x(), inner.y() + inner.height(), outer.width(), line),
            QRect(outer.x(), inner.y(), line, inner.height()),
            QRect(inner.x() + inner.width(), inner.y(), line, inner.height()),
        ):
            self._painter.fillRect(side, color)  # type: ignore[arg-type]


def shrunk(images: Sequence[QImage], width: int, height: int) -> list[QImage]:
    """The images brought to a smaller size in device pixels, smoothly."""
    return [
        image.scaled(width, height, Qt.AspectRatioMode.IgnoreAspectRatio, Qt.TransformationMode.SmoothTransformation)
        for image in images
    ]


def evenly(count: int, room: int, always: Iterable[int] = ()) -> list[int]:
    """Which of `count` things to show where `room` fit: first, last and evenly between.

    Those in `always` take the place of the nearest.
    """
    if count <= room:
        return list(range(count))
    if room <= 1:
        return [max([0, *always])][: max(room, 0)]
    shown = [round(i * (count - 1) / (room - 1)) for i in range(room)]
    for wanted in always:
        if 0 <= wanted < count and wanted not in shown:
            nearest = min(range(1, max(2, len(shown) - 1)), key=lambda i: abs(shown[i] - wanted))
            shown[nearest] = wanted
    return shown
