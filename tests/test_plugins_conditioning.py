"""The bundled conditioning schemes: contracts, what is written, what the network hears, and several at once."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from imagen_workbench.core import Attribute, DataError, Example, Facts, Recipe, RecipeError, RequestError
from imagen_workbench.core.conditioning import Condition, Together, composed_texts, keyed_text, keyed_texts, tensors_of
from imagen_workbench.core.data.decode import png_bytes
from imagen_workbench.core.denoisers.layers import initialise
from imagen_workbench.core.drawing import conditions_of
from imagen_workbench.core.extensions import make_scheme
from imagen_workbench.core.models import open_model
from imagen_workbench.core.randomness import ImageNoise, generator
from imagen_workbench.core.testing import ConditioningContract
from imagen_workbench.plugins.conditioning.attributes import Attributes, waves
from imagen_workbench.plugins.conditioning.label import Label
from imagen_workbench.plugins.conditioning.low_resolution import LowResolution, noised
from imagen_workbench.plugins.conditioning.mask import Mask
from imagen_workbench.plugins.conditioning.text import Text
from imagen_workbench.workbench.presenters.condition_form import condition_of

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core import ConditioningScheme

PIXELS = np.zeros((2, 2), np.uint8)
TOLD = (Attribute("colour", ("red", "green", "blue")), Attribute("size", low=0, high=10))


def picture(value: int) -> str:
    return base64.b64encode(png_bytes(np.full((1, 8, 8), value, np.uint8))).decode()


SHOWN = Facts(classes=("cat", "dog"), size=(8, 8), channels=1, pictures=(picture(0), picture(255)))


def encoded(scheme: ConditioningScheme, texts: list[str]) -> Condition:
    encoder = scheme.encoder()
    initialise(encoder, generator(0, "test"))
    shown = scheme.for_drawing(
        tensors_of(np.stack([scheme.parse(text) for text in texts])), ImageNoise(0, tuple(range(len(texts))))
    )
    return encoder(shown)


# --- contracts ------------------------------------------------------------------------------------


class TestText(ConditioningContract):
    def make_scheme(self) -> Text:
        return Text(Text.Options(words=6), Facts(captions=("a red cat", "two dogs")))

    def examples(self) -> list[Example]:
        return [Example(PIXELS, caption=text) for text in ("a red cat", "two dogs", "a red cat", "猫")]

    def texts(self) -> tuple[str, ...]:
        return ("", "a blue cat", "one two three four five six seven")

    def lacking(self) -> Example:
        return Example(PIXELS, caption="  ")


class TestAttributes(ConditioningContract):
    def make_scheme(self) -> Attributes:
        return Attributes(Attributes.Options(width=16), Facts(attributes=TOLD))

    def examples(self) -> list[Example]:
        told: list[dict[str, str | float]] = [{"colour": "red", "size": 3}, {"colour": "blue"}, {"size": 0.5}]
        return [Example(PIXELS, attributes=each) for each in told]

    def texts(self) -> tuple[str, ...]:
        return ("", "colour=green", "size=2.5;colour=blue")

    def lacking(self) -> Example:
        return Example(PIXELS, attributes={"colour": "mauve"})

    def nonsense(self) -> str:
        return "colour=mauve"


# --- what is written ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("7", {"class": "7"}),
        ("class=7", {"class": "7"}),
        ("class=3;text=a red square", {"class": "3", "text": "a red square"}),
        ("text=one; two; three ; class = 4", {"text": "one; two; three", "class": "4"}),
        ("7;text=a=b", {"class": "7", "text": "a=b"}),
        ("text=subclass=3", {"text": "subclass=3"}),
    ],
)
def test_keys_and_values(text: str, found: dict[str, str]) -> None:
    assert keyed_texts(text, ("class", "text")) == found
    assert keyed_texts(keyed_text(found), ("class", "text")) == found


def test_a_key_that_is_given_twice_is_refused() -> None:
    with pytest.raises(RequestError, match="text is given twice"):
        keyed_texts("text=a;text=b", ("class", "text"))


def test_terms_keep_their_keys() -> None:
    assert composed_texts("class=3 AND class=5;text=x:0.5") == [(1.0, "class=3"), (0.5, "class=5;text=x")]


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("3 + 5:0.5", [(1.0, "3 + 5:0.5")]),
        ("3 + 5:0.5 AND 7:2", [(1.0, "3 + 5:0.5"), (2.0, "7")]),
        ("(3 + 5:0.5):2 AND 7", [(2.0, "3 + 5:0.5"), (1.0, "7")]),
        ("7 AND (3:0.25 + 5):-1", [(1.0, "7"), (-1.0, "3:0.25 + 5")]),
        ("(3 + 5) AND 7", [(1.0, "3 + 5"), (1.0, "7")]),
        ("a + b:2 AND 3", [(1.0, "a + b:2"), (1.0, "3")]),
        ("black + white:0.5 AND 3", [(0.5, "black + white"), (1.0, "3")]),
    ],
)
def test_a_mixture_in_a_composition_keeps_its_weights(text: str, terms: list[tuple[float, str]]) -> None:
    assert composed_texts(text, (*"0123456789", "a + b:2", "black + white")) == terms


def test_words_in_brackets_stay_as_they_are() -> None:
    assert composed_texts("(a cat) AND one + one:0.5") == [(1.0, "(a cat)"), (0.5, "one + one")]
    assert composed_texts("(class=3 + 5:0.5):2 AND class=7") == [(2.0, "class=3 + 5:0.5"), (1.0, "class=7")]


# --- classes --------------------------------------------------------------------------------------

DIGITS = Facts(classes=tuple("0123456789"))


def label(facts: Facts = DIGITS) -> Label:
    return Label(Label.Options(width=16), facts)


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("3", {3: 1.0}),
        (" 3:0.2 ", {3: 1.0}),
        ("3 + 3", {3: 1.0}),
        ("3 + 5", {3: 0.5, 5: 0.5}),
        ("3 + 5:0.5", {3: 2 / 3, 5: 1 / 3}),
        ("3:1e308 + 5:1e308 + 5:1e308", {3: 1 / 3, 5: 2 / 3}),
        ("3:0.25 + 5:0.25 + 7:1e0", {3: 1 / 6, 5: 1 / 6, 7: 2 / 3}),
    ],
)
def test_several_classes_are_a_mean_of_their_vectors(text: str, weights: dict[int, float]) -> None:
    scheme = label()
    prepared = scheme.parse(text)
    assert {int(at): float(prepared[at]) for at in np.flatnonzero(prepared)} == pytest.approx(weights)
    encoder: Any = scheme.encoder()
    initialise(encoder, generator(0, "test"))
    found = encoder(tensors_of(prepared[None])).vector[0]
    expected = sum(weight * encoder.table[at] for at, weight in weights.items())
    assert torch.allclose(found, expected, atol=1e-6)
    assert scheme.label(prepared) == (next(iter(weights)) if len(weights) == 1 else -1)
    assert np.allclose(scheme.parse(scheme.describe(prepared)), prepared, atol=2e-3)


def test_names_with_signs_in_them_are_names_first() -> None:
    scheme = label(Facts(classes=("a", "b", "a + b", "b:0.5", "c++")))
    for name in scheme.choices:
        assert scheme.label(scheme.parse(name)) == scheme.choices.index(name)
    assert np.flatnonzero(scheme.parse("a + b:0.5")).tolist() == [0, 3]
    assert np.flatnonzero(scheme.parse("c++ + b:2")).tolist() == [1, 4]


@pytest.mark.parametrize(
    "text", ["3 + ", "3 + x", "3 + 5:", "3:0", "3:-1 + 5", "3:nan", "3:inf", "3 + 5:1e999", "+", ""]
)
def test_what_is_no_mixture_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match=r"is no class of this model|is no weight") as caught:
        label().parse(text)
    assert caught.value.fix


def test_one_class_is_trained_as_its_number_to_the_last_bit() -> None:
    """What lies in the cache is the class's number, and its vector is its row of the table."""
    scheme = label()
    prepared = [scheme.prepare(Example(PIXELS, each % 10)) for each in range(64)]
    assert {(each.dtype, each.shape) for each in prepared} == {(np.dtype(np.int64), ())}
    numbers = tensors_of(np.stack(prepared))
    assert isinstance(numbers, torch.Tensor)
    noise, dropped = torch.randn(64, 16, generator=generator(0, "noise")), torch.arange(64) % 7 == 0
    found = []
    for said in (numbers, scheme.for_training(numbers, torch.zeros(64, 1, 2, 2), generator(0, "test"))):
        encoder: Any = scheme.encoder()
        initialise(encoder, generator(0, "test"))
        vector = encoder(said).drop(dropped).vector
        (vector * noise).sum().backward()
        found.append((vector, encoder.table.grad))
    assert all(torch.equal(left, right) for left, right in zip(*found, strict=True))


