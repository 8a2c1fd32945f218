"""Hugging Face datasets, from files on this machine; what is said where there are none, and that nobody is told."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core import Attribute, DataError, PluginError, Recipe
from imagen_workbench.core.data.rows import Aside, Row, row_of, row_of_example
from imagen_workbench.core.extensions import make_source
from imagen_workbench.core.testing import DatasetContract, StreamContract
from imagen_workbench.core.testing.elsewhere import example_digest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

datasets = pytest.importorskip("datasets")
tqdm = pytest.importorskip("tqdm").tqdm

COUNT = 12


@pytest.fixture(autouse=True)
def library_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The library keeps what it prepares in this test's own folder, also in other processes; and no network."""
    home = tmp_path / "hugging face"
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", home / "datasets")
    monkeypatch.setattr(socket.socket, "connect", lambda *_: pytest.fail("it went to the network"))
    monkeypatch.setattr(tqdm, "monitor_interval", 0)  # its thread would stay
    return home


def table(count: int = COUNT) -> Any:
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "kind": datasets.ClassLabel(names=["cat", "dog"]),
            "text": datasets.Value("string"),
            "age": datasets.Value("int32"),
            "mood": datasets.Value("string"),
            "word": datasets.Value("string"),
        }
    )
    rows = {
        "picture": [Image.fromarray(np.full((6, 6, 3), 20 * k, np.uint8)) for k in range(count)],
        "kind": [k % 2 for k in range(count)],
        "text": [f"number {k}" for k in range(count)],
        "age": list(range(count)),
        "mood": [("calm", "wild", "shy")[k % 3] for k in range(count)],
        "word": [str(k % 3) for k in range(count)],
    }
    return datasets.Dataset.from_dict(rows, features=features)


