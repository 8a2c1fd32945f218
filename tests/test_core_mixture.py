"""Several datasets as one: what is joined, who is to blame, and who is shown how often."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import plain, prepared
from plugin_packages import install
from pydantic import BaseModel, ConfigDict

from imagen_workbench.core import Attribute, Example, Source
from imagen_workbench.core.data.cache import prepare
from imagen_workbench.core.data.entries import cache_home
from imagen_workbench.core.data.mixture import MixedPart, Mixture
from imagen_workbench.core.data.opening import Opened
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.datasets import _blamed, read
from imagen_workbench.core.errors import DataError, PluginError, RecipeError
from imagen_workbench.core.extensions import make_scheme, make_source, scheme_plugins, source_plugins
from imagen_workbench.core.generators import finish
from imagen_workbench.core.recipe import Recipe, parse_setting
from imagen_workbench.core.runs.checkpoint import checkpoints
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.testing import DatasetContract
from imagen_workbench.core.training.batches import PLACES, BatchOrder, MixedOrder, Turns, order_of
from imagen_workbench.core.worker.headless import train
from imagen_workbench.core.worker.starting import with_whole_paths
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parent.parent / "examples" / "mixture.toml"


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Blots(Source):
    """A few grey squares; what it tells of itself is set from outside."""

    Options = Options
    classes: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    fields: tuple[str, ...] = ("image",)
    shade, count, told = 0, 6, "blots"

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Example:
        label = index % len(self.classes) if self.classes else None
        return Example(np.full((8, 8), self.shade + index, np.uint8), label, f"blot {index}")

    def fingerprint(self) -> str:
        return self.told and f"{self.told} {self.shade}"


DATA = Recipe.of({"data": {"size": [8, 8], "channels": 1}}).data
SIZE = Attribute("size", low=0, high=10)


def part(name: str, most: int = 0, **told: Any) -> MixedPart:
    source = type("Blots", (Blots,), told)(DATA, Options())
    opened = Opened.of(source, DATA.model_copy(update={"most": most}))
    return MixedPart(name, source, opened, lambda call: call())


def mixed(*parts: MixedPart) -> Mixture:
    return Mixture(parts, DATA)


def folders(place: Path) -> Recipe:
    """Two folders: "small" has 4 images of the classes a and b, "large" 24 of b and c."""
    for name, count, classes in (("small", 4, "ab"), ("large", 24, "bc")):
        for k in range(count):
            file = place / name / classes[k % 2] / f"{k}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            plain((9 * k, 255 - 9 * k, 100 if name == "small" else 0)).save(file)
    parts = [{"source": "image-folder", "path": str(place / name)} for name in ("small", "large")]
    return Recipe.of(
        {
            "data": {"parts": parts, "size": [8, 8], "channels": 3, "validation": 4},
            "model": {"width": 8, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2},
            "training": {"steps": 6, "batch": 8, "micro_batch": 8, "checkpoint_every": 3, "device": "cpu"},
            "sampling": {"steps": 2},
        }
    )


# --- the recipe -----------------------------------------------------------------------------------


def test_parts_say_what_the_source_is() -> None:
    recipe = Recipe.read(EXAMPLE)
    assert recipe.data.source == "digits + captioned-shapes"
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert recipe.with_values({"data.parts.1.source": "mnist"}).data.source == "digits + mnist"
    assert recipe.with_values({"data.parts": [], "data.source": "digits"}).data.parts == ()


def test_parts_are_set_from_the_command_line() -> None:
    settings = ('data.parts=[{source="digits"}, {source="mnist", most=50}]', "data.parts.1.weight=2.5")
    recipe = Recipe()
    for text in settings:
        recipe = recipe.with_values(dict([parse_setting(text)]))
    assert [(each.source, each.weight, each.most) for each in recipe.data.parts] == [
        ("digits", 1, 0),
        ("mnist", 2.5, 50),
    ]


@pytest.mark.parametrize(
    ("key", "value", "field", "fix"),
    [
        ("data.source", "digits", "data.source", "Leave it out"),
        ("data.path", "here", "data.path", "[[data.parts]]"),
        ("data.most", 5, "data.most", "[[data.parts]]"),
        ("data.options", {"count": 5}, "data.options", "[[data.parts]]"),
        ("data.parts", [{"source": "digits"}], "data.parts", "add another"),
        ("data.parts", [{"path": "here"}, {"source": "digits"}], "data.parts.0.source", ""),
        ("data.parts.0.weight", 0, "data.parts.0.weight", "Above 0"),
        ("data.parts.0.wieght", 1, "data.parts.0.wieght", "data.parts.0.weight"),
        ("data.parts.2.weight", 1, "data.parts.2.weight", "number of one of them"),
        ("data.parts.weight", 1, "data.parts.weight", "Did you mean"),
        ("data.parts.1.options", {"cuont": 3}, "data.parts.1.options.cuont", "count"),
        ("data.parts.1.source", "nope", "data.parts.1.source", "digits"),
        ("data.parts.1.source", "image-folder", "data.parts.1.path", "Say where"),
    ],
)
def test_what_cannot_be_mixed_is_named_at_its_place(key: str, value: Any, field: str, fix: str) -> None:
    values = {key: value}
    if key == "data.parts.1.source":
        values["data.parts.1.options"] = {}
    with pytest.raises(RecipeError) as caught:
        make_source(Recipe.read(EXAMPLE).with_values(values))
    assert caught.value.field == field
    assert fix in caught.value.fix


def test_paths_of_parts_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    values = {"data.parts": [{"source": "image-folder", "path": "leaves"}, {"source": "digits"}]}
    recipe = with_whole_paths(Recipe().with_values(values))
    assert [part.path for part in recipe.data.parts] == [str(tmp_path / "leaves"), ""]


# --- what is joined -------------------------------------------------------------------------------


def test_classes_are_joined_by_name_and_labels_follow() -> None:
    first = part("first", classes=("a", "b"), fields=("image", "label"))
    second = part("second", classes=("c", "b"), fields=("label", "image", "caption"), shade=100)
    source = mixed(first, second)
    assert source.classes == ("a", "b", "c")
    assert source.fields == ("image", "label")
    assert len(source) == 12
    told = [(source[k].name, source.classes[source[k].label or 0]) for k in (0, 1, 6, 7)]
    assert told == [("first: blot 0", "a"), ("first: blot 1", "b"), ("second: blot 0", "c"), ("second: blot 1", "b")]
    assert source.name_of(6) == "second: No. 0"
    for index in (-1, 12):
        with pytest.raises(IndexError):
            source[index]


def test_attributes_are_joined_and_must_agree() -> None:
    other = Attribute("kind", ("x", "y"))
    told: dict[str, Any] = {"fields": ("image", "attributes")}
    first, second = part("first", attributes=(SIZE,), **told), part("second", attributes=(other, SIZE), **told)
    assert mixed(first, second).attributes == (SIZE, other)
    assert mixed(first, part("third")).attributes == ()
    words = part("second", attributes=(Attribute("size", ("small", "large")),), **told)
    with pytest.raises(DataError) as caught:
        mixed(first, words)
    assert caught.value.field == "data.parts.1"
    assert "size of second is one of small, large, and a number from 0 to 10 in first" in caught.value.what


def test_fewer_of_one_part_may_be_asked_for() -> None:
    source = mixed(part("first", most=2), part("second", most=99, shade=100))
    assert source.lengths == (2, 6)
    assert source[2].name == "second: blot 0"


def test_the_fingerprint_is_that_of_all_parts() -> None:
    def fingerprint(**told: Any) -> str:
        return mixed(part("first"), part("second", **told)).fingerprint()

    found = [fingerprint(), fingerprint(shade=1), fingerprint(most=3), fingerprint(classes=("a",))]
    assert len(set(found[:3])) == 3
    assert found[0] == found[3]
    assert fingerprint(told="") == ""


class TestContract(DatasetContract):
    """As it is opened from a recipe: what is asked of any dataset."""

    def make_source(self, folder: Path) -> Source:
        return make_source(self._recipe())

    def _recipe(self) -> Recipe:
        return Recipe.of(
            {"data": {"parts": [{"source": "digits"}, {"source": "captioned-shapes", "most": 40}]}}
        ).with_values({"data.size": [32, 32], "data.channels": 3})

    def with_options(self, folder: Path, options: BaseModel) -> Source:
        return self.make_source(folder)

    def test_same_bytes_in_other_processes(self, tmp_path: Path) -> None:
        """A mixture is made from a recipe, not by its class: two loaders tell the same as one."""
        recipe = self._recipe().with_values({"conditioning.scheme": "label"})
        recipe = recipe.with_values({"data.parts.0.most": 40, "data.validation": 8})
        source = make_source(recipe)
        scheme = make_scheme(recipe, Facts(source.classes))
        here = finish(prepare(source, scheme, recipe.data))
        assert [example.name for example in (source[0], source[40])] == [here.names[0], here.names[40]]
        assert here.parts is not None
        assert here.parts.tolist() == [0] * 40 + [1] * 40


# --- who is to blame ------------------------------------------------------------------------------

TROUBLE = """
import numpy as np
from imagen_workbench.core import DataError, Example, Source, Stream