def test_the_bundled_digits_draw_one_class_as_before_and_several_between_them() -> None:
    model = open_model("digits", device="cpu")
    weights = model.drawing_weights(None)
    numbers = weights.denoiser.encoder(torch.arange(10))
    cond, labels = conditions_of(weights, tuple("0123456789"))
    assert isinstance(cond, Condition)
    assert torch.equal(cond.vector, numbers.vector)
    assert torch.equal(cond.without().vector, numbers.without().vector)
    assert labels == tuple(range(10))
    settings = {"count": 4, "seed": 1, "steps": 2}
    alone = model.draw(["7", "7:2", "7 + 7", "7 + 1"], **settings)
    assert np.array_equal(alone.arrays[:3], model.draw(["7"], **settings).arrays[:3])
    assert not np.array_equal(alone.arrays[3], model.draw(["7"], **settings).arrays[3])
    assert alone.labels == (7, 7, 7, -1)
    both = model.draw(["7 + 1:0.5 AND 3:-0.25"], **settings)
    assert both.labels == (-1,) * 4


# --- text -----------------------------------------------------------------------------------------


def test_words_are_read_and_places_told_apart() -> None:
    scheme = Text(Text.Options(words=4, layers=0), Facts())
    same, other = scheme.parse("Red, CAT"), scheme.parse("red , cat")
    assert np.array_equal(same, other)
    assert (same > 0).tolist() == [True, True, True, False]
    cond = encoded(scheme, ["red cat", "cat red"])
    assert cond.tokens is not None
    assert not torch.allclose(cond.tokens[0], cond.tokens[1])


