"""Loader processes: real ones, with plugins that hang, crash, print and answer nonsense."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import damaged_files, folder_recipe, prepared, some_images
from plugin_packages import install

from imagen_workbench.core.commands import ShowData, Train
from imagen_workbench.core.data import loading, process, work
from imagen_workbench.core.data.cache import prepare
from imagen_workbench.core.data.entries import cache_home
from imagen_workbench.core.data.frames import read_frame, write_frame
from imagen_workbench.core.data.layouts import dtype_of, layout_of
from imagen_workbench.core.data.loading import Loaders
from imagen_workbench.core.data.opening import Opened
from imagen_workbench.core.datasets import read, reading
from imagen_workbench.core.errors import DataError, PluginError, RecipeError
from imagen_workbench.core.events import DataShown, Failed, PhaseChanged
from imagen_workbench.core.extensions import make_scheme, make_source
from imagen_workbench.core.generators import finish
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of

if TYPE_CHECKING:
    from collections.abc import Iterator

TROUBLE = '''
import ctypes, os, signal, subprocess, sys, threading, time
import numpy as np
from pydantic import BaseModel, ConfigDict
from imagen_workbench.core import Attribute, Example, Source


class Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    count: int = 40
    at: tuple[int, ...] = ()
    how: str = ""
    kept: bool = True
    log: str = ""


def trouble(how):
    match how:
        case "segfault": ctypes.string_at(0)
        case "exit": os._exit(3)
        case "leave": sys.exit("bye")
        case "killed": os.kill(os.getpid(), signal.SIGKILL)
        case "sleep": threading.Event().wait()
        case "holds": ctypes.PyDLL(None).pause()  # a C function that never lets go of the interpreter
        case "child":
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
            threading.Event().wait()
        case "memory": raise MemoryError
        case "raise": raise KeyError("from the plugin's own depths")
        case "print":
            print("x" * 3_000_000)
            print("y" * 3_000_000, file=sys.stderr)
            os.write(1, b"z" * 100_000)
        case "reads": assert sys.stdin.read() == ""


class Trouble(Source):
    """Makes trouble at some examples, or when it is opened."""

    title, summary = "Trouble", "For tests."
    Options = Options
    defaults = {"size": [8, 8]}

    def __init__(self, settings, options):
        super().__init__(settings, options)
        if options.log:
            with open(options.log, "a") as file:
                file.write(f"{os.getpid()}\\n")
        if options.at == (-1,):
            trouble(options.how)
        self.told = dict(classes=("even", "odd"), attributes=(), fingerprint="1" if options.kept else "")
        self.told |= {"classes": {"classes": ("even", 7)}, "attributes": {"attributes": ("size",)},
                      "fingerprint": {"fingerprint": 7}}.get(options.how, {})

    classes = property(lambda self: self.told["classes"])
    attributes = property(lambda self: self.told["attributes"])
    fields = ("image", "label", "caption")

    def fingerprint(self):
        return self.told["fingerprint"]

    def __len__(self):
        return "many" if self.options.how == "length" else self.options.count

    def name_of(self, index):
        if index in self.options.at:
            if self.options.how == "names":
                raise RuntimeError("who knows")
            if self.options.how == "number":
                return index
        return f"example {index}"

    def __getitem__(self, index):
        example = Example(np.full((8, 8), index, np.uint8), index % 2, f"no {index}", f"the number {index}")
        if index not in self.options.at:
            return example
        wrong = {
            "none": None, "text": "a picture",
            "label": Example(example.image, 2), "negative": Example(example.image, -1),
            "words": Example(example.image, "odd"), "called": Example(example.image, 1, 7),
            "caption": Example(example.image, 1, caption=["a"]), "shape": Example(np.zeros(3, np.uint8), 1),
            "kind": Example(7, 1), "attribute": Example(example.image, 1, attributes={"size": object()}),
            "list": Example(example.image, 1, attributes=["size"]),
        }
        trouble(self.options.how)
        return wrong.get(self.options.how, example)
'''

SCHEME = """
import os
import numpy as np
import torch
from imagen_workbench.core import Condition, ConditioningScheme
from trouble_plugin import Options, trouble


class Nothing(torch.nn.Module):
    def forward(self, prepared):
        return Condition()


