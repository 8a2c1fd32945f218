"""The panel as a whole, on its own threads: from its making to its end, without a page."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
import pytest
from notebook_face import say
from scripted_engine import ScriptedEngine

from imagen_workbench.core.events import Phase, Preview, Progress
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench import Panel
from imagen_workbench.workbench.notebook import kernel
from imagen_workbench.workbench.notebook.notebook_thread import CALM, SOON, NotebookThread, Pacer
from imagen_workbench.workbench.notebook.panel import _picture
from imagen_workbench.workbench.notebook.parts import pictures
from imagen_workbench.workbench.presenters.bench import Bench
from imagen_workbench.workbench.presenters.ui_thread import ManualThread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagen_workbench.core.commands import Draw

PATIENCE = 30.0


def until(panel: Panel, condition: Callable[[], object]) -> None:
    """Waits, without sleeping, until the panel's thread finds that it holds."""
    there = threading.Event()

    def look() -> None:
        if condition():
            there.set()
        else:
            panel.bench.ui.call_later(0.005, look)

    panel.bench.ui.post(look)
    assert there.wait(PATIENCE)


@pytest.fixture
def open_widgets() -> Iterator[set[str]]:
    """Names of the widgets that are open; none may be left behind."""
    known = set(ipywidgets.widgets.widget._instances)
    yield known
    assert set(ipywidgets.widgets.widget._instances) == known


def scripted(model: str = "digits") -> Panel:
    return Panel(model, worker=Worker(ScriptedEngine))


# --- the panel ------------------------------------------------------------------------------------


def test_the_last_draw_is_at_hand(open_widgets: set[str], capfd: pytest.CaptureFixture[str]) -> None:
    with scripted() as panel:
        assert panel.samples == [] or len(panel.samples) == 8
        until(panel, lambda: len(panel.samples) == 8)
        assert panel.samples[7].getpixel((0, 0)) == 7
        assert panel.arrays is not None
        assert panel.arrays.shape == (8, 1, 8, 8)
        assert not panel.bench.is_closed
    assert panel.bench.is_closed
    assert len(panel.samples) == 8, "what was drawn stays"
    assert repr(panel) == "Panel (closed)"
    panel.close()
    assert capfd.readouterr() == ("", "")


def test_closing_saves_a_run_that_trains(open_widgets: set[str]) -> None:
    panel = Panel(worker=Worker(lambda emit: ScriptedEngine(emit, steps=1_000_000)))
    until(panel, lambda: panel.bench.training.state.recipe_name)
    say(panel.view.train.buttons["start"], event="click")
    until(panel, lambda: panel.worker.phase is Phase.TRAINING)
    panel.close()
    assert panel.worker.phase is Phase.CLOSED
    assert panel.bench.training.state.saved_step > 0


def test_two_panels_do_not_know_of_each_other(open_widgets: set[str]) -> None:
    with scripted() as one, scripted() as other:
        until(one, lambda: one.samples)
        until(other, lambda: other.samples)
        say(one.view.draw.form, kind="edit", key="count", text="3", page="test", number=1)
        until(one, lambda: len(one.samples) == 3)
        other.close()
        assert len(other.samples) == 8
        say(one.view.draw.form, kind="edit", key="count", text="2", page="test", number=2)
        until(one, lambda: len(one.samples) == 2)


def test_what_fails_in_the_panel_is_shown_and_the_panel_lives_on(open_widgets: set[str]) -> None:
    with scripted() as panel:
        panel.bench.ui.post(lambda: {}["nowhere"])
        until(panel, lambda: panel.view.note.text)
        assert "KeyError: 'nowhere'" in panel.view.note.text
        assert "test_notebook_lifecycle.py" in panel.view.note.text
        until(panel, lambda: panel.samples)


def test_a_worker_that_does_not_end_is_named(open_widgets: set[str]) -> None:
    go_on = threading.Event()

    class Slow(ScriptedEngine):
        def draw(self, command: Draw) -> Any:
            go_on.wait(PATIENCE)
            return super().draw(command)

    panel = Panel(worker=Worker(Slow))
    until(panel, lambda: panel.bench.drawing.state.drawing and panel.bench.drawing.state.facts)
    with pytest.raises(TimeoutError, match="its step is done"):
        panel.close(timeout=0.05)
    go_on.set()
    assert panel.worker.join(PATIENCE)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 6])
def test_images_of_any_channels_are_shown_and_handed_out(channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 4, channels), np.uint8)
    shown = pictures(images)
    assert shown.shape == ((2, 5, 4) if channels < 3 else (2, 5, 4, 3))
    assert shown.flags.c_contiguous
    kept = {1: 0, 2: 0, 6: slice(3)}.get(channels, slice(channels))
    assert np.array_equal(np.asarray(_picture(images[1])), images[1][..., kept])


