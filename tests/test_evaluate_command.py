"""`imagen-workbench evaluate`, as a person and as a machine uses it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core.datasets import read
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from imagen_workbench.core.recipe import Recipe
    from imagen_workbench.core.runs.folder import Run


def test_the_bundled_model_gets_a_page_and_its_figures(
    tmp_path: Path, tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "about"
    assert main(["evaluate", "digits", "--count", "40", "--steps", "5", "--epochs", "1", "--out", str(out)]) == 0
    told = capsys.readouterr().out
    assert "agreement with the class" in told
    assert "evaluation.html" in told

    figures = json.loads((out / "evaluation.json").read_text(encoding="utf-8"))
    assert figures["count"] == 40
    assert figures["sampling"]["steps"] == 5
    assert figures["data"]["held_out"] == 1000
    assert figures["model"]["name"] == "digits"
    drawn, real = figures["agreement"]["drawn"], figures["agreement"]["held_out"]
    assert [scores["name"] for scores in drawn["classes"]] == list("0123456789")
    assert [scores["support"] for scores in drawn["classes"]] == [4] * 10
    assert sum(map(sum, drawn["confusion"])) == 40
    assert drawn["accuracy"] > 0.5
    assert drawn["interval"][0] < drawn["accuracy"] <= drawn["interval"][1]
    assert sum(scores["support"] for scores in real["classes"]) == 1000
    assert figures["frechet_distance"] is None
    assert any("too few" in note for note in figures["notes"])
    assert [mark["held_out"] for mark in figures["copies"]["nearer_than"]] == [0.01, 0.05]
    assert figures["pixels"]["drawn"]["count"] == 40

    page = re.sub(r"data:image/png;base64,[^\"]+", "", (out / "evaluation.html").read_text(encoding="utf-8"))
    assert "http" not in page
    assert "<script" not in page
    for digit in range(10):
        assert f'<th scope="row">{digit}</th>' in page
    for title in ("Figures", "Not measured", "Agreement, class by class", "Samples", "Copying or learning"):
        assert f"<h2>{title}</h2>" in page


def test_json_is_all_that_stands_on_standard_output(
    copied_run: Run,
    tiny_recipe: Recipe,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "data.toml"
    # held-out images are many and training images few, so that the classifier is there at once
    data.write_text(tiny_recipe.with_values({"data.validation": 4800}).to_toml(), encoding="utf-8")
    asked = ["evaluate", str(copied_run.path), "--count", "12", "--steps", "2", "--seed", "5", "--epochs", "1"]
    assert main([*asked, "--data", str(data), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["sampling"]["seed"] == 5
    assert figures["data"]["training"] == 200
    assert not (tmp_path / "evaluation.html").exists()


def test_a_folder_is_judged_by_the_classes_that_it_shares_with_the_model(
    copied_run: Run, tiny_recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = read(tiny_recipe)
    for name in ("1", "7", "cats"):
        (tmp_path / "pictures" / name).mkdir(parents=True)
    for index in np.flatnonzero(np.isin(data.labels, (1, 7)))[::20]:
        Image.fromarray(data.pixels[index, 0]).save(tmp_path / "pictures" / f"{data.labels[index]}" / f"{index}.png")
    Image.new("L", (28, 28), 200).save(tmp_path / "pictures" / "cats" / "cat.png")
    asked = ["evaluate", str(copied_run.path), "--count", "6", "--steps", "1", "--epochs", "1", "--json"]
    assert main([*asked, "--data", str(tmp_path / "pictures")]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["data"]["images"] == 51
    assert figures["data"]["held_out"] == 10
    scores = figures["agreement"]["drawn"]["classes"]
    assert [(each["name"], each["support"]) for each in scores] == [("1", 3), ("7", 3), ("cats", 0)]


@pytest.fixture
def asked(tiny_recipe: Recipe, copied_run: Run, tmp_path: Path) -> list[str]:
    """An evaluation that is there at once: held-out images are many and training images few."""
    data = tmp_path / "data.toml"
    data.write_text(tiny_recipe.with_values({"data.validation": 4800}).to_toml(), encoding="utf-8")
    run = ["evaluate", str(copied_run.path), "--count", "12", "--steps", "1", "--epochs", "2"]
    return [*run, "--data", str(data), "--json"]


def told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> tuple[dict[str, Any], str]:
    """(the figures, but for the time they took; what was said on the way)."""
    assert main(arguments) == 0
    captured = capsys.readouterr()
    figures = json.loads(captured.out)
    del figures["seconds"]
    return figures, captured.err


def test_the_classifier_is_trained_once_and_its_figures_stay_the_same(
    asked: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    training = "Training the classifier 1 of 4\n"
    first, said = told(capsys, asked)
    assert training in said
    again, said = told(capsys, asked)
    assert training not in said
    assert again == first

    assert main(["cache", "--json"]) == 0
    kept = [entry for entry in json.loads(capsys.readouterr().out)["entries"] if entry["source"] == "classifier"]
    assert [(entry["images"], entry["shape"]) for entry in kept] == [(200, [1, 28, 28])]
    assert main(["cache"]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if kept[0]["id"] in line)
    assert "classifier" in line
    assert "200 of 28 × 28 × 1" in line
    assert main(["cache", "--clear", "classifier"]) == 0
    assert "Removed 1 entry," in capsys.readouterr().out
    fresh, said = told(capsys, asked)
    assert training in said
    assert fresh == first


def test_a_damaged_classifier_is_trained_anew(
    asked: list[str], homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = told(capsys, asked)
    (weights,) = (homes / "cache" / "classifiers").glob("*/weights.safetensors")
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    again, said = told(capsys, asked)
    assert "Training the classifier" in said
    assert again == first
    assert weights.read_bytes() == whole


def test_a_log_tells_what_is_done(asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word for word in asked if word != "--json"] + ["--out", str(Path(asked[1]) / "figures")]) == 0
    lines = capsys.readouterr().out.splitlines()
    begun = [line for line in lines if " of " in line]
    for what in ("Reading images", "Training the classifier", "Drawing", "Judging held-out images"):
        assert any(line.startswith(what) for line in begun)
    assert not any("━" in line for line in lines)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nothing-like-it",), ("nothing-like-it", "no such model")),
        (("digits", "--count", "0"), ("--count", "1 or more")),
        (("digits", "--epochs", "0"), ("--epochs", "1 or more")),
        (("digits", "--sampler", "magic"), ("sampling.sampler", "heun")),
        (("digits", "--data", "nothing-like-it"), ("nothing-like-it", "no such recipe")),
        (("digits", "--ema", "0.2"), ("sampling.ema",)),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(
    arguments: tuple[str, ...], words: tuple[str, ...], tiny_recipe: Recipe, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", *arguments]) == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    for word in words:
        assert word in error
