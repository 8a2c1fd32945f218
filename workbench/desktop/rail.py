"""The frame around a place: the rail on the left, the bar on top, the status line at the bottom."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QPainter
from PySide6.QtWidgets import QAbstractButton, QHBoxLayout, QProgressBar, QSizePolicy, QVBoxLayout, QWidget

from . import theme
from .parts import KEY_REASONS, Button, Text, paint_ring
from .surfaces import Surface

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QFocusEvent, QPaintEvent

GAP = "\N{EM SPACE} "
"""Between two facts of the status line."""


class RailButton(QAbstractButton):
    """A place: its icon over its name; a bar in the accent colour on the left of the current one."""

    def __init__(self, key: str, label: str, icon: str, help: str = "") -> None:
        super().__init__()
        self.key, self._icon, self._has_ring = key, icon, False
        self.setText(label)
        self.setAccessibleName(label)
        self.setToolTip(help)
        self.setCheckable(True)
        self.setAutoExclusive(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setFont(theme.font(theme.NOTE))

    def sizeHint(self) -> QSize:
        return QSize(Rail.WIDTH - 1, 56)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._has_ring = event.reason() in KEY_REASONS
        super().focusInEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        strong = self.isChecked() or self.underMouse()
        tone = look.text if strong else look.quiet
        theme.paint_icon(painter, self._icon, tone, QRectF((self.width() - 20) / 2, 10, 20, 20))
        painter.setPen(tone)
        text = self.fontMetrics().elidedText(self.text(), Qt.TextElideMode.ElideRight, self.width() - 6)
        painter.drawText(QRectF(0, 32, self.width(), 18), Qt.AlignmentFlag.AlignCenter, text)
        if self.isChecked():
            painter.fillRect(QRectF(0, 0, 2, self.height()), look.color("accent"))
        if self.hasFocus() and self._has_ring:
            paint_ring(painter, QRectF(self.rect()).adjusted(4, 2, -4, -2), 5)


class Rail(Surface):
    """The places; `chosen` tells which one the person goes to."""

    chosen = Signal(str)
    WIDTH = 60

    def __init__(self, places: Sequence[tuple[str, str, str]], name: str = "rail") -> None:
        """places: (key, label, icon) from the top down."""
        super().__init__("pane", "right", name)
        self.setAccessibleName("Places")
        self.setFixedWidth(self.WIDTH)
        body = QVBoxLayout(self)
        body.setContentsMargins(0, theme.S, 1, theme.S)
        body.setSpacing(0)
        self.buttons: dict[str, RailButton] = {}
        for key, label, icon in places:
            button = RailButton(key, label, icon)
            button.setObjectName(f"{name}-{key}")
            button.clicked.connect(self._clicked)
            body.addWidget(button)
            self.buttons[key] = button
        body.addStretch()

    @property
    def current(self) -> str:
        return next((key for key, button in self.buttons.items() if button.isChecked()), "")

    def show_current(self, key: str) -> None:
        """Marks a place, telling nobody."""
        self.buttons[key].setChecked(True)

    def _clicked(self) -> None:
        button = self.sender()
        if isinstance(button, RailButton):
            self.chosen.emit(button.key)


class Subject(QAbstractButton):
    """What a place is about: its name, quiet facts, and a chevron where another can be chosen."""

    SHORTEST = 90
    """Of the name, before the facts give way."""

    def __init__(self, name: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self._facts, self._has_ring = "", False
        self.setEnabled(False)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def show_subject(self, name: str, facts: str = "") -> None:
        if (name, facts) != (self.text(), self._facts):
            self.setText(name)
            self._facts = facts
            self.setToolTip(f"{name}\n{facts}".strip())
            self.setAccessibleName(name)
            self.setAccessibleDescription(facts)
            self.updateGeometry()
            self.update()

    @property
    def facts(self) -> str:
        return self._facts

    def sizeHint(self) -> QSize:
        name = theme.text_width(self.text(), theme.SUBJECT, bold=True)
        facts = self._facts_width()
        return QSize(name + facts + (24 if self.isEnabled() else 2), theme.BUTTON)

    def _facts_width(self) -> int:
        """With the gap before them; text is not always whole pixels wide."""
        return theme.text_width(self._facts) + 13 if self._facts else 0

    def minimumSizeHint(self) -> QSize:
        return QSize(80, theme.BUTTON)

    def least_width(self) -> int:
        """With the name shortened and the facts whole."""
        name = theme.text_width(self.text(), theme.SUBJECT, bold=True)
        return self.sizeHint().width() - max(0, name - self.SHORTEST)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self._has_ring = event.reason() in KEY_REASONS
        super().focusInEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        room = self.width() - (22 if self.isEnabled() else 0)
        x = 0
        # where room lacks, the name gives way first: it is a person's own, the facts are news
        facts = self._facts_width()
        for text, tone, size, bold, width in (
            (self.text(), "text", theme.SUBJECT, True, max(room - facts, min(room, self.SHORTEST))),
            (self._facts, "text" if self.underMouse() and self.isEnabled() else "quiet", theme.BODY, False, room),
        ):
            painter.setFont(theme.font(size, bold=bold))
            painter.setPen(look.color(tone))
            shown = painter.fontMetrics().elidedText(text, Qt.TextElideMode.ElideRight, max(0, width - x))
            if not shown or shown == "…":
                continue
            painter.drawText(QRectF(x, 0, room - x, self.height()), Qt.AlignmentFlag.AlignVCenter, shown)
            x += painter.fontMetrics().horizontalAdvance(shown) + 11
        if self.isEnabled():
            theme.paint_icon(painter, "chevron", look.quiet, QRectF(x - 6, (self.height() - 16) / 2 + 0.5, 16, 16))
        if self.hasFocus() and self._has_ring:
            paint_ring(painter, QRectF(self.rect()), 5)


class TopBar(Surface):
    """A place's subject, how far it is, and what can be done, the main action last."""

    subject_pressed = Signal()
    HEIGHT = 52

    def __init__(self, name: str = "", *, choosable: bool = False) -> None:
        super().__init__("pane", "below", name)
        self.setFixedHeight(self.HEIGHT)
        self.subject = Subject(f"{name}-subject" if name else "")
        self.subject.setEnabled(choosable)
        self.subject.clicked.connect(self.subject_pressed)
        self.progress = QProgressBar()
        self.progress.setRange(0, 1000)
        self.progress.setTextVisible(False)
        self.progress.setMinimumWidth(80)
        self.progress.setMaximumWidth(170)
        self.progress.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.progress.setAccessibleName("How far it is")
        self.progress_text = Text(tone="quiet")
        self.progress_text.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.row = QHBoxLayout(self)
        self.row.setContentsMargins(theme.L, 0, theme.L, 1)
        self.row.setSpacing(theme.S)
        self.row.addWidget(self.subject)
        self.row.addSpacing(theme.S)
        self.row.addWidget(self.progress)
        self.row.addWidget(self.progress_text)
        self.row.addStretch(1)
        self._buttons: list[Button] = []
        self._has_progress = False
        self.show_progress(None)

    def show_subject(self, name: str, facts: str = "") -> None:
        """What this place is about, and quiet facts of it."""
        self.subject.show_subject(name, facts)

    def show_progress(self, share: float | None, text: str = "") -> None:
        """How far it is (0 to 1) and what is left in words; None hides it."""
        self._has_progress = share is not None
        if share is not None:
            self.progress.setValue(round(1000 * min(max(share, 0), 1)))
            self.progress_text.show_text(text)
        self._fit()

    def add_button(self, text: str, *, kind: str = "plain", icon: str = "", name: str = "", help: str = "") -> Button:
        """A button on the right, after those already there."""
        button = Button(text, kind=kind, icon=icon, name=name, help=help)
        self.row.addWidget(button)
        self._buttons.append(button)
        return button

    def _fit(self) -> None:
        """Where room lacks, the bar of progress gives way first, then what is left, then the name."""
        taken = 2 * theme.L + sum(each.sizeHint().width() + theme.S for each in self._buttons if not each.isHidden())
        least = self.subject.least_width()
        self.subject.setMinimumWidth(max(80, min(least, self.width() - taken)))
        room = self.width() - taken - least - 3 * theme.S
        words = self.progress_text.sizeHint().width()
        self.progress_text.setVisible(self._has_progress and bool(self.progress_text.text()) and room >= words)
        self.progress.setVisible(self._has_progress and room >= words + theme.S + self.progress.minimumWidth())

    def event(self, event: QEvent) -> bool:
        done = super().event(event)
        if event.type() in (QEvent.Type.LayoutRequest, QEvent.Type.Resize):
            self._fit()
        return done


