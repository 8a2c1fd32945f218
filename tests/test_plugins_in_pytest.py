"""`pytest --imagen-plugin NAME`: the contracts as pytest's own tests, and nothing where nobody asks for them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

from plugin_packages import install

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

SQUARES = """
import numpy as np
from imagen_workbench.core import Example, Source

class Squares(Source):
    title, summary, defaults = "Squares", "White ones.", {"size": [8, 8]}
    classes = ("small",)

    def __len__(self):
        return 4

    def __getitem__(self, index):
        return Example(np.full((8, 8), index, np.uint8), index % 2)
"""

QUIET = """
import sys

def test_nothing_of_ours_comes_in():
    assert not [name for name in sys.modules if name.partition(".")[0] in ("imagen_workbench", "torch")]
"""


def pytested(folder: Path, *arguments: str, site: Path | None = None) -> tuple[int, str]:
    env = os.environ | {"COLUMNS": "200", **({"PYTHONPATH": str(site)} if site else {})}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def test_what_does_not_hold_is_a_failed_test_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, here = tmp_path / "site", tmp_path / "here"
    install(site, monkeypatch, "squares-package", SQUARES, datasets={"squares": "Squares"})
    here.mkdir()
    (here / "test_mine.py").write_text("def test_mine(): pass")
    code, text = pytested(here, "-v", "--imagen-plugin", "squares", site=site)
    assert code == 1
    assert "labels point into the classes: it does not hold." in text
    assert "label 1 of 1 classes" in text
    assert "1 failed" in text
    assert "test_mine" not in text, "it alone was asked for"
    assert "File " not in text.partition("FAILURES")[2], "words, no traceback"


def test_some_of_its_tests_are_chosen(tmp_path: Path) -> None:
    code, text = pytested(tmp_path, "--imagen-plugin", "digits", "-k", "introduces_itself")
    assert code == 0, text
    assert "1 passed" in text
    assert " selected" in text


def test_one_that_is_not_told_enough_is_refused_in_a_line(tmp_path: Path) -> None:
    code, text = pytested(tmp_path, "-q", "--imagen-plugin", "image-folder")
    assert code == 4
    assert "ERROR: data.path: image-folder reads from a place. Say which:" in text
    assert "--imagen-set" in text


def test_the_tests_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_quiet.py").write_text(QUIET)
    code, text = pytested(tmp_path, "-q")
    assert code == 0, text
    assert "1 passed" in text
