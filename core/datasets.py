"""A recipe's dataset and conditioning scheme, opened and read together."""

from __future__ import annotations

import base64
import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .data.cache import Dataset, Reading, kept, rows_of
from .data.decode import png_bytes
from .data.loader import serve
from .data.loading import MOST, Loaders
from .data.opening import Opened
from .data.rows import WORDS, Aside, with_condition
from .errors import DataError, RecipeError
from .extensions import asked_of_source, make_scheme, make_source, scheme_plugins, source_plugins
from .generators import finish, retold

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

    from .conditioning import ConditioningScheme
    from .data.rows import Row
    from .data.source import Bringing, Described, Facts, Source, Stream
    from .extensions import Plugin
    from .recipe import Recipe

PICTURES = 8
"""How many a model carries, to be drawn from where nothing is asked for."""
FEW = 10_000
"""Examples of ours that are read in this process: others are there too late to help."""


def reading(recipe: Recipe, *, check: bool = True) -> Generator[Reading, None, tuple[Dataset, ConditioningScheme]]:
    """Reads a recipe's dataset, reporting as it goes; returns it with the scheme that knows its classes.

    check: whether pixels that lie decoded are read through for damage first. Raises RecipeError, DataError or
    PluginError, from the recipe, the data or a plugin.
    """
    from .conditioning import Together  # these bring torch along, which loaders do without
    from .machine import available_cores, memory_here

    sources, others = source_plugins(recipe), scheme_plugins(recipe)
    ours = all(each.is_ours for each in others)
    with Loaders(recipe, available_cores(), *_blamed(sources, others)) as loaders:
        opened, here = yield from _opened(recipe, sources, loaders)
        _check_needs(recipe, others, opened.facts)
        scheme = make_scheme(recipe, opened.facts)
        _check_shapes(recipe, scheme)
        memory = scheme.memory
        if here is not None and ours and not memory:
            rows = functools.partial(rows_of, here, opened.length, recipe.data, scheme)
        else:
            in_words = ours and not memory and all(WORDS.issuperset(each.loaded.reads) for each in others)
            fitting = max(1, memory_here() // 2 // memory) if memory else MOST
            ask = functools.partial(loaders.rows, opened, most=min(MOST, fitting), slow_start=memory > 0)
            rows = functools.partial(_rows, ask, scheme if in_words else None)
        dataset = yield from kept(opened, scheme, recipe.data, rows, check=check)
    pictures = _pictures(dataset) if any(each.loaded.takes_pictures for each in others) else ()
    parts = scheme.parts.values() if isinstance(scheme, Together) else (scheme,)
    frozen = tuple(found for part in parts if (found := part.fingerprint()))
    if dataset.captions or pictures or frozen:
        facts = replace(opened.facts, captions=dataset.captions, pictures=pictures, frozen=frozen)
        scheme = make_scheme(recipe, facts)
    return dataset, scheme


def load() -> None:
    """The life of a loader process."""
    serve(make_source, asked_of_source, make_scheme)


def _opened(
    recipe: Recipe, plugins: list[Plugin[type[Described]]], loaders: Loaders
) -> Generator[Reading, None, tuple[Opened, Source | Stream | None]]:
    """What is known of the source, and the source itself where it may be read in this process.

    Ours are opened here, so that what lies decoded is found without another process, unless that may take long. They
    are also read here, unless they read from a place the person names: its files may be anything, and many.
    """
    if not all(plugin.is_ours and not plugin.loaded.opens_slowly for plugin in plugins):
        return (yield from retold(loaders.opened(), _told)), None
    source = make_source(recipe)
    opened = asked_of_source(recipe, lambda: Opened.of(source, recipe.data))
    is_elsewhere = any((recipe.data.path, *(part.path for part in recipe.data.parts)))
    is_small = opened.length is not None and opened.length <= FEW and not is_elsewhere
    return opened, source if is_small else None


def _told(brought: Bringing | None) -> Reading:
    return Reading(brought.done, brought.total, brought.what) if brought else Reading(0, 0)


def _rows(
    ask: Callable[..., Iterator[Row | Aside | None]], scheme: ConditioningScheme | None
) -> Iterator[Row | Aside | None]:
    """From loaders. scheme: makes the conditions here, of words and numbers, where it is ours: loaders that do without
    torch are there at once, and small.
    """
    rows = ask(prepare=scheme is None)
    if scheme is None:
        return rows
    return (row if row is None or isinstance(row, Aside) else with_condition(row, scheme.prepare) for row in rows)


def _blamed(sources: Sequence[Plugin[Any]], schemes: Sequence[Plugin[Any]]) -> tuple[str, str]:
    """(who is named where a loader process goes down, what is to be done): what is not ours, or the sources."""
    others = [each for each in (*sources, *schemes) if not each.is_ours] or sources
    who = " or ".join(dict.fromkeys(f"the plugin {each.name!r} of {each.package}" for each in others))
    makers = " or ".join(dict.fromkeys(each.package for each in others))
    return who, f"Report it to the makers of {makers}, or leave out what it cannot read"


def _pictures(dataset: Dataset) -> tuple[str, ...]:
    """A few images, of those held out where there are any, as PNG files in base64."""
    which = (dataset.held_out if len(dataset.held_out) else dataset.train)[:PICTURES]
    return tuple(base64.b64encode(png_bytes(pixels)).decode() for pixels in dataset.images(which))


def _check_needs(recipe: Recipe, schemes: list[Plugin[type[ConditioningScheme]]], facts: Facts) -> None:
    """Raises DataError where one of the recipe's schemes needs fields that the data has not."""
    for plugin in schemes:
        lacking = [field for field in plugin.loaded.needs if field not in facts.fields]
        if lacking:
            raise DataError(
                f"{plugin.name} needs {', '.join(lacking)}, which {recipe.data.source} has not",
                field="conditioning.scheme",
                fix="Choose another scheme, or other data",
            )


def _check_shapes(recipe: Recipe, scheme: ConditioningScheme) -> None:
    """Raises RecipeError where the images have several shapes and are told of by pictures, which have one."""
    if recipe.data.buckets and scheme.image_channels:
        raise RecipeError(
            f"{recipe.conditioning.scheme} tells of images by pictures, which are all of one size",
            field="data.buckets",
            fix="Leave the buckets out, or choose another scheme",
        )


def read(recipe: Recipe) -> Dataset:
    """The whole of `reading`, here and now."""
    dataset, _ = finish(reading(recipe))
    return dataset
