"""Few choices as small buttons that wrap, and one exclusive chip for all of them in turn."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QMargins, QPoint, QRect, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QFontMetrics
from PySide6.QtWidgets import QLayout, QLayoutItem, QSizePolicy, QWidget

from . import theme
from .parts import Button

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QKeyEvent

GAP = 5
NARROWEST, WIDEST = 46, 220


class FlowLayout(QLayout):
    """Items one after the other, wrapped like words."""

    def __init__(self, parent: QWidget, gap: int = GAP) -> None:
        super().__init__(parent)
        self._gap = gap
        self._items: list[QLayoutItem] = []
        self.setContentsMargins(QMargins())

    def addItem(self, item: QLayoutItem) -> None:
        self._items.append(item)

    def count(self) -> int:
        return len(self._items)

    def itemAt(self, index: int) -> QLayoutItem | None:  # type: ignore[override]
        return self._items[index] if 0 <= index < len(self._items) else None

    def takeAt(self, index: int) -> QLayoutItem | None:  # type: ignore[override]
        return self._items.pop(index) if 0 <= index < len(self._items) else None

    def expandingDirections(self) -> Qt.Orientation:
        return Qt.Orientation(0)

    def hasHeightForWidth(self) -> bool:
        return True

    def heightForWidth(self, width: int) -> int:
        return self._place(QRect(0, 0, width, 0), move=False)

    def setGeometry(self, rect: QRect) -> None:
        super().setGeometry(rect)
        self._place(rect, move=True)

    def sizeHint(self) -> QSize:
        return self.minimumSize()

    def minimumSize(self) -> QSize:
        sizes = [item.minimumSize() for item in self._items]
        return QSize(*(max(sides, default=0) for sides in ([s.width() for s in sizes], [s.height() for s in sizes])))

    def _place(self, rect: QRect, *, move: bool) -> int:
        """Height that the items need in this width; moves them there if asked."""
        x, y, tallest = rect.x(), rect.y(), 0
        for item in self._items:
            size = item.sizeHint()
            width = min(size.width(), rect.width())
            if x > rect.x() and x + width > rect.right() + 1:
                x, y = rect.x(), y + tallest + self._gap
                tallest = 0
            if move:
                item.setGeometry(QRect(QPoint(x, y), QSize(width, size.height())))
            x += width + self._gap
            tallest = max(tallest, size.height())
        return y + tallest - rect.y()


class Chips(QWidget):
    """Choices as chips, up to about twelve; `edited` tells of the person's choice, a tuple of texts.

    several: more than one may be chosen; each: text of an exclusive chip that stands for "none of them in
    particular", an empty tuple. Without it, one of several cannot be the last to go. Arrow keys move.
    """

    edited = Signal(tuple)

    def __init__(
        self,
        choices: Sequence[str] = (),
        *,
        several: bool = True,
        each: str = "",
        name: str = "",
        label: str = "",
    ) -> None:
        super().__init__()
        self.setObjectName(name)
        self.setAccessibleName(label)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Minimum)
        self._several, self._each_text, self._label = several, each, label
        self._flow = FlowLayout(self)
        self._chips: list[Button] = []
        self._each: Button | None = None
        self._choices: tuple[str, ...] | None = None
        self._value: tuple[str, ...] = ()
        self.show_choices(choices)

    @property
    def value(self) -> tuple[str, ...]:
        return self._value

    @property
    def choices(self) -> tuple[str, ...]:
        return self._choices or ()

    def show_choices(self, choices: Sequence[str]) -> None:
        """Shows other choices, telling nobody; what was chosen stays if it is among them."""
        if tuple(choices) == self._choices:
            return
        self._choices = tuple(choices)
        for chip in self._all():
            self._flow.removeWidget(chip)
            chip.hide()
            chip.deleteLater()
        widest = max((theme.text_width(text, bold=True) + 24 for text in choices), default=0)
        even = max(NARROWEST, widest) if widest <= 2 * NARROWEST else 0
        self._chips = [self._make(text, even) for text in choices]
        self._each = self._make(self._each_text, 0) if self._each_text and choices else None
        self.show_value(tuple(text for text in self._value if text in self._choices))
        self._flow.invalidate()
        self.updateGeometry()

    def show_value(self, chosen: Sequence[str]) -> None:
        """Shows what is chosen, telling nobody; empty is each in turn."""
        self._value = tuple(chosen)
        for text, chip in zip(self.choices, self._chips, strict=True):
            with QSignalBlocker(chip):
                chip.setChecked(text in self._value)
            chip.update()
        if self._each is not None:
            with QSignalBlocker(self._each):
                self._each.setChecked(not self._value)
            self._each.update()

    def _all(self) -> list[Button]:
        return [*self._chips, *([self._each] if self._each else [])]

    def _make(self, text: str, width: int) -> Button:
        bold = QFontMetrics(theme.font(bold=True))
        shown = bold.elidedText(text, Qt.TextElideMode.ElideRight, WIDEST - 24)
        help = text if shown != text else ""
        name = f"{self.objectName()}-{text}" if self.objectName() else ""
        chip = Button(shown.replace("&", "&&"), kind="chip", name=name, help=help)
        chip.setParent(self)
        # wide enough for its bold self, so that choosing moves nothing
        chip.setFixedSize(width or bold.horizontalAdvance(shown) + 24, theme.FIELD)
        chip.setAccessibleName(f"{self._label} {text}".strip())
        chip.clicked.connect(self._clicked)
        self._flow.addWidget(chip)
        chip.show()
        return chip

    def _clicked(self) -> None:
        chip = self.sender()
        if not isinstance(chip, Button):
            return
        if chip is self._each:
            chosen: tuple[str, ...] = ()
        elif self._several:
            chosen = tuple(text for text, each in zip(self.choices, self._chips, strict=True) if each.isChecked())
        else:
            chosen = (self.choices[self._chips.index(chip)],)
        if not chosen and self._each is None:
            chosen = self._value
        before = self._value
        self.show_value(chosen)
        if self._value != before:
            self.edited.emit(self._value)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        step = {Qt.Key.Key_Right: 1, Qt.Key.Key_Left: -1}.get(Qt.Key(event.key()), 0)
        chips = self._all()
        at = next((i for i, chip in enumerate(chips) if chip.hasFocus()), None)
        if step and at is not None:
            chips[(at + step) % len(chips)].setFocus(Qt.FocusReason.TabFocusReason)
        else:
            super().keyPressEvent(event)