class Trouble(Source):
    title, summary = "Trouble", "For tests."

    @property
    def classes(self):
        if self.settings.path == "classes":
            return ("a", 7)
        return ("a", "b")

    def __len__(self):
        if self.settings.path == "length":
            raise KeyError("how many")
        if self.settings.path == "mend":
            raise DataError("is locked", fix="Unlock it")
        return 8

    def __getitem__(self, index):
        if self.settings.path == "examples" and index % 2:
            raise RuntimeError("no such thing")
        if self.settings.path == "all":
            raise RuntimeError("not one")
        wrong = {"label": 7, "negative": -1, "words": "a"}.get(self.settings.path, index % 2)
        return Example(np.full((8, 8), index, np.uint8), wrong, f"no {index}")

    def name_of(self, index):
        return f"no {index}"

    def fingerprint(self):
        return 7 if self.settings.path == "fingerprint" else ""


class Tape(Stream):
    def examples(self, position):
        yield 1, Example(np.zeros((8, 8), np.uint8))
"""


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    names = {"trouble": "Trouble", "tape": "Tape"}
    install(tmp_path / "site", monkeypatch, "mixed-trouble", TROUBLE, datasets=names)
    yield
    sys.modules.pop("mixed_trouble", None)


def troubled(how: str, place: Path) -> Recipe:
    recipe = folders(place)
    parts = [recipe.data.parts[0].model_dump(), {"source": "trouble", "path": how}]
    return recipe.with_values({"data.parts": parts, "data.validation": 2})


@pytest.mark.parametrize("how", ["classes", "length", "fingerprint"])
def test_a_part_that_fails_is_named(how: str, trouble: None, tmp_path: Path) -> None:
    recipe = troubled(how, tmp_path)
    with pytest.raises(PluginError) as caught:
        make_source(recipe).fingerprint()
    assert "'trouble' of mixed-trouble" in caught.value.what
    assert caught.value.field == "data.parts.1"
    with pytest.raises(PluginError) as elsewhere:
        read(recipe)
    assert str(elsewhere.value) == str(caught.value)


def test_a_parts_own_error_says_whose_it_is(trouble: None, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"trouble mend: is locked\. Unlock it") as caught:
        make_source(troubled("mend", tmp_path))
    assert caught.value.field == "data.parts.1"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    recipe = folders(tmp_path).with_values({"data.parts.1.path": str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match="image-folder nowhere: no such folder") as caught:
        make_source(recipe)
    assert caught.value.place == str(tmp_path / "nowhere")


def test_examples_in_a_row_are_refused(trouble: None, tmp_path: Path) -> None:
    recipe = folders(tmp_path).with_values({"data.parts.0.source": "tape"})
    with pytest.raises(RecipeError, match="tape gives its examples in a row") as caught:
        make_source(recipe)
    assert caught.value.field == "data.parts.0.source"


@pytest.mark.parametrize("how", ["label", "negative", "words"])
def test_a_label_that_is_none_of_the_parts_classes_sets_aside(how: str, trouble: None, tmp_path: Path) -> None:
    """Also where the other part has so many classes."""
    with pytest.raises(DataError, match=r"no image of trouble .* can be used; the first, trouble .*: no 0: its label"):
        prepared(troubled(how, tmp_path))


def test_a_foreign_part_is_read_by_loaders_and_its_examples_are_set_aside_by_name(
    trouble: None, tmp_path: Path
) -> None:
    data = read(troubled("examples", tmp_path))
    assert data.parts is not None
    assert data.parts.tolist() == [0] * 4 + [1] * 4
    assert [name for name, _ in data.set_aside] == [f"trouble examples: no {k}" for k in (1, 3, 5, 7)]
    assert [data.classes[label] for label in data.labels] == ["a", "a", "b", "b", "a", "a", "a", "a"]


def test_where_a_process_goes_down_any_of_the_sources_may_be_to_blame(trouble: None, tmp_path: Path) -> None:
    def blamed(recipe: Recipe) -> str:
        return _blamed(source_plugins(recipe), scheme_plugins(recipe))[0]

    ours = Recipe.read(EXAMPLE)
    words = blamed(ours)
    assert words.startswith("the plugin 'digits' of imagen-workbench or the plugin 'captioned-shapes' of ")
    assert "label" not in words
    assert blamed(folders(tmp_path)).count("image-folder") == 1
    assert blamed(troubled("all", tmp_path)) == "the plugin 'trouble' of mixed-trouble"


def test_a_part_without_training_images_is_named(trouble: None, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="no image of trouble all can be used; the first, trouble all: no 0: "
    ) as caught:
        prepared(troubled("all", tmp_path))
    assert caught.value.field == "data.parts.1"
    with pytest.raises(DataError, match="all 1 usable images of image-folder small are held out"):
        _held_out_whole(tmp_path)


def _held_out_whole(place: Path) -> None:
    """Holds out as many as it takes for the one image of the first part to be among them."""
    recipe = folders(place).with_values({"data.parts.0.most": 1, "conditioning.scheme": "none"})
    for count in range(1, 25):
        prepared(recipe.with_values({"data.validation": count}))


# --- the cache ------------------------------------------------------------------------------------


def test_the_second_reading_comes_from_the_cache_and_weights_change_nothing(tmp_path: Path) -> None:
    recipe = folders(tmp_path)
    first = prepared(recipe)
    kept = list((cache_home() / "data").iterdir())
    assert len(kept) == 1
    written = (kept[0] / "pixels.npy").stat().st_mtime_ns
    second = prepared(recipe.with_values({"data.parts.0.weight": 7}))
    assert [each.name for each in (cache_home() / "data").iterdir()] == [kept[0].name]
    assert (kept[0] / "pixels.npy").stat().st_mtime_ns == written
    assert first.parts is not None
    assert second.parts is not None
    assert first.parts.tolist() == second.parts.tolist() == [0] * 4 + [1] * 24
    assert first.manifest() == second.manifest()
    assert sum(first.manifest()["training_of_parts"]) == len(first.train) == 24


def test_which_part_an_image_is_of_is_checked_for_damage(tmp_path: Path) -> None:
    recipe = folders(tmp_path)
    prepared(recipe)
    (file,) = (cache_home() / "data").glob("*/parts.npy")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    found = prepared(recipe)
    assert found.parts is not None
    assert found.parts.tolist() == [0] * 4 + [1] * 24


# --- whose turn it is -----------------------------------------------------------------------------

WEIGHTS = st.lists(st.floats(0.001, 1000), min_size=2, max_size=16)


@given(WEIGHTS, st.integers(0, 2**40), st.integers(0, 3))
def test_turns_count_themselves(weights: list[float], begin: int, attempt: int) -> None:
    """Asked in any order, by any instance: the count of who's turn it is goes up by one, and by one for nobody else."""
    turns = Turns(weights, 3, "parts")
    counts: dict[int, int] = {}
    for position in range(begin, begin + 40):
        who, before = turns.at(position, attempt)
        assert counts.setdefault(who, before) == before
        counts[who] += 1
    again = Turns(weights, 3, "parts")
    again.at(0, attempt + 1)
    assert again.at(begin + 17, attempt) == turns.at(begin + 17, attempt)


