"""Run folders, checkpoints, journals and pictures: whole or not at all, and what becomes of damage."""

from __future__ import annotations

import datetime
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagen_workbench.core.errors import ModelError, RecipeError, RunError
from imagen_workbench.core.generators import finish
from imagen_workbench.core.models import open_model
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.runs import files
from imagen_workbench.core.runs.checkpoint import (
    KEPT,
    checkpoints,
    load_newest,
    read_checkpoint,
    read_model_file,
    weights_hash,
    write_checkpoint,
    write_model_file,
)
from imagen_workbench.core.runs.files import folder_atomically, remove_folder, write_atomically
from imagen_workbench.core.runs.folder import Run, find_runs, new_run_path
from imagen_workbench.core.runs.journal import Follower, Journal, last_records, read
from imagen_workbench.core.runs.picture import grid, png_bytes, read_recipe, save_png, to_image
from imagen_workbench.core.runs.samples import read_rows, write_row


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- files that are there whole or not at all -----------------------------------------------------


def test_writing_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "a.txt", "first")
    write_atomically(tmp_path / "deep" / "a.txt", b"second \xc3\xa4")
    assert (tmp_path / "deep" / "a.txt").read_text(encoding="utf-8") == "second ä"
    assert names(tmp_path / "deep") == {"a.txt"}


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_written_files_are_as_readable_as_any(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    write_atomically(tmp_path / "ours", "x")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("call", ["replace", "fsync", "fdopen"])
def test_a_failing_write_leaves_the_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    write_atomically(tmp_path / "a.txt", "old")

    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    if call == "replace":
        monkeypatch.setattr(Path, "replace", fail)
        monkeypatch.setattr(os, "replace", fail)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a.txt", "new")
    monkeypatch.undo()
    assert (tmp_path / "a.txt").read_text() == "old"
    assert names(tmp_path) == {"a.txt"}


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    with folder_atomically(tmp_path / "x") as unfinished:
        (unfinished / "inner").mkdir()
        (unfinished / "inner" / "a").write_text("1")
        assert not (tmp_path / "x").exists()
    assert (tmp_path / "x" / "inner" / "a").read_text() == "1"
    assert names(tmp_path) == {"x"}


def test_a_failing_folder_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError), folder_atomically(tmp_path / "x") as unfinished:
        (unfinished / str(1 // len(list(unfinished.iterdir())))).write_text("never reached")
    assert not names(tmp_path)

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output"), folder_atomically(tmp_path / "x") as unfinished:
        (unfinished / "a").write_text("1")
    assert not names(tmp_path)


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    with pytest.raises(FileExistsError), folder_atomically(tmp_path / "x"):
        pass


@pytest.mark.skipif(os.name != "posix", reason="links are POSIX's")
def test_removing_does_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "a").write_text("1")
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "link").symlink_to(tmp_path / "precious")
    remove_folder(tmp_path / "ours")
    assert names(tmp_path) == {"precious"}
    assert names(tmp_path / "precious") == {"a"}
    remove_folder(tmp_path / "ours")


# --- checkpoints ----------------------------------------------------------------------------------


def tensors(value: float) -> dict[str, dict[str, torch.Tensor]]:
    weights = {"a.weight": torch.full((3, 2), value), "b": torch.arange(4.0) + value}
    return {"weights": weights, "ema-0.100": {key: each * 2 for key, each in weights.items()}, "optimizer": {}}


def saved(folder: Path, *steps: int) -> None:
    for step in steps:
        write_checkpoint(folder, step, tensors(float(step)), {"seen": step * 16, "attempt": 0})


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(bytes(content))


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    checkpoint, groups, passed = loaded
    assert (checkpoint.step, checkpoint.facts["seen"], passed) == (10, 160, [])
    for name, group in tensors(10.0).items():
        assert groups[name].keys() == group.keys()
        assert all(torch.equal(groups[name][key], tensor) for key, tensor in group.items())


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert load_newest(tmp_path) is None
    assert checkpoints(tmp_path) == []


