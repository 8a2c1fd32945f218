"""Long measurements as generators of short turns, so that a worker can do other things between two of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Told = TypeVar("Told")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Turn:
    """A turn has passed. what: the part of the measurement, in words; done of total: how far that part has come."""

    what: str
    done: int
    total: int


def finish(turns: Generator[object, None, Result]) -> Result:
    """All turns at once: what the generator returns."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            return end.value


def retold(turns: Generator[Told, None, Result], tell: Callable[[Told], Turn]) -> Generator[Turn, None, Result]:
    """The same generator, with what it yields in other words."""
    while True:
        try:
            told = next(turns)
        except StopIteration as end:
            return end.value
        yield tell(told)
