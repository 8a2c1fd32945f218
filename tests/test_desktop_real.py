"""The window over the real engine and the worker's own thread: few journeys, each from end to end."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from PySide6.QtWidgets import QLabel, QTabBar
from qt_face import RealFace

from imagen_workbench.core.events import Phase
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.workbench.desktop import theme

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window


@pytest.fixture
def open_face(qtbot: QtBot, qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], RealFace]]:
    """Opens the window as its start does; all that are open are closed at the end."""
    theme.apply(qapp, dark=True)
    opened: list[RealFace] = []

    def open_one() -> RealFace:
        opened.append(RealFace(qtbot, monkeypatch))
        return opened[-1]

    yield open_one
    for face in opened:
        if hasattr(face, "window"):
            face.close()


@pytest.fixture
def face(open_face: Callable[[], RealFace]) -> RealFace:
    return open_face()


def begin_tiny(face: RealFace, steps: str) -> None:
    """Goes to Train and fills in the small recipe, with so many steps."""
    face.go_to("train")
    face.until(lambda: face.bench.training.state.recipes)
    face.choose("recipe", "tiny")
    face.type_into("training.steps", steps)
    face.settle()


def step_of(face: RealFace) -> int:
    progress = face.bench.training.state.progress
    return progress.step if progress else -1


def test_first_start_shows_eight_guided_digits(face: RealFace) -> None:
    face.until(lambda: face.bench.drawing.state.drawn)
    shown = face.grid()
    assert shown is not None
    assert shown.shape == (8, 28, 28, 3)
    assert all(image.std() > 20 for image in shown), "each shows something"
    assert len({image.tobytes() for image in shown}) == 8
    assert float(face.shown("guidance")) > 1
    assert "weights" in face.shown("model-facts")
    assert "network calls" in face.status()
    face.choose("condition", "7")
    face.until(lambda: not face.bench.drawing.state.drawing)
    drawn = face.bench.drawing.state.drawn
    assert drawn is not None
    assert drawn.conditions == ("7",) * 8
    again = face.grid()
    assert again is not None
    assert not np.array_equal(again, shown)


def test_train_pause_draw_resume_stop(face: RealFace) -> None:
    begin_tiny(face, "5000")
    face.type_into("training.learning_rate", "0.2")
    assert "diverges" in face.error_at("training.learning_rate")
    assert not face.is_enabled("start")
    face.click("undo")
    face.until(lambda: face.is_enabled("start"))
    face.click("start")
    face.until(lambda: step_of(face) >= 3)
    face.click("pause")
    face.until(lambda: "Paused" in face.status() and face.loss_points() == step_of(face))
    paused_at = step_of(face)
    assert face.seed_steps() == [0, *range(20, paused_at + 1, 20)]

    face.click("draw-live")
    face.until(lambda: face.bench.drawing.state.model == "live" and face.is_enabled("save"))
    assert "training now" in face.shown("model-facts")
    assert face.worker.phase is Phase.PAUSED
    assert step_of(face) == paused_at

    face.go_to("train")
    face.click("resume")
    face.until(lambda: step_of(face) > paused_at)
    face.go_to("draw")
    face.type_into("seed", "4")
    face.until(lambda: not face.bench.drawing.state.drawing)
    assert face.worker.phase is Phase.TRAINING
    face.go_to("train")
    face.click("stop")
    face.until(lambda: face.worker.phase is Phase.IDLE and face.is_enabled("start"))
    run = Run(face.bench.training.state.run)
    stopped_at = face.bench.training.state.saved_step
    assert stopped_at > paused_at
    assert (run.checkpoints / f"{stopped_at:08d}").is_dir()
    assert not face.problem()


def test_a_folder_of_ones_own_images_is_seen_and_trained(face: RealFace, tmp_path: Path) -> None:
    folder, tones = tmp_path / "pets", np.random.default_rng(0)
    for name in ("cats", "dogs"):
        (folder / name).mkdir(parents=True)
        for number in range(12):
            pixels = tones.integers(0, 255, (40, 36, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    (folder / "cats" / "broken.png").write_bytes(b"not a picture")

    begin_tiny(face, "3")
    face.choose("data.source", "image-folder")
    face.settle()
    face.type_into("data.path", str(folder))
    face.until(lambda: "1 set aside" in face.data_words())
    assert "22 to train, 2 held out" in face.data_words()
    tabs = face.find(QTabBar, "recipe-tabs")
    face.press(tabs, tabs.tabRect(1).center())
    assert "cats/broken.png" in face.find(QLabel, "set-aside").text()
    face.press(tabs, tabs.tabRect(0).center())

    face.click("start")
    face.until(lambda: "Finished" in face.status())
    assert face.seed_steps() == [0, 3]
    assert not face.problem()
    face.go_to("draw")
    face.choose("model", f"run {face.bench.training.state.run_name}")
    face.until(lambda: face.is_enabled("save"))
    face.choose("condition", "dogs")
    face.until(lambda: not face.bench.drawing.state.drawing)
    shown = face.grid()
    assert shown is not None
    assert shown.shape == (8, 32, 32, 3)


def test_closing_in_mid_training_saves_and_the_run_goes_on_later(open_face: Callable[[], RealFace]) -> None:
    face = open_face()
    begin_tiny(face, "5000")
    face.click("start")
    face.until(lambda: step_of(face) >= 2)
    name = face.bench.training.state.run_name
    face.close_window(answer="Save and close")
    face.until(lambda: face.bench.is_closed)
    run, saved = Run(face.bench.training.state.run), face.bench.training.state.saved_step
    face.close()
    assert saved >= 2
    assert (run.checkpoints / f"{saved:08d}").is_dir()

    face = open_face()
    face.go_to("train")
    face.choose_from_menu("train-bar-subject", f"Continue {name}")
    face.until(lambda: step_of(face) > saved)
    assert face.loss_points() > saved, "the curve begins where the run began"
    face.click("stop")
    face.until(lambda: face.worker.phase is Phase.IDLE and face.bench.training.state.saved_step > saved)
    face.close()


LIGHT = """
import sys
import imagen_workbench.workbench.app
from PySide6.QtWidgets import QApplication
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench.desktop import theme
from imagen_workbench.workbench.desktop.qt_thread import QtThread
from imagen_workbench.workbench.desktop.window import Window
from imagen_workbench.workbench.presenters.bench import Bench

app = QApplication([])
theme.apply(app)
window = Window(Bench(Worker(), QtThread(app)))
window.show()
app.processEvents()
print(*sorted({"torch", "ipywidgets", "matplotlib", "safetensors"} & set(sys.modules)))
"""


def test_the_window_opens_without_torch() -> None:
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []
