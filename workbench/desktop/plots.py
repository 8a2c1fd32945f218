"""Curves and figures of training: the loss over steps, the loss by noise level, single figures."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QRectF, QSize, Qt
from PySide6.QtGui import QColor, QPainter
from PySide6.QtWidgets import QHBoxLayout, QSizePolicy, QStackedLayout, QVBoxLayout, QWidget

from . import theme
from .parts import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QPaintEvent, QResizeEvent, QShowEvent

MANTISSAS = ((1,), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 7, 8, 9))
"""Of ticks on a logarithmic axis, from few to many."""


class LogAxis(pg.AxisItem):
    """Labels a logarithmic axis (the plot holds log10) with four to seven plain numbers."""

    def tickValues(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, list[float]]]:
        decades = range(math.floor(minVal) - 1, math.ceil(maxVal) + 1)
        ticks: list[float] = []
        for mantissas in MANTISSAS:
            all_of_them = (decade + math.log10(mantissa) for decade in decades for mantissa in mantissas)
            found = [tick for tick in all_of_them if minVal - 1e-9 <= tick <= maxVal + 1e-9]
            if ticks and len(found) > 7:
                break
            ticks = found
            if len(ticks) >= 4:
                break
        return [(1.0, ticks)]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        return [f"{10**value:.3g}" for value in values]


class StepAxis(pg.AxisItem):
    """Labels whole steps, each once, with thousands separators."""

    def tickSpacing(self, minVal: float, maxVal: float, size: float) -> list[tuple[float, float]]:
        found = super().tickSpacing(minVal, maxVal, size) or []
        return [(spacing, start) for spacing, start in found if spacing >= 1] or [(1.0, 0.0)]

    def tickStrings(self, values: Sequence[float], scale: float, spacing: float) -> list[str]:
        return [f"{value:,.0f}" for value in values]


class Swatch(QWidget):
    """A short line in a series' colour, before its name."""

    def __init__(self, series: int) -> None:
        super().__init__()
        self._series = series
        self.setFixedSize(14, 14)

    def paintEvent(self, event: QPaintEvent) -> None:
        color = series_color(self._series)
        QPainter(self).fillRect(QRectF(0, 6, 14, 2), color)


def series_color(series: int) -> QColor:
    """An Okabe-Ito colour; −1 is the faint one of what only accompanies."""
    look = theme.tokens()
    return look.color("faint") if series < 0 else QColor(look.series[series])


class LossPlot(QWidget):
    """Loss over steps on a logarithmic scale: smoothed, held out, and each step faintly."""

    SERIES = (("smoothed", 0), ("held out", 1), ("each step", -1))
    ROOM_FOR_ALL = 310
    """Narrower, the faint line goes without its name."""

    def __init__(self, title: str = "Loss", name: str = "", empty: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(title)
        head = QHBoxLayout()
        head.setSpacing(theme.S)
        head.addWidget(Text(title, size=theme.TITLE, bold=True))
        head.addSpacing(theme.S)
        self._legend: list[QWidget] = []
        for label, series in self.SERIES:
            entry = QWidget()
            parts = QHBoxLayout(entry)
            parts.setContentsMargins(theme.S, 0, 0, 0)
            parts.setSpacing(theme.S)
            parts.addWidget(Swatch(series))
            parts.addWidget(Text(label, tone="quiet", size=theme.TITLE))
            self._legend.append(entry)
            head.addWidget(entry)
        head.addStretch()
        axes = {"left": LogAxis("left"), "bottom": StepAxis("bottom")}
        item = pg.PlotItem(axisItems=axes)
        self.plot = pg.PlotWidget(plotItem=item)
        self.plot.setFrameShape(self.plot.Shape.NoFrame)
        self.plot.setMenuEnabled(False)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.hideButtons()
        self.plot.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.plot.setMinimumSize(QSize(160, 120))
        item.setContentsMargins(0, 4, 20, 0)  # half of the last step's label
        box = self.plot.getViewBox()
        box.setDefaultPadding(0)
        box.disableAutoRange()
        for side, axis in axes.items():
            axis.setStyle(tickLength=0, tickTextOffset=8, autoExpandTextSpace=False, hideOverlappingLabels=False)
            axis.setZValue(-1)
            if side == "left":
                axis.setWidth(40)
            else:
                axis.setHeight(24)
        self._each = self.plot.plot(connect="finite")
        self._held = self.plot.plot(connect="finite")
        self._smoothed = self.plot.plot(connect="finite")
        self._empty = Text(empty, tone="quiet")
        self._empty.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self._pages = QStackedLayout()
        self._pages.addWidget(self._empty)
        self._pages.addWidget(self.plot)
        body = QVBoxLayout(self)
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(theme.S)
        body.addLayout(head)
        body.addLayout(self._pages, 1)
        self._look: tuple[theme.Tokens, float] | None = None
        self._restyle()
        self.show_curves(*(np.zeros(0),) * 5)

    def show_empty_text(self, text: str) -> None:
        """What stands here while there are no curves."""
        self._empty.show_text(text)

    def show_curves(
        self,
        steps: np.ndarray,
        loss: np.ndarray,
        smoothed: np.ndarray,
        held_steps: np.ndarray,
        held: np.ndarray,
    ) -> None:
        """Shows the curves: each step's loss and its smoothed course at `steps` [p], the held-out loss [q]."""
        each, smooth, apart = _log(loss), _log(smoothed), _log(held)
        self._each.setData(steps, each)
        self._smoothed.setData(steps, smooth)
        self._held.setData(held_steps, apart)
        heights = np.concatenate([smooth, apart, each])
        heights = heights[np.isfinite(heights)]
        self._pages.setCurrentWidget(self.plot if heights.size else self._empty)
        if heights.size:
            # single wild steps may leave the picture; the two curves that are read may not
            read = np.concatenate([smooth, apart])
            kept = np.concatenate([read[np.isfinite(read)], np.percentile(heights, (1, 99))])
            low, high = _rounded(float(kept.min()), float(kept.max()))
            last = max(float(steps[-1]) if steps.size else 1.0, float(held_steps[-1]) if held_steps.size else 1.0, 1.0)
            box = self.plot.getViewBox()
            box.setXRange(0, last, padding=0)
            box.setYRange(low, high, padding=0.03)  # room for the labels at both ends

    def _restyle(self) -> None:
        look, ratio = theme.tokens(), self.devicePixelRatioF()
        if (look, ratio) == self._look:
            return
        self._look = (look, ratio)
        self.plot.setBackground(look.pane)
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setTickFont(theme.font(theme.NOTE))
            axis.setTextPen(look.quiet)
            axis.setPen(look.hairline if side == "bottom" else look.pane)
        # of the grid only horizontal hairlines
        grid = QColor(look.hairline)
        self.plot.getAxis("left").setTickPen(pg.mkPen(grid))
        self.plot.getAxis("left").setGrid(255)
        faint = QColor(look.faint)
        faint.setAlpha(110)
        self._each.setPen(pg.mkPen(faint, width=ratio))
        self._smoothed.setPen(pg.mkPen(look.series[0], width=1.75 * ratio))
        self._held.setPen(pg.mkPen(look.series[1], width=1.75 * ratio))
        for curve in (self._smoothed, self._held):
            curve.opts["antialias"] = True
            curve.updateItems()

    def event(self, event: QEvent) -> bool:
        if event.type() == QEvent.Type.DevicePixelRatioChange:
            self._restyle()
        return super().event(event)

    def showEvent(self, event: QShowEvent) -> None:
        super().showEvent(event)
        self._restyle()

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._legend[-1].setVisible(self.width() >= self.ROOM_FOR_ALL)

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange) and hasattr(self, "_look"):
            self._restyle()