def parquet(folder: Path, count: int = COUNT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    table(count).to_parquet(str(folder / "train.parquet"))
    return folder / "train.parquet"


def saved(folder: Path) -> Path:
    table().save_to_disk(str(folder / "saved"))
    return folder / "saved"


def saved_splits(folder: Path) -> Path:
    datasets.DatasetDict({"train": table(), "test": table(4)}).save_to_disk(str(folder / "splits"))
    return folder / "splits"


def parquet_folder(folder: Path) -> Path:
    parquet(folder / "parquet")
    table(4).to_parquet(str(folder / "parquet" / "test.parquet"))
    return folder / "parquet"


def recipe(path: Path | str, source: str = "hugging-face", **options: Any) -> Recipe:
    data = {"source": source, "path": str(path), "size": [6, 6], "channels": 3, "validation": 1, "options": options}
    return Recipe.of({"data": data, "conditioning": {"scheme": "none"}})


def made(path: Path | str, source: str = "hugging-face", **options: Any) -> Any:
    return make_source(recipe(path, source, **options))


def rows(path: Path | str, **options: Any) -> list[Row | Aside]:
    source, data = made(path, **options), recipe(path).data
    return [row_of(source, index, data, None) for index in range(len(source))]


class TestFolder(DatasetContract):
    looked_at = 2  # each other process takes seconds to import the library

    def make_source(self, folder: Path) -> Any:
        if not (folder / "parquet").exists():
            parquet_folder(folder)
        return made(folder / "parquet", attributes=["age", "mood"])


class TestStreaming(StreamContract):
    looked_at = 6

    def make_stream(self, folder: Path) -> Any:
        if not (folder / "parquet").exists():
            parquet_folder(folder)
        return made(folder / "parquet", "hugging-face-streaming")

    @pytest.mark.slow
    def test_same_bytes_in_another_process(self, tmp_path: Path) -> None:
        super().test_same_bytes_in_another_process(tmp_path)


# --- what lies here -------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [parquet, parquet_folder, saved, saved_splits])
def test_files_and_folders_are_read(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    source = made(make(tmp_path), attributes=["mood", "age"])
    assert len(source) == COUNT
    assert source.classes == ("cat", "dog")
    assert source.attributes == (Attribute("mood", ("calm", "shy", "wild")), Attribute("age", low=0, high=COUNT - 1))
    assert set(source.fields) == {"image", "label", "caption", "attributes"}
    for k in (0, 5, COUNT - 1):
        example = source[k]
        assert (example.label, example.caption) == (k % 2, f"number {k}")
        assert example.attributes == {"age": k, "mood": ("calm", "wild", "shy")[k % 3]}
        assert np.array_equal(np.asarray(example.image), np.full((6, 6, 3), 20 * k))


@pytest.mark.parametrize("make", [parquet_folder, saved_splits])
def test_a_split_is_chosen(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    assert len(made(path, split="test")) == 4
    with pytest.raises(DataError, match="split") as caught:
        len(made(path, split="elsewhere"))
    assert "test" in str(caught.value)


def test_a_folder_of_images_with_its_table(tmp_path: Path) -> None:
    folder, lines = tmp_path / "pictures", []
    folder.mkdir()
    for k in range(3):
        Image.new("L", (6, 6), 40 * k).save(folder / f"{k}.png")
        lines.append(json.dumps({"file_name": f"{k}.png", "text": f"number {k}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    source = made(folder)
    assert [source[k].caption for k in range(3)] == ["number 0", "number 1", "number 2"]
    assert all(isinstance(row, Row) for row in rows(folder))


def test_columns_can_be_named(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    source = made(path, label="word", caption="mood")
    assert source.classes == ("0", "1", "2")
    assert [source[k].label for k in range(4)] == [0, 1, 2, 0]
    assert source[1].caption == "wild"
    for option in ("image", "label", "caption", "attributes"):
        value = ["nothing"] if option == "attributes" else "nothing"
        with pytest.raises(DataError, match="no column 'nothing'") as caught:
            _ = made(path, **{option: value}).fields, made(path, **{option: value})._image
        assert caught.value.field == f"data.options.{option}"
        assert "mood" in caught.value.fix
    with pytest.raises(DataError, match="picture is no attribute"):
        _ = made(path, attributes=["picture"]).attributes


def test_arrays_bytes_and_paths_are_pictures_too(tmp_path: Path) -> None:
    """As other programs write them, without the library's note of what is a picture."""
    Image.new("RGB", (6, 6), (10, 20, 30)).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    array = np.full((6, 6, 3), (10, 20, 30), np.uint8).tolist()
    for name, value, options in (
        ("bytes", {"image": [content]}, {}),
        ("both", {"image": [{"bytes": content, "path": None}]}, {}),
        ("array", {"image": [array]}, {"image": "image"}),
        ("path", {"file": ["a.png"]}, {"image": "file"}),
    ):
        datasets.Dataset.from_dict(value).to_parquet(str(tmp_path / f"{name}.parquet"))
        (row,) = rows(tmp_path / f"{name}.parquet", **options)
        assert isinstance(row, Row), (name, row)
        assert row.pixels[:, 0, 0].tolist() == [10, 20, 30], name


def test_damaged_pictures_are_set_aside_by_name(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.new("L", (6, 6)).save(good)
    features = datasets.Features({"image": datasets.Image()})
    cells = [good.read_bytes(), b"no picture", good.read_bytes()[:40], b"", None]
    made_of = [None if cell is None else {"bytes": cell, "path": None} for cell in cells]
    datasets.Dataset.from_dict({"image": made_of}, features=features).to_parquet(str(tmp_path / "x.parquet"))
    first, *rest = rows(tmp_path / "x.parquet")
    assert isinstance(first, Row)
    assert [type(row) for row in rest] == [Aside] * 4
    assert rest[0] == Aside("row 1", "cannot be read: not an image that Pillow knows")
    assert rest[3].reason == "has no image"
    stream = made(tmp_path / "x.parquet", "hugging-face-streaming")
    told = [row_of_example(example, "it", 0, recipe("").data, None) for _, example in stream.examples(None)]
    assert [type(row) for row in told] == [Row, *[Aside] * 4]


def test_other_files_are_another_dataset(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    before = made(path).fingerprint()
    assert before == made(path).fingerprint()
    parquet(tmp_path, COUNT + 1)
    assert made(path).fingerprint() not in ("", before)


@pytest.mark.parametrize("source", ["hugging-face", "hugging-face-streaming"])
def test_a_picture_that_moves_to_another_class_makes_another_dataset(tmp_path: Path, source: str) -> None:
    path = pictures(tmp_path)
    for k in range(COUNT // 2):
        (path / "dog" / f"{k}.png").rename(path / "dog" / f"{k + 6}.png")
    before = made(path, source).fingerprint()
    (path / "cat" / "5.png").rename(path / "dog" / "5.png")  # the names are in the same order as before
    assert made(path, source).fingerprint() != before


def pictures(folder: Path) -> Path:
    for kind in ("cat", "dog"):
        (folder / "pictures" / kind).mkdir(parents=True)
        for k in range(COUNT // 2):
            Image.new("L", (6, 6), 20 * k).save(folder / "pictures" / kind / f"{k}.png")
    return folder / "pictures"


@pytest.mark.parametrize("make", [parquet, parquet_folder, saved, saved_splits, pictures])
def test_a_stream_gives_what_the_whole_has_and_goes_on_anywhere(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    whole, stream = made(path), made(path, "hugging-face-streaming")
    assert (stream.classes, stream.fields) == (whole.classes, whole.fields)
    assert stream.fingerprint() == made(path, "hugging-face-streaming").fingerprint() != ""
    expected = [example_digest(whole[k]) for k in range(COUNT)]
    told = list(stream.examples(None))
    assert [example_digest(example) for _, example in told] == expected
    for at in (0, 4, COUNT - 1):
        rest = made(path, "hugging-face-streaming").examples(json.loads(json.dumps(told[at][0])))
        assert [example_digest(example) for _, example in rest] == expected[at + 1 :]


def test_a_stream_needs_classes_with_names(tmp_path: Path) -> None:
    path = parquet(tmp_path)
    stream = made(path, "hugging-face-streaming")
    assert stream.classes == ("cat", "dog")
    with pytest.raises(DataError, match="only known once all is read"):
        _ = made(path, "hugging-face-streaming", label="word").classes


# --- what does not --------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["hugging-face", "hugging-face-streaming"])
@pytest.mark.parametrize(
    "name", ["hf://owner/name", "hf://datasets/owner/name@main", "https://huggingface.co/datasets/a/b"]
)
def test_nothing_is_downloaded_unasked(source: str, name: str) -> None:
    with pytest.raises(DataError) as caught:
        _ = made(name, source).classes
    assert caught.value.file == name
    assert "data.options.download" in caught.value.fix


def test_the_network_is_open_only_where_it_was_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not even then is anything counted or reported; afterwards all is as it was."""
    from datasets import config
    from huggingface_hub import constants

    seen = []

    def load(name: str, config_name: str | None, **_: Any) -> Any:
        seen.append((name, constants.HF_HUB_OFFLINE, config.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY))
        assert not config.HF_UPDATE_DOWNLOAD_COUNTS
        return table()

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    before = constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY, config.HF_UPDATE_DOWNLOAD_COUNTS
    assert len(made("hf://owner/name")) == len(made("hf://owner/name", download=True)) == COUNT
    assert seen == [("owner/name", True, True, True), ("owner/name", False, False, True)]
    assert before == (constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_TELEMETRY, config.HF_UPDATE_DOWNLOAD_COUNTS)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert len(made("hf://owner/name", download=True)) == COUNT
    assert seen[-1][1], "who has switched the network off for the library has switched it off"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("nowhere", "no such file or folder"), ("notes.pkl", "no file of a known format"), ("hf://name", "no such file")],
)
def test_what_is_not_there_is_said(tmp_path: Path, path: str, reason: str) -> None:
    (tmp_path / "notes.pkl").write_bytes(b"pickled")
    with pytest.raises(DataError, match=reason) as caught:
        len(made(path if "://" in path else tmp_path / path))
    assert "hf://owner/name" in caught.value.fix


def test_a_folder_s_own_script_is_not_run(tmp_path: Path) -> None:
    folder = tmp_path / "scripted"
    folder.mkdir()
    (folder / "scripted.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be opened"):
        len(made(folder))
    assert not (tmp_path / "executed").exists()


def test_without_the_library_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(PluginError, match="not installed") as caught:
        len(made(tmp_path))
    assert caught.value.fix == "Install it: pip install 'imagen-workbench[datasets]'"


def test_the_catalogue_does_not_import_the_library() -> None:
    asked = (
        "import sys; from imagen_workbench.core.extensions import datasets; "
        "kinds = [plugin.loaded for plugin in datasets().values() if plugin.is_ours]; "
        "print(len(kinds), [name for name in ('datasets', 'pyarrow', 'torchvision', 'torch') if name in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert told.stdout.strip().endswith(" []"), told.stdout


# --- to the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["hugging-face", pytest.param("hugging-face-streaming", marks=pytest.mark.slow)])
def test_a_parquet_file_is_trained_on_from_the_command_line(
    tmp_path: Path, source: str, capfd: pytest.CaptureFixture[str]
) -> None:
    from imagen_workbench.workbench.cli import main

    small = {"width": 8, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2}
    values = [
        f"data.source={source}", f"data.path={parquet(tmp_path)}", "data.size=[6,6]", "data.channels=3",
        "data.validation=2", "data.most=10", "training.steps=2", "training.batch=4", "training.micro_batch=4",
        *(f"model.{key}={json.dumps(value)}" for key, value in small.items()),
    ]  # fmt: skip
    sets = [part for value in values for part in ("--set", value)]
    assert main(["train", "tiny", "--run", str(tmp_path / "run"), *sets]) == 0, capfd.readouterr()
    kept = json.loads((tmp_path / "run" / "dataset.json").read_text(encoding="utf-8"))
    assert (kept["images"], kept["classes"], kept["set_aside"]) == (10, ["cat", "dog"], [])
