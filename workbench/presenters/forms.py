"""Forms from JSON schema: a recipe's own fields, or a plugin's options, as a face shows them.

The subset that is understood: number, integer, boolean, string, enum, and flat arrays of these;
`title`, `description`, `default`, the four limits, and our `unit`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from ...core.errors import RecipeError
from ...core.recipe import Recipe
from .numbers import read_number

GROUPED = re.compile(r"[-+]?\d{1,3}(,\d{3})+(\.\d*)?")
"""12,000; any other comma is a decimal one."""

Kind = Literal["integer", "number", "boolean", "text", "choice", "list"]


@dataclass(frozen=True)
class FormField:
    """One setting: where it goes (`key`), how it is shown, what it admits."""

    key: str
    label: str
    help: str
    kind: Kind
    default: Any = None
    unit: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    optional: bool = False


def recipe_form(keys: tuple[str, ...]) -> tuple[FormField, ...]:
    """The recipe's fields with these dotted keys, in this order."""
    schema = Recipe.model_json_schema()
    fields: list[FormField] = []
    for key in keys:
        node = schema
        for part in key.split("."):
            node = _resolved(node, schema)["properties"][part]
        fields.append(_field(key, node, schema))
    return tuple(fields)


def options_form(schema: dict[str, Any], prefix: str) -> tuple[FormField, ...]:
    """A plugin's options (their JSON schema), keyed `prefix.name`."""
    return tuple(
        _field(f"{prefix}.{name}", node, schema)
        for name, node in _resolved(schema, schema).get("properties", {}).items()
        if _kind(_resolved(node, schema)) is not None
    )


def text_of(value: Any) -> str:
    """A value as a person types it."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(text_of(inner) for inner in cast("list[Any]", value))
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)


def value_of(field: FormField, text: str) -> Any:
    """What a person typed, as the field's kind of value.

    Raises RecipeError at the field where it is none.
    """
    text = text.strip()
    if not text and field.optional:
        return None
    if field.kind == "text":
        return text
    if field.kind == "choice":
        for choice in field.choices:
            if text == text_of(choice):
                return choice
        known = ", ".join(text_of(choice) for choice in field.choices)
        raise RecipeError(f"{text or 'nothing'} is not a choice", field=field.key, fix=f"Choose from {known}")
    if field.kind == "list":
        return [_scalar(field, part.strip()) for part in text.split(",") if part.strip()]
    return _scalar(field, text)


def _scalar(field: FormField, text: str) -> Any:
    number = read_number(text)
    if field.kind == "boolean" or (field.kind == "list" and text.lower() in ("yes", "no", "true", "false")):
        value = {"yes": True, "true": True, "no": False, "false": False}.get(text.lower())
    elif field.kind == "list" and number is None:
        value = text
    else:
        value = int(number) if number is not None and number.is_integer() and field.kind != "number" else number
    if value is None or (field.kind == "integer" and not isinstance(value, int)):
        noun = {"integer": "a whole number", "number": "a number", "boolean": "yes or no"}.get(field.kind, "a value")
        instead = f"; try {text_of(field.default)}" if text_of(field.default) else ""
        raise RecipeError(f"{text or 'nothing'} is not {noun}", field=field.key, fix=f"Give {noun}{instead}")
    return value


def _resolved(node: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """Follows one `$ref`, keeping what stands beside it."""
    ref = node.get("$ref")
    if ref is None:
        return node
    target = schema
    for part in ref.removeprefix("#/").split("/"):
        target = target[part]
    return target | {key: value for key, value in node.items() if key != "$ref"}


def _kind(node: dict[str, Any]) -> Kind | None:
    if "enum" in node or "const" in node:
        return "choice"
    kinds: dict[str, Kind] = {
        "integer": "integer",
        "number": "number",
        "boolean": "boolean",
        "string": "text",
        "array": "list",
    }
    return kinds.get(node.get("type", ""))


def _field(key: str, node: dict[str, Any], schema: dict[str, Any]) -> FormField:
    node = _resolved(node, schema)
    optional = False
    if "anyOf" in node:
        branches = [_resolved(branch, schema) for branch in node["anyOf"]]
        optional = any(branch.get("type") == "null" for branch in branches)
        node = next(branch for branch in branches if branch.get("type") != "null") | node
    kind = _kind(node) or "text"
    low, high = node.get("minimum", node.get("exclusiveMinimum")), node.get("maximum", node.get("exclusiveMaximum"))
    return FormField(
        key=key,
        label=node.get("title", key.rpartition(".")[2].replace("_", " ").capitalize()),
        help=node.get("description", ""),
        kind=kind,
        default=node.get("default"),
        unit=node.get("unit", ""),
        minimum=low,
        maximum=high,
        choices=tuple(node.get("enum", ())) or ((node["const"],) if "const" in node else ()),
        optional=optional,
    )