def test_shares_are_kept_in_every_block() -> None:
    for weights in ([1.0, 3.0], [1.0, 1.0, 1.0], [0.25, 0.5], [1.0, 1000.0, 1.0]):
        turns = Turns(weights, 0, "parts")
        who = np.array([turns.at(position, 0)[0] for position in range(2 * PLACES)])
        for weight, count in zip(weights, np.bincount(who), strict=True):
            assert count / len(who) == pytest.approx(weight / sum(weights), abs=2 / PLACES)
            assert count > 0
    equal = Turns([1.0, 1.0, 1.0], 0, "parts")
    assert len(set(np.bincount([equal.at(k, 0)[0] for k in range(3 * 341)]))) == 1


def test_an_order_follows_seed_attempt_and_counter_alone() -> None:
    parts = [np.arange(5), np.arange(5, 40)]
    first = MixedOrder(parts, [1, 2], 3).batch(640, 64, 0)
    asked_before = MixedOrder(parts, [1, 2], 3)
    for at in (10_000, 0, 320):
        asked_before.batch(at, 64, 0)
    assert np.array_equal(asked_before.batch(640, 64, 0), first)
    assert not np.array_equal(MixedOrder(parts, [1, 2], 4).batch(640, 64, 0), first)
    assert not np.array_equal(MixedOrder(parts, [1, 2], 3).batch(640, 64, 1), first)


