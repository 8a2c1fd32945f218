"""A third person's dataset plugin: the package of docs/plugins.md, installed and used without a line changed here."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from plugin_packages import install, pip_install

from imagen_workbench.core.commands import ReadCatalogue
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench.cli import main
from imagen_workbench.workbench.presenters.bench import Bench
from imagen_workbench.workbench.presenters.ui_thread import ManualThread

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCS = Path(__file__).parent.parent / "docs" / "plugins.md"


def code_blocks() -> dict[str, str]:
    """The files that the page shows, by name."""
    found = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```", DOCS.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return dict(found)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the package is installed into by pip, as anyone's would be into site-packages."""
    source, target = tmp_path_factory.mktemp("stripes"), tmp_path_factory.mktemp("site")
    for name, text in code_blocks().items():
        (source / name).write_text(text, encoding="utf-8")
    pip_install(source, target)
    return target


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The same, on the path of this process."""
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in ("stripes", "countdown", "brightness"):
        sys.modules.pop(name, None)


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(site), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


Command = Callable[..., tuple[int, str]]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line, in this process: (exit code, what it said)."""
    monkeypatch.setenv("COLUMNS", "200")

    def called(*arguments: str) -> tuple[int, str]:
        code = main(list(arguments))
        said = capsys.readouterr()
        return code, said.out + said.err

    return called


def test_the_page_shows_it_in_thirty_lines() -> None:
    assert len(code_blocks()["stripes.py"].strip().splitlines()) <= 35


def test_the_page_shows_these() -> None:
    names = {"stripes.py", "countdown.py", "brightness.py", "pyproject.toml", "test_stripes.py"}
    assert set(code_blocks()) == names


def test_its_tests_pass(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "test_stripes.py").write_text(code_blocks()["test_stripes.py"], encoding="utf-8")
    tested = run(installed, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path / "test_stripes.py"))
    assert tested.returncode == 0, tested.stdout


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("name", ["stripes", "countdown", "brightness"])
def test_the_command_holds_it_against_its_contract(command: Command, name: str) -> None:
    code, said = command("plugins", "test", name)
    assert code == 0, said
    assert "✓" in said


@pytest.mark.usefixtures("installed")
def test_the_scheme_and_the_stream_train_and_draw(command: Command, tmp_path: Path) -> None:
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
    code, said = command("train", "tiny", "--run", str(folder), *asked)
    assert code == 0, said
    assert json.loads((folder / "dataset.json").read_text(encoding="utf-8"))["images"] == 60
    code, said = command(
        "sample", str(folder), "--condition", "0.8", "--count", "2", "--arrays", str(tmp_path / "out.npz")
    )
    assert code == 0, said
    code, said = command("sample", str(folder), "--condition", "very")
    assert code == 2
    assert "a number from 0 to 1" in said


def test_the_same_files_work_from_the_plugin_folder(command: Command, homes: Path, tmp_path: Path) -> None:
    folder = homes / "home" / "plugins"
    folder.mkdir(parents=True)
    for name, text in code_blocks().items():
        if name in ("stripes.py", "countdown.py", "brightness.py"):
            (folder / name).write_text(text, encoding="utf-8")
            assert command("plugins", "allow", name)[0] == 0
    settings = ("data.source=stripes", "conditioning.scheme=label + brightness", "conditioning.options={}")
    asked = [
        part
        for text in (*settings, "data.size=[16, 16]", "data.validation=20", "training.steps=3")
        for part in ("--set", text)
    ]
    code, said = command("train", "tiny", "--run", str(tmp_path / "run"), *asked)
    assert code == 0, said
    code, said = command(
        "sample", str(tmp_path / "run"), "--condition", "class=down;brightness=0.5", "--count", "2",
        "--arrays", str(tmp_path / "out.npz"),
    )  # fmt: skip
    assert code == 0, said


@pytest.mark.usefixtures("installed")
def test_it_is_listed(command: Command) -> None:
    code, said = command("datasets")
    assert code == 0, said
    assert "stripes-for-imagen-workbench" in said
    assert "Stripes across and down" in said


@pytest.mark.usefixtures("installed")
def test_it_trains_and_draws(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    settings = (
        "data.source=stripes",
        "data.size=[16, 16]",
        "data.validation=20",
        "data.options.count=64",
        "training.steps=6",
    )
    asked = [part for text in settings for part in ("--set", text)]
    code, said = command("train", "tiny", "--run", str(folder), *asked)
    assert code == 0, said
    code, said = command(
        "sample", str(folder), "--condition", "down", "--count", "3", "--arrays", str(tmp_path / "out.npz")
    )
    assert code == 0, said
    with np.load(tmp_path / "out.npz") as arrays:
        assert arrays["images"].shape == (3, 1, 16, 16)
        assert arrays["labels"].tolist() == [1, 1, 1]


@pytest.mark.usefixtures("installed")
def test_its_options_are_checked(command: Command, tmp_path: Path) -> None:
    code, said = command(
        "train", "tiny", "--run", str(tmp_path / "run"), "--set", "data.source=stripes", "--set", "data.options.count=0"
    )
    assert code == 2
    assert said.strip().splitlines()[-1].startswith("imagen-workbench: data.options.count: 0 is refused.")


@pytest.mark.usefixtures("installed")
def test_the_faces_learn_of_it() -> None:
    ui, worker = ManualThread(), Worker()
    bench = Bench(worker, ui)
    bench.post(ReadCatalogue(1))
    while worker.turn():
        pass
    ui.run()
    bench.training.set("data.source", "stripes")
    state = bench.training.state
    fields = {each.key: each for _, group in state.form for each in group}
    assert "stripes" in fields["data.source"].choices
    assert [key for key in fields if key.startswith("data.options.")] == ["data.options.count"]
    assert dict(state.texts)["data.size"] == "16, 16"
    assert state.errors == ()


def test_a_broken_one_is_fenced(command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = "raise RuntimeError('it rained')"
    install(tmp_path / "site", monkeypatch, "broken-plugin", code, datasets={"broken": "Nothing"})
    status, said = command("datasets")
    assert status == 0, said
    assert "it rained" in said
    assert "5,000 digits" in said
    status, said = command("train", "tiny", "--run", str(tmp_path / "run"), "--set", "data.source=broken")
    assert status == 2
    assert "broken-plugin" in said
    assert "it rained" in said
    assert not (tmp_path / "run").exists()
