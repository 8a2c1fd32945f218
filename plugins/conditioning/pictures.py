"""Pictures that conditions are made from: files, or the few that a model carries."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from imagen_workbench.core import DataError, RequestError, picture_array

if TYPE_CHECKING:
    import numpy as np

    from imagen_workbench.core import Facts

EXAMPLE = "example "
"""Before the number of a picture that the model carries."""
FIRST = f"{EXAMPLE}1"


def examples_in_turn(facts: Facts, count: int) -> list[str]:
    """ "example 1", "example 2", … over those that the model carries."""
    known = max(1, len(facts.pictures))
    return [f"{EXAMPLE}{1 + k % known}" for k in range(count)]


def carried(text: str, facts: Facts) -> np.ndarray | None:
    """ "example 3" → that picture [c h w] in [-1, 1], at the data's size; None for another text.

    Raises RequestError where the model carries no such.
    """
    number = text.removeprefix(EXAMPLE)
    if not text.startswith(EXAMPLE) or not number.isdecimal():
        return None
    if not 1 <= int(number) <= len(facts.pictures):
        raise RequestError(f"there is no {text}", fix=f"The model carries {len(facts.pictures)}")
    return facts.picture(int(number) - 1)


def read_picture(text: str, size: tuple[int, int], channels: int, *, field: str, fix: str) -> np.ndarray:
    """A file → [c h w] in [-1, 1]. field: what asks for it; fix: what it should be. Raises RequestError."""
    if not text:
        raise RequestError("no picture is named", field=field, fix=f"Name a file, or write {FIRST}")
    try:
        return picture_array(Path(text).expanduser(), size, channels)
    except DataError as error:
        raise RequestError(error.what, file=text, fix=fix) from error