def test_what_stands_behind_a_caption_changes_nothing() -> None:
    """Padding is never attended to, and is zero in what the network gets."""
    short, long = (Text(Text.Options(words=words), Facts()) for words in (3, 8))
    first, second = short.encoder(), long.encoder()
    initialise(second, generator(0, "test"))
    first.load_state_dict({**second.state_dict(), "places": second.state_dict()["places"][:3]})
    a = first(torch.from_numpy(short.parse("a red cat")[None]))
    b = second(torch.from_numpy(long.parse("a red cat")[None]))
    assert torch.allclose(a.tokens, b.tokens[:, :3], atol=1e-5)
    assert not b.tokens[:, 3:].any()
    assert b.mask.tolist() == [[True] * 3 + [False] * 5]


def test_an_empty_caption_is_the_null() -> None:
    cond = encoded(Text(Text.Options(words=4), Facts()), ["", "a cat"])
    assert cond.null is not None
    assert torch.equal(cond.tokens[0], cond.null.tokens[0])
    assert torch.equal(cond.mask[0], cond.null.mask[0])
    assert not torch.equal(cond.tokens[1], cond.null.tokens[1])


def test_a_dataset_without_captions_is_refused_with_a_remedy() -> None:
    from imagen_workbench.core.datasets import read

    with pytest.raises(DataError, match="text needs caption, which digits has not") as caught:
        read(Recipe().with_values({"conditioning.scheme": "text"}))
    assert caught.value.field == "conditioning.scheme"


# --- attributes -----------------------------------------------------------------------------------


def test_what_is_not_said_adds_nothing() -> None:
    scheme = Attributes(Attributes.Options(width=8), Facts(attributes=TOLD))
    cond = encoded(scheme, ["", "colour=red", "size=4", "size=4;colour=red"])
    assert cond.vector is not None
    assert not cond.vector[0].any()
    assert torch.allclose(cond.vector[1] + cond.vector[2], cond.vector[3], atol=1e-6)


def test_numbers_are_told_apart_over_their_range() -> None:
    features = waves(torch.linspace(0, 1, 101))
    apart = torch.cdist(features, features) + torch.eye(101) * 9
    assert apart.min() > 0.05


@pytest.mark.parametrize("text", ["size=11", "size=nan", "size=big", "shape=round", "red"])
def test_attributes_that_cannot_be_asked_for(text: str) -> None:
    with pytest.raises(RequestError) as caught:
        Attributes(Attributes.Options(), Facts(attributes=TOLD)).parse(text)
    assert caught.value.fix


def test_single_attributes_are_left_unsaid_while_training() -> None:
    scheme = Attributes(Attributes.Options(), Facts(attributes=TOLD))
    told = torch.ones(2000, 2)
    shown = cast("torch.Tensor", scheme.for_training(told, torch.zeros(2000, 1, 2, 2), generator(0, "x")))
    assert 0.08 < float(shown.isnan().float().mean()) < 0.12
    again = cast("torch.Tensor", scheme.for_training(told, torch.zeros(2000, 1, 2, 2), generator(0, "x")))
    assert torch.equal(shown.isnan(), again.isnan())


# --- pictures -------------------------------------------------------------------------------------


def test_training_sees_the_image_itself_in_small() -> None:
    """After flips and shifts: what is derived from it is derived from what is shown."""
    scheme = LowResolution(LowResolution.Options(factor=2, noise=0.0), SHOWN)
    x0 = torch.rand(3, 1, 8, 8) * 2 - 1
    shown = cast("dict[str, Any]", scheme.for_training(torch.zeros(3, 0), x0, generator(0, "x")))
    assert torch.allclose(shown["image"], x0.reshape(3, 1, 4, 2, 4, 2).mean((3, 5)), atol=1e-6)
    assert not shown["level"].any()


def test_noise_on_the_small_picture_keeps_its_variance() -> None:
    level = torch.full((1000,), 0.4)
    mixed = noised(torch.randn(1000, 1, 4, 4), level, torch.randn(1000, 1, 4, 4))
    assert abs(float(mixed.var()) - 1) < 0.05


def test_a_picture_is_read_from_a_file_or_from_the_model(tmp_path: Path) -> None:
    scheme = LowResolution(LowResolution.Options(factor=2), SHOWN)
    Image.new("L", (40, 30), 255).save(tmp_path / "white; bright.png")
    record = scheme.parse(f"{tmp_path / 'white; bright.png'};noise=0.2")
    assert record["image"].shape == (1, 4, 4)
    assert np.allclose(record["image"], 1)
    assert float(record["level"]) == pytest.approx(0.2)
    assert np.allclose(scheme.parse("example 2")["image"], 1)
    for wrong in ("", "no.png", "example 3", "example 1;noise=0.9"):
        with pytest.raises(RequestError) as caught:
            scheme.parse(wrong)
        assert caught.value.fix


def test_noise_of_a_draw_is_that_of_each_image() -> None:
    scheme = LowResolution(LowResolution.Options(factor=2), SHOWN)
    records = tensors_of(scheme.of_pictures(np.zeros((3, 1, 8, 8), np.float32), ["noise=0.5"] * 3))
    whole = cast("dict[str, Any]", scheme.for_drawing(records, ImageNoise(5, (0, 1, 2), "condition")))
    last = tensors_of(scheme.of_pictures(np.zeros((1, 1, 8, 8), np.float32), ["noise=0.5"]))
    alone = cast("dict[str, Any]", scheme.for_drawing(last, ImageNoise(5, (2,), "condition")))
    assert torch.equal(whole["image"][2:], alone["image"])


def test_guidance_leaves_the_picture_in_place() -> None:
    cond = encoded(LowResolution(LowResolution.Options(factor=2), SHOWN), ["example 1", "example 2"])
    assert cond.image is not None
    assert cond.image.shape == (2, 1, 8, 8)
    assert cond.null is None