def test_older_ones_are_thinned(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20, 30, 40, 50)
    assert [each.step for each in checkpoints(tmp_path)] == [50, 40, 30]
    assert len(names(tmp_path)) == KEPT


@pytest.mark.parametrize("part", ["weights", "ema-0.100", "optimizer"])
@pytest.mark.parametrize("place", [0, 0.5, -1])
def test_one_wrong_bit_passes_the_newest_over(tmp_path: Path, part: str, place: float) -> None:
    saved(tmp_path, 10, 20)
    file = tmp_path / "00000020" / f"{part}.safetensors"
    flip(file, int(place * len(file.read_bytes())) if place != -1 else -1)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    checkpoint, groups, passed = loaded
    assert checkpoint.step == 10
    assert torch.equal(groups["weights"]["b"], tensors(10.0)["weights"]["b"])
    assert len(passed) == 1
    assert "00000020" in passed[0]
    assert "damaged" in passed[0]


def test_no_wrong_bit_in_what_a_state_says_of_itself_goes_unnoticed(tmp_path: Path) -> None:
    """Byte by byte of state.json: the state is passed over, or what it says is what was saved."""
    saved(tmp_path, 10, 20)
    file = tmp_path / "00000020" / "state.json"
    whole = file.read_bytes()
    for at in range(0, len(whole), 3):
        flip(file, at)
        loaded = load_newest(tmp_path)
        assert loaded is not None
        checkpoint = loaded[0]
        facts = {key: checkpoint.facts.get(key) for key in ("seen", "attempt", "step")}
        assert facts["step"] == facts["seen"] / 16
        assert facts["attempt"] == 0
        assert checkpoint.step == (20 if not loaded[2] else 10)
        file.write_bytes(whole)


@pytest.mark.parametrize("gone", ["weights.safetensors", "state.json"])
def test_a_checkpoint_that_is_not_whole_is_passed_over(tmp_path: Path, gone: str) -> None:
    saved(tmp_path, 10, 20)
    (tmp_path / "00000020" / gone).unlink()
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded[0].step == 10
    assert loaded[2] == ["00000020: not whole"]
    assert read_checkpoint(tmp_path / "00000020") is None


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"files": [], "step": 20}', '{"files": {}, "step": "20"}', "\x00"]
)
def test_a_state_that_says_nonsense_is_passed_over(tmp_path: Path, content: str) -> None:
    saved(tmp_path, 10, 20)
    (tmp_path / "00000020" / "state.json").write_text(content)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded[0].step == 10


def test_where_none_is_good_it_says_so(tmp_path: Path) -> None:
    saved(tmp_path, 10, 20)
    for step in (10, 20):
        flip(tmp_path / f"{step:08d}" / "weights.safetensors", -1)
    with pytest.raises(RunError) as caught:
        load_newest(tmp_path)
    assert "00000010" in caught.value.what
    assert "00000020" in caught.value.what
    assert caught.value.file == str(tmp_path)
    assert caught.value.fix


def test_a_damaged_checkpoint_is_written_again_and_a_good_one_kept(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    before = (tmp_path / "00000010" / "state.json").stat().st_mtime_ns
    saved(tmp_path, 10)
    assert (tmp_path / "00000010" / "state.json").stat().st_mtime_ns == before
    flip(tmp_path / "00000010" / "weights.safetensors", -1)
    saved(tmp_path, 10)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded[2] == []


def test_a_full_drive_is_said_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path, 10)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(RunError) as caught:
        saved(tmp_path, 20)
    monkeypatch.undo()
    assert "No space left" in caught.value.what
    assert caught.value.fix
    assert names(tmp_path) == {"00000010"}
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert loaded[0].step == 10


