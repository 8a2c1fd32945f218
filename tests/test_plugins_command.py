"""`imagen-workbench plugins`: listed, allowed, begun from the template, and tested."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from image_files import some_images
from plugin_packages import pip_install

from imagen_workbench.core.plugin_files import plugins_folder
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

SQUARES = """
import numpy as np
from pydantic import BaseModel, Field
from imagen_workbench.core import Example, Source

class Options(BaseModel):
    count: int = Field(8, ge=1)
    how: str = ""

class Squares(Source):
    title, summary = "Squares", "White ones."
    Options = Options
    defaults = {"size": [8, 8], "options": {"how": HOW}}
    classes = ("small", "large")
    read = 0

    def __len__(self):
        return self.options.count

    def __getitem__(self, index):
        Squares.read += 1
        match self.options.how:
            case "chance": return Example(np.full((8, 8), Squares.read % 200, np.uint8), 0)
            case "crash":
                import os
                os._exit(7)
            case "raise": raise RuntimeError("never")
        return Example(np.full((8, 8), index, np.uint8), index % 2)
"""


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["plugins", *arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


@pytest.fixture
def squares() -> Path:
    return squares_file("")


def squares_file(how: str) -> Path:
    plugins_folder().mkdir(parents=True, exist_ok=True)
    path = plugins_folder() / "squares.py"
    path.write_text(SQUARES.replace("HOW", repr(how)), encoding="utf-8")
    return path


@pytest.mark.parametrize("arguments", [(), ("list",)])
def test_plugins_are_listed(capsys: pytest.CaptureFixture[str], squares: Path, arguments: tuple[str, ...]) -> None:
    code, text = told(capsys, *arguments)
    assert code == 0
    assert all(part in text for part in ("digits", "label", "conditioning", "squares.py", "not allowed yet"))
    assert str(plugins_folder()) in text


@pytest.mark.parametrize("arguments", [("--json",), ("list", "--json")])
def test_plugins_are_listed_as_json(
    capsys: pytest.CaptureFixture[str], squares: Path, arguments: tuple[str, ...]
) -> None:
    facts = json.loads(told(capsys, *arguments)[1])
    assert facts["folder"] == str(plugins_folder())
    found = {each["name"]: each for each in facts["plugins"]}
    assert found["digits"] == {
        "name": "digits",
        "kind": "dataset",
        "summary": found["digits"]["summary"],
        "package": "imagen-workbench",
        "error": "",
    }
    assert found["squares"]["package"] == "squares.py"
    assert "not allowed" in found["squares"]["error"]
    assert found["label"]["kind"] == "conditioning"


def test_a_file_is_allowed_and_forbidden(capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    code, text = told(capsys, "allow", "squares.py")
    assert (code, "dataset squares" in text) == (0, True)
    assert "White ones." in told(capsys)[1]
    squares.write_text(squares.read_text() + "\n")
    assert "has changed since it was allowed" in told(capsys)[1]
    assert told(capsys, "allow", "squares")[0] == 0
    assert "White ones." in told(capsys)[1]
    assert told(capsys, "forbid", "squares.py")[0] == 0
    assert "not allowed yet" in told(capsys)[1]


def test_what_is_no_plugin_is_said_when_it_is_allowed(capsys: pytest.CaptureFixture[str]) -> None:
    plugins_folder().mkdir(parents=True)
    (plugins_folder() / "odd.py").write_text("x = 1")
    code, text = told(capsys, "allow", "odd.py")
    assert code == 2
    assert "has no class that derives from Source" in text
    code, text = told(capsys, "allow", "other.py")
    assert code == 2
    assert "odd.py" in text


# --- test -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits", "text", "attributes"])
def test_ours_hold(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, text = told(capsys, "test", name)
    assert code == 0, text
    assert "✗" not in text
    assert text.count("✓") > 8


def test_a_plugin_that_reads_a_place_is_told_which(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys, "test", "image-folder")
    assert code == 2
    assert "--set data.path=" in text
    for k, name in enumerate(("cats", "dogs")):
        some_images(tmp_path / "photos" / name, 3 + k)
    code, text = told(capsys, "test", "image-folder", "--set", f"data.path={tmp_path / 'photos'}")
    assert code == 0, text


@pytest.mark.parametrize(
    ("how", "taught"),
    [
        ("chance", "take chance from the index"),
        ("raise", "RuntimeError: never"),
        ("crash", "keeps its process alive"),
    ],
)
def test_what_does_not_hold_is_explained(capsys: pytest.CaptureFixture[str], how: str, taught: str) -> None:
    squares_file(how)
    told(capsys, "allow", "squares.py")
    code, text = told(capsys, "test", "squares")
    assert code == 2
    assert "✗" in text
    assert taught in text


def test_a_plugin_that_is_not_there_or_off_is_not_tested(capsys: pytest.CaptureFixture[str], squares: Path) -> None:
    code, text = told(capsys, "test", "circles")
    assert code == 2
    assert "digits" in text
    code, text = told(capsys, "test", "squares")
    assert code == 2
    assert "not allowed yet" in text


# --- new ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["dataset", "conditioning"])
def test_a_new_package_works_from_the_first_minute(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """It is installed, listed and trained on; its own tests, the contract among them, pass."""
    name = f"my-first-{kind}"
    code, text = told(capsys, "new", name, "--kind", kind, "--dir", str(tmp_path))
    assert code == 0, text
    package, site = tmp_path / name, tmp_path / "site"
    assert f"pip install -e {package}" in text
    pip_install(package, site)
    own = subprocess.run(
        [sys.executable, "-m", "pytest", "-v", "--import-mode=importlib", "-p", "no:cacheprovider"],
        env=os.environ | {"PYTHONPATH": str(site)}, cwd=package, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert own.returncode == 0, own.stdout
    assert f"{name}::test_it_introduces_itself PASSED" in own.stdout
    assert "tests/test_my_first" in own.stdout

    monkeypatch.syspath_prepend(str(site))
    assert f"{name}-for-imagen-workbench" in told(capsys, "list")[1]
    key = "data.source" if kind == "dataset" else "conditioning.scheme"
    settings = [f"{key}={name}", "training.steps=3", "data.most=100", "data.validation=20"]
    asked = [part for text in settings for part in ("--set", text)]
    assert main(["train", "tiny", "--run", str(tmp_path / "run"), *asked]) == 0, capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("My First", "no name for a plugin"),
        ("../up", "no name for a plugin"),
        ("random", "Python has a module"),
        ("numpy", "Python has a module"),
        ("digits", "there is a plugin"),
        ("label", "there is a plugin"),
    ],
)
def test_a_name_that_will_not_do_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, reason: str
) -> None:
    code, text = told(capsys, "new", name, "--dir", str(tmp_path / "new"))
    assert code == 2
    assert reason in text
    assert not (tmp_path / "new").exists()


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.py").write_text("precious")
    code, text = told(capsys, "new", "mine", "--dir", str(tmp_path))
    assert code == 2
    assert "already there" in text
    assert (tmp_path / "mine" / "mine.py").read_text() == "precious"
