"""How conditions are written: terms with weights, and keys with values."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


IN_BRACKETS = re.compile(r"\((.* \+ .*)\)(?::([^():]*))?")
"""A term that mixes several classes, with a weight of its own."""


def composed_texts(text: str, choices: Sequence[str] = ()) -> list[tuple[float, str]]:
    """ "3 AND 5:-0.5" → [(1.0, "3"), (-0.5, "5")]; a text without AND, or one of the choices, is one term of weight 1.

    A mixture of choices keeps its weights for itself: in "3 + 5:0.5 AND 7" the half is that of 5. In brackets it
    takes another, of the whole: "(3 + 5:0.5):2 AND 7". Raises RequestError where a weight is no number.
    """
    if text in choices or " AND " not in text:
        return [(1.0, text)]
    return [_term(part.strip(), choices) for part in text.split(" AND ")]


def _term(part: str, choices: Sequence[str]) -> tuple[float, str]:
    if part in choices:
        return 1.0, part
    if bracketed := IN_BRACKETS.fullmatch(part):
        inside, weight = bracketed.groups()
        return (1.0 if weight is None else _weight(weight, part)), inside.strip()
    name, colon, weight = part.rpartition(":")
    if not colon or (choices and " + " in part and name.strip() not in choices):
        return 1.0, part
    return _weight(weight, part), name.strip()


def _weight(text: str, part: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise RequestError(f"{text!r} in {part!r} is no weight", fix="Write for example 3 AND 5:0.5")
    return weight


def keyed_texts(text: str, keys: Sequence[str]) -> dict[str, str]:
    """ "class=3;text=a red square" → {"class": "3", "text": "a red square"}, where keys has these.

    A semicolon that no key follows belongs to its value; what stands before any key is the first key's.
    Raises RequestError where a key is given twice.
    """
    if not text.strip():
        return {}
    known = "|".join(re.escape(key) for key in keys)
    parts = re.split(rf"(?:^|;)\s*({known})\s*=", text)
    found = {keys[0]: parts[0].strip()} if parts[0].strip() else {}
    for key, value in zip(parts[1::2], parts[2::2], strict=True):
        if key in found:
            raise RequestError(f"{key} is given twice in {text!r}", fix=f"Write {_example(keys)}")
        found[key] = value.strip()
    return found


def keyed_text(values: Mapping[str, str]) -> str:
    """The reverse of `keyed_texts`; empty values are left out."""
    return ";".join(f"{key}={value}" for key, value in values.items() if value)


def _example(keys: Sequence[str]) -> str:
    return ";".join(f"{key}=…" for key in keys)
