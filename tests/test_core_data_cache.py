"""The split and the cache: what is held out, what is kept, and what happens to a cache that is damaged."""

from __future__ import annotations

import json
import shutil
import tempfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import damaged_files, folder_recipe, plain, prepared, some_images

from imagen_workbench.core.data import cache, rows, store
from imagen_workbench.core.data.decode import to_pixels
from imagen_workbench.core.data.entries import cache_home, clear, entries
from imagen_workbench.core.data.names import Names
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.data.split import content_hash, held_out_count, split
from imagen_workbench.core.data.store import Store, StoreWriter
from imagen_workbench.core.errors import DataError
from imagen_workbench.core.extensions import make_scheme, make_source
from imagen_workbench.core.generators import finish
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.data.cache import Dataset
    from imagen_workbench.core.recipe import Data

# --- the split -------------------------------------------------------------------------------------


def hashes_of(contents: list[bytes]) -> np.ndarray:
    return np.stack([content_hash(np.frombuffer(content, np.uint8)) for content in contents])


def numbered(count: int) -> np.ndarray:
    return np.stack([content_hash(np.array([k])) for k in range(count)])


def as_set(hashes: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in hashes}


@given(st.lists(st.binary(min_size=1, max_size=4), min_size=2, max_size=60, unique=True), st.randoms(), st.data())
def test_the_split_does_not_hang_on_the_order(contents: list[bytes], random: Any, data: Any) -> None:
    hashes = hashes_of(contents)
    count = data.draw(st.integers(0, len(hashes) - 1))
    train, held_out = split(hashes, float(count))
    assert len(held_out) == count
    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(len(hashes)))
    random.shuffle(contents)
    shuffled = hashes_of(contents)
    other_train, other_held_out = split(shuffled, float(count))
    assert np.array_equal(hashes[held_out], shuffled[other_held_out])
    assert np.array_equal(hashes[train], shuffled[other_train])


def test_the_held_out_are_the_first_by_hash() -> None:
    hashes = numbered(50)
    train, held_out = split(hashes, 7)
    assert as_set(hashes[held_out]) == set(sorted(as_set(hashes))[:7])
    assert max(as_set(hashes[held_out])) < min(as_set(hashes[train]))


def test_images_that_are_the_same_keep_their_order() -> None:
    train, held_out = split(np.zeros((5, 32), np.uint8), 2)
    assert [*held_out, *train] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("total", "asked", "count"), [(100, 0.1, 10), (7, 0.5, 4), (5, 0, 0), (100, 99, 99), (3, 0.1, 0)]
)
def test_shares_and_counts(total: int, asked: float, count: int) -> None:
    assert held_out_count(total, asked) == count


@pytest.mark.parametrize(("total", "asked"), [(5, 5), (5, 9), (1, 0.9), (0, 0)])
def test_nothing_left_to_train_on_is_an_error(total: int, asked: float) -> None:
    with pytest.raises(DataError) as caught:
        held_out_count(total, asked)
    assert caught.value.field == "data.validation"
    assert caught.value.fix


def test_more_images_leave_the_held_out_ones_held_out(tmp_path: Path) -> None:
    """With a share: an image held out before is never trained on later, unless it falls out of the first ranks."""
    hashes = numbered(100)
    before = as_set(hashes[split(hashes[:50], 10)[1]])
    after_train = as_set(hashes[split(hashes, 20)[0]])
    moved = before & after_train
    assert len(moved) <= 5


# --- the cache -------------------------------------------------------------------------------------