class Shade(ConditioningScheme):
    title, summary = "Shade", "For tests."
    Options = Options

    def __init__(self, options, facts):
        super().__init__(options, facts)
        self.own = os.getpid()

    def prepare(self, example):
        shade = int(np.asarray(example.image).max())
        if shade in self.options.at:
            match self.options.how:
                case "object": return np.array([None])
                case "other": return np.zeros(5)
                case how: trouble(how)
        record = np.zeros((), [("shade", "f4"), ("ids", "i4", (3,)), ("process", "i8")])
        record["shade"], record["ids"], record["process"] = shade / 255, shade, os.getpid() != self.options.count
        return record

    def parse(self, text):
        return self.prepare(type("E", (), {"image": np.zeros(1)}))

    def encoder(self):
        return Nothing()
"""


@pytest.fixture
def trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path / "site", monkeypatch, "trouble-plugin", TROUBLE, datasets={"trouble": "Trouble"})
    install(tmp_path / "site", monkeypatch, "shade-plugin", SCHEME, schemes={"shade": "Shade"})
    yield
    for name in ("trouble_plugin", "shade_plugin"):
        sys.modules.pop(name, None)


def recipe(scheme: str = "none", **options: Any) -> Recipe:
    return Recipe.of(
        {
            "data": {"source": "trouble", "size": [8, 8], "channels": 1, "validation": 4, "options": options},
            "conditioning": {"scheme": scheme},
            "model": {"width": 8, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2},
            "training": {"steps": 2, "batch": 4, "micro_batch": 4, "checkpoint_every": 2, "device": "cpu"},
            "sampling": {"steps": 2},
        }
    )


def cached() -> dict[str, bytes]:
    """Every file of the cache but its name."""
    return {path.name: path.read_bytes() for path in sorted((cache_home() / "data").rglob("*")) if path.is_file()}


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def pids_of(log: Path) -> list[int]:
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def wait_for(condition: Any, seconds: float = 20.0) -> bool:
    """Whether it came true in time."""
    until = time.monotonic() + seconds
    pause = threading.Event()
    while time.monotonic() < until:
        if condition():
            return True
        pause.wait(0.02)
    return False


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.usefixtures("trouble")
def test_a_plugin_is_read_in_processes_of_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    data = read(recipe(log=str(log)))
    assert os.getpid() not in pids_of(log)
    assert "trouble_plugin" not in sys.modules, "its code is not even imported here"
    assert data.pixels[:, 0, 0, 0].tolist() == list(range(40))
    assert data.labels.tolist() == [0, 1] * 20
    assert list(data.names) == [f"no {k}" for k in range(40)]
    assert data.classes == ("even", "odd")
    assert not any(is_running(pid) for pid in pids_of(log))


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("scheme", ["none", "label", "shade"])
def test_the_cache_does_not_depend_on_the_number_of_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Nor on whether there are any."""
    monkeypatch.setattr(loading, "EACH", 1)
    monkeypatch.setattr(work, "CHUNK", 3)
    log = tmp_path / "log"
    asked = recipe(scheme, at=[5, 6, 39], how="raise", log=str(log))
    found, started = [], []
    for cores in (1, 3):
        monkeypatch.setattr("imagen_workbench.core.machine.available_cores", lambda cores=cores: cores)
        before = len(pids_of(log))
        read(asked)
        started.append(len(pids_of(log)) - before)
        found.append(cached())
        monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(tmp_path / f"cache {cores}"))
    source = make_source(asked)
    finish(prepare(source, make_scheme(asked, Opened.of(source, asked.data).facts), asked.data))
    found.append(cached())
    assert started == [1, 3]
    assert found[0].keys() >= {"index.json", "pixels.npy", "prepared.npy"}
    assert found[0] == found[1] == found[2]


@pytest.mark.usefixtures("trouble")
def test_a_scheme_that_is_not_ours_prepares_there_too() -> None:
    asked = recipe("shade").with_values({"conditioning.options": {"count": os.getpid()}})
    data, scheme = finish(reading(asked))
    assert data.prepared.dtype == np.dtype([("shade", "f4"), ("ids", "i4", (3,)), ("process", "i8")])
    assert data.prepared["ids"][:, 0].tolist() == list(range(40))
    assert data.prepared["process"].all(), "prepared in another process than this"
    assert scheme.own == os.getpid()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("trouble")
