"""Arrays kept by name: what comes back, what damage does, and how they are shown and cleared."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np
import pytest

from imagen_workbench.core import KeptArrays
from imagen_workbench.core.data.entries import ARRAYS, arrays_folder, clear, entries
from imagen_workbench.workbench.cli import main

if TYPE_CHECKING:
    from pathlib import Path

RECORD = np.zeros(2, [("tokens", np.float16, (3,)), ("count", np.int32)])


def kept(identity: str = "1") -> KeptArrays:
    return KeptArrays("tests", "things", identity)


def file() -> Path:
    (found,) = arrays_folder().glob(f"*/{ARRAYS}")
    return found


@pytest.mark.parametrize(
    "array", [np.arange(6).reshape(2, 3), np.zeros((0, 4), np.float16), np.float32(2.5), RECORD, np.arange(8)[::2]]
)
def test_what_is_kept_comes_back(array: np.ndarray) -> None:
    assert kept().get("a red square") is None
    kept().put("a red square", array)
    found = kept().get("a red square")
    assert found is not None
    assert (found.dtype, found.shape) == (np.asarray(array).dtype, np.shape(array))
    assert np.array_equal(found, array)
    assert kept().get("a blue square") is None
    assert kept("2").get("a red square") is None


def test_names_may_be_any_text_and_are_not_written_down() -> None:
    for name in ("", "\udcff", "ü 漢", "secret " * 1000):
        kept().put(name, np.array([len(name)]))
    assert kept().get("ü 漢") is not None
    assert b"secret" not in file().read_bytes()


def test_the_newest_counts() -> None:
    kept().put("a", np.zeros(1))
    kept().put("a", np.ones(2))
    assert np.array_equal(kept().get("a"), np.ones(2))
    assert [entry.images for entry in entries()] == [1]


@pytest.mark.parametrize("damage", ["no database", "empty", "cut", "content", "index", "nothing left"])
def test_damage_is_as_if_nothing_were_kept(damage: str) -> None:
    first = kept()
    first.put("a", np.full(4000, 7.0))
    whole = file().read_bytes()
    match damage:
        case "no database":
            file().write_bytes(b"x" * len(whole))
        case "empty":
            file().write_bytes(b"")
        case "cut":
            file().write_bytes(whole[: len(whole) // 2])
        case "content":
            at = whole.rindex(np.float64(7.0).tobytes())
            file().write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        case "index":
            (file().parent / "index.json").write_bytes(b"{}")
        case _:
            clear()
    assert damage == "index" or first.get("a") is None
    first.put("a", np.full(4000, 8.0))
    assert np.array_equal(first.get("a"), np.full(4000, 8.0))
    assert [entry.images for entry in entries()] == [1]


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(homes: Path) -> None:
    homes.mkdir()
    (homes / "cache").write_text("a file where the folder should be")
    kept().put("a", np.zeros(3))
    assert kept().get("a") is None


def test_several_write_at_once() -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda k: kept().put(str(k), np.array([k])), range(40)))
    assert [kept().get(str(k)) for k in range(40)] == [np.array([k]) for k in range(40)]


def test_they_are_shown_and_cleared(capsys: pytest.CaptureFixture[str]) -> None:
    for k in range(3):
        kept().put(str(k), np.zeros(3))
    assert main(["cache"]) == 0
    shown = capsys.readouterr().out
    assert "tests" in shown
    assert "things" in shown
    assert " 3 " in shown
    assert main(["cache", "--clear", "tests"]) == 0
    assert "Removed 1 entry" in capsys.readouterr().out
    assert kept().get("0") is None


def test_damage_is_shown_as_such() -> None:
    kept().put("a", np.zeros(3))
    file().write_bytes(b"no database" * 100)
    assert [entry.images for entry in entries()] == [None]
    assert len(clear()) == 1


def test_they_are_listed_while_another_process_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its journal may be gone between the look at the folder and that at the file."""
    kept().put("a", np.zeros(3))
    journal = file().with_name(f"{ARRAYS}-journal")
    inside = type(journal).iterdir

    def with_journal(folder: Path) -> list[Path]:
        found = list(inside(folder))
        return [*found, journal] if folder == journal.parent else found

    monkeypatch.setattr(type(journal), "iterdir", with_journal)
    assert [(entry.images, entry.size > 0) for entry in entries()] == [(1, True)]
