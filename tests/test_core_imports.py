"""What may be imported without what: asked in a fresh process, since a package's `__init__` brings things along."""

from __future__ import annotations

import importlib.util
import pkgutil
import subprocess
import sys

import pytest

import imagen_workbench.core
import imagen_workbench.workbench.presenters as presenters

HEAVY = ("torch", "PySide6", "ipywidgets", "pyqtgraph", "matplotlib")

LIGHT = [
    "imagen_workbench.core",
    "imagen_workbench.core.recipe",
    "imagen_workbench.core.errors",
    "imagen_workbench.core.commands",
    "imagen_workbench.core.events",
    "imagen_workbench.core.runs.folder",
    "imagen_workbench.core.runs.journal",
    "imagen_workbench.core.runs.picture",
    "imagen_workbench.core.runs.samples",
    "imagen_workbench.core.worker",
    "imagen_workbench.core.worker.thread",
    *(f"{presenters.__name__}.{each.name}" for each in pkgutil.iter_modules(presenters.__path__)),
    *(
        name
        for name in ("imagen_workbench.workbench.app", "imagen_workbench.workbench.cli")
        if importlib.util.find_spec(name)
    ),
]

ASK = """
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
    brought = [heavy for heavy in {heavy!r} if heavy in sys.modules]
    assert not brought, f"{{name}} brings {{brought}}"
"""


def asked(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_the_light_is_imported_without_the_heavy() -> None:
    answer = asked(ASK.format(names=LIGHT, heavy=HEAVY))
    assert answer.returncode == 0, answer.stderr


def test_names_are_handed_on_without_torch_until_they_need_it() -> None:
    answer = asked(
        "import sys\n"
        "from imagen_workbench.core import Recipe, Run, Worker, Source, Example, RecipeError\n"
        "assert 'torch' not in sys.modules\n"
        "worker = Worker()\n"
        "worker.post\n"
        "assert 'torch' not in sys.modules\n"
        "from imagen_workbench.core import Condition\n"
        "assert 'torch' in sys.modules\n"
    )
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("name", imagen_workbench.core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(imagen_workbench.core, name) is not None
    assert name in dir(imagen_workbench.core)


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        imagen_workbench.core.Nothing  # noqa: B018


def test_the_contracts_need_no_pytest() -> None:
    """Plugin authors inherit them in whatever runs their tests."""
    answer = asked("import sys, imagen_workbench.core.testing\nassert 'pytest' not in sys.modules\n")
    assert answer.returncode == 0, answer.stderr
