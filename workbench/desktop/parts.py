"""Small parts that everything else is built from: texts that shorten themselves, buttons, a slider."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

import html
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter, QPen
from PySide6.QtWidgets import QLabel, QPushButton, QSizePolicy, QSlider, QWidget

from . import theme

if TYPE_CHECKING:
    from PySide6.QtGui import QFocusEvent, QKeyEvent, QMouseEvent, QPaintEvent, QResizeEvent, QWheelEvent

KEY_REASONS = (
    Qt.FocusReason.TabFocusReason,
    Qt.FocusReason.BacktabFocusReason,
    Qt.FocusReason.ShortcutFocusReason,
)


def tip(text: str) -> str:
    """A tooltip that wraps and takes the text literally."""
    return f"<qt>{html.escape(text)}</qt>" if text else ""


def set_property(widget: QWidget, name: str, value: object) -> None:
    """Sets a property that the style sheet asks for, and lets it look again."""
    if widget.property(name) != value:
        widget.setProperty(name, value)
        widget.style().unpolish(widget)
        widget.style().polish(widget)


class Text(QLabel):
    """One line in one tone that ends in … where room lacks, or gives way to `short`; its tooltip then has all of it.

    short: what is said in less room; there is always room for that.
    """

    def __init__(
        self,
        text: str = "",
        *,
        tone: str = "text",
        size: int = theme.BODY,
        bold: bool = False,
        name: str = "",
        short: str = "",
        parent: QWidget | None = None,
    ) -> None:
        super().__init__(parent)
        self._tone, self._help, self._is_cut, self._short = tone, "", False, short
        self.setObjectName(name)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setFont(theme.font(size, bold=bold))
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.setText(text)

    def show_text(self, text: str, tone: str = "", short: str = "") -> None:
        """Shows another text, perhaps in another tone (a token's name), or with a shorter form for little room."""
        if short and short != self._short:
            self._short = short
            self.updateGeometry()
        if tone and tone != self._tone:
            self._tone = tone
            self.update()
        if text != self.text():
            self.setText(text)
            self._refit()

    def set_help(self, text: str) -> None:
        """A sentence for the tooltip."""
        self._help = text
        self._refit()

    @property
    def is_cut(self) -> bool:
        """Whether the text is shortened now."""
        return self._is_cut

    def minimumSizeHint(self) -> QSize:
        return QSize(self.fontMetrics().horizontalAdvance(self._short), self.sizeHint().height())

    def _room(self) -> int:
        return self.contentsRect().width()

    def _refit(self) -> None:
        self._is_cut = self.fontMetrics().horizontalAdvance(self.text()) > self._room()
        self.setToolTip(tip("\n".join(filter(None, (self.text() if self._is_cut else "", self._help)))))

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._refit()

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setPen(theme.tokens().color(self._tone if self.isEnabled() else "faint"))
        said = self._short if self._is_cut and self._short else self.text()
        # half a pixel, by which a text may be wider than it says, cuts nothing
        text = self.fontMetrics().elidedText(said, Qt.TextElideMode.ElideRight, self._room() + 1)
        painter.drawText(self.contentsRect(), self.alignment() | Qt.AlignmentFlag.AlignVCenter, text)


class RowLabel(Text):
    """A setting's label; a dot after it says that the value is not the default."""

    def __init__(self, text: str, width: int = theme.LABEL_WIDTH) -> None:
        self._is_changed = False
        super().__init__(text, tone="quiet")
        self.setFixedSize(width, theme.ROW)

    @property
    def is_changed(self) -> bool:
        return self._is_changed

    def mark_changed(self, changed: bool) -> None:  # noqa: FBT001
        if changed != self._is_changed:
            self._is_changed = changed
            self._refit()
            self.update()

    def _room(self) -> int:
        return self.width() - (14 if self._is_changed else 6)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self._is_changed:
            painter = QPainter(self)
            painter.setRenderHint(QPainter.RenderHint.Antialiasing)
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(theme.tokens().color("warning"))
            end = min(self.fontMetrics().horizontalAdvance(self.text()), self._room())
            painter.drawEllipse(QPointF(end + 6.5, self.height() / 2), 2.5, 2.5)


class Note(QLabel):
    """A quiet sentence or an error in words; wraps, and takes no room while it is empty."""

    def __init__(self, text: str = "", *, tone: str = "quiet", size: int = theme.NOTE, name: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setTextFormat(Qt.TextFormat.PlainText)
        self.setFont(theme.font(size))
        self.setWordWrap(True)
        self.setProperty("tone", tone)
        self.show_text(text)

    def show_text(self, text: str, tone: str = "") -> None:
        if tone:
            set_property(self, "tone", tone)
        if text != self.text():
            self.setText(text)
        if self.parent() or not text:  # without a parent, showing would make a window of it
            self.setVisible(bool(text))


class Button(QPushButton):
    """A button with a verb. kind: plain, primary, chip, toggle, icon or link; keys, not the mouse, show its ring."""

    def __init__(self, text: str = "", *, kind: str = "plain", icon: str = "", name: str = "", help: str = "") -> None:
        super().__init__(text)
        self._icon_name, self._icon_tone, self._has_ring = icon, "", False
        self.setObjectName(name)
        self.setProperty("kind", kind)
        self.setCheckable(kind in ("chip", "toggle"))
        self.setAutoDefault(False)
        self.setToolTip(tip(help))
        if kind == "icon":
            self.setAccessibleName(help)
        if kind == "link":
            self.setCursor(Qt.CursorShape.PointingHandCursor)
        if icon and kind == "primary":
            self.setLayoutDirection(Qt.LayoutDirection.RightToLeft)
        self._help = help
        self._color_icon()

    def allow(self, reason_against: str = "") -> None:
        """Enables it, or greys it with the reason as its tooltip."""
        self.setEnabled(not reason_against)
        self.setToolTip(tip(reason_against or self._help))
        self._color_icon()

    def show_verb(self, text: str, icon: str, help: str) -> None:
        """Says and does something else now."""
        if text != self.text():
            self.setText(text)
            self._icon_name, self._icon_tone, self._help = icon, "", help
            self._color_icon()

    def reserve(self, *texts: str) -> None:
        """Makes it wide enough for each of these texts, so that changing them moves nothing."""
        before, widest = self.text(), 0
        self.ensurePolished()
        for text in texts:
            self.setText(text)
            widest = max(widest, self.sizeHint().width())
        self.setText(before)
        self.setMinimumWidth(widest)

    def _color_icon(self) -> None:
        if not self._icon_name:
            return
        look = theme.tokens()
        tone = look.on_accent if self.property("kind") == "primary" else look.text
        tone = tone if self.isEnabled() else look.faint
        if tone != self._icon_tone:
            self._icon_tone = tone
            self.setIcon(theme.icon(self._icon_name, tone, 16))
            self.setIconSize(QSize(16, 16))

    def changeEvent(self, event: QEvent) -> None:
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.StyleChange, QEvent.Type.EnabledChange):
            self._color_icon()

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._has_ring = event.reason() in KEY_REASONS
        super().focusInEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        super().paintEvent(event)
        if self.hasFocus() and self._has_ring:
            paint_ring(QPainter(self), QRectF(self.rect()), 5)


def paint_ring(painter: QPainter, around: QRectF, radius: float) -> None:
    """The ring that says where the keys go."""
    painter.setRenderHint(QPainter.RenderHint.Antialiasing)
    look = theme.tokens()
    painter.setPen(QPen(look.color("text"), 1.5))
    painter.setBrush(Qt.BrushStyle.NoBrush)
    painter.drawRoundedRect(around.adjusted(1, 1, -1, -1), radius, radius)


class Slider(QSlider):
    """A thin horizontal slider. Clicks go where they point; double-click asks for the default; wheel with Ctrl."""

    reset = Signal()

    def __init__(self, last: int, name: str = "") -> None:
        super().__init__(Qt.Orientation.Horizontal)
        self._grip, self._has_ring = 0.0, False
        self.setObjectName(name)
        self.setRange(0, last)
        self.setPageStep(max(1, last // 10))
        self.setFixedHeight(theme.ROW)
        self.setMinimumWidth(40)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)

    def x_of(self, position: int) -> float:
        """Where the handle's middle stands at this position."""
        return 6.5 + (self.width() - 13) * position / max(1, self.maximum())

    def _position_at(self, x: float) -> int:
        share = (x - 6.5) / max(1, self.width() - 13)
        return round(min(max(share, 0), 1) * self.maximum())

    def mousePressEvent(self, event: QMouseEvent) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            event.ignore()
            return
        handle = self.x_of(self.value())
        self._grip = handle - event.position().x() if abs(handle - event.position().x()) <= 8 else 0.0
        self.setSliderDown(True)
        if not self._grip:
            self.setValue(self._position_at(event.position().x()))

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        if self.isSliderDown():
            self.setValue(self._position_at(event.position().x() + self._grip))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        self.setSliderDown(False)
        self.update()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        self.reset.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        if not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()
            return
        self.setValue(self.value() + (1 if event.angleDelta().y() > 0 else -1))
        event.accept()

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._has_ring = event.reason() in KEY_REASONS
        super().focusInEvent(event)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        self._has_ring = True
        super().keyPressEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        middle, at = self.height() / 2, self.x_of(self.value())
        painter.setBrush(look.color("hairline"))
        painter.drawRoundedRect(QRectF(0, middle - 1.5, self.width(), 3), 1.5, 1.5)
        painter.setBrush(look.color("accent" if self.isEnabled() else "faint"))
        painter.drawRoundedRect(QRectF(0, middle - 1.5, at, 3), 1.5, 1.5)
        painter.setBrush(look.color("text" if self.isEnabled() else "faint"))
        painter.drawEllipse(QPointF(at, middle), 6.5, 6.5)
        if self.hasFocus() and self._has_ring:
            paint_ring(painter, QRectF(at - 6.5 - 4, middle - 6.5 - 4, 21, 21), 10.5)
