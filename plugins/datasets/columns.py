"""What the columns of a table tell of images: captions, class names, attributes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from imagen_workbench.core import Attribute

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

FILE, LABEL = "file_name", "label"
CAPTIONS = ("caption", "text", "prompt", "description")
"""Columns that may hold what an image shows, the first of them that is there."""
MOST_WORDS = 64
"""Different words in a column, above which it is no attribute."""


@dataclass(frozen=True)
class Note:
    """What a table tells of one image."""

    caption: str = ""
    label: str = ""
    attributes: dict[str, str | float] = field(default_factory=dict)


class Columns:
    """Columns of numbers, and of few different words, as rows are added; lists and tables are none.

    others: columns that tell something else.
    """

    def __init__(self, others: Collection[str] = (FILE, LABEL, *CAPTIONS)) -> None:
        self._others = others
        self._columns: dict[str, _Column] = {}

    def add(self, row: Mapping[str, Any]) -> None:
        for name, value in row.items():
            if name not in self._others and name and value not in (None, ""):
                self._columns.setdefault(name, _Column()).add(value)

    def attributes(self) -> tuple[Attribute, ...]:
        """In the order in which the columns came. One number that never changes tells nothing."""
        found = []
        for name, column in self._columns.items():
            if column.are_numbers:
                if column.low < column.high:
                    found.append(Attribute(name, low=column.low, high=column.high))
            elif column.are_words:
                found.append(Attribute(name, tuple(sorted(column.words))))
        return tuple(found)


class _Column:
    """What is known of one column's values."""

    def __init__(self) -> None:
        self.are_numbers = self.are_words = True
        self.low, self.high = math.inf, -math.inf
        self.words: set[str] = set()

    def add(self, value: Any) -> None:
        if self.are_numbers:
            number = number_of(value)
            if number is None:
                self.are_numbers = False
            else:
                self.low, self.high = min(self.low, number), max(self.high, number)
        if not isinstance(value, str | bool):
            self.are_words = False
        elif self.are_words:
            self.words.add(str(value))
            self.are_words = len(self.words) <= MOST_WORDS


def number_of(value: Any) -> float | None:
    """A number, or text that is one; None for what is none, or not finite."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def caption_of(row: Mapping[str, Any]) -> str:
    """In one line; empty where there is none."""
    found = next((row[name] for name in CAPTIONS if isinstance(row.get(name), str)), "")
    return " ".join(found.split())


def note_of(row: Mapping[str, Any], attributes: Iterable[str]) -> Note:
    """attributes: the names of the columns that are some."""
    told: dict[str, str | float] = {
        name: value if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
        for name in attributes
        if (value := row.get(name)) not in (None, "")
    }
    label = row.get(LABEL)
    return Note(caption_of(row), "" if label is None else str(label), told)