def test_an_old_state_that_cannot_be_removed_does_not_stop_a_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, a reader that has a file open keeps it from being removed."""
    saved(tmp_path, 10, 20, 30)

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "in use")

    monkeypatch.setattr(Path, "unlink", fail)
    saved(tmp_path, 40)
    monkeypatch.undo()
    assert next(each.step for each in checkpoints(tmp_path)) == 40
    saved(tmp_path, 50)
    assert [each.step for each in checkpoints(tmp_path)] == [50, 40, 30]


def test_what_a_killed_writer_left_is_no_checkpoint_and_is_cleared_away(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    left = tmp_path / ".unfinished-abc"
    shutil.copytree(tmp_path / "00000010", left)
    flip(left / "weights.safetensors", 3)
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert (loaded[0].step, loaded[2]) == (10, [])
    saved(tmp_path, 20)
    assert names(tmp_path) == {"00000010", "00000020"}


def test_other_things_in_the_folder_do_no_harm(tmp_path: Path) -> None:
    saved(tmp_path, 10)
    (tmp_path / "0notes").mkdir()
    (tmp_path / "99.txt").write_text("mine")
    assert [each.step for each in checkpoints(tmp_path)] == [10]


def test_hashes_are_of_the_tensors_and_not_of_their_order() -> None:
    weights = tensors(1.0)["weights"]
    assert weights_hash(weights) == weights_hash(dict(reversed(weights.items())))
    assert weights_hash({key: tensor.clone() for key, tensor in weights.items()}) == weights_hash(weights)
    others = [
        {**weights, "b": weights["b"].double()},
        {**weights, "b": weights["b"].reshape(2, 2)},
        {"a.weight": weights["a.weight"], "c": weights["b"]},
        {**weights, "b": torch.nextafter(weights["b"], torch.tensor(9.0))},
    ]
    assert len({weights_hash(each) for each in [weights, *others]}) == 5


@pytest.mark.parametrize("kind", [torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_every_number_format_can_be_saved_and_hashed(tmp_path: Path, kind: torch.dtype) -> None:
    group = {"x": torch.ones(3).to(kind)}
    write_checkpoint(tmp_path, 1, {"weights": group}, {"seen": 1})
    loaded = load_newest(tmp_path)
    assert loaded is not None
    assert torch.equal(loaded[1]["weights"]["x"], group["x"])
    assert weights_hash(loaded[1]["weights"]) == weights_hash(group)


# --- model files ----------------------------------------------------------------------------------


def test_a_model_in_one_file_comes_back(copied_run: Run, tmp_path: Path) -> None:
    model = open_model(copied_run.path, "cpu")
    model.save(tmp_path / "mine.safetensors", card={"licence": "CC0", "text": "ä"})
    again = open_model(tmp_path / "mine.safetensors", "cpu")
    assert again.recipe == model.recipe
    assert again.scheme.choices == model.scheme.choices
    assert (again.step, again.name) == (model.step, model.name)
    assert again.drawing_weights().hash == model.drawing_weights().hash
    assert read_model_file(tmp_path / "mine.safetensors")[1]["card"] == {"licence": "CC0", "text": "ä"}
    first, second = (each.draw(["7", "3"], count=2, seed=4, steps=3) for each in (model, again))
    assert np.array_equal(first.arrays, second.arrays)


def test_files_that_are_no_models_of_ours(tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("no model")
    write_model_file(tmp_path / "ours.safetensors", {"x": torch.ones(2)}, {"recipe": ""})
    from safetensors.torch import save_file

    save_file({"x": torch.ones(2)}, tmp_path / "foreign.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "ours.safetensors").read_bytes()[:-3])
    for name in ("text", "foreign", "cut"):
        with pytest.raises(ModelError) as caught:
            open_model(tmp_path / f"{name}.safetensors")
        assert caught.value.file == str(tmp_path / f"{name}.safetensors")
        assert caught.value.fix


def test_a_model_file_with_other_tensors_names_the_first(copied_run: Run, tmp_path: Path) -> None:
    model = open_model(copied_run.path, "cpu")
    model.save(tmp_path / "mine.safetensors")
    weights, facts = read_model_file(tmp_path / "mine.safetensors")
    name = sorted(weights)[3]
    for change in ("gone", "misshapen", "more"):
        changed = dict(weights)
        if change == "gone":
            del changed[name]
        elif change == "misshapen":
            changed[name] = torch.zeros(1, 2, 3)
        else:
            changed["a.new.one"] = torch.zeros(1)
        write_model_file(tmp_path / "other.safetensors", changed, facts)
        with pytest.raises(ModelError) as caught:
            open_model(tmp_path / "other.safetensors", "cpu")
        assert caught.value.tensor == ("a.new.one" if change == "more" else name)


def test_opening_by_every_name(copied_run: Run, tmp_path: Path) -> None:
    """A run's name, its folder, one of its checkpoints."""
    whole = open_model(copied_run.path, "cpu")
    assert open_model("tiny", "cpu").drawing_weights().hash == whole.drawing_weights().hash
    first = checkpoints(copied_run.checkpoints)[-1]
    assert open_model(first.path, "cpu").step == first.step
    assert sorted(whole.weights) == [0.0, 0.05, 0.1]


