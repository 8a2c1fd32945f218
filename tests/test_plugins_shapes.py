"""Captioned shapes: pictures, captions, and the checker that reads the one for the other."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from imagen_workbench.core.datasets import read
from imagen_workbench.core.errors import RecipeError, RequestError
from imagen_workbench.core.extensions import bundled_recipes, make_source
from imagen_workbench.core.models import open_model
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.testing import DatasetContract
from imagen_workbench.plugins.datasets.captioned_shapes import (
    CaptionedShapes,
    ShapesOptions,
    attributes_of,
    picture_of,
)
from imagen_workbench.plugins.datasets.shapes_reading import relation, right, things_in
from imagen_workbench.plugins.datasets.shapes_scenes import (
    COLOURS,
    NUMBERS,
    POSITIONS,
    RELATIONS,
    SHAPES,
    SIZES,
    Scene,
    captions,
    scene_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

THINGS = tuple(itertools.product(SHAPES, COLOURS))


def shapes(size: int = 32, **options: Any) -> CaptionedShapes:
    data = {"source": "captioned-shapes", "size": [size, size], "channels": 3, "options": options}
    return CaptionedShapes(Recipe.of({"data": data}).data, ShapesOptions(**options))


def picture(source: CaptionedShapes, index: int) -> np.ndarray:
    return np.asarray(source[index].image)


class TestCaptionedShapes(DatasetContract):
    def make_source(self, folder: Path) -> CaptionedShapes:
        return shapes(count=500, held_combinations=0.2, seed=3)


class TestCaptionedShapesAt128(DatasetContract):
    def make_source(self, folder: Path) -> CaptionedShapes:
        return shapes(128, count=50)


# --- captions -------------------------------------------------------------------------------------


def every_scene() -> Iterator[Scene]:
    for thing in THINGS:
        for position, size in itertools.product(POSITIONS, SIZES):
            yield Scene(*thing, position, size)
        for count in NUMBERS.values():
            yield Scene(*thing, count=count)
        for other, where in itertools.product(THINGS[:: len(COLOURS) + 1], RELATIONS):
            yield Scene(*thing, "", "", where, *other)


def test_each_caption_tells_its_scene() -> None:
    said = [(caption, scene) for scene in every_scene() for caption in captions(scene)]
    assert len({caption for caption, _ in said}) == len(said), "two scenes, or two ways, in the same words"
    for caption, scene in said:
        assert scene_of(caption) == scene, caption


@pytest.mark.parametrize(
    ("caption", "scene"),
    [
        ("A large red circle in the top left", Scene("circle", "red", "top left", "large")),
        ("a red circle, large, at the top left", Scene("circle", "red", "top left", "large")),
        ("an orange heart", Scene("heart", "orange")),
        ("in the middle, a black ring", Scene("ring", "black", "centre")),
        ("a red circle to the left of a blue square", Scene("circle", "red", "", "", "left of", "square", "blue")),
        ("a cyan cross is below a cyan star", Scene("cross", "cyan", "", "", "below", "star", "cyan")),
        ("three green stars", Scene("star", "green", count=3)),
        ("five crosses, all purple", Scene("cross", "purple", count=5)),
    ],
)
def test_captions_as_a_person_would_write_them(caption: str, scene: Scene) -> None:
    assert scene_of(caption) == scene


@pytest.mark.parametrize(
    "caption",
    [
        "",
        "a circle",
        "a red thing",
        "a red red circle",
        "a red circle left of",
        "a red circle left of a blue square above a star",
        "a red circle in the left top",
        "two red circles in the top left",
        "two red circles above a blue star",
        "a large red circle above a blue star",
        "a red dog beside a circle",
    ],
)
def test_what_is_no_caption_is_refused_with_an_example(caption: str) -> None:
    with pytest.raises(RequestError, match="large red circle in the top left"):
        scene_of(caption)


# --- the dataset ----------------------------------------------------------------------------------


def test_examples_say_what_they_are() -> None:
    source = shapes(count=200)
    known = {attribute.name: attribute for attribute in source.attributes}
    for index in range(len(source)):
        example, scene = source[index], source.scene(index)
        assert scene_of(str(example.caption)) == scene
        assert example.label == SHAPES.index(scene.shape)
        assert example.attributes == attributes_of(scene)
        for name, value in example.attributes.items():
            attribute = known[name]
            assert value in attribute.choices or attribute.low <= float(value) <= attribute.high


def test_the_mixture_is_as_asked() -> None:
    assert {shapes(count=60, singles=0, pairs=0).scene(at).kind for at in range(60)} == {"group"}
    source = shapes(count=3000, singles=1, pairs=0.5, groups=0.5)
    kinds = [source.scene(at).kind for at in range(len(source))]
    shares = [kinds.count(kind) / len(kinds) for kind in ("single", "pair", "group")]
    assert shares == pytest.approx([0.5, 0.25, 0.25], abs=0.04)


def test_a_pair_is_of_two_different_things() -> None:
    source = shapes(count=400, singles=0, groups=0)
    for at in range(len(source)):
        scene = source.scene(at)
        assert (scene.shape, scene.colour) != (scene.other_shape, scene.other_colour)


def test_held_combinations_are_never_shown() -> None:
    source = shapes(count=4000, held_combinations=0.125)
    shown = set()
    for scene in map(source.scene, range(len(source))):
        shown |= {(scene.shape, scene.colour), (scene.other_shape, scene.other_colour)} - {("", "")}
    assert len(source.held) == 8
    assert {shape for shape, _ in source.held} == set(SHAPES), "each shape loses one colour"
    assert {colour for _, colour in source.held} == set(COLOURS)
    assert shown == set(THINGS) - set(source.held)


def test_without_held_combinations_all_are_shown() -> None:
    source = shapes(count=2000)
    assert source.held == ()
    assert {(scene.shape, scene.colour) for scene in map(source.scene, range(len(source)))} == set(THINGS)


def test_the_fingerprint_follows_options_and_size() -> None:
    sources = [shapes(), shapes(64), shapes(seed=1), shapes(held_combinations=0.1), shapes(count=7), shapes(pairs=0.3)]
    assert len({source.fingerprint() for source in sources}) == len(sources)


def test_another_seed_gives_other_pictures() -> None:
    assert not np.array_equal(picture(shapes(seed=1), 0), picture(shapes(seed=2), 0))


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("data.size", {"size": [28, 28]}),
        ("data.size", {"size": [32, 64]}),
        ("data.size", {"size": [160, 160]}),
        ("data.channels", {"channels": 1}),
        ("data.flip", {"flip": True}),
        ("data.options.count", {"options": {"count": 0}}),
        ("data.options.held_combinations", {"options": {"held_combinations": 0.9}}),
        ("data.options", {"options": {"singles": 0, "pairs": 0, "groups": 0}}),
        ("data.options.colour", {"options": {"colour": "red"}}),
    ],
)
def test_what_cannot_be_drawn_is_refused_at_its_field(field: str, values: dict[str, Any]) -> None:
    data = {"source": "captioned-shapes", "size": [32, 32], "channels": 3} | values
    with pytest.raises(RecipeError) as refused:
        make_source(Recipe.of({"data": data}))
    assert refused.value.field == field
    assert refused.value.fix


def test_no_example_beyond_the_last() -> None:
    with pytest.raises(IndexError):
        shapes(count=5)[5]


def test_the_bundled_recipe_reads_it_and_its_spread_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(tmp_path))
    recipe = Recipe.read(bundled_recipes()["shapes"])
    few = recipe.with_values({"data.options": recipe.data.options | {"count": 300}, "data.validation": 50})
    data = read(few)
    assert data.pixels.shape == (300, 3, 32, 32)
    assert data.set_aside == ()
    assert data.pixels.std() / 127.5 == pytest.approx(recipe.model.sigma_data, abs=0.04)


# --- the checker ----------------------------------------------------------------------------------


def answers(source: CaptionedShapes, change: Callable[[np.ndarray], np.ndarray] = np.asarray) -> list[dict[str, bool]]:
    """What the checker finds right in each picture, after a change to it."""
    return [right(things_in(change(picture(source, at))), str(source[at].caption)) for at in range(len(source))]


def share_right(told: list[dict[str, bool]]) -> float:
    return sum(all(each.values()) for each in told) / len(told)


@pytest.mark.parametrize("size", [32, 48, 64, 128])
def test_it_reads_what_is_drawn(size: int) -> None:
    assert share_right(answers(shapes(size, count=100, seed=size))) >= 0.99


def test_each_shape_and_colour_of_either_size_is_read() -> None:
    chance = np.random.default_rng(0)
    for (shape, colour), size in itertools.product(THINGS, SIZES):
        scene = Scene(shape, colour, "right", size)
        things = things_in(picture_of(scene, 32, chance))
        assert [(thing.shape, thing.colour, thing.position, thing.size) for thing in things] == [
            (shape, colour, "right", size)
        ]


def test_it_reads_through_noise_and_blur() -> None:
    noise = np.random.default_rng(0)

    def noisy(clean: np.ndarray) -> np.ndarray:
        return np.rint(clean + noise.normal(0, 0.05 * 255, clean.shape)).clip(0, 255).astype(np.uint8)

    def blurred(sharp: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(sharp).filter(ImageFilter.GaussianBlur(0.6)))

    assert share_right(answers(shapes(count=100), noisy)) >= 0.95
    assert share_right(answers(shapes(count=100), blurred)) >= 0.95


def test_captions_of_other_pictures_are_wrong() -> None:
    source = shapes(count=200, pairs=0, groups=0)
    things = [things_in(picture(source, at)) for at in range(len(source))]
    told = [right(seen, source.scene((at + 1) % len(source))) for at, seen in enumerate(things)]
    assert share_right(told) <= 0.02
    for name, chance in (("shape", 1 / 8), ("colour", 1 / 8), ("position", 1 / 9), ("size", 1 / 2)):
        assert sum(each[name] for each in told) / len(told) == pytest.approx(chance, abs=0.1)


def plain() -> np.ndarray:
    return np.full((32, 32, 3), 230, np.uint8)


def with_speck() -> np.ndarray:
    ground = plain()
    ground[4:6, 4:7] = (214, 32, 44)
    return ground


def dark() -> np.ndarray:
    ground = plain() // 8
    ground[10:20, 10:20] = (214, 32, 44)
    return ground


@pytest.mark.parametrize("empty", [plain, with_speck, dark])
def test_where_there_is_nothing_it_says_so(empty: Callable[[], np.ndarray]) -> None:
    assert things_in(empty()) == ()
    assert not any(right((), "a large red circle in the top left").values())
    assert not any(right((), "three red circles").values())
    assert not any(right((), "a red circle above a blue star").values())


def test_it_does_not_guess_a_shape_or_a_colour() -> None:
    bar, grey = plain(), plain()
    bar[15:18, 3:29] = (40, 72, 212)
    (thing,) = things_in(bar)
    assert (thing.shape, thing.colour, thing.size) == (None, "blue", None)
    grey[10:21, 10:21] = (150, 110, 120)
    assert all(thing.colour is None for thing in things_in(grey))


def test_an_object_of_two_colours_has_none() -> None:
    halves = plain()
    halves[10:21, 10:16], halves[10:21, 16:21] = (214, 32, 44), (250, 224, 36)
    assert "orange" not in [thing.colour for thing in things_in(halves)]
    assert not right(things_in(halves), "a red square")["colour"]


def test_one_object_too_many_is_wrong_in_all() -> None:
    chance = np.random.default_rng(0)
    pair = picture_of(Scene("circle", "red", "", "", "above", "square", "blue"), 32, chance)
    assert not any(right(things_in(pair), "a red circle").values())
    assert all(right(things_in(pair), "a red circle above a blue square").values())
    assert all(right(things_in(pair), "a blue square below a red circle").values())
    assert right(things_in(pair), "a red circle below a blue square") == {
        "shape": True,
        "colour": True,
        "other_shape": True,
        "other_colour": True,
        "relation": False,
    }


def test_a_group_is_counted() -> None:
    chance = np.random.default_rng(0)
    things = things_in(picture_of(Scene("star", "green", count=4), 32, chance))
    assert right(things, "four green stars") == {"count": True, "shape": True, "colour": True}
    assert right(things, "three green stars") == {"count": False, "shape": True, "colour": True}
    assert right(things, "four green rings") == {"count": True, "shape": False, "colour": True}


def test_only_what_is_said_is_asked() -> None:
    things = things_in(picture_of(Scene("ring", "purple", "top", "large"), 32, np.random.default_rng(0)))
    assert right(things, "a purple ring") == {"shape": True, "colour": True}


def test_askew_is_no_relation() -> None:
    chance = np.random.default_rng(0)
    scenes = [Scene("circle", "red", place, "small") for place in ("top left", "bottom right")]
    first, second = (things_in(picture_of(scene, 32, chance))[0] for scene in scenes)
    assert relation(first, second) is None


def test_what_is_no_picture_is_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        things_in(np.zeros((3, 32, 32), np.float32))


def test_the_bundled_model_draws_what_it_is_told(homes: Path) -> None:
    asked = (
        "a small red circle in the top left",
        "a large blue square in the bottom right",
        "a small green triangle in the top right",
        "a large yellow circle in the bottom left",
    )
    model = open_model("shapes")
    arrays = model.draw(conditions=asked, count=len(asked), seed=1).arrays
    pictures = np.rint((arrays.transpose(0, 2, 3, 1) + 1) * 127.5).astype(np.uint8)
    answers = [right(things_in(picture), caption) for picture, caption in zip(pictures, asked, strict=True)]
    assert sum(all(answer.values()) for answer in answers) >= 3, answers
