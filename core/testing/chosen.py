"""Which plugin is tested, and with which recipe. Without torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import PluginError
from ..events import KINDS
from ..extensions import catalogue
from ..recipe import Recipe, parse_setting

if TYPE_CHECKING:
    from collections.abc import Sequence


def chosen(name: str, settings: Sequence[str] = ()) -> tuple[str, Recipe]:
    """(kind, recipe with the plugin). settings: "data.path=…".

    Raises PluginError where there is none of this name, or it is off, and RecipeError where a setting will not do.
    """
    known = catalogue()
    found = next((each for each in (*known.datasets, *known.schemes) if each.name == name), None)
    if found is None:
        names = ", ".join(each.name for each in (*known.datasets, *known.schemes))
        raise PluginError(f"there is no plugin {name!r}", fix=f"Known: {names}")
    if found.error:
        raise PluginError(found.error)
    asked = dict(parse_setting(text) for text in settings)
    if KINDS[found.kind] == "conditioning":
        return "conditioning", Recipe.of({}).with_values({"conditioning.scheme": found.name, **asked})
    values = {"data.source": found.name, **{f"data.{key}": value for key, value in found.defaults.items()}, **asked}
    recipe = Recipe.of({}).with_values(values)
    if found.needs_path and not recipe.data.path:
        raise PluginError(
            f"{found.name} reads from a place",
            field="data.path",
            fix="Say which: --set data.path=… (in pytest: --imagen-set)",
        )
    return "dataset", recipe


def words_of(test: str) -> str:
    """ "test_same_index_same_bytes" → "same index same bytes"."""
    return test.removeprefix("test_").replace("_", " ")
