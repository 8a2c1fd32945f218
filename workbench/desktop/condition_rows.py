"""What a model asks for, one row a field: words, a list, a number, a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFileDialog, QVBoxLayout, QWidget

from ..presenters.condition_form import CONDITION, UNSAID, empty_text, help_of
from .controls import ChoiceControl, TextControl
from .parts import Button

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ...core.events import ConditionField

NUMBER = 106
CHOOSE = "-choose"
"""Stands after a picture's name in the name of the link that looks for it."""


class ConditionRows(QWidget):
    """`edited` tells (key, text as typed); empty is not said."""

    edited = Signal(str, str)

    def __init__(self) -> None:
        super().__init__()
        self.rows: dict[str, ChoiceControl | TextControl] = {}
        self._form: tuple[ConditionField, ...] = ()
        self._body = QVBoxLayout(self)
        self._body.setContentsMargins(0, 0, 0, 0)
        self._body.setSpacing(0)

    def lay_out(self, form: tuple[ConditionField, ...]) -> None:
        """Makes the rows anew, where these are other fields."""
        if form == self._form:
            return
        self._form = form
        for row in self.rows.values():
            self._body.removeWidget(row)
            row.hide()
            row.deleteLater()
        self.rows = {each.key: self._row(each) for each in form}
        for each in form:
            row = self.rows[each.key]
            row.edited.connect(self._say)
            self._body.addWidget(row)
            if each.kind == "image":
                link = Button("Choose…", kind="link", name=f"{row.objectName()}{CHOOSE}", help="Find it on the disk.")
                link.clicked.connect(self._choose)
                row.add_below(link)

    def show_said(self, said: Mapping[str, str], errors: Mapping[str, str]) -> None:
        """Shows what is said. errors: by the rows' names; what was refused stays in its field."""
        for key, row in self.rows.items():
            error = errors.get(row.objectName(), "")
            if not error:
                row.show_value(said.get(key, ""))
            if row.error != error:
                row.show_error(error)

    def _row(self, field: ConditionField) -> ChoiceControl | TextControl:
        name, help = f"{CONDITION}{field.key}", help_of(field)
        if field.kind == "choice":
            choices = [("", UNSAID), *((text, text) for text in field.choices)]
            return ChoiceControl(field.label, choices, name=name, help=help)
        is_number = field.kind == "number"
        return TextControl(
            field.label,
            name=name,
            help=help,
            placeholder=empty_text(field, self._form),
            right=is_number,
            width=NUMBER if is_number else 0,
        )

    def _say(self, value: object) -> None:
        row = self.sender()
        assert row is not None
        self.edited.emit(row.objectName().removeprefix(CONDITION), str(value))

    def _choose(self) -> None:
        """The system's dialog for a picture."""
        link = self.sender()
        assert link is not None
        kinds = "Pictures (*.png *.jpg *.jpeg *.webp *.bmp *.gif *.tif *.tiff)"
        path, _ = QFileDialog.getOpenFileName(self, "Choose a picture", "", kinds)
        if path:
            self.edited.emit(link.objectName().removeprefix(CONDITION).removesuffix(CHOOSE), path)