def equal(first: Dataset, second: Dataset) -> bool:
    arrays = all(
        np.array_equal(getattr(first, name), getattr(second, name))
        for name in ("pixels", "prepared", "labels", "train", "held_out", "hashes")
    )
    return arrays and all(
        list(getattr(first, name)) == list(getattr(second, name)) for name in ("names", "set_aside", "classes")
    )


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What has been decoded, in order."""
    seen: list[object] = []

    def watched(image: Any, data: Data) -> np.ndarray:
        seen.append(image)
        return to_pixels(image, data)

    monkeypatch.setattr(rows, "to_pixels", watched)
    return seen


def test_the_second_reading_comes_from_the_cache(tmp_path: Path, decoded: list[object], homes: Path) -> None:
    damaged_files(some_images(tmp_path / "photos"))
    recipe = folder_recipe(tmp_path / "photos")
    first = prepared(recipe)
    assert len(decoded) == 13
    second = prepared(recipe)
    assert len(decoded) == 13
    assert equal(first, second)
    assert homes in cache_home().parents
    assert first.manifest() == second.manifest()


def test_the_split_may_change_without_decoding(tmp_path: Path, decoded: list[object]) -> None:
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    assert len(prepared(recipe).held_out) == 1
    assert len(prepared(recipe.with_values({"data.validation": 3})).held_out) == 3
    assert len(decoded) == 6


@pytest.mark.parametrize(
    "change",
    [{"data.size": [12, 8]}, {"data.channels": 1}, {"data.fit": "pad"}, {"data.depth": 16}],
)
def test_other_pixels_are_decoded_anew(tmp_path: Path, decoded: list[object], change: dict[str, Any]) -> None:
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    prepared(recipe)
    other = prepared(recipe.with_values(change))
    assert len(decoded) == 12
    assert other.pixels.shape[1:] == (other_channels(change), *change.get("data.size", (8, 8)))


def other_channels(change: dict[str, Any]) -> int:
    return int(change.get("data.channels", 3))


@pytest.mark.parametrize("what", ["changed", "added", "removed", "renamed"])
def test_a_changed_folder_is_decoded_anew(tmp_path: Path, decoded: list[object], what: str) -> None:
    folder = some_images(tmp_path / "photos")
    recipe = folder_recipe(folder)
    before = prepared(recipe)
    if what == "changed":
        plain((1, 2, 3), (9, 9)).save(folder / "0.png")
    elif what == "added":
        plain((1, 2, 3)).save(folder / "new.png")
    elif what == "removed":
        (folder / "0.png").unlink()
    else:
        (folder / "0.png").rename(folder / "zero.png")
    del decoded[:]
    after = prepared(recipe)
    assert decoded
    assert list(after.names) != list(before.names) or not np.array_equal(after.hashes, before.hashes)


CACHED = [f"{name}.npy" for name in StoreWriter.ARRAYS]


def damage_file(file: Path, damage: str) -> None:
    content = file.read_bytes()
    middle, end = len(content) // 2, len(content)
    file.unlink()  # what is mapped stays whole
    match damage:
        case "gone":
            pass
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(content[:middle])
        case "longer":
            file.write_bytes(content + b"\0")
        case "other":
            file.write_bytes(b"PK\x03\x04 no arrays here")
        case "first byte" | "last byte" | "middle byte":
            at = {"first byte": 0, "last byte": end - 1, "middle byte": middle}[damage]
            file.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])


@pytest.mark.parametrize("name", [*CACHED, "index.json"])
@pytest.mark.parametrize(
    "damage", ["gone", "empty", "cut", "longer", "other", "first byte", "middle byte", "last byte"]
)
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, decoded: list[object], name: str, damage: str) -> None:
    """Also where a single bit has turned over, in the index, in an array's header or in its values."""
    some_images(tmp_path / "photos" / "cats", 2)
    some_images(tmp_path / "photos" / "dogs", 4)
    recipe = folder_recipe(tmp_path / "photos", **{"conditioning.scheme": "label"})
    first = prepared(recipe)
    (file,) = cache_home().rglob(name)
    damage_file(file, damage)
    assert equal(prepared(recipe), first)
    assert len(decoded) == 12
    assert equal(prepared(recipe), first)
    assert len(decoded) == 12


