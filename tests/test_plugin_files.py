"""The person's own plugin files: never run before they are allowed, off again when they change."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import pytest

from imagen_workbench.core import plugin_files
from imagen_workbench.core.datasets import read
from imagen_workbench.core.errors import PluginError
from imagen_workbench.core.extensions import catalogue, datasets, make_source, schemes
from imagen_workbench.core.plugin_files import allow, forbid, plugins_folder
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.runs.folder import user_home

if TYPE_CHECKING:
    from pathlib import Path

SHADES = """
from __future__ import annotations
import pathlib
import numpy as np
from pydantic import BaseModel
import imagen_workbench.core as core
from imagen_workbench.core import Example, Source

pathlib.Path(MARK).write_text("was run")

class Options(BaseModel):
    count: int = 12

class _Base(Source):
    title, summary = "Shades", "Of grey."
    Options = Options

    def __len__(self):
        return self.options.count

class Shades(_Base):
    def __getitem__(self, index):
        return Example(np.full((8, 8), index * 9, np.uint8))

    def fingerprint(self):
        return "1"

class Named(core.ConditioningScheme):
    name: str = "telling"
    title, summary = "Telling", "Nothing."

    def prepare(self, example):
        return np.zeros(0, np.float32)

    def parse(self, text):
        return np.zeros(0, np.float32)

    def encoder(self):
        import torch
        return torch.nn.Identity()

class NoPlugin:
    pass
"""


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "mark"


@pytest.fixture
def shades(mark: Path) -> Path:
    plugins_folder().mkdir(parents=True)
    path = plugins_folder() / "shades.py"
    path.write_text(SHADES.replace("MARK", repr(str(mark))), encoding="utf-8")
    return path


def error_of(name: str) -> str:
    found = catalogue()
    return next(each.error for each in (*found.datasets, *found.schemes) if each.name == name)


def recipe() -> Recipe:
    return Recipe.of(
        {"data": {"source": "shades", "size": [8, 8], "validation": 2}, "conditioning": {"scheme": "telling"}}
    )


def test_a_file_is_off_and_not_run_until_it_is_allowed(shades: Path, mark: Path) -> None:
    assert {"shades", "digits"} <= set(datasets())
    assert "telling" in schemes()
    for name in ("shades", "telling"):
        assert "not allowed yet" in error_of(name)
        assert "plugins allow shades.py" in error_of(name)
    with pytest.raises(PluginError, match="not allowed yet"):
        make_source(recipe())
    with pytest.raises(PluginError, match="not allowed yet"):
        read(recipe())
    assert not mark.exists()


@pytest.mark.parametrize("called", ["shades", "shades.py"])
def test_an_allowed_file_is_a_plugin_like_others(shades: Path, mark: Path, called: str) -> None:
    allow(called)
    assert not mark.exists(), "allowing does not run it"
    facts = next(each for each in catalogue().datasets if each.name == "shades")
    assert (facts.title, facts.package, facts.error) == ("Shades", "shades.py", "")
    assert "count" in facts.options["properties"]
    data = read(recipe().with_values({"data.options.count": 20}))
    assert data.pixels[:, 0, 0, 0].tolist() == [9 * k for k in range(20)]
    assert "shades" not in sys.modules
    assert str(plugins_folder()) not in sys.path


def test_a_changed_file_is_off_again_and_says_so(shades: Path) -> None:
    allow("shades.py")
    whole = shades.read_text(encoding="utf-8")
    shades.write_text(whole + "\n# more", encoding="utf-8")
    assert "has changed since it was allowed" in error_of("shades")
    with pytest.raises(PluginError, match="has changed"):
        read(recipe())
    shades.write_text(whole, encoding="utf-8")
    assert not error_of("shades"), "it is what was allowed again"


def test_the_same_content_under_another_name_is_another_file(shades: Path) -> None:
    allow("shades.py")
    shades.rename(shades.with_name("other.py"))
    assert "not allowed yet" in error_of("other")


def test_what_is_forbidden_is_off(shades: Path) -> None:
    allow("shades.py")
    forbid("shades.py")
    assert "not allowed yet" in error_of("shades")


@pytest.mark.parametrize("name", ["nothing", "../shades.py", "/etc/passwd", "", "shades.txt"])
def test_only_files_of_the_folder_can_be_allowed(shades: Path, name: str) -> None:
    (user_home() / "shades.py").write_text("x = 1")
    (plugins_folder() / "shades.txt").write_text("x = 1")
    with pytest.raises(PluginError, match=r"there is no .*shades\.py"):
        allow(name)
    assert not (user_home() / "allowed-plugins.json").exists()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"class A(Source)", "is no Python"),
        (b"x = '\xff'", "is no Python"),
        (b"\0", "is no Python"),
        (b"x = 1", "has no class that derives"),
        (b"", "is empty"),
        (b"#" * (plugin_files.LARGEST + 1), "too large"),
        (b"(" * 5000, "is no Python"),
    ],
)
def test_what_is_no_plugin_says_why(content: bytes, reason: str) -> None:
    plugins_folder().mkdir(parents=True)
    (plugins_folder() / "odd.py").write_bytes(content)
    assert reason in error_of("odd")


@pytest.mark.parametrize(
    ("code", "what"), [("raise KeyError('oh')", "KeyError: 'oh'"), ("import no_such_module", "no_such_module")]
)
def test_a_file_that_fails_is_fenced(code: str, what: str) -> None:
    plugins_folder().mkdir(parents=True)
    (plugins_folder() / "bad.py").write_text(f"{code}\nclass Bad(Source): pass")
    allow("bad.py")
    assert what in error_of("bad")
    assert "Mend bad.py" in error_of("bad")
    assert not [name for name in sys.modules if name.startswith("imagen_workbench_plugin_files.bad")]
    assert not error_of("digits")


def test_a_file_does_not_take_a_bundled_name(shades: Path) -> None:
    shades.rename(shades.with_name("digits.py"))
    assert not error_of("digits")
    assert datasets()["digits"].package == "imagen-workbench"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"allowed": 3}', '{"allowed": {"shades.py": 3}}'])
def test_a_damaged_list_allows_nothing(shades: Path, text: str) -> None:
    allow("shades.py")
    (user_home() / "allowed-plugins.json").write_text(text)
    assert "not allowed yet" in error_of("shades") or "has changed" in error_of("shades")
    allow("shades.py")
    assert not error_of("shades")


def test_finding_files_takes_little_time() -> None:
    plugins_folder().mkdir(parents=True)
    for k in range(20):
        (plugins_folder() / f"p{k}.py").write_text(SHADES + f"\nx = {k}")
        allow(f"p{k}.py")
    took = []
    for _ in range(5):
        began = time.process_time()
        found = [entry for file in plugin_files.plugin_files() for entry in file.entries()]
        took.append(time.process_time() - began)
    assert len(found) == 40
    assert min(took) < 0.1