def test_parts_are_drawn_by_weight_and_each_by_epochs_of_its_own() -> None:
    small, large = np.arange(5), np.arange(5, 1000)
    order = MixedOrder([small, large], [3, 1], 0)
    seen = np.concatenate([order.batch(at, 64, 0) for at in range(0, 4 * PLACES, 64)])
    assert np.isin(seen, small).mean() == pytest.approx(0.75, abs=1e-9)
    for images in (small, large):
        theirs = seen[np.isin(seen, images)]
        for start in range(0, len(theirs) - len(images), len(images)):
            assert sorted(theirs[start : start + len(images)]) == images.tolist()


def test_without_parts_the_order_is_as_it_was(tmp_path: Path) -> None:
    """To the same bits: recipes of before train as before."""
    order = BatchOrder(np.arange(100, 150), seed=7)
    expected = [118, 103, 113, 140, 100, 147, 115, 143]
    assert order.batch(48, 8, 1).tolist() == expected


# --- training -------------------------------------------------------------------------------------


def test_a_run_that_is_stopped_ends_with_the_same_bits(tmp_path: Path) -> None:
    recipe = folders(tmp_path).with_values({"data.parts.0.weight": 3})
    whole = train(recipe, tmp_path / "whole")
    begun = train(recipe, tmp_path / "begun")
    hashes = [checkpoints(run.checkpoints)[0].facts["hashes"] for run in (whole, begun)]
    assert hashes[0] == hashes[1]
    shutil.rmtree(begun.checkpoints / "00000006")
    resumed = train(begun.recipe(), tmp_path / "begun", resume=True)
    assert checkpoints(resumed.checkpoints)[0].facts["hashes"] == hashes[0]
    assert resumed.read_json("dataset.json")["training_of_parts"][0] <= 4
    measured = [record for record in whole.records() if record["kind"] == "held_out"]
    assert {name for name, _ in measured[-1]["groups"]} <= {"image-folder small", "image-folder large"}
    assert all(np.isfinite(loss) for _, loss in measured[-1]["groups"])