def test_torchs_own_generator_is_the_persons(open_widgets: set[str]) -> None:
    torch = pytest.importorskip("torch")
    before = torch.random.get_rng_state()
    with Panel() as panel:
        until(panel, lambda: panel.samples)
    assert torch.equal(torch.random.get_rng_state(), before)


# --- the kernel -----------------------------------------------------------------------------------


def test_outside_a_notebook_it_says_what_to_do(open_widgets: set[str]) -> None:
    with scripted() as panel:
        assert "JupyterLab 4.4" in repr(panel)
        assert panel._repr_mimebundle_() == {"text/plain": repr(panel)}


@pytest.mark.parametrize(
    ("version", "words"),
    [("6.31.0", "pip install -U ipykernel"), ("7.0.1", "older than 7.1"), ("7.1.0", ""), ("7.10.2", ""), ("8.0a1", "")],
)
def test_an_old_kernel_is_told(
    version: str, words: str, monkeypatch: pytest.MonkeyPatch, open_widgets: set[str]
) -> None:
    monkeypatch.setattr(kernel, "in_kernel", lambda: True)
    monkeypatch.setattr(kernel.metadata, "version", lambda _name: version)
    with scripted() as panel:
        assert words in panel.view.note.text
        assert bool(panel.view.note.text) == bool(words)


# --- its thread -----------------------------------------------------------------------------------


def test_jobs_keep_their_order_and_all_are_done_before_the_end() -> None:
    done: list[object] = []
    errors: list[Exception] = []
    thread = NotebookThread(errors.append)
    thread.post(lambda: done.append(thread.is_here()))
    thread.post(lambda: [][1])
    thread.call_later(3600, lambda: done.append("never"))
    thread.call_later(0.01, lambda: done.append("second"))
    first = threading.Event()
    thread.call_later(0.0, lambda: (done.append("first"), first.set()))
    assert first.wait(PATIENCE)
    for number in range(100):
        thread.post(lambda number=number: done.append(number))
    assert thread.close(PATIENCE)
    assert not thread.is_here()
    assert [each for each in done if isinstance(each, int) and each is not True] == list(range(100))
    assert done[:2] == [True, "first"]
    assert "never" not in done
    assert [type(error) for error in errors] == [IndexError]
    thread.post(lambda: done.append("too late"))


def test_ending_on_its_own_thread_does_not_wait_for_itself() -> None:
    thread = NotebookThread(lambda _error: None)
    ended = threading.Event()
    thread.post(lambda: (thread.close(), ended.set()))
    assert ended.wait(PATIENCE)
    assert thread.close(PATIENCE)


@pytest.fixture
def paced() -> tuple[Bench, ManualThread, list[float]]:
    """A bench whose pumps are timed, with a mailbox that the test fills."""
    ui = ManualThread()
    bench = Bench(Worker(ScriptedEngine), ui)
    pumped: list[float] = []
    pump = bench.pump
    bench.pump = lambda: (pumped.append(ui.now), pump())  # type: ignore[method-assign,assignment,return-value]
    bench.pacer = Pacer(bench, ui, lambda: ui.now)  # type: ignore[attr-defined]
    return bench, ui, pumped


def test_training_is_looked_at_a_few_times_a_second(paced: tuple[Bench, ManualThread, list[float]]) -> None:
    bench, ui, pumped = paced
    for step in range(1000):
        bench.worker.mailbox.put(Progress(step=step))
        ui.run()
        ui.advance(0.001)
    assert len(pumped) == pytest.approx(1 / CALM, abs=1)
    assert pumped[0] == 0, "the first at once"
    ui.advance(1)
    assert bench.training.state.progress is not None
    assert bench.training.state.progress.step == 999, "the last is not left lying"


def test_a_draw_is_looked_at_soon_also_in_the_middle_of_a_calm(paced: tuple[Bench, ManualThread, list[float]]) -> None:
    bench, ui, pumped = paced
    bench.drawing._state = bench.drawing.state.__class__(facts=bench.drawing.state.facts)
    for step in range(2):
        bench.worker.mailbox.put(Progress(step=step))
        ui.run()
    assert pumped == [0.0]
    ui.advance(0.01)
    bench.drawing.choose_model("digits")
    bench.worker.mailbox.put(Preview(1))
    ui.run()
    ui.advance(SOON)
    assert pumped == [0.0, pytest.approx(SOON)]
