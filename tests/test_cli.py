"""The command line as a person uses it: real processes, their words and exit codes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core.runs.checkpoint import checkpoints
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.runs.picture import read_recipe

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.recipe import Recipe


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "imagen_workbench.workbench", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )


def run(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate()
    return process.returncode, out, err


ERRORS = [
    (("train", "nothing-like-it"), ("nothing-like-it", "no such recipe", "digits")),
    (("train", "tiny", "--set", "training.stepps=3"), ("training.stepps", "training.steps")),
    (("train", "tiny", "--set", "training.learning_rate=0.2"), ("training.learning_rate", "0.002")),
    (("train", "tiny", "--set", "steps"), ("KEY=VALUE",)),
    (("train", "tiny", "--minutes", "0"), ("--minutes",)),
    (
        ("train", "tiny", "--set", "data.source=image-folder", "--set", "data.path=/not/there"),
        ("/not/there", "no such folder"),
    ),
    (("train", "tiny", "--set", "data.source=image-folder"), ("data.path",)),
    (("sample", "nothing-like-it"), ("nothing-like-it", "no such model")),
    (("sample",), ("MODEL",)),
    (("sample", "digits", "--condition", "x"), ("x", "0, 1, 2")),
    (("sample", "digits", "--steps", "0"), ("sampling.steps",)),
    (("sample", "digits", "--count", "0"), ("--count",)),
    (("sample", "digits", "--sampler", "magic"), ("sampling.sampler", "heun")),
    (("sample", "digits", "--ema", "0.2"), ("sampling.ema",)),
    (("frobnicate",), ("frobnicate",)),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "named"), ERRORS)
def test_an_error_is_one_line_that_names_it(arguments: tuple[str, ...], named: tuple[str, ...], tmp_path: Path) -> None:
    if arguments[0] == "train":
        arguments = (*arguments, "--run", str(tmp_path / "run"))
    code, out, err = run(*arguments)
    assert code == 2
    assert len(err.strip().splitlines()) == 1
    assert "Traceback" not in err
    assert "Run folder" not in out
    for word in named:
        assert word in err
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_debug_shows_the_traceback() -> None:
    code, _, err = run("sample", "nothing-like-it", "--debug")
    assert code == 2
    assert "Traceback" in err


def test_lists(tiny_recipe: Recipe) -> None:
    for command, words in (
        ("recipes", ("digits", "tiny")),
        ("datasets", ("image-folder",)),
        ("doctor", ("torch", "cpu")),
    ):
        code, out, err = run(command)
        assert code == 0, err
        for word in words:
            assert word in out
    assert run("runs")[0] == 0


def test_a_log_tells_the_run_folder_and_then_the_steps(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe, folder = tmp_path / "数字.toml", tmp_path / "试验 [一]" / "数字"
    recipe.write_text(tiny_recipe.to_toml(), encoding="utf-8")
    code, out, err = run("train", str(recipe), "--run", str(folder))
    assert (code, err) == (0, "")
    told = [line for line in out.splitlines() if not line.startswith("Reading images")]
    assert told[0] == f"Run folder: {folder}"
    assert re.fullmatch(r"step 1 of 20, [\d,]+ images/s, loss [\d.]+, \d+ s left", told[1])
    assert told[-1] == f"Finished at step 20. Draw from it: imagen-workbench sample '{folder}'"
    assert "━" not in out


@pytest.mark.skipif(sys.platform == "win32", reason="has no pseudo-terminals of this kind")
def test_a_terminal_keeps_its_bar(tiny_recipe: Recipe, tmp_path: Path) -> None:
    import pty

    recipe, folder = tmp_path / "mine.toml", tmp_path / "run"
    recipe.write_text(tiny_recipe.to_toml(), encoding="utf-8")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "imagen_workbench.workbench", "train", str(recipe), "--run", str(folder)],
        stdout=theirs,
        stderr=theirs,
        env=os.environ | {"COLUMNS": "80", "TERM": "xterm-256color", "NO_COLOR": "1"},
    )
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 1 << 16):
            shown += part
    except OSError:  # which is how a pseudo-terminal ends
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0
    text = shown.decode()
    assert "━" in text
    assert "step 20 of 20" in text
    assert text.index("Run folder: ") < text.index("step 1")


def test_names_that_the_encoding_lacks_are_told_all_the_same(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-m", "imagen_workbench.workbench", "sample", str(tmp_path / "数字")],
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        check=False,
    )
    assert process.returncode == 2
    assert b"\\u6570\\u5b57: no such model" in process.stderr


def test_train_sample_and_draw_a_picture_again(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(tiny_recipe.to_toml(), encoding="utf-8")
    folder = tmp_path / "run"
    code, out, err = run("train", str(recipe), "--run", str(folder))
    assert code == 0, err
    assert "Finished at step 20" in out

    grid, arrays = tmp_path / "grid.png", tmp_path / "out.npz"
    code, _, err = run(
        "sample", str(folder), "--condition", "7", "--condition", "3", "--count", "5", "--guidance", "2",
        "--sampler", "dpmpp-2m", "--steps", "3", "--seed", "11", "--out", str(grid), "--arrays", str(arrays),
    )  # fmt: skip
    assert code == 0, err
    with np.load(arrays) as found:
        images, labels = found["images"], found["labels"]
    assert images.shape == (5, 1, 28, 28)
    assert images.dtype == np.float32
    assert np.abs(images).max() <= 1
    assert labels.tolist() == [7, 3, 7, 3, 7]
    carried = read_recipe(grid)
    assert carried["sampling"]["guidance"] == 2
    assert carried["conditions"] == ["7", "3", "7", "3", "7"]

    code, _, err = run("sample", str(grid), "--out", str(tmp_path / "again.png"))
    assert code == 0, err
    assert np.array_equal(np.asarray(Image.open(grid)), np.asarray(Image.open(tmp_path / "again.png")))

    code, _, _ = run("sample", str(folder), "--arrays", str(tmp_path / "turn.npz"), "--count", "12")
    assert code == 0
    with np.load(tmp_path / "turn.npz") as found:
        assert found["labels"].tolist() == [*range(10), 0, 1]


def test_a_finished_run_is_not_overwritten(copied_run: Run) -> None:
    before = copied_run.records()
    code, _, err = run("train", "tiny", "--run", str(copied_run.path))
    assert code == 2
    assert "--resume" in err
    assert copied_run.records() == before


def test_ctrl_c_saves_and_says_how_to_go_on(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        tiny_recipe.with_values({"training.steps": 100_000, "training.checkpoint_every": 50_000}).to_toml()
    )
    folder = tmp_path / "run"
    process = start("train", str(recipe), "--run", str(folder))
    journal = folder / "journal" / "000000.jsonl"
    while process.poll() is None and not (journal.exists() and journal.read_text().count('"kind": "step"') > 5):
        os.sched_yield()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130, err
    assert "--resume" in out
    saved = checkpoints(Run(folder).checkpoints)
    assert len(saved) == 1
    steps = [record["step"] for record in Run(folder).records() if record["kind"] == "step"]
    assert saved[0].step == steps[-1]


def test_minutes_becomes_a_step_budget(tiny_recipe: Recipe, tmp_path: Path) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(tiny_recipe.to_toml(), encoding="utf-8")
    code, _, err = run("train", str(recipe), "--run", str(tmp_path / "run"), "--minutes", "0.02")
    assert code == 0, err
    records = Run(tmp_path / "run").records()
    started = records[0]
    assert started["kind"] == "started"
    assert started["minutes"] == 0.02
    assert records[-1]["kind"] == "finished"
    assert records[-1]["step"] == started["steps"]


def test_a_finished_run_says_so_when_it_is_continued(copied_run: Run) -> None:
    recipe = copied_run.path / "recipe.toml"
    code, out, _ = run("train", str(recipe), "--run", str(copied_run.path), "--resume")
    assert code == 0
    assert f"had finished already, at step {copied_run.recipe().training.steps}" in out
    assert "--from" in out


@pytest.mark.parametrize(("option", "name"), [("--out", "x.webm"), ("--film", "x.png"), ("--arrays", "x")])
def test_a_file_of_another_kind_is_not_written(tmp_path: Path, option: str, name: str) -> None:
    code, _, err = run("sample", "digits", option, str(tmp_path / name))
    assert code == 2
    assert "ends in" in err
    assert not list(tmp_path.iterdir())


def test_the_version_is_told() -> None:
    code, out, _ = run("--version")
    assert code == 0
    assert out.startswith("imagen-workbench ")
