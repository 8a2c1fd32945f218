"""What a person says of the images, field by field, and the condition that it makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...core.condition_text import keyed_text
from ...core.errors import RequestError
from .numbers import read_number

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...core.events import ConditionField

CONDITION = "condition."
"""Stands before a field's key in the name of its control and of its error."""
EACH = "each in turn"
UNSAID = "not said"


def read_said(field: ConditionField, text: str) -> str:
    """What was put into a field, as a condition has it; empty where nothing is said.

    Raises RequestError where it is no such number, or not among the choices.
    """
    text = text.strip()
    if not text:
        return ""
    if field.kind == "choice" and text not in field.choices:
        raise RequestError(f"{text} is not among the choices", fix="Choose one from the list")
    if field.kind != "number":
        return text
    value = read_number(text)
    if value is None or not field.low <= value <= field.high:
        raise RequestError(f"{text} is no such number", fix=f"Give a number from {field.low:g} to {field.high:g}")
    return f"{value:.6g}"


def condition_of(form: Sequence[ConditionField], said: Mapping[str, str]) -> str:
    """The condition of every image; empty where nothing is said at all.

    Otherwise a field that is not said has its default, since a model may not do without.
    """
    if not any(said.values()):
        return ""
    values = {each.key: said.get(each.key) or each.default for each in form}
    return values[form[0].key] if len(form) == 1 else keyed_text(values)


def help_of(field: ConditionField) -> str:
    """The sentence of help, with the range of a number."""
    span = f"From {field.low:g} to {field.high:g}." if field.kind == "number" else ""
    return " ".join(filter(None, (field.help, span)))


def empty_text(field: ConditionField, form: Sequence[ConditionField]) -> str:
    """What an empty field means."""
    return EACH if len(form) == 1 else field.default or UNSAID