def test_holes_hide_what_is_in_them_and_nothing_else() -> None:
    scheme = Mask(Mask.Options(), SHOWN)
    x0 = torch.rand(64, 1, 8, 8) * 0.5 + 0.25
    shown = cast("torch.Tensor", scheme.for_training(torch.zeros(64, 0), x0, generator(0, "x")))
    hole = shown[:, 1:]
    assert set(hole.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(shown[:, :1], x0 * (1 - hole))
    assert 0 < float(hole.mean()) < 1
    asked = scheme.parse("example 2;hole=0,0,0.5,1")
    assert asked[1].tolist() == [[1.0] * 4 + [0.0] * 4] * 8
    assert asked[0].tolist() == [[0.0] * 4 + [1.0] * 4] * 8
    for wrong in ("example 1;hole=0,0,0,1", "example 1;hole=1,2", "example 1;hole=nothing.png"):
        with pytest.raises(RequestError):
            scheme.parse(wrong)


# --- together -------------------------------------------------------------------------------------


def together() -> Together:
    recipe = Recipe().with_values(
        {"conditioning.scheme": "label + text + low-resolution", "conditioning.options": {"label": {"width": 8}}}
    )
    found = make_scheme(recipe, SHOWN)
    assert isinstance(found, Together)
    return found


def test_parts_stand_side_by_side() -> None:
    scheme = together()
    assert [scheme.vector_width, scheme.token_width, scheme.image_channels] == [8 + 9, 128, 1]
    cond = encoded(scheme, ["class=dog;text=a cat;low=example 1", "low=example 2;class=cat"])
    assert cond.vector is not None
    assert cond.vector.shape == (2, 17)
    assert cond.null is not None
    assert torch.equal(cond.null.image, cond.image)
    assert torch.equal(cond.null.vector[:, 8:], cond.vector[:, 8:]), "the picture's level stays in the null"
    assert torch.equal(cond.tokens[1], cond.null.tokens[1]), "what is not said is the null of its part"
    assert not torch.equal(cond.tokens[0], cond.null.tokens[0])
    assert not torch.equal(cond.vector[1, :8], cond.null.vector[1, :8])


def test_a_part_that_cannot_be_left_out_is_asked_for() -> None:
    with pytest.raises(RequestError, match="low is not said"):
        together().parse("class=cat")


def test_what_is_written_comes_back() -> None:
    scheme = together()
    assert scheme.describe(scheme.parse("low=example 1;class=dog")) == "class=dog"
    assert scheme.label(scheme.parse("low=example 1;class=dog")) == 1
    assert scheme.label(scheme.parse("low=example 1")) == -1
    for text in scheme.in_turn(4):
        scheme.parse(text)
    assert [field.key for field in scheme.form] == ["class", "text", "low", "low.noise"]
    noisy = scheme.parse("class=cat;low=example 1;low.noise=0.25")
    assert float(noisy["low"]["level"]) == pytest.approx(0.25)


@pytest.mark.parametrize("name", ["text", "colour", "size", "attributes", "low-resolution", "mask", "together"])
def test_each_field_of_a_form_can_be_said_alone(name: str) -> None:
    facts = replace(SHOWN, attributes=TOLD)
    scheme: ConditioningScheme = {
        "text": lambda: Text(Text.Options(), facts),
        "colour": lambda: Attributes(Attributes.Options(names=("colour",)), facts),
        "size": lambda: Attributes(Attributes.Options(names=("size",)), facts),
        "attributes": lambda: Attributes(Attributes.Options(), facts),
        "low-resolution": lambda: LowResolution(LowResolution.Options(), facts),
        "mask": lambda: Mask(Mask.Options(), facts),
        "together": together,
    }[name]()
    assert scheme.form
    for field in scheme.form:
        words = field.default or "a cat"
        said = {"choice": field.choices[-1:], "number": (f"{field.high:g}",), "image": ("example 2",), "text": (words,)}
        condition = condition_of(scheme.form, {field.key: said[field.kind][0]})
        assert scheme.parse(condition).tobytes() != scheme.nothing().tobytes(), condition


def test_single_parts_are_left_out_while_training_but_never_the_picture() -> None:
    scheme = together()
    example = Example(PIXELS, 1, caption="a cat")
    prepared = tensors_of(np.stack([scheme.prepare(example)] * 2000))
    shown = cast("dict[str, Any]", scheme.for_training(prepared, torch.zeros(2000, 1, 8, 8), generator(0, "x")))
    shares = shown["absent"].float().mean(0)
    assert 0.07 < float(shares[0]) < 0.13
    assert 0.07 < float(shares[1]) < 0.13
    assert float(shares[2]) == 0


def test_pictures_of_another_model_take_their_place() -> None:
    scheme = together()
    pictures = np.stack([np.full((1, 4, 4), value, np.float32) for value in (-1, 1)])
    records = scheme.of_pictures(pictures, ["class=cat;low.noise=0.1", "dog"])
    assert records["low"]["image"].mean((1, 2, 3)).tolist() == [-1, 1]
    assert records["low"]["level"].tolist() == pytest.approx([0.1, 0])
    assert [scheme.label(each) for each in records] == [0, 1]


@pytest.mark.parametrize(
    ("scheme", "options", "what"),
    [
        ("label + labell", {}, "there is no"),
        ("label + text", {"width": 3}, "unknown key"),
        ("label + text", {"text": {"width": 3}}, "refused"),
        ("label + label", {}, "same key"),
    ],
)
def test_schemes_that_do_not_go_together(scheme: str, options: dict[str, Any], what: str) -> None:
    recipe = Recipe().with_values({"conditioning.scheme": scheme, "conditioning.options": options})
    with pytest.raises(RecipeError, match=what):
        make_scheme(recipe, SHOWN)


def test_facts_survive_being_saved() -> None:
    facts = Facts(("a",), TOLD, ("image", "caption"), ("x",), (8, 4), 3, ("p",))
    assert Facts.of(facts.as_dict()) == facts
    assert Facts.of({"classes": ["a", "b"]}) == Facts(("a", "b"))


def test_label_is_called_class_beside_others() -> None:
    assert Label.key == "class"
