"""Bytes that nobody meant, thrown at every reader of ours: a WorkbenchError with its file, or nothing at all."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from imagen_workbench.core import ModelError, Recipe, RecipeError, Run, RunError, WorkbenchError
from imagen_workbench.core.runs import journal
from imagen_workbench.core.runs.checkpoint import (
    load_newest,
    read_checkpoint,
    read_model_file,
    write_checkpoint,
    write_model_file,
)
from imagen_workbench.core.runs.collection import Collection
from imagen_workbench.core.runs.picture import png_bytes, read_recipe
from imagen_workbench.core.runs.samples import read_rows
from imagen_workbench.core.runs.snapshots import snapshots, write_snapshot

if TYPE_CHECKING:
    from collections.abc import Callable

WEIGHTS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(1)}


def written(write: Callable[[Path], object], name: str) -> bytes:
    """The bytes of a file called `name` that `write(folder)` makes somewhere below its folder."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        (found,) = [path for path in Path(folder).rglob(name) if path.is_file()]
        return found.read_bytes()


def _journal(folder: Path) -> None:
    with journal.Journal(folder) as writing:
        writing.write("started", 0, steps=3)
        writing.write("step", 1, loss=0.5)
        writing.write("resumed", 1, differs=["threads"])


def _read_checkpoint(path: Path) -> None:
    """As `state.json` of an otherwise whole checkpoint."""
    folder = write_checkpoint(path.parent / "checkpoints", 5, {"weights": WEIGHTS}, {"seen": 80}).path
    path.replace(folder / "state.json")
    if (found := read_checkpoint(folder)) and found.is_good():
        found.tensors("weights")
    load_newest(folder.parent)


def _read_recipe_of_a_run(path: Path) -> None:
    path.rename(path.with_name("recipe.toml"))
    Run(path.parent).recipe()


def _read_journal(path: Path) -> None:
    path.rename(path.with_name("000000.jsonl"))
    for record in journal.read(path.parent):
        assert isinstance(record["kind"], str)
        assert isinstance(record["step"], int)
    journal.last_records(path.parent)


def _read_row(path: Path) -> None:
    (path.parent / "samples").mkdir()
    path.rename(path.parent / "samples" / "00000001.png")
    read_rows(path.parent, (4, 4))


def _read_collection(path: Path) -> None:
    path.rename(path.with_name("manifest.csv"))
    len(Collection(path.parent))


def _read_snapshot(path: Path) -> None:
    path.rename(path.with_name("00000005.safetensors"))
    for found in snapshots(path.parent, 10):
        found.averages()


@cache
def kinds() -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """Each kind of file: one that is whole, and what reads it."""
    pixels = np.zeros((4, 4, 1), np.uint8)
    image = {"version": 1, "model": {}, "ema": 0, "sampling": {}, "indices": [0], "conditions": ["x"]}
    return {
        "recipe": (Recipe().to_toml().encode(), Recipe.read),
        "run": (Recipe().to_toml().encode(), _read_recipe_of_a_run),
        "picture": (png_bytes(pixels, {"indices": [0], "conditions": ["7"]}), read_recipe),
        "row": (png_bytes(pixels, {}), _read_row),
        "model": (
            written(lambda at: write_model_file(at / "m.safetensors", WEIGHTS, {"recipe": ""}), "m.safetensors"),
            read_model_file,
        ),
        "state": (
            written(lambda at: write_checkpoint(at, 5, {"weights": WEIGHTS}, {"seen": 80}), "state.json"),
            _read_checkpoint,
        ),
        "journal": (written(_journal, "000000.jsonl"), _read_journal),
        "manifest": (
            written(lambda at: Collection(at / "c").add(pixels[None], [0], image), "manifest.csv"),
            _read_collection,
        ),
        "snapshot": (
            written(lambda at: write_snapshot(at, 5, 80, {"0.050": WEIGHTS}), "*.safetensors"),
            _read_snapshot,
        ),
    }


def thrown(kind: str, content: bytes) -> WorkbenchError | None:
    """What the reader of this kind of file says to these bytes."""
    _, read = kinds()[kind]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        path.write_bytes(content)
        try:
            read(path)
        except WorkbenchError as error:
            return error
    return None


@st.composite
def mutated(draw: st.DrawFn, whole: bytes) -> bytes:
    """A whole file with some of it overwritten, cut out or put in."""
    content = bytearray(whole)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(content)))
        length = draw(st.integers(0, 12))
        content[at : at + length] = draw(st.binary(max_size=12))
    return bytes(content[: draw(st.integers(0, len(content)))] if draw(st.booleans()) else content)


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_whole_file_is_read(kind: str) -> None:
    assert thrown(kind, kinds()[kind][0]) is None


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_any_bytes_are_survived(kind: str) -> None:
    @examples(max_examples=60, deadline=None)
    @given(st.binary(max_size=200))
    def survives(content: bytes) -> None:
        thrown(kind, content)

    survives()


@pytest.mark.parametrize("kind", sorted(kinds()))
def test_a_damaged_file_is_survived(kind: str) -> None:
    @examples(max_examples=120, deadline=None)
    @given(mutated(kinds()[kind][0]))
    def survives(content: bytes) -> None:
        thrown(kind, content)

    survives()


@pytest.mark.parametrize(
    ("kind", "content", "error", "words"),
    [
        ("recipe", b"\xff\xfe", RecipeError, "cannot be read as text"),
        ("recipe", b"[training\n", RecipeError, "not TOML"),
        ("recipe", b"x = " + b"[" * 5000, RecipeError, "not TOML"),
        ("model", b"\xff" * 100, ModelError, "safetensors"),
        ("model", (1 << 62).to_bytes(8, "little") + b"{}", ModelError, "safetensors"),
        ("picture", b"\x89PNG\r\n\x1a\n", ModelError, "cannot be read as a PNG"),
        ("state", b"[]", RunError, "no saved state is good"),
        ("state", b'{"checksum": 7}', RunError, "no saved state is good"),
    ],
)
def test_what_is_wrong_is_said(kind: str, content: bytes, error: type[WorkbenchError], words: str) -> None:
    said = thrown(kind, content)
    assert isinstance(said, error), said
    assert words in str(said)


@pytest.mark.parametrize("line", [b'{"kind": [], "step": 1}', b'{"kind": "step", "step": "x"}', b"7", b"[" * 100_000])
def test_a_line_that_is_no_record_is_left_out(line: bytes) -> None:
    whole = kinds()["journal"][0]
    assert thrown("journal", whole + line + b"\n" + whole) is None
