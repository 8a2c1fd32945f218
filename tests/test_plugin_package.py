"""A third person's dataset plugin: the package of docs/plugins.md, installed and used without a line changed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

DOCS = Path(__file__).parent.parent / "docs" / "plugins.md"

ASK_CATALOGUE = """
import json
from imagen_workbench.core.commands import ReadCatalogue
from imagen_workbench.core.events import Catalogue
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of
from imagen_workbench.workbench.presenters.bench import Bench
from imagen_workbench.workbench.presenters.ui_thread import ManualThread

ui, worker = ManualThread(), Worker()
bench = Bench(worker, ui)
bench.post(ReadCatalogue(1))
while worker.turn():
    pass
ui.run()
bench.training.set("data.source", "stripes")
state = bench.training.state
fields = {each.key: each for _, group in state.form for each in group}
print(json.dumps({
    "choices": fields["data.source"].choices,
    "options": [key for key in fields if key.startswith("data.options.")],
    "size": dict(state.texts)["data.size"],
    "errors": state.errors,
}))
"""


def code_blocks() -> dict[str, str]:
    """The files that the page shows, by name."""
    found = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return dict(found)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into by pip, as anyone's would be into site-packages."""
    source, target = tmp_path_factory.mktemp("stripes"), tmp_path_factory.mktemp("site")
    for name, text in code_blocks().items():
        (source / name).write_text(text, encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(target), str(source)], check=True, capture_output=True)
    return target


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(installed), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def command(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(installed, "-m", "imagen_workbench.workbench", *arguments)


def test_the_page_shows_it_in_thirty_lines() -> None:
    assert len(code_blocks()["stripes.py"].strip().splitlines()) <= 35


def test_the_page_shows_these() -> None:
    names = {"stripes.py", "countdown.py", "brightness.py", "pyproject.toml", "test_stripes.py"}
    assert set(code_blocks()) == names


def test_its_tests_pass(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_stripes.py").write_text(code_blocks()["test_stripes.py"], encoding="utf-8")
    tested = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_stripes.py"))
    assert tested.returncode == 0, tested.stdout


@pytest.mark.parametrize("name", ["stripes", "countdown", "brightness"])
def test_the_command_holds_it_against_its_contract(installed: Path, name: str) -> None:
    tested = command(installed, "plugins", "test", name)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "✓" in tested.stdout


def test_the_scheme_and_the_stream_train_and_draw(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = (
        "data.source=countdown",
        "conditioning.scheme=brightness",
        "conditioning.options={}",
        "data.size=[16, 16]",
    )
    asked = [
        part
        for text in (*settings, "data.most=60", "data.validation=20", "training.steps=6")
        for part in ("--set", text)
    ]
    trained = command(installed, "train", "tiny", "--run", str(folder), *asked)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["images"] == 60
    drawn = command(
        installed, "sample", str(folder), "--condition", "0.8", "--count", "2", "--arrays", str(tmp_path / "out.npz")
    )
    assert drawn.returncode == 0, drawn.stderr
    refused = command(installed, "sample", str(folder), "--condition", "very")
    assert refused.returncode == 2
    assert "a number from 0 to 1" in refused.stderr


def test_the_same_files_work_from_the_plugin_folder(homes: Path, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    folder = homes / "home" / "plugins"
    folder.mkdir(parents=True)
    for name, text in code_blocks().items():
        if name in ("stripes.py", "countdown.py", "brightness.py"):
            (folder / name).write_text(text, encoding="utf-8")
            assert command(nothing, "plugins", "allow", name).returncode == 0
    settings = ("data.source=stripes", "conditioning.scheme=label + brightness", "conditioning.options={}")
    asked = [
        part
        for text in (*settings, "data.size=[16, 16]", "data.validation=20", "training.steps=3")
        for part in ("--set", text)
    ]
    trained = command(nothing, "train", "tiny", "--run", str(tmp_path / "run"), *asked)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    drawn = command(
        nothing, "sample", str(tmp_path / "run"), "--condition", "class=down;brightness=0.5", "--count", "2",
        "--arrays", str(tmp_path / "out.npz"),
    )  # fmt: skip
    assert drawn.returncode == 0, drawn.stderr


def test_it_is_listed(installed: Path) -> None:
    listed = command(installed, "datasets")
    assert listed.returncode == 0, listed.stderr
    assert "stripes-for-imagen-workbench" in listed.stdout
    assert "Stripes across and down" in listed.stdout


def test_it_trains_and_draws(installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = (
        "data.source=stripes",
        "data.size=[16, 16]",
        "data.validation=20",
        "data.options.count=64",
        "training.steps=6",
    )
    asked = [part for text in settings for part in ("--set", text)]
    trained = command(installed, "train", "tiny", "--run", str(folder), *asked)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    drawn = command(
        installed, "sample", str(folder), "--condition", "down", "--count", "3", "--arrays", str(tmp_path / "out.npz")
    )
    assert drawn.returncode == 0, drawn.stderr
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["images"].shape == (3, 1, 16, 16)
        assert arrays["labels"].tolist() == [1, 1, 1]


def test_its_options_are_checked(installed: Path, tmp_path: Path) -> None:
    refused = command(
        installed, "train", "tiny", "--run", str(tmp_path / "run"), "--set", "data.source=stripes",
        "--set", "data.options.count=0",
    )  # fmt: skip
    assert refused.returncode == 2
    assert "data.options.count" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_the_faces_learn_of_it(installed: Path) -> None:
    asked = run(installed, "-c", ASK_CATALOGUE)
    assert asked.returncode == 0, asked.stderr
    seen = json.loads(asked.stdout)
    assert "stripes" in seen["choices"]
    assert seen["options"] == ["data.options.count"]
    assert seen["size"] == "16, 16"
    assert seen["errors"] == []


def test_a_broken_one_is_fenced(installed: Path, tmp_path: Path) -> None:
    broken = tmp_path / "site"
    info = broken / "broken_plugin-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-plugin\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(
        "[imagen_workbench.datasets]\nbroken = broken_plugin:Nothing\n", encoding="utf-8"
    )
    (broken / "broken_plugin.py").write_text("raise RuntimeError('it rained')\n", encoding="utf-8")
    listed = command(broken, "datasets")
    assert listed.returncode == 0, listed.stderr
    assert "it rained" in listed.stdout
    assert "5,000 digits" in listed.stdout
    used = command(broken, "train", "tiny", "--run", str(tmp_path / "run"), "--set", "data.source=broken")
    assert used.returncode == 2
    assert "broken-plugin" in used.stderr
    assert "it rained" in used.stderr
    assert not (tmp_path / "run").exists()
