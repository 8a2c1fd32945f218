"""The files that a new plugin begins with."""

from __future__ import annotations

import importlib.util
import re
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Collection

FOLDER = Path(__file__).parent.parent.parent / "resources" / "plugin_template"
SUFFIX = ".template"
NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def template(name: str, kind: str, taken: Collection[str]) -> dict[str, str]:
    """Text by path, for a plugin of this name. Raises PluginError where it cannot be called so."""
    module = name.replace("-", "_")
    if not NAME.fullmatch(name):
        raise PluginError(f"{name!r} is no name for a plugin", fix="Small letters and digits, joined by hyphens")
    if name in taken:
        raise PluginError(f"there is a plugin {name!r} already", fix="Choose another name")
    if module in sys.stdlib_module_names or importlib.util.find_spec(module) is not None:
        raise PluginError(f"Python has a module {module!r} already", fix="Choose another name")
    words = name.replace("-", " ")
    told = {"name": name, "module": module, "kind": words.title().replace(" ", ""), "words": words.capitalize()}
    return {
        file.relative_to(place).as_posix().removesuffix(SUFFIX).replace("plugin", module): string.Template(
            file.read_text(encoding="utf-8")
        ).substitute(told)
        for place in (FOLDER / "shared", FOLDER / kind)
        for file in sorted(place.rglob(f"*{SUFFIX}"))
    }