def test_what_lies_decoded_is_not_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """One process tells what the data is; none decodes."""
    first = read(recipe())
    asked: list[str] = []
    ask = process.Process.ask
    monkeypatch.setattr(
        process.Process, "ask", lambda self, task, **more: (asked.append(task.do), ask(self, task, **more))[1]
    )
    second = read(recipe())
    assert asked == ["open"]
    assert np.array_equal(first.pixels, second.pixels)
    assert first.captions == second.captions


def no_processes(*_: object) -> None:
    raise AssertionError("a process was started")


def test_our_small_data_needs_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "Process", no_processes)
    assert len(read(Recipe().with_values({"data.most": 50, "data.validation": 5})).pixels) == 50


def test_a_folder_is_read_in_processes_once_and_then_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged_files(some_images(tmp_path / "photos"))
    first = read(folder_recipe(tmp_path / "photos"))
    assert len(first.pixels) == 6
    assert len(first.set_aside) == 7
    monkeypatch.setattr(loading, "Process", no_processes)
    assert np.array_equal(read(folder_recipe(tmp_path / "photos")).pixels, first.pixels)


def test_a_folder_is_the_same_in_this_process_and_in_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damaged_files(some_images(tmp_path / "photos" / "cats"))
    some_images(tmp_path / "photos" / "dogs", 3)
    asked = folder_recipe(tmp_path / "photos", **{"conditioning.scheme": "label"})
    read(asked)
    there = cached()
    monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(tmp_path / "other"))
    prepared(asked)
    assert cached() == there


@pytest.mark.usefixtures("trouble")
def test_a_few_captions_are_kept_for_the_model() -> None:
    _, scheme = finish(reading(recipe("text", at=[0], how="raise")))
    assert scheme.in_turn(8) == list(scheme.facts.captions)
    assert len(set(scheme.facts.captions)) == 8
    again, _ = finish(reading(recipe("text", at=[0], how="raise")))
    assert again.captions == scheme.facts.captions


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize(("most", "count"), [(0, 40), (7, 7), (99, 40)])
def test_only_so_many_are_read(most: int, count: int) -> None:
    data = read(recipe().with_values({"data.most": most}))
    assert list(data.names) == [f"no {k}" for k in range(count)]


@pytest.mark.usefixtures("trouble")
def test_what_has_no_fingerprint_is_read_anew_each_time(tmp_path: Path) -> None:
    log = tmp_path / "log"
    for _ in range(2):
        assert len(read(recipe(kept=False, log=str(log))).pixels) == 40
    assert len(pids_of(log)) == 2
    assert not cached()


@pytest.mark.usefixtures("trouble")
def test_where_the_cache_cannot_be_written_the_rows_come_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(tmp_path / "file"))
    assert len(read(recipe()).pixels) == 40


# --- examples that bring a process down -----------------------------------------------------------


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("segfault", "brought its process down (signal 11)"),
        ("killed", "brought its process down (signal 9, perhaps for want of memory)"),
        ("exit", "ended its process (exit code 3)"),
        ("sleep", "took longer than 2 s and was ended"),
        ("holds", "took longer than 2 s and was ended"),
        ("child", "took longer than 2 s and was ended"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_example_that_ends_its_process_is_set_aside_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    monkeypatch.setattr(work, "EXAMPLE", 2.0)
    monkeypatch.setattr(loading, "EACH", 1)
    monkeypatch.setattr("imagen_workbench.core.machine.available_cores", lambda: 2)
    log = tmp_path / "log"
    data = read(recipe(at=[0, 21], how=how, log=str(log)))
    assert data.set_aside == (("example 0", reason), ("example 21", reason))
    assert list(data.names) == [f"no {k}" for k in range(40) if k not in (0, 21)]
    assert not any(is_running(pid) for pid in pids_of(log))


@pytest.mark.usefixtures("trouble")
def test_a_condition_that_hangs_is_set_aside_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "EXAMPLE", 2.0)
    asked = recipe("shade").with_values({"conditioning.options": {"at": [3], "how": "sleep"}})
    assert read(asked).set_aside == (("example 3", "took longer than 2 s and was ended"),)


