"""What is wrong with a recipe, in words: the dotted key, the fault, and what to write instead."""

from __future__ import annotations

import difflib
import typing
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel

from .errors import RecipeError

if TYPE_CHECKING:
    from pydantic import ValidationError

Tables = type[BaseModel]
"""A model whose fields are tables (models themselves) and plain settings."""


def dotted_keys(tables: Tables) -> list[str]:
    """All dotted keys, in order (`training.steps`, …)."""
    keys: list[str] = []
    for name, info in tables.model_fields.items():
        kind = info.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            keys += [f"{name}.{inner}" for inner in kind.model_fields]
        else:
            keys.append(name)
    return keys


def unknown_key(field: str, tables: Tables) -> RecipeError:
    """A key of the same name in another table is meant, or else the nearest; of tables, the nearest table."""
    known = _beside(field, tables) or (dotted_keys(tables) if "." in field else list(tables.model_fields))
    same = [key for key in known if key.rpartition(".")[2] == field.rpartition(".")[2]]
    near = difflib.get_close_matches(field, same or known, n=1, cutoff=0.0 if same else 0.4)
    fix = f"Did you mean {near[0]}?" if near else f"Known here: {', '.join(known)}"
    return RecipeError("unknown key", field=field, fix=fix)


def _beside(field: str, tables: Tables) -> list[str]:
    """The keys that a table of a list may have, for one in it ("data.parts.0.weight"); else none."""
    *parents, _ = field.split(".")
    kind: Any = tables
    for name in parents:
        if name.isdecimal() and typing.get_origin(kind) is tuple:
            kind = typing.get_args(kind)[0]
        elif isinstance(kind, type) and issubclass(kind, BaseModel) and name in kind.model_fields:
            kind = kind.model_fields[name].annotation
        else:
            return []
    is_listed = any(name.isdecimal() for name in parents)
    if not (is_listed and isinstance(kind, type) and issubclass(kind, BaseModel)):
        return []
    return [".".join((*parents, name)) for name in kind.model_fields]


def explained(error: ValidationError, tables: Tables, file: object) -> RecipeError:
    """The first fault as one line: the dotted key, what is wrong, what to do."""
    fault = error.errors()[0]
    field = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        unknown = unknown_key(field, tables)
        unknown.file = str(file) if file else ""
        return unknown
    if fault["type"] == "value_error":
        key, _, text = str(fault.get("ctx", {})["error"]).partition(": ")
        what, _, fix = text.partition("; ")
        return RecipeError(what, field=f"{field}.{key}" if field else key, file=file, fix=fix.capitalize())
    what, fix = _in_words(fault, field, tables)
    return RecipeError(what, field=field, file=file, fix=fix)


def _in_words(fault: Any, field: str, tables: Tables) -> tuple[str, str]:
    """What is wrong with a value, and what to give instead, from pydantic's account of it."""
    got, kind, limits = _short(fault["input"]), fault["type"], fault.get("ctx", {})
    default, above = _field_facts(field, tables)
    instead = f"; try {default}" if default else ""
    if kind in ("less_than_equal", "less_than"):
        bound = limits.get("le", limits.get("lt"))
        most = f"At most {bound:g}" if kind == "less_than_equal" else f"Below {bound:g}"
        return f"{got} is too large", (above or most) + (f". Try {default}" if above and default else instead)
    if kind in ("greater_than_equal", "greater_than"):
        bound = limits.get("ge", limits.get("gt"))
        return f"{got} is too small", (
            f"At least {bound:g}" if kind == "greater_than_equal" else f"Above {bound:g}"
        ) + instead
    if kind == "literal_error":
        return f"{got} is not a choice", f"Choose from {limits['expected']}"
    nouns = {"int": "a whole number", "float": "a number", "bool": "true or false", "string": "text", "tuple": "a list"}
    for name, noun in nouns.items():
        if kind.startswith(f"{name}_"):
            return f"{got} is not {noun}", f"Give {noun}{instead}"
    return f"{got} is refused", fault["msg"]


def _field_facts(field: str, tables: Tables) -> tuple[str, str]:
    """A dotted field's default as text, and what happens above its limit; empty where there is no such field."""
    section, _, leaf = field.partition(".")
    holder = tables.model_fields.get(section)
    kind = holder.annotation if holder else None
    info = kind.model_fields.get(leaf) if isinstance(kind, type) and issubclass(kind, BaseModel) else holder
    if info is None:
        return "", ""
    default: Any = info.default
    extra = cast("dict[str, Any]", info.json_schema_extra or {})
    text = f"{default:g}" if isinstance(default, int | float) and not isinstance(default, bool) else ""
    if isinstance(default, tuple):
        text = f"[{', '.join(f'{each:g}' for each in cast('tuple[float, ...]', default))}]" if default else ""
    return text, str(extra.get("above", ""))


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
