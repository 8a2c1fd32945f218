"""The recipe: there and back, and errors that name the field, the value and the remedy."""

from __future__ import annotations

import tomllib
import typing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydantic import BaseModel

from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.errors import RecipeError
from imagen_workbench.core.extensions import bundled_recipes, datasets, make_scheme, make_source
from imagen_workbench.core.recipe import Recipe, Section, known_keys, parse_setting

if typing.TYPE_CHECKING:
    from pathlib import Path

SECTIONS = {
    name: info.annotation
    for name, info in Recipe.model_fields.items()
    if isinstance(info.annotation, type) and issubclass(info.annotation, Section)
}
FIELDS = [(section, name) for section, kind in SECTIONS.items() for name in kind.model_fields]


def schema(section: str, name: str) -> dict[str, Any]:
    """A field's JSON schema; of one that may be empty, the part that says what it is else."""
    whole = SECTIONS[section].model_json_schema()["properties"][name]
    inner = [part for part in whole.get("anyOf", []) if part.get("type") != "null"]
    return {**whole, **inner[0]} if inner else whole


def faulty(values: dict[str, Any]) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        Recipe().with_values(values)
    return caught.value


# --- there and back -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(bundled_recipes()))
def test_bundled_recipes_are_whole(name: str, tmp_path: Path) -> None:
    recipe = Recipe.read(bundled_recipes()[name])
    assert recipe.name == name
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    if datasets()[recipe.data.source].loaded.needs_path:
        Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
        (tmp_path / "class").mkdir()
        Image.new("RGB", (8, 8)).save(tmp_path / "class" / "two.png")
        recipe = recipe.with_values({"data.path": str(tmp_path)})
    source = make_source(recipe)
    assert source.classes
    make_scheme(recipe, Facts(source.classes, size=recipe.data.size, channels=recipe.data.channels))


def test_toml_there_and_back() -> None:
    recipe = Recipe.of(
        {
            "name": 'quotes " and ä',
            "data": {
                "source": "image-folder",
                "path": "C:\\bilder\\ä",
                "size": [24, 40],
                "options": {"deep": {"x": [1, 2]}},
            },
            "model": {"multipliers": [1, 2, 4], "blocks": [1, 2, 3], "attention": [1, 2]},
            "sampling": {"ema": 0.0, "guidance": 1},
        }
    )
    assert Recipe.from_toml(recipe.to_toml()) == recipe
    assert tomllib.loads(recipe.to_toml())["data"]["path"] == "C:\\bilder\\ä"


def test_what_is_empty_stays_empty() -> None:
    assert "ema" not in tomllib.loads(Recipe().to_toml())["sampling"]
    assert Recipe.from_toml(Recipe().to_toml()).sampling.ema is None
    assert Recipe.from_toml("") == Recipe()


@given(
    steps=st.integers(1, 100_000_000),
    rate=st.floats(1e-8, 0.05),
    seed=st.integers(0, 2**63 - 1),
    name=st.text(st.characters(exclude_characters="/\\\x00", exclude_categories=["Cs"]), min_size=1, max_size=40),
    size=st.tuples(st.integers(4, 1024), st.integers(4, 1024)),
)
def test_any_recipe_comes_back(steps: int, rate: float, seed: int, name: str, size: tuple[int, int]) -> None:
    recipe = Recipe.of(
        {"name": name, "data": {"size": size}, "training": {"steps": steps, "learning_rate": rate, "seed": seed}}
    )
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Recipe().training.steps = 3  # type: ignore[misc]


def test_reading_a_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('name = "mine"\n[training]\nsteps = 7\n', encoding="utf-8")
    assert Recipe.read(tmp_path / "r.toml").training.steps == 7


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such"),
        (b"[training\n", "line 1"),
        (b"\xff\xfe", "text"),
        (b"[training]\nsteps = 0\n", "0"),
        (b"[training]\nstepz = 3\n", "unknown"),
    ],
)
def test_files_that_cannot_be_used_are_named(tmp_path: Path, content: bytes | None, words: str) -> None:
    path = tmp_path / "r.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        Recipe.read(path)
    assert caught.value.file == str(path)
    assert words in str(caught.value)


