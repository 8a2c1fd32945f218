"""Finds plugins through entry points and fences them: one that is broken is named, and the rest work on."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from .conditioning import ConditioningScheme
from .data.source import Facts, Source
from .errors import PluginError, RecipeError, WorkbenchError
from .events import Catalogue, PluginFacts

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .recipe import Recipe

DATASETS = "imagen_workbench.datasets"
CONDITIONING = "imagen_workbench.conditioning"
RESOURCES = Path(__file__).parent.parent / "resources"

Kind = TypeVar("Kind", bound=type)


@dataclass(frozen=True)
class Plugin(Generic[Kind]):
    """A plugin by name; its code is imported when it is first asked for."""

    name: str
    entry: metadata.EntryPoint
    base: Kind

    @property
    def package(self) -> str:
        return self.entry.dist.name if self.entry.dist else ""

    @cached_property
    def loaded(self) -> Kind:
        """The class. Raises PluginError naming plugin and package where it cannot be imported or is no such class."""
        try:
            found = self.entry.load()
        except Exception as error:
            raise PluginError(
                f"the plugin {self.name!r} of {self.package} cannot be imported: {type(error).__name__}: {error}",
                fix=f"Update or uninstall {self.package}",
            ) from error
        if not (isinstance(found, type) and issubclass(found, self.base)):
            raise PluginError(
                f"the plugin {self.name!r} of {self.package} is no {self.base.__name__}",
                fix=f"Its entry point must name a subclass of imagen_workbench.core.{self.base.__name__}",
            )
        return cast("Kind", found)


def datasets() -> dict[str, Plugin[type[Source]]]:
    return {entry.name: Plugin(entry.name, entry, Source) for entry in _entries(DATASETS)}


def schemes() -> dict[str, Plugin[type[ConditioningScheme]]]:
    return {entry.name: Plugin(entry.name, entry, ConditioningScheme) for entry in _entries(CONDITIONING)}


def make_source(recipe: Recipe) -> Source:
    """The recipe's dataset.

    Raises RecipeError where it names none or its options are refused, DataError or PluginError from the plugin.
    """
    plugin = _chosen(datasets(), "data.source", recipe.data.source)
    kind = plugin.loaded
    if kind.needs_path and not recipe.data.path:
        raise RecipeError("no folder is named", field="data.path", fix=f"Say where {plugin.name} reads from")
    options = _options(kind.Options, recipe.data.options, "data.options")
    return _fenced(plugin, lambda: kind(recipe.data, options))


def make_scheme(recipe: Recipe, facts: Facts) -> ConditioningScheme:
    """The recipe's conditioning scheme, for a dataset with these facts. Raises as `make_source` does."""
    plugin = _chosen(schemes(), "conditioning.scheme", recipe.conditioning.scheme)
    kind = plugin.loaded
    options = _options(kind.Options, recipe.conditioning.options, "conditioning.options")
    return _fenced(plugin, lambda: kind(options, facts))


def catalogue(ticket: int = 0) -> Catalogue:
    """All that can be chosen; a broken plugin is listed with its error."""
    return Catalogue(
        ticket,
        tuple(_facts(plugin) for plugin in datasets().values()),
        tuple(_facts(plugin) for plugin in schemes().values()),
        tuple((name, path.read_text(encoding="utf-8")) for name, path in bundled_recipes().items()),
        tuple(bundled_models()),
    )


def bundled_recipes() -> dict[str, Path]:
    return {path.stem: path for path in sorted((RESOURCES / "recipes").glob("*.toml"))}


def bundled_models() -> dict[str, Path]:
    return {path.stem: path for path in sorted((RESOURCES / "models").glob("*.safetensors"))}


def _entries(group: str) -> Iterable[metadata.EntryPoint]:
    """Each name once: a name that two packages use goes to the one that sorts first, ours before all."""
    found: dict[str, metadata.EntryPoint] = {}
    for entry in sorted(metadata.entry_points(group=group), key=_precedence):
        found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def _precedence(entry: metadata.EntryPoint) -> tuple[bool, str]:
    package = entry.dist.name if entry.dist else ""
    return package != "imagen-workbench", package


def _chosen(plugins: dict[str, Plugin[Kind]], field: str, name: str) -> Plugin[Kind]:
    if name not in plugins:
        raise RecipeError(f"there is no {name!r}", field=field, fix=f"Known: {', '.join(plugins)}")
    return plugins[name]


def _options(kind: type[BaseModel], values: dict[str, Any], field: str) -> BaseModel:
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join([field, *(str(part) for part in fault["loc"])])
        known = ", ".join(kind.model_fields) or "none"
        unknown = fault["type"] == "extra_forbidden"
        what = "unknown key" if unknown else f"{fault['input']!r} is refused"
        raise RecipeError(what, field=place, fix=f"Known here: {known}" if unknown else fault["msg"]) from error


def _fenced(plugin: Plugin[Any], make: Any) -> Any:
    """Calls a plugin's code: our own errors pass, anything else is named as the plugin's."""
    try:
        return make()
    except WorkbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"the plugin {plugin.name!r} of {plugin.package} failed: {type(error).__name__}: {error}",
            fix=f"Report it to the makers of {plugin.package}",
        ) from error


def _facts(plugin: Plugin[Any]) -> PluginFacts:
    try:
        kind = plugin.loaded
        schema = kind.Options.model_json_schema()
    except Exception as error:  # noqa: BLE001 - listed with its error
        text = str(error) if isinstance(error, WorkbenchError) else f"{type(error).__name__}: {error}"
        return PluginFacts(plugin.name, plugin.base.__name__, package=plugin.package, error=text)
    return PluginFacts(
        plugin.name,
        plugin.base.__name__,
        kind.title or plugin.name,
        kind.summary,
        plugin.package,
        getattr(kind, "needs_path", False),
        dict(getattr(kind, "defaults", {})),
        schema,
    )
