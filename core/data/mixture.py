"""Several datasets as one, which training draws from by weight."""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from ..errors import DataError
from .source import Example, Source, SourceOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..recipe import Data
    from .opening import Opened
    from .source import Attribute


NOTHING = {"caption": None, "attributes": {}, "low_resolution": None, "mask": None}
"""What an example has of these fields where it has none."""


@dataclass(frozen=True)
class MixedPart:
    """name: what tells it from the others; ask: calls its code, and names the part in what that raises."""

    name: str
    source: Source
    opened: Opened
    ask: Callable[[Callable[[], Any]], Any]


class Mixture(Source):
    """The examples of all parts, one part after the other; each is called after its part.

    Classes are joined by name, in the order in which they first appear, and so are attributes; its fields are those
    that all parts have; what else an example has is left out. Raises DataError where two parts mean different things
    by one attribute.
    """

    title = "Mixture"
    summary = "Several datasets as one."

    def __init__(self, parts: Sequence[MixedPart], settings: Data) -> None:
        super().__init__(settings, SourceOptions())
        self._parts = tuple(parts)
        self._classes = tuple(dict.fromkeys(name for part in parts for name in part.opened.facts.classes))
        self._places = [[self._classes.index(name) for name in part.opened.facts.classes] for part in parts]
        self._attributes = _joined_attributes(parts) if "attributes" in self.fields else ()
        self._ends = list(itertools.accumulate(self.lengths))

    @property
    def lengths(self) -> tuple[int, ...]:
        """Examples of each part."""
        return tuple(part.opened.length or 0 for part in self._parts)

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self._attributes

    @property
    def fields(self) -> tuple[str, ...]:
        first, *others = (part.opened.facts.fields for part in self._parts)
        return tuple(field for field in first if all(field in each for each in others))

    def __len__(self) -> int:
        return sum(self.lengths)

    def __getitem__(self, index: int) -> Example:
        at, inner = self._place(index)
        part = self._parts[at]
        example = part.source[inner]
        if not isinstance(example, Example):
            return example  # which is refused as any source's would be
        name = f"{part.name}: {example.name}" if example.name else ""
        left_out = {field: value for field, value in NOTHING.items() if field not in self.fields}
        return replace(example, name=name, label=self._label(at, example.label), **left_out)

    def name_of(self, index: int) -> str:
        at, inner = self._place(index)
        part = self._parts[at]
        return f"{part.name}: {part.source.name_of(inner)}"

    def fingerprint(self) -> str:
        """Of all parts; empty where one of them has none. Their weights are no part of it."""
        told = [part.ask(lambda part=part: _text(part.source.fingerprint())) for part in self._parts]
        if not all(told):
            return ""
        parts = [
            (part.opened.kind, part.opened.options, part.name, part.opened.length, fingerprint)
            for part, fingerprint in zip(self._parts, told, strict=True)
        ]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _place(self, index: int) -> tuple[int, int]:
        """(part, index in it). Raises IndexError."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        at = bisect.bisect_right(self._ends, index)
        return at, index - (self._ends[at - 1] if at else 0)

    def _label(self, at: int, label: Any) -> int | None:
        """A part's label as one of all classes. Raises DataError where it is none of its own."""
        if label is None:
            return None
        places = self._places[at]
        try:
            label = operator.index(label)
        except TypeError:
            raise DataError(f"its label is {type(label).__name__}, not a number") from None
        if not 0 <= label < len(places):
            raise DataError(f"its label {label} is none of {len(places)} classes")
        return places[label]


def _joined_attributes(parts: Sequence[MixedPart]) -> tuple[Attribute, ...]:
    found: dict[str, tuple[Attribute, str]] = {}
    for at, part in enumerate(parts):
        for attribute in part.opened.facts.attributes:
            known, whose = found.setdefault(attribute.name, (attribute, part.name))
            if known != attribute:
                raise DataError(
                    f"the attribute {attribute.name} of {part.name} is {_range(attribute)}, "
                    f"and {_range(known)} in {whose}",
                    field=f"data.parts.{at}",
                    fix="Give them the same words or range, or leave one part out",
                )
    return tuple(attribute for attribute, _ in found.values())


def _range(attribute: Attribute) -> str:
    if attribute.choices:
        return f"one of {', '.join(attribute.choices)}"
    return f"a number from {attribute.low:g} to {attribute.high:g}"


def _text(told: Any) -> str:
    if not isinstance(told, str):
        raise TypeError(f"its fingerprint is {type(told).__name__}, not text")
    return told