def test_a_folder_is_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        Recipe.read(tmp_path)
    assert caught.value.file == str(tmp_path)


# --- what is wrong, where, and what to do ---------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("training.stepz", "training.steps"),
        ("training.learning_rat", "training.learning_rate"),
        ("sampling.guidence", "sampling.guidance"),
        ("data.sise", "data.size"),
        ("trainig.steps", "training.steps"),
        ("trainig", "training"),
        ("data.guidance", "sampling.guidance"),
        ("nme", "name"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(typed: str, meant: str) -> None:
    error = faulty({typed: 5})
    assert error.field == typed
    assert error.what == "unknown key"
    assert error.fix == f"Did you mean {meant}?"


def test_an_unknown_key_far_from_all_is_answered_with_what_there_is() -> None:
    assert "training, sampling" in faulty({"zzzzzz": 1}).fix
    assert "training.steps, " in faulty({"zzzzzz.qqqqqq": 1}).fix


@pytest.mark.parametrize(("section", "name"), FIELDS, ids=lambda value: str(value))
def test_every_field_explains_itself(section: str, name: str) -> None:
    info = SECTIONS[section].model_fields[name]
    assert info.title
    assert len(info.title) <= 20
    assert info.description
    assert info.description.endswith(".")
    assert not info.is_required()
    assert isinstance(info.json_schema_extra, dict)
    assert "unit" in info.json_schema_extra


@pytest.mark.parametrize(("section", "name"), FIELDS, ids=lambda value: str(value))
def test_every_default_is_within_its_own_limits(section: str, name: str) -> None:
    """Validated like anything that a person writes."""
    info = SECTIONS[section].model_fields[name]
    default = info.get_default(call_default_factory=True)
    tables = {} if default is None else {section: {name: default}}
    assert getattr(getattr(Recipe.of(tables), section), name) == default


NUMBERS = [
    (section, name)
    for section, name in FIELDS
    if schema(section, name).get("type") in ("integer", "number") and "enum" not in schema(section, name)
]


@pytest.mark.parametrize(("section", "name"), NUMBERS, ids=lambda value: str(value))
def test_every_limit_is_kept_and_said(section: str, name: str) -> None:
    """Beyond each limit: the field, the value, and a remedy that names the limit or says what happens there."""
    limits, key = schema(section, name), f"{section}.{name}"
    whole = limits["type"] == "integer"
    low, above_low = limits.get("minimum"), limits.get("exclusiveMinimum")
    high, below_high = limits.get("maximum"), limits.get("exclusiveMaximum")
    assert low is not None or above_low is not None, "a number without a lower limit"
    beyond = [low - 1 if low is not None else above_low]
    if high is not None or below_high is not None:
        beyond.append(high * 2 + 1 if high is not None else below_high)
    for value in beyond:
        error = faulty({key: int(value) if whole else float(value)})
        assert error.field == key
        assert f"{value:g}" in error.what.replace(".0", "") or str(value) in error.what
        assert error.fix
    for value in (low, high):
        if value is not None:
            assert getattr(getattr(Recipe().with_values({key: value} | beside(key, value)), section), name) == value


def beside(key: str, value: float) -> dict[str, Any]:
    """What must go with a value at its limit."""
    return {"sampling.sigma_max": value * 2} if key == "sampling.sigma_min" else {}


@pytest.mark.parametrize(("section", "name"), NUMBERS, ids=lambda value: str(value))
@pytest.mark.parametrize("value", ["many", float("nan"), float("inf"), [1]])
def test_what_is_no_number_is_refused(section: str, name: str, value: object) -> None:
    key = f"{section}.{name}"
    error = faulty({key: value})
    assert error.field == key
    assert error.fix


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        ({"training.learning_rate": 0.5}, "training.learning_rate", "diverges"),
        ({"sampling.sampler": "huen"}, "sampling.sampler", "heun"),
        ({"data.channels": 0}, "data.channels", "At least 1"),
        ({"data.size": [3, 28]}, "data.size.0", "At least 4"),
        ({"data.size": 28}, "data.size", "list"),
        ({"data.validation": 1.5}, "data.validation", "whole number"),
        ({"model.blocks": [1]}, "model.blocks", "each level"),
        ({"model.attention": [3]}, "model.attention", "coarsest is 1"),
        ({"sampling.sigma_min": 9, "sampling.sigma_max": 8}, "sampling.sigma_min", "lower"),
        ({"data.flip": "perhaps"}, "data.flip", "true or false"),
        ({"name": ""}, "name", ""),
        ({"name": "a/b"}, "name", ""),
        ({"name": 7}, "name", "text"),
        ({"version": 3}, "version", "2"),
        ({"training": 3}, "training", ""),
    ],
)
def test_faults_have_place_and_remedy(values: dict[str, Any], field: str, words: str) -> None:
    error = faulty(values)
    assert error.field == field
    assert error.fix
    assert words.lower() in f"{error.what} {error.fix}".lower()
    line = str(error)
    assert line.startswith(f"{field}: ")
    assert "\n" not in line
    assert ".." not in line
    assert not line.endswith(("?.", "!."))


