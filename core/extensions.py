"""Finds plugins, through entry points and in the person's own folder, and fences them.

One that is broken is named, and the rest work on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from .data.source import INTERFACE, Described, Facts, Source, Stream
from .errors import PluginError, RecipeError, WorkbenchError
from .events import Catalogue, PluginFacts
from .plugin_files import FileEntry, plugin_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from .conditioning import ConditioningScheme
    from .recipe import Recipe

DATASETS = "imagen_workbench.datasets"
CONDITIONING = "imagen_workbench.conditioning"
OURS = "imagen-workbench"
RESOURCES = Path(__file__).parent.parent / "resources"

Kind = TypeVar("Kind", bound=type)
Result = TypeVar("Result")


@dataclass(frozen=True)
class Plugin(Generic[Kind]):
    """A plugin by name; its code is imported when it is first asked for."""

    name: str
    entry: metadata.EntryPoint | FileEntry
    base: Kind

    @property
    def package(self) -> str:
        """The package that it belongs to, or its file in the person's folder."""
        if isinstance(self.entry, FileEntry):
            return self.entry.package
        return self.entry.dist.name if self.entry.dist else ""

    @property
    def kind(self) -> str:
        """As the catalogue tells it: "Source", for a stream, too, or "ConditioningScheme"."""
        return "Source" if self.base is Described else self.base.__name__

    @property
    def is_ours(self) -> bool:
        return self.package == OURS

    @cached_property
    def loaded(self) -> Kind:
        """The class. Raises PluginError naming plugin and package where it cannot be imported or is no such class."""
        try:
            found = self.entry.load()
        except PluginError:
            raise
        except Exception as error:
            remedy = "Mend" if isinstance(self.entry, FileEntry) else "Update or uninstall"
            raise PluginError(
                f"the plugin {self.name!r} of {self.package} cannot be imported: {type(error).__name__}: {error}",
                fix=f"{remedy} {self.package}",
            ) from error
        wanted = (Source, Stream) if self.base is Described else (self.base,)
        if not (isinstance(found, type) and issubclass(found, wanted)):
            raise PluginError(
                f"the plugin {self.name!r} of {self.package} is no {' or '.join(each.__name__ for each in wanted)}",
                fix=f"It must be a subclass of imagen_workbench.core.{self.kind}",
            )
        if found.interface != INTERFACE:
            older = "imagen-workbench" if found.interface > INTERFACE else self.package
            written = f"is written for interface {found.interface}, this is {INTERFACE}"
            raise PluginError(f"the plugin {self.name!r} of {self.package} {written}", fix=f"Update {older}")
        return cast("Kind", found)


def datasets() -> dict[str, Plugin[type[Described]]]:
    return {entry.name: Plugin(entry.name, entry, Described) for entry in _entries(DATASETS)}


def schemes() -> dict[str, Plugin[type[ConditioningScheme]]]:
    from .conditioning import ConditioningScheme  # brings torch along

    return {entry.name: Plugin(entry.name, entry, ConditioningScheme) for entry in _entries(CONDITIONING)}


def make_source(recipe: Recipe) -> Any:
    """The recipe's dataset, a `Source` or a `Stream`.

    Raises RecipeError where it names none or its options are refused, DataError or PluginError from the plugin.
    """
    plugin = source_plugin(recipe)
    kind = plugin.loaded
    if kind.needs_path and not recipe.data.path:
        raise RecipeError("no folder is named", field="data.path", fix=f"Say where {plugin.name} reads from")
    options = _options(kind.Options, recipe.data.options, "data.options")
    return fenced(plugin, lambda: kind(recipe.data, options))


def source_plugin(recipe: Recipe) -> Plugin[type[Described]]:
    """Raises RecipeError where there is no such dataset."""
    return _chosen(datasets(), "data.source", recipe.data.source)


def make_scheme(recipe: Recipe, facts: Facts) -> ConditioningScheme:
    """The recipe's conditioning scheme, for a dataset with these facts. Raises as `make_source` does.

    Several ("label + text") are made together, each with its own table of options by its name.
    """
    from .conditioning import Together

    plugins, options = scheme_plugins(recipe), recipe.conditioning.options
    if len(plugins) == 1:
        return _scheme(plugins[0], options, "conditioning.options", facts)
    names = [plugin.name for plugin in plugins]
    for key in options:
        if key not in names:
            fix = f"Each scheme has a table of its own: {', '.join(names)}"
            raise RecipeError("unknown key", field=f"conditioning.options.{key}", fix=fix)
    parts = [
        _scheme(plugin, options.get(plugin.name, {}), f"conditioning.options.{plugin.name}", facts)
        for plugin in plugins
    ]
    keyed = {part.key or name: part for name, part in zip(names, parts, strict=True)}
    if len(keyed) < len(parts):
        raise RecipeError("two schemes have the same key", field="conditioning.scheme", fix="Keep one of them")
    return Together(keyed, facts)


def scheme_names(recipe: Recipe) -> list[str]:
    """ "label + text" → label, text."""
    return [name.strip() for name in recipe.conditioning.scheme.split("+")]


def scheme_plugins(recipe: Recipe) -> list[Plugin[type[ConditioningScheme]]]:
    """Raises RecipeError where there is no such scheme."""
    found = schemes()
    return [_chosen(found, "conditioning.scheme", name) for name in scheme_names(recipe)]


def _scheme(plugin: Plugin[type[ConditioningScheme]], values: Any, field: str, facts: Facts) -> ConditioningScheme:
    kind = plugin.loaded
    options = _options(kind.Options, values, field)
    return fenced(plugin, lambda: kind(options, facts))


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


def _entries(group: str) -> Iterable[metadata.EntryPoint | FileEntry]:
    """Each name once: a name that two use goes to ours, then to the package that sorts first, then to a file."""
    found: dict[str, metadata.EntryPoint | FileEntry] = {}
    for entry in sorted(metadata.entry_points(group=group), key=_precedence):
        found.setdefault(entry.name, entry)
    kind = "dataset" if group == DATASETS else "conditioning"
    for entry in (each for file in plugin_files() for each in file.entries() if each.kind == kind):
        found.setdefault(entry.name, entry)
    return [found[name] for name in sorted(found)]


def _precedence(entry: metadata.EntryPoint) -> tuple[bool, str]:
    package = entry.dist.name if entry.dist else ""
    return package != OURS, package


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


def fenced(plugin: Plugin[Any], make: Callable[[], Result]) -> Result:
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
        return PluginFacts(plugin.name, plugin.kind, package=plugin.package, error=text)
    return PluginFacts(
        plugin.name,
        plugin.kind,
        kind.title or plugin.name,
        kind.summary,
        plugin.package,
        getattr(kind, "needs_path", False),
        dict(getattr(kind, "defaults", {})),
        schema,
    )
