"""One example as a row of the cache, or the reason why it is set aside: whatever a plugin gives is checked here."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import DataError, WorkbenchError
from .decode import to_pixels
from .source import Example

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..recipe import Data
    from .source import Position, Source, Stream

WORDS = frozenset(("label", "caption", "attributes"))
"""Fields of an example that a row still has."""
LONGEST = 1000
"""Characters of a name or a reason."""


@dataclass(frozen=True)
class Row:
    """pixels: [c h w] uint8 or uint16; label: -1 for none; prepared: None where the condition is still to be made."""

    pixels: np.ndarray = field(compare=False)
    prepared: np.ndarray | None = field(compare=False)
    label: int
    name: str
    caption: str | None = None
    attributes: Mapping[str, str | float] = field(default_factory=dict)


@dataclass(frozen=True)
class Aside:
    """An example that cannot be used."""

    name: str
    reason: str


def row_of(source: Source, index: int, settings: Data, prepare: Callable[[Example], np.ndarray] | None) -> Row | Aside:
    """Example `index`, decoded and with its condition; without one where `prepare` is None."""
    name = name_of(source, index)
    try:
        example = source[index]
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its image is set aside by name
        return Aside(name, reason_of(error))
    return row_of_example(example, name, len(source.classes), settings, prepare)


def row_of_example(
    example: Any, name: str, classes: int, settings: Data, prepare: Callable[[Example], np.ndarray] | None
) -> Row | Aside:
    """What a plugin gave as an example, in the same way. name: what it is called where it does not say itself."""
    try:
        example = _checked(example, classes)
        name = example.name[:LONGEST] or name
        label = -1 if example.label is None else example.label
        row = Row(to_pixels(example.image, settings), None, label, name, example.caption, example.attributes)
        return row if prepare is None else replace(row, prepared=checked_condition(prepare(example)))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its image is set aside by name
        return Aside(name, reason_of(error))


def with_condition(row: Row, prepare: Callable[[Example], np.ndarray]) -> Row | Aside:
    """A row that came without one; its example has what is in `WORDS`, and the pixels as they were decoded."""
    label = None if row.label < 0 else row.label
    image = row.pixels.transpose(1, 2, 0)
    example = Example(image, label, row.name, row.caption, row.attributes)
    try:
        return replace(row, prepared=checked_condition(prepare(example)))
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises, its image is set aside by name
        return Aside(row.name, reason_of(error))


def fetched(stream: Stream, position: Position) -> Iterator[tuple[Position, Any]]:
    """A stream's examples; where it raises, it is begun once more from where it was.

    Raises what it raises then, or TypeError where it gives what it should not.
    """
    while True:
        begun = position
        try:
            for place, example in stream.examples(position):
                if not (place is None or isinstance(place, str | int)):
                    raise TypeError(f"a position is {type(place).__name__}, neither text nor a number")
                position = place
                yield position, example
        except Exception:
            if position == begun:
                raise
        else:
            return


def name_of(source: Source, index: int) -> str:
    """What a person would look for; a number where the source does not say."""
    try:
        name = source.name_of(index)
    except Exception:  # noqa: BLE001 - it may be read all the same
        name = ""
    return name[:LONGEST] if isinstance(name, str) and name else f"No. {index}"


def reason_of(error: BaseException) -> str:
    text = error.what if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
    return text[:LONGEST]


def _checked(example: Any, classes: int) -> Example:
    """The same, its label an int. Raises DataError where it is no example, or holds what it should not."""
    if isinstance(example, DataError):
        raise example
    if not isinstance(example, Example):
        raise DataError(f"its source gave {type(example).__name__} instead of an Example")
    label = example.label
    if label is not None:
        try:
            label = operator.index(label)
        except TypeError:
            raise DataError(f"its label is {type(label).__name__}, not a number") from None
        if not 0 <= label < classes:
            raise DataError(f"its label {label} is none of {classes} classes")
    for what, value in (("name", example.name), ("caption", example.caption or "")):
        if not isinstance(value, str):
            raise DataError(f"its {what} is {type(value).__name__}, not text")
    if not isinstance(example.attributes, Mapping):
        raise DataError(f"its attributes are {type(example.attributes).__name__}, not a mapping")
    attributes = {str(name): _attribute(str(name), value) for name, value in example.attributes.items()}
    return replace(example, label=label, attributes=attributes)


def _attribute(name: str, value: Any) -> str | float:
    if isinstance(value, str):
        return value
    try:
        return float(value)
    except (TypeError, ValueError):
        raise DataError(f"its attribute {name} is {type(value).__name__}, neither text nor a number") from None


def checked_condition(prepared: Any) -> np.ndarray:
    """As an array of this machine's byte order. Raises DataError where it holds anything but numbers."""
    array = np.asarray(prepared)
    if not _is_numeric(array.dtype):
        raise DataError(f"its condition is {array.dtype} of shape {array.shape}, not numbers")
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def _is_numeric(dtype: np.dtype) -> bool:
    if dtype.names is not None:
        return all(_is_numeric(dtype[name].base) for name in dtype.names)
    return dtype.kind in "biufc"