def test_a_half_written_cache_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drive is full while the cache is written: the run goes on, and nothing is left half."""
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    finish = StoreWriter.finish

    def full(self: StoreWriter, facts: dict[str, Any]) -> None:
        if cache_home() in self._folder.parents:
            raise OSError(28, "No space left on device")
        finish(self, facts)

    monkeypatch.setattr(StoreWriter, "finish", full)
    first = prepared(recipe)
    assert len(first.pixels) == 6
    assert not [path for path in cache_home().rglob("*") if path.is_file()]
    monkeypatch.undo()
    assert equal(prepared(recipe), first)


def test_no_room_anywhere_is_an_error_with_a_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: StoreWriter, facts: dict[str, Any]) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(StoreWriter, "finish", full)
    with pytest.raises(DataError, match=r"No space left on device.*IMAGEN_WORKBENCH_CACHE"):
        prepared(folder_recipe(some_images(tmp_path / "photos")))


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(tmp_path / "file"))
    assert len(prepared(folder_recipe(some_images(tmp_path / "photos"))).pixels) == 6


def test_a_damaged_cache_that_cannot_be_removed_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    first = prepared(recipe)
    (file,) = cache_home().rglob("index.json")
    file.write_text("damaged")

    def refuse(_path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache, "remove_folder", refuse)
    assert equal(prepared(recipe), first)


def test_the_cache_may_be_deleted_at_any_time(tmp_path: Path) -> None:
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    first = prepared(recipe)
    shutil.rmtree(cache_home())
    assert equal(prepared(recipe), first)


# --- keeping many images --------------------------------------------------------------------------


@given(st.lists(st.text()))
def test_names_come_back_as_they_were_given(names: list[str]) -> None:
    """Whatever is no text comes back escaped."""
    texts = [name.encode(errors="backslashreplace") for name in names]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    kept = Names(np.frombuffer(b"".join(texts), np.uint8), ends)
    expected = [text.decode() for text in texts]
    assert list(kept) == expected
    assert kept[1:3] == tuple(expected[1:3])
    assert len(kept) == len(names)


def test_rows_that_are_unlike_the_others_are_set_aside(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer:
        pixels = np.zeros((1, 4, 4), np.uint8)
        writer.append(pixels, np.zeros(2, np.float32), 0, "first")
        for other in (np.zeros(3, np.float32), np.zeros(2, np.int64), np.array([None, None])):
            with pytest.raises(DataError, match="after float32 of shape"):
                writer.append(pixels, other, 0, "other")
        writer.append(pixels + 1, np.ones(2, np.float32), 1, "second")
        writer.finish({})
    kept = Store.open(tmp_path)
    assert list(kept.names) == ["first", "second"]
    assert kept.prepared.tolist() == [[0, 0], [1, 1]]
    assert kept.labels.tolist() == [0, 1]
    assert np.array_equal(kept.hashes[1], content_hash(kept.pixels[1]))


@pytest.mark.parametrize("block", [1, 7, 64, 1000])
def test_checksums_of_any_block_find_any_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(store, "BLOCK", block)
    values = np.random.default_rng(0).integers(0, 256, (9, 1, 4, 5), np.uint8)
    with StoreWriter(tmp_path) as writer:
        for k, pixels in enumerate(values):
            writer.append(pixels, np.zeros(0, np.float32), k, str(k))
        writer.finish({})
    assert np.array_equal(Store.open(tmp_path).pixels, values)
    assert all(whole for _, whole in Store.open(tmp_path).pixels_checked())
    file = tmp_path / "pixels.npy"
    content = bytearray(file.read_bytes())
    content[128 + 77] ^= 4
    file.unlink()
    file.write_bytes(content)
    found = [whole for _, whole in Store.open(tmp_path).pixels_checked()]
    assert [k for k, whole in enumerate(found) if not whole] == [77 // block]


def test_of_very_large_sets_blocks_spread_evenly_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "BLOCK", 16)
    monkeypatch.setattr(store, "CHECKED", 40)
    with StoreWriter(tmp_path) as writer:
        for k in range(10):
            writer.append(np.full((1, 4, 4), k, np.uint8), np.zeros(0, np.float32), k, str(k))
        writer.finish({})
    read = list(Store.open(tmp_path).pixels_checked())
    assert len(read) == 3
    assert all(whole for _, whole in read)


def test_what_is_kept_is_mapped_and_not_held(tmp_path: Path) -> None:
    data = prepared(folder_recipe(some_images(tmp_path / "photos")))
    for array in (data.pixels, data.labels, data.hashes):
        base = array
        while isinstance(base, np.ndarray) and base.base is not None:
            base = base.base
        assert not isinstance(base, np.ndarray)
    assert data.train.dtype == data.held_out.dtype == np.int32


def test_a_source_without_a_fingerprint_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    source = make_source(recipe)
    monkeypatch.setattr(source, "fingerprint", lambda: "")
    data = finish(cache.prepare(source, make_scheme(recipe, Facts()), recipe.data))
    assert sorted(data.names) == [f"{k}.png" for k in range(6)]
    assert data.pixels.sum() > 0
    assert not list(scratch.iterdir())
    assert not entries()


def test_stopping_midway_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "TURN", 0)
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    source = make_source(recipe)
    reading = cache.prepare(source, make_scheme(recipe, Facts()), recipe.data)
    assert next(reading).done == 1
    reading.close()
    assert not list((cache_home() / "data").iterdir())


def test_two_that_prepare_at_once_both_get_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each in its turn, image by image; whoever comes second finds the name taken."""
    monkeypatch.setattr(cache, "TURN", 0)
    recipe = folder_recipe(some_images(tmp_path / "photos"))
    source = make_source(recipe)
    readings = [cache.prepare(source, make_scheme(recipe, Facts()), recipe.data) for _ in range(2)]
    for _ in range(3):
        for reading in readings:
            next(reading)
    first, second = (finish(reading) for reading in readings)
    assert equal(first, second)
    assert [entry.images for entry in entries()] == [6]
    assert len(list((cache_home() / "data").iterdir())) == 1


