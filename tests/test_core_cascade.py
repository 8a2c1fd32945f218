"""Cascades: a small model and a stage that draws larger, trained apart, drawn from in one call."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest

from imagen_workbench.core import Cascade, ModelError, Recipe, RequestError, open_drawer, open_model, train
from imagen_workbench.core.evaluation.stages import inspecting
from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.generators import finish
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench.cli import main
from imagen_workbench.workbench.presenters.bench import Bench
from imagen_workbench.workbench.presenters.ui_thread import ManualThread

if TYPE_CHECKING:
    from pathlib import Path

BASE, LARGER = (8, 8), (16, 16)
SMALL = {
    "training.steps": 2,
    "training.batch": 8,
    "data.validation": 40,
    "model.stem": 2,
    "model.width": 16,
    "sampling.steps": 3,
}


def tiny() -> Recipe:
    return Recipe.read(bundled_recipes()["tiny"]).with_values({**SMALL, "data.size": BASE})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained stages and the file that chains them."""
    place = tmp_path_factory.mktemp("cascade")
    train(tiny(), place / "base")
    larger = {
        "data.size": LARGER,
        "conditioning.scheme": "label + low-resolution",
        "conditioning.options": {"low-resolution": {"factor": 2, "noise": 0.4}},
    }
    train(tiny().with_values(larger), place / "larger")
    alone = {"conditioning.scheme": "low-resolution", "conditioning.options": {"factor": 2}}
    train(tiny().with_values({**alone, "data.size": LARGER}), place / "alone")
    write(place / "cascade.toml", ("base", "base", 0.0), ("double", "larger", 0.1))
    return place


def write(path: Path, *stages: tuple[str, str, float]) -> Path:
    lines = ['version = 2\nname = "two stages"']
    lines += [f'[[stages]]\nname = "{name}"\nmodel = "{model}"\nnoise = {noise}' for name, model, noise in stages]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def test_one_call_runs_the_chain(folder: Path) -> None:
    cascade = open_drawer(folder / "cascade.toml")
    assert isinstance(cascade, Cascade)
    drawn = cascade.draw(["3", "5"], count=4, seed=1)
    assert drawn.arrays.shape == (4, 1, *LARGER)
    assert drawn.labels == (3, 5, 3, 5)
    assert drawn.conditions == ("3", "5", "3", "5")
    stages = drawn.recipe["model"]["stages"]
    assert [stage["name"] for stage in stages] == ["base", "larger"]
    assert drawn.recipe["model"]["hash"] == cascade.identity()["hash"]


def test_it_is_what_the_stages_do_one_after_the_other(folder: Path) -> None:
    """The second stage is shown the first one's images, with the noise that the file says, and the class."""
    from imagen_workbench.core.commands import Draw
    from imagen_workbench.core.drawing import draw

    whole = open_drawer(folder / "cascade.toml").draw(["7"], count=3, seed=4).arrays
    small = open_model(folder / "base").draw(["7"], count=3, seed=4).arrays
    second = open_model(folder / "larger")
    settings = second.recipe.sampling.model_copy(update={"seed": 4})
    request = Draw(0, "", ("class=7;low.noise=0.1",) * 3, 3, settings)
    by_hand = finish(draw(second.drawing_weights(), request, None, small)).arrays
    assert np.array_equal(whole, by_hand)


def test_only_one_stage_is_held_at_a_time(folder: Path) -> None:
    cascade = open_drawer(folder / "cascade.toml")
    assert isinstance(cascade, Cascade)
    first = cascade.stage(0)
    assert cascade.stage(0) is first
    assert cascade.stage(1) is not first
    assert cascade.stage(0) is not first


def test_image_k_is_the_same_whatever_is_drawn_beside_it(folder: Path) -> None:
    cascade = open_drawer(folder / "cascade.toml")
    many = np.concatenate([part.arrays for part in cascade.draw_all(["1", "2"], 5, seed=3)])
    few = cascade.draw(["1", "2"], count=2, seed=3).arrays
    assert np.allclose(many[:2], few, atol=1e-5)


def test_a_stage_can_be_told_by_pictures_alone(folder: Path) -> None:
    path = write(folder / "alone.toml", ("base", "base", 0.0), ("double", "alone", 0.2))
    assert open_drawer(path).draw(["0"], count=2).arrays.shape == (2, 1, *LARGER)


