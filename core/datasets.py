"""A recipe's dataset and conditioning scheme, opened and read together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .data.cache import Dataset, Reading, prepare
from .data.source import Facts
from .extensions import make_scheme, make_source
from .generators import finish

if TYPE_CHECKING:
    from collections.abc import Generator

    from .conditioning import ConditioningScheme
    from .recipe import Recipe


def reading(recipe: Recipe, *, check: bool = True) -> Generator[Reading, None, tuple[Dataset, ConditioningScheme]]:
    """Reads a recipe's dataset, reporting as it goes; returns it with the scheme that knows its classes.

    check: whether pixels that lie decoded are read through for damage first. Raises RecipeError, DataError or
    PluginError, from the recipe, the data or a plugin.
    """
    source = make_source(recipe)
    scheme = make_scheme(recipe, Facts(source.classes))
    dataset = yield from prepare(source, scheme, recipe.data, check=check)
    return dataset, scheme


def read(recipe: Recipe) -> Dataset:
    """The whole of `reading`, here and now."""
    dataset, _ = finish(reading(recipe))
    return dataset
