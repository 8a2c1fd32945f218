"""The form of a recipe, made from the fields that the presenter gives."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog, QWidget

from ..presenters.forms import FormField, text_of
from .controls import ChoiceControl, SwitchControl, TextControl
from .parts import Button
from .surfaces import Group

if TYPE_CHECKING:
    from ..presenters.training_state import TrainingState

LABELS, FIELD = 116, 106
ControlRow = ChoiceControl | SwitchControl | TextControl


class RecipeForm(QObject):
    """Rows of one group after the other; `edited` tells (key, text as typed)."""

    edited = Signal(str, str)

    def __init__(self, parent: QObject) -> None:
        super().__init__(parent)
        self.groups: dict[str, Group] = {}
        self.rows: dict[str, ControlRow] = {}
        self._form: object = None

    def rebuild(self, form: tuple[tuple[str, tuple[FormField, ...]], ...]) -> list[Group]:
        """Makes the rows anew where the fields have changed; returns the groups, for the column."""
        self._form = form
        self.groups, self.rows = {}, {}
        for title, fields in form:
            group = Group(title, spacing=5)
            for field in fields:
                row = self._row(field)
                row.edited.connect(self._tell)
                self.rows[field.key] = row
                group.add(row)
                if field.key == "data.path":
                    self.browse = Button(
                        "Choose a folder…",
                        kind="link",
                        name="browse",
                        help="Images in subfolders belong to the class of its name.",
                    )
                    self.browse.clicked.connect(self._browse)
                    row.add_below(self.browse)
            self.groups[title] = group
        return list(self.groups.values())

    def is_built_for(self, form: object) -> bool:
        return form == self._form

    def show_values(self, state: TrainingState) -> None:
        """Values, errors and dots of what was changed."""
        errors, kinds = dict(state.errors), {field.key: field for _, fields in state.form for field in fields}
        for key, text in state.texts:
            row = self.rows.get(key)
            if row is None:
                continue
            if isinstance(row, SwitchControl):
                row.show_value(text == "yes")
            elif isinstance(row, TextControl):
                row.show_value(
                    _grouped(text) if kinds[key].kind in ("integer", "number") and key != "training.seed" else text
                )
            else:
                row.show_value(text)
            if row.error != errors.get(key, ""):
                row.show_error(errors.get(key, ""))
            row.mark_changed(key in state.changed)

    def _row(self, field: FormField) -> ControlRow:
        if field.kind == "choice":
            choices = [(text_of(choice), text_of(choice)) for choice in field.choices]
            return ChoiceControl(field.label, choices, name=field.key, help=field.help, label_width=LABELS, width=160)
        if field.kind == "boolean":
            return SwitchControl(field.label, name=field.key, help=field.help, label_width=LABELS)
        wide = field.kind == "text"
        return TextControl(
            field.label,
            name=field.key,
            help=_help(field),
            unit="" if wide else field.unit,
            right=not wide,
            label_width=LABELS,
            width=160 if wide else FIELD,
        )

    def _tell(self, value: object) -> None:
        row = self.sender()
        if isinstance(row, QWidget):
            self.edited.emit(row.objectName(), text_of(value))

    def _browse(self) -> None:
        folder = QFileDialog.getExistingDirectory(self.browse.window(), "Choose a folder of images")
        if folder:
            self.edited.emit("data.path", folder)


def _help(field: FormField) -> str:
    """The sentence of help, with the range it admits."""
    low, high = field.minimum, field.maximum
    span = f" {low:g} to {high:,.6g}." if low is not None and high is not None and high < 1e12 else ""
    return f"{field.help}{span}"


def _grouped(text: str) -> str:
    """6000 → 6,000."""
    return f"{int(text):,}" if text.isdecimal() else text
