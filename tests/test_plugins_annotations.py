"""Captions, classes and attributes that lie beside the images of a folder."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core import Attribute, DataError, Recipe
from imagen_workbench.core.datasets import read
from imagen_workbench.core.extensions import make_source

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core import Source


def picture(path: Path, value: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 6), value, np.uint8)).save(path)
    return path


def recipe(folder: Path, **values: object) -> Recipe:
    data = {"data.source": "image-folder", "data.path": str(folder), "data.size": [6, 6], "data.validation": 1}
    return Recipe().with_values({**data, "conditioning.scheme": "none", **values})


def source(folder: Path) -> Source:
    return make_source(recipe(folder))


def test_a_text_file_of_the_image_s_name_is_its_caption(tmp_path: Path) -> None:
    picture(tmp_path / "a.png").with_suffix(".txt").write_text("\ufeffa red\n  cat \n", encoding="utf-8")
    picture(tmp_path / "b.png")
    (tmp_path / "notes.txt").write_text("of no image", encoding="utf-8")
    found = source(tmp_path)
    assert "caption" in found.fields
    assert [found[index].caption for index in range(len(found))] == ["a red cat", None]
    before = found.fingerprint()
    (tmp_path / "a.txt").write_text("a blue cat and more", encoding="utf-8")
    assert source(tmp_path).fingerprint() != before


def test_without_captions_there_is_no_such_field(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    assert source(tmp_path).fields == ("image",)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_table_tells_captions_classes_and_attributes(tmp_path: Path, kind: str) -> None:
    for name in ("a.png", "deep/b.png", "c.png"):
        picture(tmp_path / name)
    rows = [
        {"file_name": "a.png", "text": "a cat", "label": "cat", "age": 3, "mood": "calm"},
        {"file_name": "deep/b.png", "text": "a dog, sitting", "label": "dog", "age": 7.5, "mood": "wild"},
    ]
    if kind == "jsonl":
        text = "".join(json.dumps(row) + "\n" for row in rows)
    else:
        text = 'file_name,text,label,age,mood\na.png,a cat,cat,3,calm\ndeep/b.png,"a dog, sitting",dog,7.5,wild\n'
    (tmp_path / f"metadata.{kind}").write_text(text, encoding="utf-8")
    found = source(tmp_path)
    by_name = {found.name_of(index): found[index] for index in range(len(found))}
    assert by_name["a.png"].caption == "a cat"
    assert by_name["deep/b.png"].caption == "a dog, sitting"
    assert by_name["c.png"].caption is None
    assert set(found.attributes) == {Attribute("age", low=3, high=7.5), Attribute("mood", ("calm", "wild"))}
    assert float(by_name["deep/b.png"].attributes["age"]) == 7.5
    assert found.classes == ("deep",), "subfolders go before a column"
    assert set(found.fields) == {"image", "label", "attributes", "caption"}


def test_a_column_names_the_classes_where_there_are_no_subfolders(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        picture(tmp_path / name)
    lines = ['{"file_name": "a.png", "label": "猫"}', '{"file_name": "b.png", "label": "dog"}', ""]
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = source(tmp_path)
    assert found.classes == ("dog", "猫")
    assert [found[index].label for index in range(2)] == [1, 0]


def test_a_table_in_a_subfolder_names_images_from_there(tmp_path: Path) -> None:
    picture(tmp_path / "cats" / "a.png")
    (tmp_path / "cats" / "metadata.csv").write_text("file_name,caption\na.png,asleep\n", encoding="utf-8")
    assert source(tmp_path)[0].caption == "asleep"


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"file_name": "a.png"\n', "line 1 is no JSON"),
        ("[1, 2]\n", "line 1 is no JSON object"),
        ('{"text": "x"}\n', "row 1 has no file_name"),
    ],
)
def test_a_table_that_cannot_be_used_is_named(tmp_path: Path, text: str, what: str) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=what) as caught:
        _ = source(tmp_path).classes
    assert "metadata.jsonl" in str(caught.value)
    assert caught.value.fix


def test_training_by_text_sets_aside_what_has_none(tmp_path: Path) -> None:
    for number in range(4):
        image = picture(tmp_path / f"{number}.png", 40 * number)
        if number:
            image.with_suffix(".txt").write_text(f"number {number}", encoding="utf-8")
    (tmp_path / "3.txt").write_bytes(b"\xff\xfe\x00 no text")
    data = read(recipe(tmp_path, **{"conditioning.scheme": "text"}))
    assert len(data.pixels) == 2
    reasons = dict(data.set_aside)
    assert reasons["0.png"] == "has no caption"
    assert "3.txt cannot be read as text" in reasons["3.png"]