def test_batches_hold_parts_by_weight(tmp_path: Path) -> None:
    recipe = folders(tmp_path).with_values({"data.parts.0.weight": 3})
    data = prepared(recipe)
    assert data.parts is not None
    order = order_of(data, recipe)
    seen = np.concatenate([order.batch(at, 8, 0) for at in range(0, PLACES, 8)])
    assert np.bincount(data.parts[seen]).tolist() == [768, 256]
    assert set(seen) == set(data.train)


def test_the_example_trains_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few = {
        "data.parts.0.most": 120, "data.parts.1.most": 150, "data.validation": 40, "model.width": 16,
        "model.blocks": "[1,1]", "training.steps": 3, "training.batch": 8,
        "training.checkpoint_every": 3, "sampling.steps": 2,
    }  # fmt: skip
    words = [word for key, value in few.items() for word in ("--set", f"{key}={value}")]
    assert main(["train", str(EXAMPLE), "--run", str(tmp_path / "run"), *words]) == 0
    assert "Finished at step 3" in capsys.readouterr().out
    run = Run(tmp_path / "run")
    assert run.recipe().data.source == "digits + captioned-shapes"
    told = run.read_json("dataset.json")
    assert told["images"] == 270
    assert len(told["training_of_parts"]) == 2
    assert told["classes"][9:11] == ["9", "circle"]
    out = tmp_path / "heart.png"
    assert main(["sample", str(run.path), "--condition", "heart", "--count", "2", "--out", str(out)]) == 0
    assert out.is_file()