@pytest.mark.usefixtures("trouble")
def test_after_too_many_the_plugin_is_named() -> None:
    with pytest.raises(
        PluginError, match=r"'trouble' of trouble-plugin failed at 5 examples.*example 4.*code 3"
    ) as caught:
        read(recipe(at=list(range(10)), how="exit"))
    assert "makers of trouble-plugin" in caught.value.fix
    assert not cached()


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("how", ["raise", "memory", "leave"])
def test_an_example_that_raises_is_set_aside_without_ending_anything(tmp_path: Path, how: str) -> None:
    log = tmp_path / "log"
    data = read(recipe(at=list(range(30)), how=how, log=str(log)))
    assert len(data.set_aside) == 30
    assert {"raise": "KeyError", "memory": "MemoryError", "leave": "SystemExit: bye"}[how] in data.set_aside[0][1]
    assert len(pids_of(log)) == 1


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("how", ["print", "reads"])
def test_what_a_plugin_prints_or_reads_does_not_disturb(how: str) -> None:
    data = read(recipe(at=[3, 4], how=how))
    assert not data.set_aside
    assert len(data.pixels) == 40


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("none", "NoneType instead of an Example"),
        ("text", "str instead of an Example"),
        ("label", "label 2 is none of 2"),
        ("negative", "label -1 is none of 2"),
        ("words", "label is str"),
        ("called", "name is int"),
        ("caption", "caption is list"),
        ("shape", "shape (3,)"),
        ("kind", ""),
        ("attribute", "attribute size is object"),
        ("list", "attributes are list"),
    ],
)
def test_nonsense_is_set_aside_with_what_is_wrong(how: str, reason: str) -> None:
    """The same in a process of its own and in this one."""
    asked = recipe(at=[3], how=how)
    ((name, told),) = read(asked).set_aside
    assert name == "example 3"
    assert reason in told
    source = make_source(asked)
    here = finish(prepare(source, make_scheme(asked, Opened.of(source, asked.data).facts), asked.data))
    assert here.set_aside == ((name, told),)


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize(("how", "reason"), [("object", "not numbers"), ("other", "float64 of shape (5,)")])
def test_conditions_that_are_nonsense_are_set_aside(how: str, reason: str) -> None:
    asked = recipe("shade").with_values({"conditioning.options": {"at": [3], "how": how}})
    ((name, told),) = read(asked).set_aside
    assert name in ("example 3", "no 3")
    assert reason in told


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("how", ["names", "number"])
def test_a_source_that_cannot_name_its_examples_is_read_all_the_same(how: str) -> None:
    assert len(read(recipe(at=[3], how=how)).pixels) == 40


