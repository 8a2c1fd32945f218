"""Controls for settings, one a row: choice, text, switch (see `rows` for what they share, `number` for numbers)."""

# ruff: noqa: ARG002 (Qt hands every handler its event)
from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QRectF, QSignalBlocker, QSize, Qt
from PySide6.QtGui import QPainter, QPen
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QCompleter,
    QSizePolicy,
    QStyle,
    QStyleOptionComboBox,
    QStylePainter,
    QWidget,
)

from . import theme
from .parts import KEY_REASONS, Text, paint_ring
from .rows import Control, Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PySide6.QtGui import QFocusEvent, QPaintEvent, QWheelEvent

MOST_UNSEARCHED = 10
"""A list longer than this is searched by typing."""


class Combo(QComboBox):
    """A drop-down list with our chevron; the wheel passes it by."""

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QStylePainter(self)
        option = QStyleOptionComboBox()
        self.initStyleOption(option)
        painter.drawComplexControl(QStyle.ComplexControl.CC_ComboBox, option)
        if not self.isEditable():
            room = self.width() - 8 - 24
            option.currentText = self.fontMetrics().elidedText(  # type: ignore[attr-defined]
                self.currentText(),
                Qt.TextElideMode.ElideRight,
                room,
            )
            painter.drawControl(QStyle.ControlElement.CE_ComboBoxLabel, option)
        where = QRectF(self.width() - 20, (self.height() - 14) / 2, 14, 14)
        theme.paint_icon(painter, "chevron", look.quiet if self.isEnabled() else look.faint, where)

    def wheelEvent(self, event: QWheelEvent) -> None:
        event.ignore()


class ChoiceControl(Control):
    """One of a list. More than ten are searched by typing any part of their names."""

    def __init__(
        self,
        label: str,
        choices: Sequence[tuple[object, str]] = (),
        *,
        name: str = "",
        help: str = "",
        note: str = "",
        label_width: int = theme.LABEL_WIDTH,
        width: int = 0,
    ) -> None:
        super().__init__(label, name=name, help=help, note=note, label_width=label_width, note_indent=label_width)
        self.combo = Combo()
        self.combo.setObjectName(f"{name}-combo" if name else "")
        self.combo.setInsertPolicy(QComboBox.InsertPolicy.NoInsert)
        self.combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.combo.setMinimumContentsLength(4)
        self.combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.line.addWidget(self.combo)
        if width:
            self.combo.setFixedWidth(width)
            self.line.addStretch()
        self._hold(self.combo)
        self.combo.activated.connect(self._chosen)
        self._choices: tuple[tuple[object, str], ...] = ()
        self._value: object = None
        self.show_choices(choices)

    @property
    def value(self) -> object:
        return self._value

    @property
    def choices(self) -> tuple[tuple[object, str], ...]:
        """(value, text) of what can be chosen."""
        return self._choices

    def show_choices(self, choices: Sequence[tuple[object, str]]) -> None:
        """Shows another list of (value, text), telling nobody; what was chosen stays if it is among them."""
        if tuple(choices) == self._choices:
            return
        self._choices = tuple(choices)
        with QSignalBlocker(self.combo):
            self.combo.clear()
            self.combo.addItems([text for _, text in self._choices])
        searched = len(self._choices) > MOST_UNSEARCHED
        if searched != self.combo.isEditable():
            self._make_searchable(searched=searched)
        self.show_value(self._value if any(value == self._value for value, _ in self._choices) else None)

    def show_value(self, value: object) -> None:
        """Shows what is chosen, telling nobody; None takes the first."""
        values = [known for known, _ in self._choices]
        at = values.index(value) if value in values else (0 if value is None and values else -1)
        self._value = values[at] if at >= 0 else value
        with QSignalBlocker(self.combo):
            self.combo.setCurrentIndex(at)
        self._restore_text()

    def _make_searchable(self, *, searched: bool) -> None:
        self.combo.setEditable(searched)
        line, completer = self.combo.lineEdit(), self.combo.completer()
        if line is None or completer is None:
            return
        completer.setCompletionMode(QCompleter.CompletionMode.PopupCompletion)
        completer.setFilterMode(Qt.MatchFlag.MatchContains)
        popup = completer.popup()  # there is one only now, in this mode
        if popup is not None:
            popup.setObjectName("choices")
        line.setAccessibleName(self._label_text)
        line.editingFinished.connect(self._search_ended)

    def _chosen(self, at: int) -> None:
        if 0 <= at < len(self._choices) and self._choices[at][0] != self._value:
            self._value = self._choices[at][0]
            self.show_error("")
            self.edited.emit(self._value)

    def _search_ended(self) -> None:
        """Return, or leaving: takes the best match of what was typed, or puts the old text back."""
        typed = self.combo.currentText().casefold().strip()
        texts = [text.casefold() for _, text in self._choices]
        matches = [at for at, text in enumerate(texts) if text == typed]
        matches += [at for at, text in enumerate(texts) if typed and typed in text]
        if matches and self._choices[matches[0]][0] != self._value:
            with QSignalBlocker(self.combo):
                self.combo.setCurrentIndex(matches[0])
            self._chosen(matches[0])
        self._restore_text()

    def _restore_text(self) -> None:
        if self.combo.isEditable():
            texts = [text for value, text in self._choices if value == self._value]
            self.combo.setEditText(texts[0] if texts else str(self._value or ""))

    def _wrong_field(self) -> QWidget:
        return self.combo