def test_clearing_while_a_run_reads_leaves_it_its_images(tmp_path: Path) -> None:
    data = prepared(folder_recipe(some_images(tmp_path / "photos")))
    before = data.pixels.copy()
    assert len(clear()) == 1
    assert np.array_equal(data.pixels, before)


# --- the command ----------------------------------------------------------------------------------


@pytest.fixture
def two_entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", "400")
    for name in ("cats", "dogs"):
        prepared(folder_recipe(some_images(tmp_path / name)))
    return [entry.id for entry in entries()]


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(["cache", *arguments])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_the_cache_is_listed(two_entries: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys)
    assert code == 0
    assert str(cache_home()) in text
    assert all(part in text for part in (*two_entries, "image-folder", "6 of 8 × 8 × 3", str(tmp_path / "cats")))


def test_the_cache_is_listed_as_json(
    two_entries: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = json.loads(told(capsys, "--json")[1])
    assert {entry["id"] for entry in facts["entries"]} == set(two_entries)
    assert {entry["path"] for entry in facts["entries"]} == {str(tmp_path / "cats"), str(tmp_path / "dogs")}
    files = [file for file in cache_home().rglob("*") if file.is_file()]
    assert facts["bytes"] == sum(file.stat().st_size for file in files)
    assert facts["entries"][0]["last_used"] >= facts["entries"][1]["last_used"]


def test_all_is_cleared(two_entries: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys, "--clear")
    assert (code, "Removed 2 entries" in text) == (0, True)
    assert not entries()
    assert told(capsys)[0] == 0


@pytest.mark.parametrize("part", [8, 32])
def test_one_is_cleared_by_its_id(two_entries: list[str], capsys: pytest.CaptureFixture[str], part: int) -> None:
    assert told(capsys, "--clear", two_entries[0][:part])[0] == 0
    assert [entry.id for entry in entries()] == two_entries[1:]


def test_a_source_is_cleared_by_its_name(two_entries: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    removed = json.loads(told(capsys, "--clear", "image-folder", "--json")[1])["removed"]
    assert len(removed) == 2
    assert not entries()


def test_what_is_not_there_cannot_be_cleared(two_entries: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys, "--clear", two_entries[0], "mist")
    assert code == 2
    assert "no 'mist'" in text
    assert "image-folder" in text
    assert len(entries()) == 2


def test_damaged_and_half_written_entries_are_listed_and_cleared(
    two_entries: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (cache_home() / "data" / two_entries[0] / "index.json").write_text("damaged")
    (cache_home() / "data" / ".unfinished-abc").mkdir()
    assert told(capsys)[1].count("not whole") == 2
    assert told(capsys, "--clear")[0] == 0
    assert not list((cache_home() / "data").iterdir())


def test_an_empty_cache_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    code, text = told(capsys)
    assert code == 0
    assert "0.0 MB in" in text