def _log(values: np.ndarray) -> np.ndarray:
    """log10 where there is one, NaN elsewhere."""
    values = np.asarray(values, float)
    good = np.isfinite(values) & (values > 0)
    return np.log10(values, where=good, out=np.full(values.shape, np.nan))


def _rounded(low: float, high: float) -> tuple[float, float]:
    """The range widened to round numbers (log10 in and out), so that its ends are labelled."""
    if high - low < 0.05:
        low, high = low - 0.05, high + 0.05
    decades = range(math.floor(low) - 1, math.ceil(high) + 1)
    ends = [decade + math.log10(mantissa) for decade in decades for mantissa in MANTISSAS[2]]
    return max(end for end in ends if end <= low), min(end for end in ends if end >= high)


class BandBars(QWidget):
    """Held-out loss by noise level, as bars in steps of one hue."""

    LABELS, VALUES, PITCH, THICK = 52, 44, 22, 11

    def __init__(self, name: str = "", empty: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName("Held-out loss by noise level")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self._bands: tuple[tuple[str, float], ...] = ()
        self._empty = empty
        self.setFixedHeight(self.PITCH * 6)

    def show_bands(self, bands: Sequence[tuple[str, float]]) -> None:
        """Shows (noise levels, loss) from low noise to high."""
        if tuple(bands) != self._bands:
            self._bands = tuple(bands)
            self.setAccessibleDescription(", ".join(f"{name}: {value:.3g}" for name, value in bands))
            self.setFixedHeight(self.PITCH * max(6, len(self._bands)))
            self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if not self._bands:
            painter.setPen(look.color("quiet"))
            painter.setFont(theme.font(theme.NOTE))
            painter.drawText(self.rect(), Qt.AlignmentFlag.AlignLeft | Qt.TextFlag.TextWordWrap, self._empty)
            return
        finite = [value for _, value in self._bands if math.isfinite(value)]
        most = max(finite, default=1.0) or 1.0
        room = max(8, self.width() - self.LABELS - self.VALUES - theme.S)
        for at, (label, value) in enumerate(self._bands):
            top = at * self.PITCH
            painter.setFont(theme.font(theme.TITLE))
            painter.setPen(look.color("quiet"))
            side = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(QRectF(0, top, self.LABELS, self.PITCH), side, label)
            length = room * value / most if math.isfinite(value) else 0
            color = look.color("accent")
            color.setAlphaF(1.0 - 0.55 * at / max(1, len(self._bands) - 1))
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(color)
            start = self.LABELS + theme.S
            painter.drawRoundedRect(QRectF(start, top + (self.PITCH - self.THICK) / 2, length, self.THICK), 2, 2)
            painter.setPen(look.color("text"))
            after = QRectF(start + length + theme.S, top, self.VALUES, self.PITCH)
            painter.drawText(after, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, f"{value:.2f}")


class Figure(QWidget):
    """One number, large, over what it is."""

    def __init__(self, label: str, value: str = "–", name: str = "", help: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(label)
        self.value = Text(value or "–", size=theme.FIGURE, bold=True)
        self.label = Text(label, tone="quiet", size=theme.NOTE)
        self.label.set_help(help)
        body = QVBoxLayout(self)
        body.setContentsMargins(0, 0, 0, 0)
        body.setSpacing(2)
        body.addWidget(self.value)
        body.addWidget(self.label)

    def show_value(self, text: str) -> None:
        """Shows another number."""
        self.value.show_text(text or "–")
        self.setAccessibleDescription(text)