class StateDot(QWidget):
    """A dot in the colour of a state."""

    def __init__(self) -> None:
        super().__init__()
        self.tone = "quiet"
        self.setFixedSize(8, 14)

    def paintEvent(self, event: QPaintEvent) -> None:
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(theme.tokens().color(self.tone))
        painter.drawEllipse(QPointF(3.5, 7.5), 3.5, 3.5)


class StatusBar(Surface):
    """One line: the state's dot and texts on the left, facts on the right."""

    HEIGHT = 26

    def __init__(self, name: str = "status") -> None:
        super().__init__("pane", "above", name)
        self.setFixedHeight(self.HEIGHT)
        self.dot = StateDot()
        self.left = Text(tone="quiet", size=theme.NOTE, name=f"{name}-left")
        self.right = Text(tone="quiet", size=theme.NOTE, name=f"{name}-right")
        row = QHBoxLayout(self)
        row.setContentsMargins(theme.L, 1, theme.L, 0)
        row.setSpacing(5)
        row.addWidget(self.dot)
        row.addWidget(self.left, 1)
        row.addWidget(self.right)

    def show_status(self, tone: str, left: Sequence[str], right: Sequence[str]) -> None:
        """tone: good, accent, warning, error or quiet."""
        if tone != self.dot.tone:
            self.dot.tone = tone
            self.dot.update()
        self.left.show_text(GAP.join(left))
        self.right.show_text(GAP.join(right))
