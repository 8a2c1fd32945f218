"""Recipes of earlier versions, brought to today's: tables in, tables out, one version at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Callable

Tables = dict[str, Any]


def migrated(tables: Tables) -> Tables:
    """The tables as the newest version writes them. What is given stays as it was; other versions' faults stay, too."""
    version = tables.get("version")
    while version in _STEPS:
        tables = _STEPS[version]({**tables})
        version = tables["version"]
    return tables


def _several_averages(tables: Tables) -> Tables:
    """1 → 2: `training.ema`, one length, became `training.emas`, the lengths that are kept."""
    training = tables.get("training")
    if isinstance(training, dict) and "ema" in training:
        training = cast("Tables", training)
        kept = {key: value for key, value in training.items() if key != "ema"}
        tables["training"] = {"emas": [training["ema"]], **kept}
    return tables | {"version": 2}


_STEPS: dict[object, Callable[[Tables], Tables]] = {1: _several_averages}