# --- settings from the command line ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("training.steps=100", ("training.steps", 100)),
        (" training.steps = 100 ", ("training.steps", 100)),
        ("training.learning_rate=1e-3", ("training.learning_rate", 0.001)),
        ("data.size=[32, 48]", ("data.size", [32, 48])),
        ("data.flip=true", ("data.flip", True)),
        ("sampling.sampler=heun", ("sampling.sampler", "heun")),
        ('sampling.sampler="heun"', ("sampling.sampler", "heun")),
        ("data.path=/photos/a=b", ("data.path", "/photos/a=b")),
        ("data.path=C:\\photos", ("data.path", "C:\\photos")),
        ("data.path=", ("data.path", "")),
    ],
)
def test_settings_are_toml_or_else_text(text: str, expected: tuple[str, Any]) -> None:
    assert parse_setting(text) == expected


@pytest.mark.parametrize("text", ["training.steps", "=3", "", "  = 4"])
def test_what_is_no_setting_says_how_to_write_one(text: str) -> None:
    with pytest.raises(RecipeError) as caught:
        parse_setting(text)
    assert "training.steps=2000" in caught.value.fix


def test_values_replace_and_none_empties() -> None:
    recipe = Recipe().with_values({"training.steps": 7, "sampling.ema": 0.1, "data.options": {"a": 1}})
    assert (recipe.training.steps, recipe.sampling.ema, recipe.data.options) == (7, 0.1, {"a": 1})
    again = recipe.with_values({"sampling.ema": None, "training.steps": None, "data.options.b": 2})
    assert (again.sampling.ema, again.training.steps) == (None, Recipe().training.steps)
    assert again.data.options == {"a": 1, "b": 2}
    assert recipe.training.steps == 7


def test_known_keys_are_all_and_only_those_that_can_be_set() -> None:
    keys = known_keys()
    assert len(keys) == len(set(keys)) == len(FIELDS) + len(("version", "name", "stages"))
    whole = Recipe().model_dump(mode="json")
    for key in keys:
        section, _, leaf = key.partition(".")
        value = whole[section][leaf] if leaf else whole[section]
        assert Recipe().with_values({key: value}) == Recipe()


def test_forms_can_be_made_of_every_field() -> None:
    """Only what a form can show: numbers, texts, choices, switches, short lists, and plugins' own tables."""
    for section, name in FIELDS:
        kind = schema(section, name).get("type", "enum" if "enum" in schema(section, name) else "")
        assert kind in ("integer", "number", "string", "boolean", "array", "object", "enum"), (
            f"{section}.{name}: {kind}"
        )
    assert typing.get_type_hints(Recipe)
    assert issubclass(Section, BaseModel)
