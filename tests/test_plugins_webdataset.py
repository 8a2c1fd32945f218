"""Tar shards: what samples tell, patterns of names, and archives that are damaged or mean harm."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imagen_workbench.core import Attribute, Bringing, DataError, Recipe
from imagen_workbench.core.data.rows import Aside, Row, row_of
from imagen_workbench.core.extensions import catalogue, make_source
from imagen_workbench.core.testing import DatasetContract
from imagen_workbench.core.worker.starting import with_whole_paths
from imagen_workbench.plugins.datasets import webdataset
from imagen_workbench.plugins.datasets.shard_names import expanded
from imagen_workbench.plugins.datasets.tar_shards import TarShards
from imagen_workbench.workbench.presenters.training import DATA_DELAY, TrainingPresenter
from imagen_workbench.workbench.presenters.ui_thread import ManualThread

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagen_workbench.core import Source
    from imagen_workbench.core.commands import ShowData


def picture(shade: int, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 6, 3), shade, np.uint8)).save(file, kind)
    return file.getvalue()


def packed(path: Path, files: Mapping[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def samples(first: int, count: int) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for k in range(first, first + count):
        files[f"{k:04d}.png"] = picture(20 * k)
        files[f"{k:04d}.cls"] = str(k % 3).encode()
        files[f"{k:04d}.txt"] = f"number {k}".encode()
    return files


def shards(folder: Path) -> Path:
    """Two, of four samples each."""
    for k in range(2):
        packed(folder / f"a-{k:03d}.tar", samples(4 * k, 4))
    return folder


def recipe(path: Path | str, **values: Any) -> Recipe:
    data = {"data.source": "webdataset", "data.path": str(path), "data.size": [6, 6], "data.channels": 3}
    return Recipe().with_values({**data, "data.validation": 1, "conditioning.scheme": "none", **values})


def source(path: Path | str) -> Source:
    return make_source(recipe(path))


def rows(path: Path | str) -> list[Row | Aside]:
    found, data = source(path), recipe(path).data
    return [row_of(found, index, data, None) for index in range(len(found))]


def names(found: Source) -> list[str]:
    return [found.name_of(index) for index in range(len(found))]


class TestShards(DatasetContract):
    def make_source(self, folder: Path) -> Source:
        if not (folder / "shards").exists():
            shards(folder / "shards")
            (folder / "shards" / "classes.txt").write_text("red\ngreen\nblue\n", encoding="utf-8")
        return source(folder / "shards")


# --- what samples tell ----------------------------------------------------------------------------


def test_files_of_one_name_are_one_sample(tmp_path: Path) -> None:
    found = source(shards(tmp_path))
    assert names(found) == [f"a-{k // 4:03d}.tar/{k:04d}" for k in range(8)]
    assert found.classes == ("0", "1", "2")
    assert found.fields == ("image", "label", "caption")
    for k in range(8):
        example = found[k]
        assert (example.label, example.caption) == (k % 3, f"number {k}")
        assert np.array_equal(np.asarray(example.image), np.full((6, 6, 3), 20 * k))


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_long_names_and_every_kind_of_header(tmp_path: Path, form: int) -> None:
    name = "/".join(["deep folder"] * 12) + "/ü picture" if form != tarfile.USTAR_FORMAT else "x" * 90
    files = {f"{name}.jpg": picture(90, "JPEG"), f"{name}.txt": b"far down", "b.webp": picture(10, "WEBP")}
    found = source(packed(tmp_path / "a.tar", files, form=form))
    assert names(found) == [f"a.tar/{name}", "a.tar/b"]
    assert found[0].caption == "far down"
    assert len(rows(tmp_path)) == 2


def test_tables_tell_captions_classes_and_attributes(tmp_path: Path) -> None:
    tables = [
        {"caption": "a  cat", "label": "cat", "age": 3, "mood": "calm", "size": 5},
        {"caption": "a dog", "label": "dog", "age": 7.5, "mood": "wild", "size": 5},
    ]
    files = {}
    for k, table in enumerate(tables):
        files |= {f"{k}.png": picture(k), f"{k}.json": json.dumps(table).encode()}
    found = source(packed(tmp_path / "a.tar", files))
    assert found.classes == ("cat", "dog")
    assert set(found.attributes) == {Attribute("age", low=3, high=7.5), Attribute("mood", ("calm", "wild"))}
    assert (found[0].caption, found[0].label, found[0].attributes) == ("a cat", 0, {"age": 3, "mood": "calm"})
    assert found[1].label == 1
    assert set(found.fields) == {"image", "label", "caption", "attributes"}


def test_classes_have_the_names_that_stand_beside_the_shards(tmp_path: Path) -> None:
    shards(tmp_path)
    (tmp_path / "classes.txt").write_text("red\n\ngreen\nblue\n", encoding="utf-8")
    found = source(tmp_path / "a-000.tar")
    before = found.fingerprint()
    assert found.classes == ("red", "green", "blue")
    assert found[1].label == 1
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\nblue\n", encoding="utf-8")
    assert source(tmp_path / "a-000.tar").fingerprint() != before
    with pytest.raises(DataError, match="twice"):
        _ = source(tmp_path / "a-000.tar").classes


def test_a_class_that_there_is_not_sets_its_sample_aside(tmp_path: Path) -> None:
    files = samples(0, 3) | {"x.png": picture(1), "x.cls": b"cat", "y.png": picture(2), "y.cls": b"999999999999"}
    packed(tmp_path / "a.tar", files)
    assert source(tmp_path).classes == ("0", "1", "2")
    reasons = [row.reason for row in rows(tmp_path) if isinstance(row, Aside)]
    assert reasons == ["its class 'cat' is none of 3", "its class '999999999999' is none of 3"]


def test_of_several_pictures_the_plain_one_is_taken(tmp_path: Path) -> None:
    files = {"0.mask.png": picture(1), "0.png": picture(2), "1.left.png": picture(3), "1.npy": b"", "._0.png": b"mac"}
    found = source(packed(tmp_path / "a.tar", files))
    assert [np.asarray(found[k].image)[0, 0, 0] for k in range(len(found))] == [2, 3]


# --- which archives -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a-{000..002}.tar", ["a-000.tar", "a-001.tar", "a-002.tar"]),
        ("a-{8..10}.tar", ["a-8.tar", "a-9.tar", "a-10.tar"]),
        ("{x,y}/{0..1}.tar", ["x/0.tar", "x/1.tar", "y/0.tar", "y/1.tar"]),
        ("{one}/a-{0..1}.tar", ["{one}/a-0.tar", "{one}/a-1.tar"]),
        ("plain.tar", ["plain.tar"]),
    ],
)
def test_braces_name_many_shards(pattern: str, expected: list[str]) -> None:
    assert list(expanded(pattern)) == expected


def test_a_pattern_a_file_and_a_folder_read_the_same(tmp_path: Path) -> None:
    shards(tmp_path)
    assert len(source(tmp_path)) == len(source(f"{tmp_path}/a-{{000..001}}.tar")) == 8
    assert names(source(tmp_path)) == names(source(f"{tmp_path}/a-{{000..001}}.tar"))
    assert len(source(tmp_path / "a-001.tar")) == 4


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("a-{000..002}.tar", "no such archive"),
        ("nowhere", "no such archive"),
        ("empty", "no tar archives"),
        ("{0..99999999999}.tar", "more than 100,000"),
        ("https://there/{000..010}.tar", "no file here"),
        ("pipe:touch executed", "no file here"),
    ],
)
def test_what_is_not_there_is_said(tmp_path: Path, path: str, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    shards(tmp_path)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=reason) as caught:
        len(source(path))
    assert caught.value.fix
    assert not (tmp_path / "executed").exists()


def test_archives_are_searched_once_for_all_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webdataset, "WORTH_KEEPING", 1)
    shards(tmp_path / "shards")
    table = {"caption": "a cat", "age": 3, "mood": "calm"}
    files = {f"{k}.{kind}": content for k in (1, 2) for kind, content in
             (("png", picture(k)), ("json", json.dumps(table | {"age": k}).encode()))}  # fmt: skip
    packed(tmp_path / "shards" / "b.tar", files)
    first = source(tmp_path / "shards")
    assert list(first.bring()) == [Bringing("Looking through archives", done, 3) for done in (1, 2, 3)]
    searched, search = [], TarShards.search
    monkeypatch.setattr(TarShards, "search", lambda *known: searched.append(1) or search(*known))
    second = source(tmp_path / "shards")
    assert list(second.bring()) == []
    assert not searched
    assert (len(second), names(second)) == (10, names(first))
    assert (second.classes, second.fields, second.attributes) == (first.classes, first.fields, first.attributes)
    assert second[8].attributes == {"age": 1, "mood": "calm"}
    os.utime(tmp_path / "shards" / "b.tar", ns=(1, 1))
    assert len(source(tmp_path / "shards")) == 10
    assert searched, "files that have changed are searched again"


# --- damage and harm ------------------------------------------------------------------------------


def test_names_that_climb_out_are_only_names(tmp_path: Path) -> None:
    place = tmp_path / "deep" / "deeper"
    files = {f"{name}.png": picture(k) for k, name in enumerate(("../../climbed", "/etc/x", "c:\\y", "a/../../b"))}
    packed(place / "a.tar", files)
    before = sorted(tmp_path.rglob("*"))
    assert all(isinstance(row, Row) for row in rows(place))
    assert sorted(tmp_path.rglob("*")) == before


def test_links_and_devices_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.png"
    secret.write_bytes(picture(1))
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind in (("0.png", tarfile.SYMTYPE), ("1.png", tarfile.LNKTYPE), ("2.png", tarfile.CHRTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, str(secret)
            archive.addfile(member)
        archive.add(secret, "3.png")
    found = rows(tmp_path / "a.tar")
    assert [row.reason for row in found if isinstance(row, Aside)] == [
        "0.png is a link, and none is followed",
        "1.png is a link, and none is followed",
    ]
    assert [row.name for row in found if isinstance(row, Row)] == ["a.tar/3"]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
            return (tmp_path / "executed").touch, ()

    trap = pickle.dumps(Trap())
    files = {"0.png": picture(1), **{f"0.{suffix}": trap for suffix in ("pyd", "pth", "pickle", "npy", "json", "cls")}}
    packed(tmp_path / "a.tar", files)
    assert all(isinstance(row, Aside) for row in rows(tmp_path))
    assert not (tmp_path / "executed").exists()


def test_a_truncated_archive_keeps_what_is_whole(tmp_path: Path) -> None:
    whole = packed(tmp_path / "a.tar", samples(0, 4)).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as archive:
        second, last = archive.getmember("0001.png"), archive.getmember("0003.png")
    (tmp_path / "a.tar").write_bytes(whole[: last.offset_data + 20])
    found = rows(tmp_path)
    assert [type(row) for row in found] == [Row, Row, Row, Aside]
    assert found[3] == Aside("a.tar/0003", "the archive is cut off within 0003.png")
    (tmp_path / "a.tar").write_bytes(whole[: second.offset] + b"x" * 512 + whole[second.offset + 512 :])
    first, rest = rows(tmp_path)
    assert isinstance(first, Row)
    assert rest == Aside(f"a.tar/from byte {second.offset:,} on", f"the archive is damaged at byte {second.offset:,}")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no tar archive"),
        (b"I am no archive", "no tar archive"),
        (b"x" * 5000, "no tar archive"),
        (gzip.compress(b"x" * 5000), "compressed with gzip"),
        (b"\0" * 1024, ""),
    ],
)
def test_a_file_that_is_no_archive_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    packed(tmp_path / "a.tar", samples(0, 2))
    (tmp_path / "b.tar").write_bytes(content)
    found = rows(tmp_path)
    assert [row.name for row in found if isinstance(row, Row)] == ["a.tar/0000", "a.tar/0001"]
    aside = [row for row in found if isinstance(row, Aside)]
    assert [row.name for row in aside] == ["b.tar/from byte 0 on"][: bool(reason)]
    assert all(reason in row.reason for row in aside)


def test_a_compressed_archive_says_what_to_do(tmp_path: Path) -> None:
    packed(tmp_path / "a.tar.gz", samples(0, 2), "w:gz")
    reason = "the archive is compressed with gzip; unpack it to a plain .tar"
    assert rows(tmp_path) == [Aside("a.tar.gz/from byte 0 on", reason)]


def test_sizes_beyond_all_measure_take_no_memory(tmp_path: Path) -> None:
    """A header that claims a terabyte, and a table of a megabyte."""
    header = tarfile.TarInfo("0.png")
    header.size = 1 << 40
    (tmp_path / "a.tar").write_bytes(header.tobuf(tarfile.GNU_FORMAT) + picture(1))
    packed(tmp_path / "b.tar", {"0.png": picture(1), "0.json": b"[" * (1 << 20)})
    packed(tmp_path / "c.tar", {"0.png": picture(1), "0.json": b"[" * 60_000})
    reasons = [row.reason for row in rows(tmp_path) if isinstance(row, Aside)]
    assert ["bytes" in reason or "JSON" in reason for reason in reasons] == [True] * 3


def test_pictures_that_cannot_be_decoded_are_set_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = io.BytesIO()
    Image.new("L", (12, 12)).save(bomb, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    files = {"0.png": picture(1), "1.png": picture(2)[:40], "2.png": b"", "3.png": b"text", "4.png": bomb.getvalue()}
    packed(tmp_path / "a.tar", files)
    found = rows(tmp_path)
    assert [type(row) for row in found] == [Row, *[Aside] * 4]
    assert all(row.reason for row in found if isinstance(row, Aside))


@settings(max_examples=40)
@given(at=st.integers(0, 6000), content=st.binary(min_size=1, max_size=600))
def test_whatever_bytes_stand_in_it_only_samples_are_lost(
    tmp_path_factory: pytest.TempPathFactory, at: int, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "mutated.tar"
    whole = packed(path, samples(0, 2)).read_bytes()
    path.write_bytes((whole[:at] + content + whole[at + len(content) :])[: len(whole)])
    found = source(path)
    _ = found.classes, found.attributes, found.fingerprint()
    for row in rows(path):
        assert isinstance(row, Row) or row.reason


# --- to the end -----------------------------------------------------------------------------------


def test_shards_are_trained_on_from_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from imagen_workbench.workbench.cli import main

    shards(tmp_path / "shards")
    packed(tmp_path / "shards" / "a-001.tar", samples(4, 4) | {"x.png": b"no picture"})
    monkeypatch.chdir(tmp_path)
    small = {"width": 8, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2}
    values = [
        "data.source=webdataset", "data.path=shards/a-{000..001}.tar", "data.size=[6,6]", "data.channels=3",
        "data.validation=2", "training.steps=2", "training.batch=4", "training.micro_batch=4",
        *(f"model.{key}={json.dumps(value)}" for key, value in small.items()),
    ]  # fmt: skip
    sets = [part for value in values for part in ("--set", value)]
    assert main(["train", "tiny", "--run", "run", *sets]) == 0, capfd.readouterr()
    kept = json.loads(Path("run/dataset.json").read_text(encoding="utf-8"))
    assert (kept["images"], kept["classes"]) == (8, ["0", "1", "2"])
    assert kept["set_aside"] == [["a-001.tar/x", "cannot be read: not an image that Pillow knows"]]


# --- the window's and the panel's form ------------------------------------------------------------


def test_a_pattern_can_be_typed_into_the_form(tmp_path: Path) -> None:
    """Of every source that the faces offer, as the real catalogue tells of it."""
    asked: list[ShowData] = []
    desk = TrainingPresenter(asked.append, lambda: len(asked) + 1, ui := ManualThread())  # type: ignore[arg-type]
    desk.on_event(catalogue(1))
    desk.set("data.source", "webdataset")
    assert dict(desk.state.errors)["data.path"]
    desk.set("data.path", f"{shards(tmp_path)}/a-{{000..001}}.tar")
    desk.set("data.size", "6, 6")
    ui.advance(DATA_DELAY)
    assert "data.path" not in dict(desk.state.errors)
    assert len(make_source(asked[-1].recipe)) == 8
    for name, typed in (("hugging-face", "hf://owner/name"), ("hugging-face-streaming", "hf://owner/name")):
        desk.set("data.source", name)
        desk.set("data.path", typed)
        desk.set("data.options.caption", "words")
        ui.advance(DATA_DELAY)
        assert not desk.state.errors
        data = with_whole_paths(asked[-1].recipe).data
        assert (data.source, data.path, data.options["caption"]) == (name, typed, "words")
    desk.set("data.source", "hugging-face")
    desk.set("data.options.attributes", "age, mood")
    assert desk.state.recipe.data.options["attributes"] == ["age", "mood"]
