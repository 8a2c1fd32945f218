"""Fine-tuning: a run that begins with another model's weights, on other data or classes."""

from __future__ import annotations

import shlex
import shutil
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image

from imagen_workbench.core.commands import Stop, Train
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.errors import ModelError, RunError
from imagen_workbench.core.events import Event, Progress
from imagen_workbench.core.extensions import bundled_models, make_scheme
from imagen_workbench.core.models import Model, open_model
from imagen_workbench.core.recipe import parse_setting
from imagen_workbench.core.runs.checkpoint import checkpoints, load_newest, weights_hash
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.training.finetune import Base
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of, train
from imagen_workbench.core.worker.starting import Setup
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from imagen_workbench.core.recipe import Recipe
    from imagen_workbench.core.training.state import TrainingState

TABLE = "encode.table"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of two classes: "7", which the digits have, and "cross", which they have not."""
    place = tmp_path / "images"
    for name in ("7", "cross"):
        (place / name).mkdir(parents=True)
        for k in range(20):
            pixels = np.random.default_rng(k).integers(0, 60, (28, 28)).astype(np.uint8)
            pixels[8 + k % 8] = 230
            if name == "cross":
                pixels[:, 8 + k % 8] = 230
            Image.fromarray(pixels).save(place / name / f"{k}.png")
    return place


def tuned(base: Recipe, folder: Path, **values: object) -> Recipe:
    """The base's recipe for the folder's images, a few steps long."""
    few = {
        "data.source": "image-folder",
        "data.path": str(folder),
        "data.validation": 8,
        "training.steps": 6,
        "training.batch": 8,
        "training.micro_batch": 8,
        "training.checkpoint_every": 3,
        "training.preview_every": 6,
        "training.validate_every": 6,
        "training.device": "cpu",
        "training.precision": "float32",
        "sampling.steps": 2,
    }
    return base.with_values(few | {key.replace("__", "."): value for key, value in values.items()})


@pytest.fixture
def recipe(tiny_recipe: Recipe, copied_run: Run, folder: Path) -> Recipe:
    return tuned(tiny_recipe, folder, finetune__base=str(copied_run.path))


def final(run: Run) -> dict[str, dict[str, Tensor]]:
    loaded = load_newest(run.checkpoints)
    assert loaded is not None
    return loaded[1]


def base_of(model: Model) -> Base:
    weights = model.weights[model.chosen_ema(None)]
    return Base("base", weights_hash(weights), model.recipe, model.scheme.facts, weights)


def begun(recipe: Recipe, base: Base, steps: int, classes: tuple[str, ...] = ("7", "cross")) -> TrainingState:
    """The state before the first step; no data is needed for it."""
    scheme = make_scheme(recipe, Facts(classes))
    return Setup(recipe, None, scheme, torch.device("cpu"), base).new_state(steps)  # type: ignore[arg-type]


# --- the state that it begins with ----------------------------------------------------------------


def test_it_begins_with_the_bases_drawing_weights(copied_run: Run, recipe: Recipe) -> None:
    """All of the network's; of the classes' rows those that both know, the mean for a new one, and the null last."""
    base = base_of(open_model(copied_run.path))
    state = begun(recipe, base, 100)
    found = state.tensors()["weights"]
    for name in found.keys() - {TABLE}:
        assert torch.equal(found[name], base.tensors[name]), name
    before, table = base.tensors[TABLE], found[TABLE]
    assert table.shape == (3, before.shape[1])
    assert torch.equal(table[0], before[base.facts.classes.index("7")])
    assert torch.equal(table[1], before[:-1].mean(0))
    assert torch.equal(table[2], before[-1])


def test_the_same_number_of_other_classes_is_not_mistaken_for_the_same(copied_run: Run, recipe: Recipe) -> None:
    base = base_of(open_model(copied_run.path))
    turned = tuple(reversed(base.facts.classes))
    table = begun(recipe, base, 100, turned).tensors()["weights"][TABLE]
    assert torch.equal(table[:-1], base.tensors[TABLE][:-1].flip(0))


def test_the_averages_begin_at_the_base_and_count_it_for_the_warm_up(copied_run: Run, recipe: Recipe) -> None:
    base = base_of(open_model(copied_run.path))
    recipe = recipe.with_values({"training.warmup": 0.1})
    state = begun(recipe, base, 100)
    assert state.before == 10 * 8
    for average in state.emas.values():
        assert all(torch.equal(average[name], weights) for name, weights in state.tensors()["weights"].items())
    assert begun(recipe.with_values({"training.warmup": 0}), base, 100).before == 8


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"model.width": 16}, "model.width"),
        ({"conditioning.options": {"width": 8}}, TABLE),
        ({"conditioning.scheme": "none", "conditioning.options": {}}, "conditioning.scheme"),
        ({"model.sigma_data": 0.4}, "model.sigma_data"),
        ({"model.prediction": "v"}, "model.prediction"),
    ],
)
def test_a_base_that_does_not_fit_is_refused(
    copied_run: Run, recipe: Recipe, tmp_path: Path, values: dict[str, object], place: str
) -> None:
    """Named are the tensor or the field, and what to do; no folder is left behind."""
    with pytest.raises(RunError) as caught:
        train(recipe.with_values(values), tmp_path / "run")
    assert place in f"{caught.value.field} {caught.value.what}"
    assert caught.value.fix
    assert not (tmp_path / "run").exists()


def test_all_that_differs_is_named_at_once_and_the_remedy_works(
    copied_run: Run, recipe: Recipe, tmp_path: Path
) -> None:
    values = {"model.width": 16, "model.stem": 2, "model.attention": [0], "model.sigma_data": 0.4, "data.augment": 0.1}
    changed = recipe.with_values(values)
    with pytest.raises(RunError) as caught:
        train(changed, tmp_path / "run")
    assert all(key in caught.value.what for key in values)
    settings = dict(parse_setting(word) for word in shlex.split(caught.value.fix) if word != "--set")
    assert set(settings) == set(values)
    train(changed.with_values(settings | {"training.steps": 1}), tmp_path / "run")


# --- the run --------------------------------------------------------------------------------------


def test_the_run_tells_where_it_comes_from(copied_run: Run, recipe: Recipe, tmp_path: Path) -> None:
    run = train(recipe, tmp_path / "run")
    base = open_model(copied_run.path)
    kept = run.recipe()
    assert kept.finetune.base == str(copied_run.path)
    assert kept.finetune.hash == weights_hash(base.weights[base.chosen_ema(None)])
    started = run.records()[0]
    assert started["weights"] == f"from {copied_run.path}"
    assert open_model(run.path).scheme.choices == ("7", "cross")
    assert len(open_model(run.path).draw(["cross"], count=1, steps=2).images) == 1


def test_its_rate_is_a_share_of_the_recipes_and_warms_up_anew(recipe: Recipe, tmp_path: Path) -> None:
    recipe = recipe.with_values({"finetune.rate": 0.25, "training.warmup": 0.5, "training.decay": 0})
    run = train(recipe, tmp_path / "run")
    rates = [record["learning_rate"] for record in run.records() if record["kind"] == "step"]
    full = 0.25 * recipe.training.learning_rate
    assert rates == pytest.approx([full / 3, 2 * full / 3, full, full, full, full])


def stopped(recipe: Recipe, path: Path, step: int) -> None:
    """Trains until this step and the one that follows."""

    def take(event: Event) -> None:
        if isinstance(event, Progress) and event.step == step:
            worker.post(Stop(2))

    worker = Worker()
    for event in events_of(worker, Train(1, str(path), recipe)):
        take(event)


def test_stopped_and_continued_it_ends_with_the_same_bits_without_its_base(
    copied_run: Run, recipe: Recipe, tmp_path: Path
) -> None:
    """The base is needed no more once a state is saved."""
    straight = train(recipe, tmp_path / "straight")
    stopped(recipe, tmp_path / "run", 1)
    shutil.move(copied_run.path, tmp_path / "elsewhere")
    run = train(recipe, tmp_path / "run", resume=True)
    first, second = (checkpoints(each.checkpoints)[0].facts for each in (straight, run))
    assert first["hashes"] == second["hashes"]
    assert first["before"] == second["before"] > 0


def test_another_base_under_the_same_name_is_refused(
    copied_run: Run, recipe: Recipe, tmp_path: Path, tiny_recipe: Recipe
) -> None:
    """A run that was lost before its first saved state begins again with the same weights, or not at all."""
    run = train(recipe, tmp_path / "run")
    shutil.rmtree(run.checkpoints)
    shutil.rmtree(copied_run.path)
    train(tiny_recipe.with_values({"training.seed": 5, "training.steps": 2}), copied_run.path)
    with pytest.raises(RunError) as caught:
        train(recipe, tmp_path / "run", resume=True)
    assert caught.value.file == str(copied_run.path)
    assert "other weights" in caught.value.what


def test_the_bundled_model_learns_a_new_class(homes: Path, folder: Path, tmp_path: Path) -> None:
    model = open_model("digits")
    recipe = tuned(model.recipe, folder, training__steps=2, training__checkpoint_every=2)
    (tmp_path / "crosses.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert bundled_models()
    words = ["train", str(tmp_path / "crosses.toml"), "--from", "digits", "--run", str(tmp_path / "run")]
    assert main(words) == 0
    run = Run(tmp_path / "run")
    assert run.recipe().finetune.base == "digits"
    assert run.recipe().finetune.hash == weights_hash(model.weights[model.chosen_ema(None)])
    table, before = final(run)["weights"][TABLE], model.weights[model.chosen_ema(None)][TABLE]
    assert torch.allclose(table[-1], before[-1], atol=0.01)
    assert torch.allclose(table[0], before[model.scheme.choices.index("7")], atol=0.01)
    assert main([*words, "--resume"]) == 0


def test_an_unknown_base_is_named(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        train(recipe.with_values({"finetune.base": "digitz"}), tmp_path / "run")
    assert caught.value.file == "digitz"
    assert not (tmp_path / "run").exists()


def test_a_base_is_checked_by_its_hash(copied_run: Run, recipe: Recipe) -> None:
    base = base_of(open_model(copied_run.path))
    base.check(recipe.with_values({"finetune.hash": base.hash}))
    with pytest.raises(ModelError):
        base.check(recipe.with_values({"finetune.hash": "0" * 64}))
