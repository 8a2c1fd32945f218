"""The person's own plugin files: single .py files in a folder, each off until they allow its content.

A file is only read, never imported, before that: which plugins it has is told by its syntax. Its folder is never put
on `sys.path`, where a file called like a module of Python's own would be taken for it.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import PluginError
from .runs.files import write_atomically
from .runs.folder import user_home

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGEST = 1 << 20
"""Bytes of a file that is looked into."""
BASES = {"Source": "dataset", "Stream": "dataset", "ConditioningScheme": "conditioning"}
"""What a class says it derives from, and the kind of plugin that makes it."""


@dataclass(frozen=True)
class PluginFile:
    """A file as it was when it was looked at. error: why it is off, empty where it is allowed."""

    path: Path
    content: bytes
    error: str = ""

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    def entries(self) -> list[FileEntry]:
        """Its plugins; one with the reason, where it cannot be told what it has."""
        if self.error and not self.content:
            return [FileEntry(self, self.path.stem, "dataset", "", self.error)]
        try:
            tree = ast.parse(self.content)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            return [FileEntry(self, self.path.stem, "dataset", "", f"is no Python: {error}")]
        found = [
            FileEntry(self, name or self.path.stem, kind, class_name, self.error)
            for class_name, kind, name in _plugins(tree)
        ]
        return found or [FileEntry(self, self.path.stem, "dataset", "", "has no class that derives from Source")]


@dataclass(frozen=True)
class FileEntry:
    """One plugin of a file, as an entry point is one of a package. kind: "dataset" or "conditioning"."""

    file: PluginFile
    name: str
    kind: str
    class_name: str
    error: str
    dist: None = None

    @property
    def package(self) -> str:
        return self.file.path.name

    def load(self) -> Any:
        """Its class; the file is executed where it has not been. Raises PluginError where it is off."""
        if self.error:
            raise PluginError(self.error, file=self.file.path)
        name = f"imagen_workbench_plugin_files.{self.file.path.stem}_{self.file.digest[:16]}"
        if name not in sys.modules:
            spec = importlib.util.spec_from_loader(name, loader=None, origin=str(self.file.path))
            assert spec is not None
            module = importlib.util.module_from_spec(spec)
            module.__file__ = str(self.file.path)
            code = compile(self.file.content, str(self.file.path), "exec", dont_inherit=True)
            sys.modules[name] = module  # before it runs: dataclasses and pydantic look there
            try:
                exec(code, module.__dict__)  # noqa: S102 - the person has allowed exactly this content
            except BaseException:
                del sys.modules[name]
                raise
        return getattr(sys.modules[name], self.class_name)


def plugins_folder() -> Path:
    """Where the files lie; it need not exist."""
    return user_home() / "plugins"


def plugin_files() -> list[PluginFile]:
    """All of them, in order of name."""
    try:
        paths = sorted(path for path in plugins_folder().glob("*.py") if path.is_file())
    except OSError:
        return []
    allowed = _allowed()
    return [_looked_at(path, allowed) for path in paths]


def allow(name: str) -> PluginFile:
    """Lets a file run as it is now. Raises PluginError where there is none of this name."""
    path = _path_of(name)
    file = _looked_at(path, {})
    if not file.content:
        raise PluginError(file.error, file=path, fix="Mend or replace it")
    _write({**_allowed(), path.name: file.digest})
    return _looked_at(path, _allowed())


def forbid(name: str) -> PluginFile:
    """Takes that back; a program that has it running goes on with it. Raises PluginError as `allow` does."""
    path = _path_of(name)
    _write({other: digest for other, digest in _allowed().items() if other != path.name})
    return _looked_at(path, {})


def _path_of(name: str) -> Path:
    """A file of the folder, by its name with or without .py, or by its path."""
    folder = plugins_folder()
    for path in (folder / name, folder / f"{name}.py"):
        if path.suffix == ".py" and path.is_file() and path.parent.resolve() == folder.resolve():
            return path
    known = ", ".join(file.path.name for file in plugin_files()) or "nothing"
    raise PluginError(f"there is no {name}", file=folder, fix=f"It has {known}")


def _looked_at(path: Path, allowed: dict[str, str]) -> PluginFile:
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        return PluginFile(path, b"", f"cannot be read: {error.strerror or error}")
    if not content or len(content) > LARGEST:
        return PluginFile(path, b"", "is empty" if not content else "is too large for a plugin")
    found = PluginFile(path, content)
    if allowed.get(path.name) == found.digest:
        return found
    was = "has changed since it was allowed" if path.name in allowed else "is not allowed yet"
    return PluginFile(path, content, f"{was}; read it, then: imagen-workbench plugins allow {path.name}")


def _plugins(tree: ast.Module) -> Iterator[tuple[str, str, str]]:
    """(class, kind, its `name` or "") of the classes that derive, through each other, from what makes a plugin."""
    kinds = dict(BASES)
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        bases = (base.attr if isinstance(base, ast.Attribute) else getattr(base, "id", "") for base in node.bases)
        kind = next((kinds[base] for base in bases if base in kinds), "")
        if kind:
            kinds[node.name] = kind
            if not node.name.startswith("_"):
                yield node.name, kind, _name_in(node)


def _name_in(node: ast.ClassDef) -> str:
    """The text that its body gives `name`."""
    for statement in node.body:
        match statement:
            case ast.Assign(targets=[ast.Name("name")], value=ast.Constant(str(text))):
                return text
            case ast.AnnAssign(target=ast.Name("name"), value=ast.Constant(str(text))):
                return text
    return ""


def _list() -> Path:
    return user_home() / "allowed-plugins.json"


def _allowed() -> dict[str, str]:
    """SHA-256 of the content that is allowed, by the file's name; nothing where the list cannot be read."""
    try:
        told = json.loads(_list().read_text(encoding="utf-8"))
        return {str(name): str(digest) for name, digest in told["allowed"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return {}


def _write(allowed: dict[str, str]) -> None:
    try:
        write_atomically(_list(), json.dumps({"allowed": allowed}, indent=2) + "\n")
    except OSError as error:
        raise PluginError(f"cannot be written: {error.strerror or error}", file=_list(), fix="Make room") from error