def test_its_pictures_draw_themselves_again(folder: Path, tmp_path: Path) -> None:
    drawn = open_drawer(folder / "cascade.toml").draw(["7"], count=2, seed=9)
    drawn.save(tmp_path / "seven.png")
    again = open_drawer(tmp_path / "seven.png")
    assert isinstance(again, Cascade)
    assert np.array_equal(again.draw_again().arrays, drawn.arrays)
    with pytest.raises(ModelError, match="cascade"):
        open_model(tmp_path / "seven.png")


def test_the_command_line_draws_and_evaluates(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "grid.png"
    assert main(["sample", str(folder / "cascade.toml"), "--count", "2", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert out.exists()
    assert len(told["model"]["stages"]) == 2


@pytest.mark.parametrize(
    ("stages", "what"),
    [
        ((("base", "base", 0.0), ("double", "base", 0.0)), "takes no picture"),
        ((("base", "nowhere", 0.0),), "no such model"),
        ((), "no stages"),
    ],
)
def test_stages_that_do_not_fit(folder: Path, stages: tuple[tuple[str, str, float], ...], what: str) -> None:
    with pytest.raises(ModelError, match=what):
        open_drawer(write(folder / "wrong.toml", *stages))


def test_noise_beyond_what_the_stage_has_learned(folder: Path) -> None:
    path = write(folder / "noisy.toml", ("base", "base", 0.0), ("double", "larger", 0.9))
    with pytest.raises(RequestError, match="noise"):
        open_drawer(path).draw(["7"], count=1)


def test_a_recipe_is_no_model(folder: Path) -> None:
    with pytest.raises(ModelError, match="is a recipe, no model"):
        open_model(folder / "cascade.toml")


def test_the_inspector_tells_true_from_drawn(folder: Path) -> None:
    cascade = open_drawer(folder / "cascade.toml")
    assert isinstance(cascade, Cascade)
    (report,) = finish(inspecting(cascade, 20))
    assert report.name == "double"
    assert report.images.shape == (3, 8, *LARGER, 1)
    for fed in (report.true, report.drawn):
        assert len(fed.drift) == 1
        assert abs(fed.drift[0]) <= fed.drift_rms + 1e-6
        assert fed.agreement is not None
    assert report.true != report.drawn
    json.dumps(report.as_dict())


# --- from the command line ------------------------------------------------------------------------


def test_stages_are_trained_apart_in_any_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The larger stage first, with the recipes that the cascade names, beside it or bundled."""
    larger = tiny().with_values({"data.size": LARGER, "conditioning.scheme": "label + low-resolution"})
    larger = larger.with_values({"conditioning.options": {"low-resolution": {"factor": 2}}})
    (tmp_path / "larger.toml").write_text(larger.to_toml(), encoding="utf-8")
    cascade = tmp_path / "cascade.toml"
    cascade.write_text(
        """version = 2
name = "two"
[[stages]]
name = "base"
model = "runs/base"
recipe = "tiny"
[[stages]]
name = "double"
model = "runs/double"
recipe = "larger.toml"
noise = 0.1
""",
        encoding="utf-8",
    )
    assert main(["train", str(cascade)]) == 2
    assert "--stage: base, double" in capsys.readouterr().err
    assert main(["train", str(cascade), "--stage", "double"]) == 0
    small = [word for key, value in SMALL.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", str(cascade), "--stage", "base", *small, "--set", "data.size=[8,8]"]) == 0
    assert main(["sample", str(cascade), "--out", str(tmp_path / "grid.png")]) == 0
    page = tmp_path / "stages.html"
    assert main(["stages", str(cascade), "--count", "16", "--out", str(page)]) == 0
    assert "drift" in page.read_text(encoding="utf-8")
    assert main(["train", str(cascade), "--stage", "nosuch"]) == 2
    assert "there is no stage nosuch" in capsys.readouterr().err
    assert main(["stages", str(tmp_path / "runs" / "base")]) == 2
    assert "is no cascade" in capsys.readouterr().err


def test_a_face_draws_from_its_file(folder: Path) -> None:
    ui, worker = ManualThread(), Worker()
    bench = Bench(worker, ui)
    bench.drawing.choose_model(str(folder / "cascade.toml"))
    ui.run()
    while worker.turn():
        ui.run()
    ui.run()
    state = bench.drawing.state
    assert (state.problem, state.choices) == ("", tuple("0123456789"))
    assert state.images is not None
    assert state.images.shape == (8, *LARGER, 1)
