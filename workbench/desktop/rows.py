"""What every row of settings shares: a field that says once what was typed, a label, an error in words.

All controls speak alike: `edited` tells of the person's edits only; `show_value` sets without telling;
`show_error` puts what is wrong, in words, below the field; `mark_changed` shows the dot.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtGui import QKeyEvent
from PySide6.QtWidgets import QHBoxLayout, QLineEdit, QVBoxLayout, QWidget

from . import theme
from .parts import Note, RowLabel, set_property, tip

if TYPE_CHECKING:
    from PySide6.QtGui import QWheelEvent


class Field(QLineEdit):
    """A line to type in. `committed` comes once, on Return or when it is left, if the person changed it.

    Escape takes the typing back; up and down (and the wheel with Ctrl) ask for a step.
    """

    committed = Signal(str)
    stepped = Signal(int)
    taken_back = Signal()

    def __init__(self, width: int = 0, *, right: bool = False, name: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        if width:
            self.setFixedWidth(width)
        if right:
            self.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._shown = ""
        self.editingFinished.connect(self._finish)

    @property
    def is_being_typed(self) -> bool:
        return self.hasFocus() and self.text() != self._shown

    def show_text(self, text: str) -> None:
        """Shows a text as what it now is."""
        self._shown = text
        if text != self.text():
            self.setText(text)
            self.setCursorPosition(0)

    def _finish(self) -> None:
        if self.text() != self._shown:
            self._shown = self.text()
            self.committed.emit(self.text())
        if not self.hasFocus():
            self.setCursorPosition(0)  # of a text too long to be seen whole, the beginning

    def keyPressEvent(self, event: QKeyEvent) -> None:
        match event.key():
            case Qt.Key.Key_Up:
                self.stepped.emit(1)
            case Qt.Key.Key_Down:
                self.stepped.emit(-1)
            case Qt.Key.Key_Escape:
                self.taken_back.emit()
            case _:
                super().keyPressEvent(event)

    def event(self, event: QEvent) -> bool:
        is_override = event.type() == QEvent.Type.ShortcutOverride
        if is_override and isinstance(event, QKeyEvent) and event.key() == Qt.Key.Key_Escape and self.is_being_typed:
            event.accept()  # Escape is the window's only where there is no typing to take back
            return True
        return super().event(event)

    def wheelEvent(self, event: QWheelEvent) -> None:
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.stepped.emit(1 if event.angleDelta().y() > 0 else -1)
        else:
            event.ignore()


class Control(QWidget):
    """A row: its label, what `line` holds, and below it a note or an error in words."""

    edited = Signal(object)

    def __init__(
        self,
        label: str,
        *,
        name: str = "",
        help: str = "",
        note: str = "",
        label_width: int = theme.LABEL_WIDTH,
        note_indent: int = 0,
    ) -> None:
        super().__init__()
        self.setObjectName(name)
        self._note = note
        self._label_text = label
        self.label = RowLabel(label, label_width)
        self.label.set_help(help)
        self._help = help
        self.line = QHBoxLayout()
        self.line.setContentsMargins(0, 0, 0, 0)
        self.line.setSpacing(theme.S)
        if label:
            self.line.addWidget(self.label)
            self.line.setSpacing(0)
        self.message = Note(note, name=f"{name}-message" if name else "")
        self.message.setContentsMargins(note_indent, 0, 0, 5)
        self._body = QVBoxLayout(self)
        self._body.setContentsMargins(0, 0, 0, 0)
        self._body.setSpacing(0)
        self._body.addLayout(self.line)
        self._body.addWidget(self.message)

    def add_below(self, widget: QWidget) -> None:
        """Something more, below the field and in line with it."""
        line = QHBoxLayout()
        line.addSpacing(self.label.width())
        line.addWidget(widget)
        line.addStretch()
        self._body.addLayout(line)

    def _hold(self, widget: QWidget, *, unit: str = "") -> None:
        """Makes `widget` the row's own: it gets the keys, the label's name and the help."""
        self.setFocusProxy(widget)
        self.label.setBuddy(widget)
        widget.setAccessibleName(f"{self._label_text}, {unit}" if unit else self._label_text)
        widget.setAccessibleDescription(self._help)
        widget.setToolTip(tip(self._help))

    def _wrong_field(self) -> QWidget | None:
        """Which field gets the red border."""
        return None

    @property
    def error(self) -> str:
        """What is said to be wrong; empty if nothing is."""
        return self.message.text() if self.message.property("tone") == "error" else ""

    def show_error(self, text: str) -> None:
        """Puts an error in words below the field; empty takes it away."""
        self.message.show_text(text or self._note, "error" if text else "quiet")
        field = self._wrong_field()
        if field is not None:
            set_property(field, "wrong", bool(text))
            field.setAccessibleDescription(text or self._help)

    def allow(self, reason_against: str = "") -> None:
        """Enables the row, or greys it with the reason as its tooltip."""
        self.setEnabled(not reason_against)
        self.setToolTip(tip(reason_against))

    def mark_changed(self, changed: bool) -> None:  # noqa: FBT001
        """The dot after the label: the value is not the default."""
        self.label.mark_changed(changed)
