"""Options of every kind that a plugin's own form allows, to be tried out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGEST = 1000
"""Upper limits beyond it are left alone: a test is not to make a million images."""


def options_at_limits(kind: type[BaseModel]) -> Iterator[BaseModel]:
    """The defaults with one setting after another at its limits, or at each of its choices, as the JSON schema says.

    What the model itself refuses together with the rest is left out.
    """
    schema = kind.model_json_schema()
    for name, field in schema.get("properties", {}).items():
        for value in values_of(field, schema.get("$defs", {})):
            try:
                yield kind.model_validate({name: value})
            except ValidationError:
                continue


def values_of(field: dict[str, Any], definitions: dict[str, Any]) -> list[Any]:
    """Values of one property that its schema allows."""
    if "$ref" in field:
        field = {**definitions.get(field["$ref"].rpartition("/")[2], {}), **field}
    if "anyOf" in field:
        return [value for option in field["anyOf"] for value in values_of(option, definitions)]
    if "const" in field:
        return [field["const"]]
    if "enum" in field:
        return list(field["enum"])
    match field.get("type"):
        case "boolean":
            return [True, False]
        case "integer" | "number":
            return _numbers(field)
        case "string":
            return _texts(field)
        case "array":
            return [[]] if not field.get("minItems") else []
        case "null":
            return [None]
    return []


def _numbers(field: dict[str, Any]) -> list[Any]:
    step = field.get("multipleOf", 1 if field["type"] == "integer" else 1e-3)
    limits = {"minimum": 0, "exclusiveMinimum": step, "maximum": 0, "exclusiveMaximum": -step}
    found = [field[limit] + change for limit, change in limits.items() if limit in field]
    if "minimum" in field:
        found.append(field["minimum"] + step)
    return [value for value in found if value <= LARGEST]


def _texts(field: dict[str, Any]) -> list[str]:
    shortest, longest = field.get("minLength", 0), field.get("maxLength", LARGEST)
    return [text for text in ("", "a", "ü 漢 \n\t", "-1", "../..") if shortest <= len(text) <= longest]