def test_what_is_no_model_is_told_with_what_is_near(copied_run: Run) -> None:
    with pytest.raises(ModelError) as caught:
        open_model("tinny")
    assert "tiny" in caught.value.fix
    with pytest.raises(RunError):
        open_model(copied_run.path.parent)


def test_a_damaged_checkpoint_is_passed_over_when_a_model_is_opened(copied_run: Run) -> None:
    newest, older, *_ = checkpoints(copied_run.checkpoints)
    flip(newest.path / "weights.safetensors", -1)
    assert open_model(copied_run.path, "cpu").step == older.step


# --- journals -------------------------------------------------------------------------------------


def test_records_come_back_in_order(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write("started", 0, words="ä\n\u2028", number=0.1)
        journal.write("step", 1, loss=0.5)
        assert journal.lines == 2
    records = read(tmp_path)
    assert [(record["kind"], record["step"]) for record in records] == [("started", 0), ("step", 1)]
    assert records[0]["words"] == "ä\n\u2028"
    assert records[0]["number"] == 0.1


def test_numbers_that_json_has_not_become_null(tmp_path: Path) -> None:
    """A loss that ran away must not end the run through its journal."""
    with Journal(tmp_path) as journal:
        journal.write("step", 1, loss=math.nan, deep={"x": math.inf}, bands=[("low", math.nan), ("high", 1.0)])
    (record,) = read(tmp_path)
    assert record["loss"] is None
    assert record["deep"] == {"x": None}
    assert record["bands"] == [["low", None], ["high", 1.0]]


@given(st.integers(1, 200))
def test_a_torn_line_is_left_out_wherever_it_is_torn(tmp_path_factory: pytest.TempPathFactory, kept: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    with Journal(folder) as journal:
        journal.write("step", 1, loss=0.5)
        journal.write("step", 2, loss=0.25, words="ä" * 20)
    content = journal.path.read_bytes()
    first = content.index(b"\n") + 1
    journal.path.write_bytes(content[: first + min(kept, len(content) - first - 1)])
    assert [record["step"] for record in read(folder)] == [1]
    with Journal(folder) as after:
        after.write("step", 2, loss=0.125)
    assert [(record["step"], record["loss"]) for record in read(folder)] == [(1, 0.5), (2, 0.125)]


def test_damaged_lines_are_ignored(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write("step", 1, loss=0.5)
    with journal.path.open("ab") as file:
        file.write(b"\xff\xfe\n[1]\n{}\nnull\n" + b'{"kind": "step"}\n{"kind": "step", "step": 2, "loss": 1}\n')
    assert [record["step"] for record in read(tmp_path)] == [1, 2]


def test_a_resumed_run_takes_back_what_it_does_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.write("started", 0)
        for step in range(1, 8):
            journal.write("step", step, loss=float(step))
    with Journal(tmp_path) as journal:
        journal.write("resumed", 5)
        for step in range(6, 9):
            journal.write("step", step, loss=step + 0.5)
    records = read(tmp_path)
    steps = [(record["step"], record["loss"]) for record in records if record["kind"] == "step"]
    assert steps == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0), (5, 5.0), (6, 6.5), (7, 7.5), (8, 8.5)]
    assert [record["kind"] for record in records].count("resumed") == 1


def test_a_run_begun_again_takes_back_everything(tmp_path: Path) -> None:
    """Killed before its first saved state, it starts anew: its first steps are made twice, and count once."""
    with Journal(tmp_path) as journal:
        journal.write("started", 0, steps=20)
        journal.write("step", 1, loss=1.0)
    with Journal(tmp_path) as journal:
        journal.write("started", 0, steps=20)
        journal.write("step", 1, loss=1.0)
    assert [record["kind"] for record in read(tmp_path)] == ["started", "step"]


@pytest.mark.parametrize("most", [1, 60, 100_000])
def test_a_journal_is_followed_a_piece_at_a_time(tmp_path: Path, most: int) -> None:
    for segment in range(2):
        with Journal(tmp_path) as journal:
            for step in range(5):
                journal.write("step", 5 * segment + step, loss=0.5)
    follower, steps, pieces = Follower(tmp_path), [], 0
    while not follower.is_up_to_date:
        steps += [record["step"] for record in follower.news(most)]
        pieces += 1
        assert pieces <= 12
    assert steps == list(range(10))
    assert pieces >= (1 if most > 1000 else 5)
    assert follower.news(most) == []
    assert follower.is_up_to_date


def test_the_last_records_are_read_from_the_end(tmp_path: Path) -> None:
    assert last_records(tmp_path) == []
    with Journal(tmp_path) as journal:
        for step in range(100):
            journal.write("step", step, loss=0.5)
    last = [record["step"] for record in last_records(tmp_path, 500)]
    assert last == list(range(last[0], 100))
    assert 3 <= len(last) <= 10
    assert len(last_records(tmp_path)) == 100
    Journal(tmp_path).close()
    assert last_records(tmp_path)[-1]["step"] == 99, "an empty segment says nothing"


def test_a_follower_hears_each_line_once_and_only_whole_ones(tmp_path: Path) -> None:
    follower = Follower(tmp_path)
    assert follower.news() == []
    with Journal(tmp_path) as journal:
        journal.write("step", 1)
        assert [record["step"] for record in follower.news()] == [1]
        with journal.path.open("ab") as file:
            file.write(b'{"kind": "step", ')
            file.flush()
            assert follower.news() == []
            file.write(b'"step": 2}\n')
        assert [record["step"] for record in follower.news()] == [2]
    with Journal(tmp_path) as journal:
        journal.write("step", 3)
    assert [record["step"] for record in follower.news()] == [3]
    assert follower.news() == []


# --- the folder -----------------------------------------------------------------------------------


def test_a_run_tells_its_recipe(tmp_path: Path) -> None:
    recipe = Recipe.of({"name": "mine", "training": {"steps": 7}})
    run = Run(tmp_path / "run")
    assert not run.exists
    run.create(recipe)
    assert run.exists
    assert run.recipe() == recipe
    assert run.read_json("environment.json")["versions"]["torch"]
    assert run.read_json("nothing.json") == {}


@pytest.mark.parametrize("what", ["a run", "something else", "a file"])
def test_a_folder_in_use_is_never_begun_in(tmp_path: Path, what: str) -> None:
    run = Run(tmp_path / "run")
    if what == "a run":
        run.create(Recipe())
    elif what == "something else":
        run.path.mkdir()
        (run.path / "thesis.tex").write_text("precious")
    else:
        run.path.write_text("precious")
    with pytest.raises(RunError) as caught:
        run.create(Recipe())
    assert caught.value.file == str(run.path)
    assert caught.value.fix


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(RunError) as caught:
        Run(tmp_path).recipe()
    assert caught.value.fix


def test_damaged_files_of_a_run_are_named(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.create(Recipe())
    (run.path / "recipe.toml").write_text("[training\n")
    with pytest.raises(RecipeError) as recipe_error:
        run.recipe()
    assert recipe_error.value.file == str(run.path / "recipe.toml")
    (run.path / "dataset.json").write_text("{")
    with pytest.raises(RunError) as json_error:
        run.read_json("dataset.json")
    assert json_error.value.file == str(run.path / "dataset.json")


def test_a_second_handle_is_refused(tmp_path: Path) -> None:
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    first.acquire()
    with pytest.raises(RunError) as caught:
        second.acquire()
    assert caught.value.file == str(tmp_path / "run")
    assert caught.value.fix
    first.release()
    second.acquire()
    second.release()


HOLD = """
import sys
from imagen_workbench.core.errors import RunError
from imagen_workbench.core.runs.folder import Run
run = Run(sys.argv[1])
try:
    run.acquire()
except RunError as error:
    print("refused:", error.what, flush=True)
else:
    print("taken", flush=True)
    sys.stdin.readline()
"""


def holder(run: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_another_process_is_refused_and_a_lock_dies_with_its_process(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with holder(tmp_path / "run") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "taken\n"
        with pytest.raises(RunError, match="another process"):
            Run(tmp_path / "run").acquire()
        other.kill()
    ours = Run(tmp_path / "run")
    ours.acquire()
    with holder(tmp_path / "run") as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "refused: another process trains this run\n"
    ours.release()


@pytest.mark.parametrize("what", ["a file", "no permission"])
def test_a_run_that_cannot_be_locked_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    run = Run(tmp_path / "run")
    if what == "a file":
        run.path.write_text("in the way")
    else:

        def fail(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(run._lock, "acquire", fail)
    with pytest.raises(RunError) as caught:
        run.acquire()
    assert caught.value.file == str(run.path)
    assert caught.value.fix


def test_new_runs_get_free_names(tmp_path: Path) -> None:
    day = datetime.date(2026, 7, 1)
    first = new_run_path("my digits/!", tmp_path, day)
    assert first == tmp_path / "my-digits-2026-07-01"
    first.mkdir()
    assert new_run_path("my digits/!", tmp_path, day) == tmp_path / "my-digits-2026-07-01-2"
    assert new_run_path("...", tmp_path, day).name == "run-2026-07-01"


def test_runs_are_found_newest_first(tmp_path: Path) -> None:
    assert find_runs(tmp_path / "nowhere") == []
    for age, name in enumerate(("old", "older")):
        Run(tmp_path / name).create(Recipe())
        os.utime(tmp_path / name / "recipe.toml", (1000 - age, 1000 - age))
    (tmp_path / "other").mkdir()
    assert [run.name for run in find_runs(tmp_path)] == ["old", "older"]


# --- pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_carries_its_recipe(tmp_path: Path, channels: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, channels), np.uint8)
    recipe = {
        "sampling": {"seed": 2**63 - 1, "guidance": 1.5},
        "conditions": ["ä", "日本", 'quote " \\ '],
        "deep": [[1]],
    }
    save_png(tmp_path / "x.png", pixels, recipe)
    assert read_recipe(tmp_path / "x.png") == recipe
    back = np.asarray(Image.open(tmp_path / "x.png"))
    assert np.array_equal(back.reshape(pixels.shape), pixels)


def test_pictures_of_others_say_what_they_lack(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "foreign.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "odd.png").write_bytes(png_bytes(np.zeros((2, 2, 1), np.uint8), [1, 2]))  # type: ignore[arg-type]
    (tmp_path / "cut.png").write_bytes(png_bytes(np.zeros((99, 99, 3), np.uint8), {"a": 1})[:-30])
    for name in ("foreign", "text", "odd", "cut", "nowhere"):
        with pytest.raises(ModelError) as caught:
            read_recipe(tmp_path / f"{name}.png")
        assert caught.value.file == str(tmp_path / f"{name}.png")
    with pytest.raises(ModelError) as caught:
        open_model(tmp_path / "foreign.png")
    assert caught.value.fix


def test_a_picture_is_drawn_again_bit_for_bit(copied_run: Run, tmp_path: Path) -> None:
    """From the PNG alone: its model by reference, or by the hash of its weights where that has moved."""
    model = open_model(copied_run.path, "cpu")
    drawn = model.draw(["7", "1"], count=3, seed=11, guidance=2.0, steps=4, sampler="dpmpp-2m", ema=0)
    drawn.save(tmp_path / "drawn.png")
    again = open_model(tmp_path / "drawn.png", "cpu").draw_again()
    assert np.array_equal(again.arrays, drawn.arrays)
    assert again.recipe == drawn.recipe
    moved = copied_run.path.with_name("moved")
    copied_run.path.rename(moved)
    found = open_model(tmp_path / "drawn.png", "cpu").draw_again()
    assert np.array_equal(found.arrays, drawn.arrays)
    shutil.rmtree(moved)
    with pytest.raises(ModelError) as caught:
        open_model(tmp_path / "drawn.png", "cpu")
    assert str(copied_run.path) in caught.value.fix


def test_one_image_of_many_is_drawn_alone(copied_run: Run) -> None:
    """Image k's noise depends on the seed and k, and its condition on k."""
    from imagen_workbench.core.commands import Draw
    from imagen_workbench.core.drawing import draw

    model = open_model(copied_run.path, "cpu")
    request = Draw(1, str(copied_run.path), ("7", "1"), 5, model.recipe.sampling)

    def drawn(indices: tuple[int, ...] | None) -> np.ndarray:
        return finish(draw(model.drawing_weights(), request, indices)).arrays

    whole = drawn(None)
    assert np.allclose(drawn((3,))[0], whole[3], atol=1e-4)


@given(n=st.integers(1, 30), columns=st.integers(0, 12), gap=st.integers(0, 3))
def test_a_grid_holds_every_image_in_its_place(n: int, columns: int, gap: int) -> None:
    images = np.arange(1, n + 1, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    sheet = grid(images, columns, gap, background=0)
    wide = min(columns or math.ceil(math.sqrt(n)), n)
    assert sheet.shape == (math.ceil(n / wide) * (2 + gap) + gap, wide * (3 + gap) + gap, 1)
    for k in range(n):
        top, left = gap + k // wide * (2 + gap), gap + k % wide * (3 + gap)
        assert (sheet[top : top + 2, left : left + 3] == k + 1).all()
    assert (sheet > 0).sum() == n * 6


def test_images_of_every_kind_become_pictures() -> None:
    modes = {1: "L", 3: "RGB", 4: "RGBA"}
    for channels, mode in modes.items():
        assert to_image(np.zeros((2, 3, channels), np.uint8)).mode == mode


def test_rows_of_samples_come_back(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5, 3), np.uint8)
    for step in (20, 5):
        write_row(tmp_path, step, images + np.uint8(step), {"step": step})
    (tmp_path / "samples" / "00000007.png").write_text("damaged")
    write_row(tmp_path, 9, np.zeros((2, 8, 8, 1), np.uint8), {})
    rows = read_rows(tmp_path, (6, 5))
    assert [step for step, _ in rows] == [5, 20]
    assert np.array_equal(rows[1][1], images + np.uint8(20))
    assert json.dumps(read_recipe(tmp_path / "samples" / "00000020.png")) == '{"step": 20}'
    assert files.sync_folder(tmp_path) is None
