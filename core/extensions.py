"""Finds plugins, through entry points and in the person's own folder, and fences them.

One that is broken is named, and the rest work on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from pydantic import BaseModel, ValidationError

from .data.mixture import MixedPart, Mixture
from .data.opening import Opened
from .data.source import INTERFACE, Described, Facts, Source, Stream
from .errors import PluginError, RecipeError, WorkbenchError
from .events import Catalogue, PluginFacts
from .foreign import call_foreign
from .plugin_files import FileEntry, plugin_files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import nn

    from .conditioning import ConditioningScheme
    from .recipe import Data, Part, Recipe

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
    """The recipe's dataset, a `Source` or a `Stream`; of several parts, a `Mixture`.

    Raises RecipeError where it names none or its options are refused, DataError or PluginError from the plugin.
    """
    plugins, data = source_plugins(recipe), recipe.data
    if not data.parts:
        return _source(plugins[0], data, "data")
    parts = enumerate(zip(plugins, data.parts, strict=True))
    return Mixture([_mixed_part(plugin, data, part, at) for at, (plugin, part) in parts], data)


def source_plugin(recipe: Recipe) -> Plugin[type[Described]]:
    """Of a recipe whose data is in one part. Raises RecipeError where there is no such dataset."""
    return _chosen(datasets(), "data.source", recipe.data.source)


def source_plugins(recipe: Recipe) -> list[Plugin[type[Described]]]:
    """Those of all parts, in their order. Raises as `source_plugin`."""
    if not recipe.data.parts:
        return [source_plugin(recipe)]
    found = datasets()
    return [_chosen(found, f"data.parts.{at}.source", part.source) for at, part in enumerate(recipe.data.parts)]


def asked_of_source(recipe: Recipe, call: Callable[[], Result]) -> Result:
    """Calls the recipe's source, fenced; a mixture fences its parts one by one."""
    return call() if recipe.data.parts else fenced(source_plugin(recipe), call)


def _source(plugin: Plugin[type[Described]], data: Data, place: str) -> Any:
    """place: the recipe's table that names it."""
    kind = plugin.loaded
    if kind.needs_path and not data.path:
        raise RecipeError("no folder is named", field=f"{place}.path", fix=f"Say where {plugin.name} reads from")
    options = _options(kind.Options, data.options, f"{place}.options")
    return fenced(plugin, lambda: kind(data, options))


def _mixed_part(plugin: Plugin[type[Described]], data: Data, part: Part, at: int) -> MixedPart:
    own, place = data.of_part(part), f"data.parts.{at}"

    def ask(call: Callable[[], Any]) -> Any:
        try:
            return fenced(plugin, call)
        except WorkbenchError as error:
            raise _placed(error, part, place) from error

    if issubclass(plugin.loaded, Stream):
        raise RecipeError(
            f"{plugin.name} gives its examples in a row and cannot be mixed",
            field=f"{place}.source",
            fix="Mix sources whose examples are reached by index",
        )
    source = ask(lambda: _source(plugin, own, place))
    return MixedPart(part.name, source, ask(lambda: Opened.of(source, own, fingerprint=False)), ask)


def _placed(error: WorkbenchError, part: Part, place: str) -> WorkbenchError:
    """The same error, which says of which part it is."""
    section, _, key = error.field.partition(".")
    field = f"{place}.{key}" if section == "data" and key.partition(".")[0] in type(part).model_fields else error.field
    what = error.what if field.startswith(place) else f"{part.name}: {error.what}"
    field = field if field or error.file else place
    return type(error)(what, field=field, file=error.file, tensor=error.tensor, fix=error.fix)


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
    scheme = fenced(plugin, lambda: kind(options, facts))
    return scheme if plugin.is_ours else _fenced_scheme(scheme, plugin.name, plugin.package)


FENCED = (
    "parse",
    "of_pictures",
    "nothing",
    "for_training",
    "for_drawing",
    "carried_over",
    "label",
    "describe",
    "in_turn",
)
"""What is called of a scheme in the worker. `prepare` runs in loader processes, which have a limit of their own."""


def _fenced_scheme(scheme: ConditioningScheme, name: str, package: str) -> ConditioningScheme:
    """The same one; what it does in the worker, and its encoder, is watched, and named where it fails."""
    for method in FENCED:
        object.__setattr__(scheme, method, partial(_called, name, package, method, getattr(scheme, method)))
    object.__setattr__(scheme, "encoder", partial(_fenced_encoder, name, package, scheme.encoder))
    return scheme


def _fenced_encoder(name: str, package: str, make: Callable[[], nn.Module]) -> nn.Module:
    module = _called(name, package, "encoder", make)
    if "forward" not in vars(module):  # the same one may be given twice
        module.forward = partial(_called, name, package, "its encoder", module.forward)
    return module


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
    """Calls a plugin's code: our own errors pass, anything else is named as the plugin's.

    On a thread that is watched, a call of another's plugin that hangs is ended and named, too.
    """
    if plugin.is_ours:
        return _named(plugin.name, plugin.package, make)
    return _called(plugin.name, plugin.package, "its start", make)


def _called(name: str, package: str, part: str, work: Callable[..., Result], *given: Any, **named: Any) -> Result:
    """Calls a part of another's plugin."""
    return call_foreign(name, package, part, lambda: _named(name, package, lambda: work(*given, **named)))


def _named(name: str, package: str, work: Callable[[], Result]) -> Result:
    try:
        return work()
    except WorkbenchError:
        raise
    except Exception as error:
        raise PluginError(
            f"the plugin {name!r} of {package} failed: {type(error).__name__}: {error}",
            fix=f"Report it to the makers of {package}",
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
