"""Commands that draw, measure and list, as the command line runs them."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core import ModelError, Recipe, RunError, open_model
from imagen_workbench.core.models import drawer
from imagen_workbench.core.runs.collection import Collection, folder_name
from imagen_workbench.core.runs.picture import read_recipe, save_png
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core import Run

QUICK = ("--steps", "2", "--sampler", "euler")


def told(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints on stdout; it must succeed."""
    assert main([str(each) for each in arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line of a command that cannot be carried out."""
    assert main([str(each) for each in arguments]) == 2
    err = capsys.readouterr().err
    assert len(err.strip().splitlines()) == 1
    return err


# --- misspelt -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (
            ("trian", "digits"),
            "imagen-workbench: trian: no such command; did you mean train? See imagen-workbench --help.",
        ),
        (("frobnicate",), "imagen-workbench: frobnicate: no such command. See imagen-workbench --help."),
        (
            ("model", "exprot", "digits"),
            "imagen-workbench model: exprot: no such command; did you mean export? See imagen-workbench model --help.",
        ),
        (
            ("sample", "digits", "--stpes", "3"),
            "imagen-workbench sample: --stpes: no such option; did you mean --steps? "
            "See imagen-workbench sample --help.",
        ),
        (
            ("train", "digits", "--mintues=3"),
            "imagen-workbench train: --mintues: no such option; did you mean --minutes? "
            "See imagen-workbench train --help.",
        ),
        (
            ("--versoin",),
            "imagen-workbench: --versoin: no such option; did you mean --version? See imagen-workbench --help.",
        ),
        (("runs", "--xyz"), "imagen-workbench runs: --xyz: no such option. See imagen-workbench runs --help."),
        (
            ("recipes", "digits", "tiny"),
            "imagen-workbench recipes: tiny: nothing more was expected. See imagen-workbench recipes --help.",
        ),
    ],
)
def test_what_is_misspelt_is_named_with_what_is_near(
    typed: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(typed)
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"{line}\n"


# --- sample ---------------------------------------------------------------------------------------


def test_any_setting_of_a_draw_is_an_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid.png"
    found = json.loads(
        told(
            capsys, "sample", "digits", "--count", "2", "--steps", "3", "--density", "0.6", "--temperature", "0.9",
            "--grid", "exponential", "--threshold", "dynamic", "--set", "guidance_to=2.5", "--out", out, "--json",
        )
    )  # fmt: skip
    sampling = found["sampling"]
    assert (sampling["density"], sampling["temperature"], sampling["grid"]) == (0.6, 0.9, "exponential")
    assert (sampling["threshold"], sampling["guidance_to"]) == ("dynamic", 2.5)
    assert found["files"] == [str(out)]
    assert read_recipe(out)["sampling"] == sampling


@pytest.mark.parametrize("option", [("--sampler", "ddpm"), ("--grid", "measured"), ("--condition", "3 AND 8:0.5")])
def test_a_picture_is_drawn_again_bit_for_bit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], option: tuple[str, str]
) -> None:
    first, again = tmp_path / "first.png", tmp_path / "again.png"
    told(capsys, "sample", "digits", "--count", "3", "--steps", "3", *option, "--out", first)
    told(capsys, "sample", first, "--out", again)
    assert first.read_bytes() == again.read_bytes()


def test_a_film_shows_every_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    film = tmp_path / "film.gif"
    told(capsys, "sample", "digits", "--count", "2", "--steps", "5", "--film", film)
    with Image.open(film) as opened:
        assert opened.n_frames == 6  # type: ignore[attr-defined]
        first = np.asarray(opened.convert("L"), float)
        opened.seek(5)
        last = np.asarray(opened.convert("L"), float)
    half = first.shape[1] // 2
    assert np.abs(first[:, :half] - first[:, half:]).mean() > 30, "noise on the left, a first guess on the right"
    assert np.abs(last[:, :half] - last[:, half:]).mean() < 1, "in the end both are the image"
    assert not (tmp_path / "grid.png").exists()


def test_a_folder_of_single_images_goes_on_where_it_was_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    told(capsys, "sample", "digits", "--count", "12", *QUICK, "--folder", whole)
    told(capsys, "sample", "digits", "--count", "5", *QUICK, "--folder", parts)
    with (parts / "manifest.csv").open("a") as manifest:
        manifest.write("9/00000")  # cut short, as by a kill
    told(capsys, "sample", "digits", "--count", "12", *QUICK, "--folder", parts)
    assert (whole / "manifest.csv").read_text() == (parts / "manifest.csv").read_text()
    rows = list(csv.DictReader((whole / "manifest.csv").read_text().splitlines()))
    assert [row["condition"] for row in rows] == [str(k % 10) for k in range(12)]
    for row in rows:
        first, second = whole / row["file"], parts / row["file"]
        assert row["file"].startswith(f"{row['condition']}/")
        assert np.array_equal(np.asarray(Image.open(first)), np.asarray(Image.open(second)))
    assert len(list(whole.rglob("*.png"))) == 12


def test_measured_levels_are_those_of_all_images_of_a_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some at a time, or in two goes: they are measured on the same images."""
    monkeypatch.setattr(drawer, "TOGETHER", 4)
    measured = ("--steps", "3", "--sampler", "euler", "--grid", "measured")
    told(capsys, "sample", "digits", "--count", "6", *measured, "--folder", tmp_path / "many")
    told(capsys, "sample", "digits", "--count", "9", *measured, "--folder", tmp_path / "many")
    levels = {tuple(read_recipe(path)["sampling"]["levels"]) for path in (tmp_path / "many").rglob("*.png")}
    assert len(levels) == 1
    assert len(list((tmp_path / "many").rglob("*.png"))) == 9


def test_an_image_of_a_folder_is_drawn_again_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "sample", "digits", "--count", "12", *QUICK, "--folder", tmp_path / "many")
    again = open_model(tmp_path / "many" / "1" / "0000011.png").draw_again()
    assert again.conditions == ("1",)
    kept = np.asarray(Image.open(tmp_path / "many" / "1" / "0000011.png"), int)
    assert np.abs(np.asarray(again.images[0], int) - kept).max() <= 1, "another batch: equal to float tolerance"


def test_a_folder_of_another_draw_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told(capsys, "sample", "digits", "--count", "2", *QUICK, "--folder", tmp_path / "many")
    err = refused(capsys, "sample", "digits", "--count", "4", "--steps", "3", "--folder", tmp_path / "many")
    assert "other settings" in err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    assert "is not empty" in refused(capsys, "sample", "digits", "--folder", tmp_path / "mine")


@pytest.mark.parametrize(
    ("condition", "name"),
    [("cat", "cat"), ("../../etc", "_.._etc"), ("a/b\\c", "a_b_c"), ("", "all"), (" . ", "all"), ("a\nb", "a_b")],
)
def test_a_condition_names_a_folder_inside(condition: str, name: str) -> None:
    assert folder_name(condition) == name


def test_a_collection_with_a_damaged_recipe_says_so(tmp_path: Path) -> None:
    recipe = {"version": 1, "model": {}, "ema": 0, "sampling": {}, "indices": [0], "conditions": ["x"]}
    image = np.zeros((1, 4, 4, 1), np.uint8)
    Collection(tmp_path / "many").add(image, [0], recipe)
    (tmp_path / "many" / "draw.json").write_text("{")
    with pytest.raises(RunError, match=r"draw\.json"):
        Collection(tmp_path / "many").add(image, [0], recipe | {"indices": [1]})


@pytest.mark.parametrize(
    "hostile",
    [
        {"indices": ["many"]},
        {"indices": [-1]},
        {"indices": list(range(100_001))},
        {"indices": 7},
        {"sampling": {"steps": 10**9}},
        {"sampling": {"unknown": 1}},
    ],
)
def test_a_picture_with_a_hostile_recipe_is_refused(tmp_path: Path, hostile: dict[str, object]) -> None:
    drawn = open_model("digits").draw(count=1, steps=1)
    save_png(tmp_path / "bad.png", np.zeros((4, 4, 1), np.uint8), drawn.recipe | hostile)
    with pytest.raises(ModelError, match="recipe"):
        open_model(tmp_path / "bad.png").draw_again()


def test_a_picture_that_names_strange_paths_opens_none_of_them(tmp_path: Path) -> None:
    drawn = open_model("digits").draw(count=1, steps=1)
    for path in ("/etc/passwd", "/dev/zero", "../../secrets", str(tmp_path)):
        model = drawn.recipe["model"] | {"reference": path, "hash": "0" * 64}
        save_png(tmp_path / "strange.png", np.zeros((4, 4, 1), np.uint8), drawn.recipe | {"model": model})
        with pytest.raises(ModelError, match="is not here"):
            open_model(tmp_path / "strange.png")


# --- likelihood, export ---------------------------------------------------------------------------


def test_likelihood_tells_real_digits_from_noise(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    drawn = open_model("digits").draw(["7"], 1, seed=3, steps=8)
    random = np.random.default_rng(0)
    drawn.images[0].save(tmp_path / "seven.png")
    Image.fromarray(random.integers(0, 256, (28, 28), np.uint8)).save(tmp_path / "noise.png")
    found = json.loads(
        told(
            capsys, "likelihood", "digits", tmp_path / "seven.png", tmp_path / "noise.png",
            "--condition", "7", "--steps", "8", "--probes", "2", "--json",
        )
    )  # fmt: skip
    seven, noise = found["images"]
    assert seven["bits_per_dim"] < 5
    assert noise["bits_per_dim"] > seven["bits_per_dim"] + 2
    assert seven["error"] > 0
    assert found["probes"] == 2
    shown = told(
        capsys, "likelihood", "digits", tmp_path / "seven.png", "--condition", "7", "--steps", "4", "--probes", "1"
    )
    assert "bits/dim" in shown
    assert "±" not in shown, "one probe tells no error"


def test_likelihood_asks_for_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    assert "--condition" in refused(capsys, "likelihood", "digits", tmp_path / "black.png")
    assert "nothing.png" in refused(
        capsys, "likelihood", "digits", tmp_path / "nothing.png", "--condition", "1", "--steps", "2"
    )
    assert "--probes" in refused(capsys, "likelihood", "digits", tmp_path / "black.png", "--probes", "0")


QUICK_LIKELIHOOD = ("--condition", "7", "--steps", "2", "--probes", "1")


def test_likelihood_says_how_many_images_it_made_grey(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [tmp_path / f"{name}.png" for name in ("red", "grey", "blue")]
    for path, colour in zip(paths, ((200, 0, 0), (90, 90, 90), (0, 0, 120)), strict=True):
        Image.new("RGB", (28, 28), colour).save(path)
    assert main(["likelihood", "digits", *map(str, paths), *QUICK_LIKELIHOOD, "--json"]) == 0
    captured = capsys.readouterr()
    assert len(json.loads(captured.out)["images"]) == 3
    assert captured.err.count("2 of 3 images were made grey, as the model is.") == 1
    assert main(["likelihood", "digits", str(paths[1]), *QUICK_LIKELIHOOD]) == 0
    assert "grey" not in capsys.readouterr().err


def test_a_folder_stands_for_the_images_in_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "数字 一"
    (folder / "inner.png").mkdir(parents=True)
    (folder / "notes.txt").write_text("no image")
    (folder / ".hidden.png").write_bytes(b"no image")
    for name in ("b.PNG", "c.png", "a.bmp"):
        Image.new("L", (28, 28), 10).save(folder / name)
    np.save(folder / "d.npy", np.zeros((28, 28), np.uint8))
    (folder / "bad.png").write_bytes(b"no image")
    asked = ("likelihood", "digits", str(folder), "--condition", "1", "--condition", "2", "--steps", "2")
    assert main([*asked, "--probes", "1", "--json"]) == 0
    captured = capsys.readouterr()
    found = [(each["file"], each["condition"]) for each in json.loads(captured.out)["images"]]
    # the one that was set aside takes its condition along
    expected = [("a.bmp", "1"), ("b.PNG", "2"), ("c.png", "2"), ("d.npy", "1")]
    assert found == [(str(folder / name), condition) for name, condition in expected]
    (line,) = (line for line in captured.err.splitlines() if line.startswith("Set aside"))
    assert line == f"Set aside: {folder / 'bad.png'}: cannot be read: not an image that Pillow knows"
    bad = refused(capsys, "likelihood", "digits", folder / "bad.png", *QUICK_LIKELIHOOD)
    assert f"{folder / 'bad.png'}: cannot be read" in bad


def test_a_folder_without_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("no image")
    line = refused(capsys, "likelihood", "digits", tmp_path, *QUICK_LIKELIHOOD)
    assert f"{tmp_path}: no images are in this folder" in line
    assert "or name files" in line
    (tmp_path / "bad.png").write_bytes(b"no image")
    assert main(["likelihood", "digits", str(tmp_path), *QUICK_LIKELIHOOD]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"imagen-workbench: {tmp_path}: none of 1 images")


def test_what_cannot_be_written_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    for option, name in (("--out", "x.png"), ("--film", "x.gif"), ("--arrays", "x.npz"), ("--folder", "x")):
        place = tmp_path / "file" / name
        told = refused(capsys, "sample", "digits", "--count", "1", *QUICK, option, place)
        assert told.splitlines()[-1].startswith(f"imagen-workbench: {place}: cannot be written: ")
    place = tmp_path / "file" / "x.safetensors"
    assert f"{place}: cannot be written" in refused(capsys, "model", "export", "digits", place)


def test_a_model_is_carried_away_as_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = tmp_path / "card.md"
    card.write_text("Digits, for tests.")
    out = tmp_path / "away.safetensors"
    told(capsys, "model", "export", "digits", out, "--card", card)
    ours, theirs = open_model("digits"), open_model(out)
    assert theirs.drawing_weights().hash == ours.drawing_weights().hash
    assert np.array_equal(theirs.draw(count=2, steps=2).arrays, ours.draw(count=2, steps=2).arrays)
    assert "ends in .safetensors" in refused(capsys, "model", "export", "digits", tmp_path / "away.pt")
    assert "sampling.ema" in refused(capsys, "model", "export", "digits", tmp_path / "b.safetensors", "--ema", "0.2")


def test_a_rebuilt_average_is_carried_away_too(
    copied_run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "rebuilt.safetensors"
    told(capsys, "model", "export", copied_run.path, out, "--ema", "0.08")
    assert open_model(out).drawing_weights().hash == open_model(copied_run.path).drawing_weights(0.08).hash


# --- lists ----------------------------------------------------------------------------------------


def test_lists_are_json_where_a_machine_reads_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"digits", "image-folder"} <= {row["name"] for row in json.loads(told(capsys, "datasets", "--json"))}
    assert "digits" in {row["name"] for row in json.loads(told(capsys, "recipes", "--json"))}
    assert json.loads(told(capsys, "runs", "--json")) == []
    facts = json.loads(told(capsys, "doctor", "--json"))
    assert facts["facts"]["torch"]
    assert json.loads(told(capsys, "recipes", "digits", "--json"))["version"] == 2


def test_runs_are_listed_with_their_whole_names_and_folders(
    copied_run: Run, homes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")  # as on a terminal
    monkeypatch.setenv("NO_COLOR", "1")
    name = "portrait-of-a-very-long-name-2026-11-24-第二次 [尝试]"
    folder = copied_run.path.rename(copied_run.path.with_name(name))
    shown = told(capsys, "runs")
    (line,) = (line for line in shown.splitlines() if name in line)
    for part in ("finished", "20 of 20", "tiny", str(folder)):
        assert part in line
    (folder / "recipe.toml").write_text("[training\n")
    assert "damaged: " in told(capsys, "runs")
    assert json.loads(told(capsys, "runs", "--json"))[0]["folder"] == str(folder)


def test_the_doctor_s_folders_are_one_string_each(
    homes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    cache = homes / "a folder with a very long name, and with words in it"
    monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(cache))
    assert f"{cache}\n" in told(capsys, "doctor")
    assert json.loads(told(capsys, "doctor", "--json"))["facts"]["cache"] == str(cache)


def test_the_schema_of_recipes_names_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads(told(capsys, "recipes", "--schema"))
    sections = schema["$defs"]
    assert sections["Training"]["properties"]["learning_rate"]["exclusiveMinimum"] == 0
    assert sections["Sampling"]["properties"]["density"]["description"]
    assert not sections["Training"]["additionalProperties"]


def test_completion_knows_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    script = told(capsys, "completion", "bash")
    assert "likelihood" in script
    assert "--density" in script


def test_a_recipe_of_version_1_is_read_as_one_of_today() -> None:
    old = 'version = 1\nname = "old"\n[training]\nema = 0.07\nsteps = 9\n'
    recipe = Recipe.from_toml(old)
    assert (recipe.version, recipe.training.emas, recipe.training.steps) == (2, (0.07,), 9)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