class TextControl(Control):
    """A line of text, or a value that others read; its unit beside it."""

    def __init__(
        self,
        label: str,
        *,
        name: str = "",
        help: str = "",
        note: str = "",
        unit: str = "",
        placeholder: str = "",
        right: bool = False,
        label_width: int = theme.LABEL_WIDTH,
        width: int = 0,
    ) -> None:
        super().__init__(label, name=name, help=help, note=note, label_width=label_width, note_indent=label_width)
        self.field = Field(width, right=right, name=f"{name}-field" if name else "")
        self.field.setPlaceholderText(placeholder)
        self.line.addWidget(self.field)
        if unit:
            self.line.addSpacing(theme.S)
            self.line.addWidget(Text(unit, tone="quiet"), 1)
        elif width:
            self.line.addStretch()
        self._text = ""
        self._hold(self.field, unit=unit)
        self.field.committed.connect(self._typed)
        self.field.taken_back.connect(self._take_back)

    @property
    def value(self) -> str:
        return self._text

    def show_value(self, text: str) -> None:
        """Shows a text, telling nobody. What is being typed stays."""
        self._text = text
        if not self.field.is_being_typed:
            self.field.show_text(text)

    def _typed(self, text: str) -> None:
        self._text = text
        self.edited.emit(text)

    def _take_back(self) -> None:
        self.field.show_text(self._text)

    def _wrong_field(self) -> QWidget:
        return self.field


class Box(QCheckBox):
    """A check box in our colours."""

    has_ring = False

    def sizeHint(self) -> QSize:
        return QSize(24, theme.ROW)

    def focusInEvent(self, event: QFocusEvent) -> None:
        self.has_ring = event.reason() in KEY_REASONS
        super().focusInEvent(event)

    def paintEvent(self, event: QPaintEvent) -> None:
        look, painter = theme.tokens(), QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        square = QRectF(0.5, (self.height() - 16) / 2, 16, 16)
        on = self.isChecked()
        painter.setPen(QPen(look.color("accent" if on and self.isEnabled() else "faint"), 1))
        painter.setBrush(look.color(("accent" if self.isEnabled() else "faint") if on else "raised"))
        painter.drawRoundedRect(square, 3.5, 3.5)
        if on:
            theme.paint_icon(painter, "check", look.on_accent, square.adjusted(1, 1, -1, -1))
        if self.hasFocus() and self.has_ring:
            paint_ring(painter, square.adjusted(-3, -3, 3, 3), 5)


class SwitchControl(Control):
    """Yes or no."""

    def __init__(
        self,
        label: str,
        *,
        name: str = "",
        help: str = "",
        note: str = "",
        label_width: int = theme.LABEL_WIDTH,
    ) -> None:
        super().__init__(label, name=name, help=help, note=note, label_width=label_width, note_indent=label_width)
        self.box = Box()
        self.box.setObjectName(f"{name}-box" if name else "")
        self.box.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.line.addWidget(self.box)
        self.line.addStretch()
        self._hold(self.box)
        self.box.toggled.connect(self._toggled)

    @property
    def value(self) -> bool:
        return self.box.isChecked()

    def show_value(self, on: bool) -> None:  # noqa: FBT001
        """Shows yes or no, telling nobody."""
        with QSignalBlocker(self.box):
            self.box.setChecked(on)
        self.box.update()

    def _toggled(self, on: bool) -> None:  # noqa: FBT001
        self.show_error("")
        self.edited.emit(on)