# --- opening --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize(
    ("how", "what"),
    [
        ("raise", "KeyError"),
        ("segfault", r"brought its process down \(signal 11\) while it was opened"),
        ("exit", r"ended its process \(exit code 3\) while it was opened"),
        ("sleep", r"took longer than 3 s and was ended while it was opened"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_plugin_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch, how: str, what: str) -> None:
    if how == "sleep":
        monkeypatch.setattr(loading, "OPENING", 3.0)
    with pytest.raises(PluginError, match=f"the plugin 'trouble' of trouble-plugin.*{what}") as caught:
        read(recipe(at=[-1], how=how))
    assert caught.value.fix
    if how == "segfault":
        assert any("Segmentation fault" in note for note in caught.value.__notes__), "its last words are kept"


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("how", ["length", "classes", "attributes", "fingerprint"])
def test_a_source_that_tells_nonsense_of_itself_is_named(how: str) -> None:
    with pytest.raises(PluginError, match="the plugin 'trouble' of trouble-plugin failed: TypeError"):
        read(recipe(how=how))


@pytest.mark.usefixtures("trouble")
def test_errors_of_the_recipe_come_back_with_their_place() -> None:
    with pytest.raises(RecipeError) as caught:
        read(recipe(many=3))
    assert caught.value.field == "data.options.many"
    assert "count" in caught.value.fix


@pytest.mark.usefixtures("trouble")
def test_data_that_changes_while_it_is_read_is_not_taken() -> None:
    """Processes that see other data than the first would mix up their indices."""
    asked = recipe()
    with Loaders(asked, 1, "the plugin", "") as loaders:
        opened = finish(loaders.opened())
        loaders.close()
        other = replace(opened, length=41)
        with pytest.raises(DataError, match="has changed"):
            list(loaders.rows(other, prepare=False))


# --- stopping -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("trouble")
@pytest.mark.parametrize("at", [-1, 0, 5])
def test_closing_midway_ends_the_processes_at_once(tmp_path: Path, at: int) -> None:
    log = tmp_path / "log"
    turns = reading(recipe(at=[at], how="sleep", log=str(log)))
    assert wait_for(lambda: next(turns) and pids_of(log))
    began = time.monotonic()
    turns.close()
    assert time.monotonic() - began < 2
    assert not any(is_running(pid) for pid in pids_of(log))
    assert not cached()


@pytest.mark.usefixtures("trouble")
def test_a_turn_is_short_while_a_plugin_hangs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    turns = reading(recipe(at=[0], how="holds", log=str(log)))
    assert wait_for(lambda: next(turns) and pids_of(log))
    took = []
    for _ in range(10):
        began = time.monotonic()
        next(turns)
        took.append(time.monotonic() - began)
    turns.close()
    assert sorted(took)[5] < 0.2


ORPHAN = """
import sys
from imagen_workbench.core.datasets import reading
from imagen_workbench.core.recipe import Recipe
for _ in reading(Recipe.from_toml(sys.argv[1])):
    pass
"""


@pytest.mark.usefixtures("trouble")
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.parametrize("how", ["sleep", "none"])
@pytest.mark.parametrize("end", ["SIGKILL", "SIGINT"])
def test_no_process_outlives_the_one_that_started_it(tmp_path: Path, how: str, end: str) -> None:
    log = tmp_path / "log"
    asked = recipe(count=50_000, at=[20], how=how, log=str(log))
    parent = subprocess.Popen(
        [sys.executable, "-c", ORPHAN, asked.to_toml()],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        stderr=subprocess.PIPE,
    )
    assert wait_for(lambda: pids_of(log), 60)
    parent.send_signal(getattr(signal, end))
    parent.communicate()
    assert wait_for(lambda: not any(is_running(pid) for pid in pids_of(log)))


# --- the worker -----------------------------------------------------------------------------------


@pytest.mark.usefixtures("trouble")
def test_training_goes_on_past_a_crash(tmp_path: Path) -> None:
    asked = recipe("label", at=[3], how="exit")
    events = list(events_of(Worker(), Train(1, str(tmp_path / "run"), asked)))
    assert not [event for event in events if isinstance(event, Failed)]
    assert [event.finished for event in events if isinstance(event, PhaseChanged)][-1]


@pytest.mark.usefixtures("trouble")
def test_a_look_at_the_data_is_fenced_too() -> None:
    (shown,) = [
        each for each in events_of(Worker(), ShowData(4, recipe(at=[3], how="exit"))) if isinstance(each, DataShown)
    ]
    assert shown.set_aside == (("example 3", "ended its process (exit code 3)"),)
    (failed,) = [
        each for each in events_of(Worker(), ShowData(5, recipe(at=[-1], how="exit"))) if isinstance(each, Failed)
    ]
    assert "trouble-plugin" in failed.what


# --- frames ---------------------------------------------------------------------------------------

DTYPES = [
    np.dtype("u1"),
    np.dtype(">u2"),
    np.dtype("?"),
    np.dtype([("ids", "i4", (3,)), ("level", "f4")]),
    np.dtype([("inner", [("a", "u1"), ("b", "f8", (2, 2))]), ("absent", "?", (1,))]),
]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 3)])
def test_arrays_come_through_a_pipe_as_they_were(dtype: np.dtype, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 2, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)
    pipe = io.BytesIO()
    write_frame(pipe, {"say": "ü"}, [values, np.arange(3)])
    write_frame(pipe, {})
    pipe.seek(0)
    first = read_frame(pipe)
    assert first is not None
    assert first[0] == {"say": "ü"}
    assert first[1][0].dtype == dtype
    assert first[1][0].tobytes() == values.tobytes()
    assert first[1][0].shape == shape
    assert read_frame(pipe) == ({}, [])
    assert read_frame(pipe) is None
    assert dtype_of(layout_of(dtype)) == dtype


@given(st.binary(max_size=60))
def test_any_bytes_are_a_frame_or_none(content: bytes) -> None:
    whole = io.BytesIO()
    write_frame(whole, {"a": 1}, [np.arange(4)])
    for text in (content, whole.getvalue()[: len(content)], whole.getvalue()[:12] + content.ljust(200, b"x")):
        try:
            read_frame(io.BytesIO(text))
        except ValueError:
            continue


