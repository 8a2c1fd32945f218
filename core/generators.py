"""Work as generators of short turns, whose `return` is what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

Told = TypeVar("Told")
Retold = TypeVar("Retold")
Result = TypeVar("Result")


def finish(turns: Generator[object, None, Result]) -> Result:
    """All turns at once: what the generator returns."""
    while True:
        try:
            next(turns)
        except StopIteration as end:
            return end.value


def retold(turns: Generator[Told, None, Result], tell: Callable[[Told], Retold]) -> Generator[Retold, None, Result]:
    """The same generator, with what it yields in other words; closed with it."""
    try:
        while True:
            try:
                told = next(turns)
            except StopIteration as end:
                return end.value
            yield tell(told)
    finally:
        turns.close()
