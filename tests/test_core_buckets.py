"""Images of several shapes: each in its bucket, each batch of one; and pictures drawn at other sizes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from image_files import folder_recipe, prepared
from PIL import Image

from imagen_workbench.core.commands import Draw, ShowData
from imagen_workbench.core.data.buckets import brought_to, nearest, on_canvas
from imagen_workbench.core.data.decode import to_pixels
from imagen_workbench.core.data.entries import cache_home
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.data.unit import to_unit
from imagen_workbench.core.datasets import read
from imagen_workbench.core.errors import RecipeError, RequestError
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.events import DataShown, Drawn, Measured
from imagen_workbench.core.extensions import make_scheme
from imagen_workbench.core.generators import finish
from imagen_workbench.core.models import open_model
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.runs.checkpoint import checkpoints
from imagen_workbench.core.runs.picture import read_recipe
from imagen_workbench.core.runs.samples import read_rows
from imagen_workbench.core.training.batches import Batches, order_of
from imagen_workbench.core.training.held_out import held_out_loss
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of, train
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from imagen_workbench.core.conditioning import Condition
    from imagen_workbench.core.data.cache import Dataset
    from imagen_workbench.core.runs.folder import Run

CPU = torch.device("cpu")
SHAPES = ((8, 8), (6, 12), (12, 6))
COUNTS = (6, 12, 18)
"""Images of each shape in the folder."""


def picture(k: int, shape: tuple[int, int], scale: int = 4) -> Image.Image:
    """No two alike, dark at the left."""
    height, width = shape[0] * scale, shape[1] * scale
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(5, 250, width).astype(np.uint8)
    pixels[..., 1], pixels[..., 2] = 5 * k, 255 - 6 * k
    return Image.fromarray(pixels)


def bucketed(place: Path, **values: Any) -> Recipe:
    place.mkdir(exist_ok=True)
    shapes = [shape for shape, count in zip(SHAPES, COUNTS, strict=True) for _ in range(count)]
    for k, shape in enumerate(shapes):
        picture(k, shape).save(place / f"{k:02d}.png")
    few = {"data.buckets": SHAPES[1:], "data.validation": 6, "training.steps": 6, "training.checkpoint_every": 3}
    return folder_recipe(place, **{**few, **values})


def shape_of(name: str) -> tuple[int, int]:
    """Of the picture in a file of the folder."""
    k = int(name.removesuffix(".png"))
    return SHAPES[0] if k < COUNTS[0] else SHAPES[1] if k < sum(COUNTS[:2]) else SHAPES[2]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return bucketed(tmp_path / "photos")


@pytest.fixture
def data(recipe: Recipe) -> Dataset:
    return prepared(recipe)


# --- the recipe -----------------------------------------------------------------------------------


def test_the_size_is_the_first_of_the_shapes() -> None:
    recipe = Recipe().with_values({"data.size": [16, 16], "data.buckets": [[12, 20], [16, 16], [20, 12]]})
    assert recipe.data.shapes == ((16, 16), (12, 20), (20, 12))
    assert recipe.data.canvas == (20, 20)
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert Recipe().data.shapes == ((28, 28),)


@pytest.mark.parametrize("bucket", [(8, 8), (28, 60), (100, 16)])
def test_buckets_are_alike_in_area(bucket: tuple[int, int]) -> None:
    with pytest.raises(RecipeError, match=r"times the area of data\.size") as caught:
        Recipe().with_values({"data.buckets": [[28, 28], bucket]})
    assert caught.value.field == "data.buckets"


@pytest.mark.parametrize("scheme", ["low-resolution", "mask", "low-resolution + mask"])
def test_schemes_that_tell_by_pictures_have_one_size(scheme: str, tmp_path: Path) -> None:
    recipe = bucketed(tmp_path / "photos").with_values({"conditioning.scheme": scheme})
    with pytest.raises(RecipeError) as caught:
        read(recipe)
    assert caught.value.field == "data.buckets"


# --- which bucket ---------------------------------------------------------------------------------

SIDES = st.integers(1, 3000)


@given(SIDES, SIDES)
def test_the_nearest_in_aspect_is_taken(height: int, width: int) -> None:
    shapes = ((16, 16), (12, 20), (20, 12), (10, 26))
    found = nearest(height, width, shapes)
    ratio = height / width
    assert all(
        max(ratio / (found[0] / found[1]), found[0] / found[1] / ratio)
        <= max(ratio / (h / w), h / w / ratio) * (1 + 1e-9)
        for h, w in shapes
    )
    turned = nearest(width, height, ((16, 16), (20, 12), (12, 20), (26, 10)))
    assert turned == found[::-1] or height / width == pytest.approx(1, rel=0.35)


def test_each_image_is_in_its_bucket_as_it_would_be_alone(data: Dataset, recipe: Recipe) -> None:
    assert data.buckets is not None
    assert data.shapes == SHAPES
    assert data.pixels.shape == (36, 3, 12, 12)
    assert np.bincount(data.buckets).tolist() == list(COUNTS)
    for at, name in enumerate(data.names):
        height, width = shape_of(name)
        assert data.shapes[data.buckets[at]] == (height, width)
        alone = to_pixels(
            picture(int(name.removesuffix(".png")), (height, width)), recipe.data.of_shape((height, width))
        )
        assert np.array_equal(data.batch(np.array([at]))[0], alone)
        assert np.array_equal(data.pixels[at], on_canvas(alone, (12, 12)))
    beside = data.pixels[data.buckets == 1]
    assert not beside[:, :, 6:].any()
    assert beside[:, :, :6].any()


def test_a_turned_picture_goes_to_the_bucket_that_it_is_seen_in(recipe: Recipe, tmp_path: Path) -> None:
    lying = picture(0, (6, 12))
    exif = lying.getexif()
    exif[0x0112] = 6  # turned by a quarter
    lying.save(tmp_path / "turned.jpg", exif=exif)
    assert to_pixels(picture(0, (6, 12)), recipe.data).shape == (3, 6, 12)
    assert to_pixels(tmp_path / "turned.jpg", recipe.data).shape == (3, 12, 6)
    assert to_pixels(np.zeros((60, 31), np.uint8), recipe.data).shape == (3, 12, 6)


def test_loaders_read_the_same_and_the_cache_keeps_it(recipe: Recipe, data: Dataset) -> None:
    (kept,) = (cache_home() / "data").iterdir()
    written = (kept / "pixels.npy").stat().st_mtime_ns
    again = prepared(recipe)
    assert (kept / "pixels.npy").stat().st_mtime_ns == written
    shutil.rmtree(kept)
    loaded = read(recipe)
    for other in (again, loaded):
        for name in ("pixels", "buckets", "hashes", "train", "held_out"):
            assert np.array_equal(getattr(other, name), getattr(data, name))
    prepared(recipe.with_values({"data.buckets": [SHAPES[1]]}))
    assert len(list((cache_home() / "data").iterdir())) == 2


def test_bucket_numbers_are_checked_for_damage(recipe: Recipe, data: Dataset) -> None:
    (file,) = (cache_home() / "data").glob("*/buckets.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    found = prepared(recipe)
    assert found.buckets is not None
    assert np.bincount(found.buckets).tolist() == list(COUNTS)


# --- at one size ----------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(6, 12), (12, 6), (7, 9), (8, 8)])
def test_pictures_are_brought_to_one_size_unstretched(dtype: Any, shape: tuple[int, int]) -> None:
    top = np.iinfo(dtype).max
    pixels = np.zeros((2, 1, *shape), dtype)
    pixels[0] = top
    pixels[1, 0] = np.round(np.linspace(0, top, shape[1])).astype(dtype)
    found = brought_to(pixels, (8, 8))
    assert found.shape == (2, 1, 8, 8)
    assert found.dtype == dtype
    assert (found[0] == top).all()
    across = found[1, 0].astype(float)
    assert (np.ptp(across, axis=0) <= top * 0.02).all()
    middle = across[:, 3:5].mean() / top
    assert middle == pytest.approx(0.5, abs=0.02)
    scale = max(8 / shape[0], 8 / shape[1])
    slope = (across[0, 6] - across[0, 1]) / 5 / top
    assert slope == pytest.approx(1 / (shape[1] - 1) / scale, rel=0.1)


def test_whoever_needs_one_size_sees_real_pictures(recipe: Recipe, data: Dataset) -> None:
    which = np.arange(36)
    whole = StoredImages(data, which)[:]
    assert whole.shape == (36, 3, 8, 8)
    assert data.image_shape == (3, 8, 8)
    greens = whole[:, 1].reshape(36, -1)
    assert (np.ptp(greens, axis=1) < 0.02).all()  # nothing of what is beside the picture
    shown = [event for event in events_of(Worker(), ShowData(1, recipe)) if isinstance(event, DataShown)]
    assert shown[0].images is not None
    assert shown[0].images.shape[1:] == (8, 8, 3)
    assert np.ptp(shown[0].images[..., 1], axis=(1, 2)).max() <= 2


# --- batches --------------------------------------------------------------------------------------


def test_each_batch_is_of_one_bucket_and_each_image_is_shown_as_often(recipe: Recipe, data: Dataset) -> None:
    assert data.buckets is not None
    order = order_of(data, recipe)
    batches = [order.batch(4 * k, 4, 0) for k in range(1024)]
    assert all(len(set(data.buckets[batch])) == 1 for batch in batches)
    counts = np.bincount(np.concatenate(batches), minlength=36)
    assert set(np.flatnonzero(counts)) == set(data.train)
    shown = counts[data.train]
    assert shown.max() / shown.min() < 1.05


def test_the_order_follows_seed_attempt_and_counter_alone(recipe: Recipe, data: Dataset) -> None:
    first = order_of(data, recipe).batch(400, 4, 0)
    asked_before = order_of(data, recipe)
    for at in (80_000, 0, 396):
        asked_before.batch(at, 4, 0)
    assert np.array_equal(asked_before.batch(400, 4, 0), first)
    others = [order_of(data, recipe.with_values({"training.seed": 9})), order_of(data, recipe)]
    span = range(0, 400, 4)
    orders = [
        [order.batch(at, 4, attempt).tolist() for at in span] for order, attempt in ((others[0], 0), (others[1], 1))
    ]
    mine = [asked_before.batch(at, 4, 0).tolist() for at in span]
    assert mine not in orders


def test_a_bucket_without_training_images_has_no_turn(recipe: Recipe, data: Dataset) -> None:
    assert data.buckets is not None
    some = replace(data, train=data.train[data.buckets[data.train] != 1])
    order = order_of(some, recipe)
    assert set(np.concatenate([order.batch(4 * k, 4, 0) for k in range(200)])) == set(some.train)


def test_batches_are_the_cropped_pictures(recipe: Recipe, data: Dataset) -> None:
    assert data.buckets is not None
    batches = Batches(data, recipe, make_scheme(recipe, Facts()))
    order, seen = order_of(data, recipe), set()
    for at in range(0, 64, 4):
        batch, which = batches.at(at, 0), order.batch(at, 4, 0)
        shape = SHAPES[data.buckets[which[0]]]
        seen.add(shape)
        assert batch.x0.shape == batch.noise.shape == (4, 3, *shape)
        assert torch.equal(batch.x0, to_unit(torch.from_numpy(data.batch(which))))
    assert seen == set(SHAPES)


def test_buckets_of_a_mixture_keep_its_weights(tmp_path: Path) -> None:
    one, two = bucketed(tmp_path / "one"), tmp_path / "two"
    two.mkdir()
    for k in range(8):
        picture(k + 30, SHAPES[k % 2], 3).save(two / f"{k:02d}.png")
    parts = [{"source": "image-folder", "path": str(one.data.path)}, {"source": "image-folder", "path": str(two)}]
    tables = one.model_dump(mode="json", exclude_none=True)
    tables["data"] |= {"path": "", "source": "image-folder + image-folder", "parts": parts, "validation": 4}
    recipe = Recipe.of(tables).with_values({"data.parts.1.weight": 2})
    data = prepared(recipe)
    assert data.parts is not None
    assert data.buckets is not None
    order = order_of(data, recipe)
    batches = [order.batch(4 * k, 4, 0) for k in range(3 * 1024)]
    assert all(len(set(data.buckets[batch])) == 1 for batch in batches)
    seen = np.concatenate(batches)
    assert (data.parts[seen] == 1).mean() == pytest.approx(2 / 3, abs=0.01)
    for part in (0, 1):
        counts = np.bincount(seen, minlength=len(data.parts))[data.train[data.parts[data.train] == part]]
        assert counts.max() / counts.min() < 1.1


def test_the_held_out_loss_is_that_of_each_image_at_its_own_shape(recipe: Recipe, data: Dataset) -> None:
    shapes: list[tuple[int, ...]] = []

    def denoise(x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        shapes.append(tuple(x.shape[1:]))
        return x

    scheme = make_scheme(recipe, Facts())
    loss, bands, groups = finish(held_out_loss(denoise, scheme.encoder(), scheme, data, recipe, CPU))
    assert data.buckets is not None
    assert set(shapes) == {(3, *SHAPES[bucket]) for bucket in data.buckets[data.held_out]}
    # of noise alone: lambda(sigma) sigma² = (sigma² + 0.5²) / 0.5², at the same levels as ever
    whole = replace(data, buckets=None, shapes=())
    expected, others, _ = finish(held_out_loss(denoise, scheme.encoder(), scheme, whole, recipe, CPU))
    assert loss == pytest.approx(expected, rel=0.3)
    assert [name for name, _ in bands] == [name for name, _ in others]
    counts = np.bincount(data.buckets[data.held_out], minlength=3)
    named = {f"{SHAPES[at][0]} × {SHAPES[at][1]}": count for at, count in enumerate(counts) if count}
    assert dict(groups).keys() == named.keys()
    assert sum(mean * named[name] for name, mean in groups) / 6 == pytest.approx(loss, rel=1e-5)


# --- training and drawing -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    place = tmp_path_factory.mktemp("bucketed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEN_WORKBENCH_HOME", str(place / "home"))
        patch.setenv("IMAGEN_WORKBENCH_CACHE", str(place / "cache"))
        return train(bucketed(place / "photos"), place / "run")


def test_a_run_that_is_stopped_ends_with_the_same_bits(run: Run, tmp_path: Path) -> None:
    folder = shutil.copytree(run.path, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "00000006")
    resumed = train(run.recipe(), folder, resume=True)
    assert checkpoints(resumed.checkpoints)[0].facts["hashes"] == checkpoints(run.checkpoints)[0].facts["hashes"]
    told = run.read_json("dataset.json")
    assert sum(told["training_of_buckets"]) == told["training"] == 30


@pytest.mark.parametrize("change", [{"model.network": "transformer"}, {"model.coordinates": True}])
def test_every_network_trains_on_several_shapes(change: dict[str, Any], tmp_path: Path) -> None:
    recipe = bucketed(tmp_path / "photos", **{"training.steps": 4, **change})
    found = train(recipe, tmp_path / "run")
    assert np.isfinite([record["loss"] for record in found.records() if record["kind"] == "step"]).all()
    assert open_model(found.path).draw(count=2, size=(6, 12)).arrays.shape == (2, 3, 6, 12)


def test_pictures_of_another_size_are_drawn_and_drawn_again(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "wide.png"
    words = ["sample", str(run.path), "--count", "1", "--seed", "5", "--out", str(out), "--steps", "3"]
    assert main([*words, "--size", "6x12"]) == 0
    with Image.open(out) as image:
        assert image.size == (12 + 4, 6 + 4)  # with the grid's margin
    kept = read_recipe(out)
    assert kept is not None
    assert kept["sampling"]["size"] == [6, 12]
    again = tmp_path / "again.png"
    assert main(["sample", str(out), "--out", str(again)]) == 0
    with Image.open(out) as first, Image.open(again) as second:
        assert np.array_equal(np.asarray(first), np.asarray(second))
    alone = open_model(run.path).draw(count=1, seed=5, steps=3, size=(6, 12)).arrays
    beside = open_model(run.path).draw(count=3, seed=5, steps=3, size=(6, 12)).arrays
    assert np.allclose(alone[0], beside[0], atol=1e-4)


def test_a_folder_of_pictures_of_another_size(run: Run, tmp_path: Path) -> None:
    assert main(["sample", str(run.path), "--count", "3", "--size", "12x6", "--folder", str(tmp_path / "more")]) == 0
    sizes = set()
    for file in (tmp_path / "more").rglob("*.png"):
        with Image.open(file) as image:
            sizes.add(image.size)
    assert sizes == {(6, 12)}


def test_levels_are_measured_at_the_size_that_is_drawn(run: Run) -> None:
    drawn = open_model(run.path).draw(count=2, size=(6, 12), grid="measured", steps=4)
    assert drawn.arrays.shape == (2, 3, 6, 12)


@pytest.mark.parametrize("size", ["24", "axb", "24x", "24x32x1"])
def test_what_is_no_size_is_said(run: Run, size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["sample", str(run.path), "--size", size])
    assert "is no size; write height and width as 24x32" in capsys.readouterr().err


def test_a_size_beyond_the_limits_is_said(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", str(run.path), "--size", "2x9000"]) == 2
    assert "sampling.size" in capsys.readouterr().err


def test_a_draw_of_another_size_is_measured(run: Run) -> None:
    """In the worker: previews, film and likelihood have the shape that is drawn."""
    sampling = run.recipe().sampling.model_copy(update={"size": (6, 12)})
    said = list(events_of(Worker(), Draw(1, str(run.path), (), 2, sampling)))
    drawn = next(event for event in said if isinstance(event, Drawn))
    assert drawn.images is not None
    assert drawn.film_x is not None
    assert drawn.images.shape[1:3] == drawn.film_x.shape[2:4] == (6, 12)
    measured = [event for event in said if isinstance(event, Measured)]
    assert np.isfinite(measured[-1].bits).all()


def test_models_that_are_told_by_pictures_draw_one_size(copied_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(copied_run.path)
    monkeypatch.setattr(type(model.scheme), "image_channels", 1)
    with pytest.raises(RequestError) as caught:
        model.draw(count=1, size=(14, 28))
    assert caught.value.field == "sampling.size"


def test_rows_of_samples_are_drawn_at_the_recipes_size(tmp_path: Path) -> None:
    found = train(bucketed(tmp_path / "photos", **{"sampling.size": [6, 12], "training.steps": 2}), tmp_path / "run")
    rows = read_rows(found.path, (6, 12))
    assert rows
    assert rows[-1][1].shape == (8, 6, 12, 3)