def test_objects_never_come_through() -> None:
    with pytest.raises(ValueError, match="objects"):
        dtype_of("|O")


# --- streams --------------------------------------------------------------------------------------

STREAM = '''
import ctypes, os
import numpy as np
from pydantic import BaseModel
from imagen_workbench.core import Example, Stream
from trouble_plugin import trouble


class Options(BaseModel):
    count: int = 50
    at: int = -1
    how: str = ""
    where: str = "decoding"
    log: str = ""


class Broken:
    """An image that makes its trouble when it is looked at."""

    def __init__(self, how):
        self.how = how

    def __fspath__(self):
        trouble(self.how)


class Tape(Stream):
    title, summary = "Tape", "For tests."
    Options = Options
    classes = ("even", "odd")

    def __init__(self, settings, options):
        super().__init__(settings, options)
        if options.log:
            with open(options.log, "a") as file:
                file.write(f"{os.getpid()}\\n")
        self.begun = 0

    def fingerprint(self):
        return "1"

    def examples(self, position):
        self.begun += 1
        for k in range(int(position or 0), self.options.count or 10**9):
            image = np.full((8, 8), k % 256, np.uint8)
            if k == self.options.at:
                if self.options.where == "always":
                    trouble(self.options.how)
                if self.options.where == "once" and self.begun == 1 and not position:
                    trouble(self.options.how)
                if self.options.where == "decoding":
                    image = Broken(self.options.how)
            yield str(k + 1), Example(image, k % 2, f"no {k}")
'''


@pytest.fixture
def tape(trouble: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    install(tmp_path / "site", monkeypatch, "tape-plugin", STREAM, datasets={"tape": "Tape"})
    yield
    sys.modules.pop("tape_plugin", None)


def stream_recipe(**options: Any) -> Recipe:
    return recipe(**options).with_values({"data.source": "tape"})


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize(
    ("count", "most", "come"), [(50, 0, 50), (50, 20, 20), (50, 99, 50), (16, 16, 16), (0, 40, 40)]
)
def test_a_stream_is_read_to_its_end_or_to_the_most(tmp_path: Path, count: int, most: int, come: int) -> None:
    log = tmp_path / "log"
    asked = stream_recipe(count=count, log=str(log)).with_values({"data.most": most})
    data = read(asked)
    assert list(data.names) == [f"no {k}" for k in range(come)]
    assert data.labels.tolist() == [k % 2 for k in range(come)]
    assert len(pids_of(log)) == 1
    again = read(asked)
    assert np.array_equal(again.pixels, data.pixels)
    stored = cached()
    source = make_source(asked)
    assert (
        len(finish(prepare(source, make_scheme(asked, Opened.of(source, asked.data).facts), asked.data)).names) == come
    )
    assert cached() == stored


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize(
    ("how", "reason"),
    [("exit", "exit code 3"), ("sleep", "longer than 2 s"), ("raise", "own depths"), ("segfault", "signal 11")],
)
def test_a_stream_goes_on_after_an_example_that_ends_its_process(
    monkeypatch: pytest.MonkeyPatch, how: str, reason: str
) -> None:
    monkeypatch.setattr(work, "EXAMPLE", 2.0)
    data = read(stream_recipe(at=17, how=how))
    ((name, told),) = data.set_aside
    assert name == "no 17"
    assert reason in told
    assert list(data.names) == [f"no {k}" for k in range(50) if k != 17]


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize("how", ["raise", "exit"])
def test_a_stream_that_fails_once_is_begun_again_where_it_was(how: str) -> None:
    data = read(stream_recipe(at=17, how=how, where="once"))
    assert not data.set_aside
    assert list(data.names) == [f"no {k}" for k in range(50)]


@pytest.mark.usefixtures("tape")
@pytest.mark.parametrize(("how", "what"), [("raise", "KeyError"), ("exit", "exit code 3.* twice after 17 examples")])
def test_a_stream_that_cannot_go_on_is_named(how: str, what: str) -> None:
    with pytest.raises(PluginError, match=f"'tape' of tape-plugin.*{what}"):
        read(stream_recipe(at=17, how=how, where="always"))
