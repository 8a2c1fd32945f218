"""The suite that both faces share, in the real window; and what only a window has."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from face_scenarios import FaceScenarios
from PySide6.QtCore import Qt
from PySide6.QtGui import QGuiApplication
from PySide6.QtWidgets import QPlainTextEdit, QTabBar
from qt_face import QtFace

from imagen_workbench.core.commands import Draw, OpenModel, ShowData, Train
from imagen_workbench.core.events import Failed, Phase
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.runs.folder import runs_home
from imagen_workbench.workbench.desktop import theme
from imagen_workbench.workbench.desktop.canvas import Thumbnails
from imagen_workbench.workbench.desktop.rows import Field

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window


class TestDesktop(FaceScenarios):
    @pytest.fixture
    def face(self, qtbot: QtBot, qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> Iterator[QtFace]:
        theme.apply(qapp, dark=True)
        face = QtFace(qtbot, monkeypatch)
        yield face
        face.close()

    # --- what a window has beside it --------------------------------------------------------------

    def test_many_choices_are_a_list_that_is_searched(self, ready: QtFace, many: None) -> None:
        ready.choose("condition", "bird 41")
        ready.work()
        assert ready.asked(Draw).conditions == ("bird 41",)
        ready.choose("condition", "each in turn")
        ready.work()
        assert ready.asked(Draw).conditions == ()

    @pytest.fixture
    def many(self, ready: QtFace) -> None:
        self.give_many_classes(ready)

    def give_many_classes(self, ready: QtFace) -> None:
        """The model has sixty classes."""
        facts = ready.bench.drawing.state.facts
        assert facts is not None
        texts = tuple(f"bird {number}" for number in range(60))
        ready.worker.mailbox.put(replace(facts, choices=texts, form=(replace(facts.form[0], choices=texts),)))
        ready.settle()

    def test_a_long_text_is_seen_from_its_beginning(self, ready: QtFace) -> None:
        ready.choose("model", "captions")
        ready.work()
        ready.type_into("condition.text", "a red square above a large blue circle")
        assert ready.find(Field, "condition.text-field").cursorPosition() == 0

    def test_a_picture_is_found_with_the_systems_dialog(self, ready: QtFace, tmp_path: Path) -> None:
        ready.choose("model", "larger")
        ready.work()
        for chosen in (str(tmp_path / "cat.png"), ""):
            ready.answer_dialogs(chosen)
            ready.click("condition.low-choose")
            ready.work()
            assert ready.shown("condition.low") == str(tmp_path / "cat.png")
            assert ready.asked(Draw).conditions == (f"low={tmp_path / 'cat.png'};noise=0",)

    def test_a_draw_is_copied_as_code(self, ready: QtFace) -> None:
        ready.type_into("seed", "11")
        ready.work()
        ready.click("copy-python")
        assert "seed=11" in QGuiApplication.clipboard().text()

    def test_a_model_file_is_opened(self, ready: QtFace, tmp_path: Path) -> None:
        for entry, chosen in (("Open a model file", tmp_path / "cats.safetensors"), ("Open a run", tmp_path / "run")):
            ready.answer_dialogs(chosen)
            ready.choose("model", entry)
            ready.work()
            assert ready.asked(OpenModel).model == str(chosen)
            ready.answer_dialogs("")
            ready.choose("model", entry)
            ready.work()
            assert ready.asked(OpenModel).model == str(chosen), "thought better of"

    def test_a_run_is_looked_for_where_runs_are(self, ready: QtFace) -> None:
        ready.answer_dialogs("")
        ready.choose("model", "Open a run")
        assert ready.began_at == str(Path.home())
        runs_home().mkdir(parents=True)
        ready.choose("model", "Open a run")
        assert ready.began_at == str(runs_home())

    def test_escape_stops_a_draw_unless_it_takes_typing_back(self, ready: QtFace) -> None:
        ready.type_into("seed", "60")
        ready.work(2)
        field = ready.find(Field, "steps-field")
        ready.press(field)
        ready.qtbot.keyClicks(field, "7")
        ready.qtbot.keyClick(field, Qt.Key.Key_Escape)
        ready.settle()
        assert (ready.shown("steps"), ready.label("draw")) == ("18", "Stop")
        ready.qtbot.keyClick(field, Qt.Key.Key_Escape)
        ready.work()
        assert ready.label("draw") == "Draw"
        shown = ready.grid()
        assert shown is not None
        assert int(shown[0, 4, 4, 0]) in (40, 41)

    def test_a_folder_is_found_with_the_systems_dialog(self, ready: QtFace, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        ready.answer_dialogs(tmp_path)
        ready.click("browse")
        ready.work()
        assert ready.shown("data.path") == str(tmp_path)
        assert ready.asked(ShowData).recipe.data.path == str(tmp_path)

    def test_the_recipe_is_seen_as_data_and_as_toml(self, ready: QtFace) -> None:
        ready.go_to("train")
        tabs = ready.find(QTabBar, "recipe-tabs")
        ready.press(tabs, tabs.tabRect(1).center())
        assert ready.find(Thumbnails, "more-data-images").count == 12
        ready.press(tabs, tabs.tabRect(2).center())
        assert "learning_rate" in ready.find(QPlainTextEdit, "toml").toPlainText()
        ready.press(tabs, tabs.tabRect(0).center())
        ready.type_into("training.steps", "77")
        ready.press(tabs, tabs.tabRect(2).center())
        assert "steps = 77" in ready.find(QPlainTextEdit, "toml").toPlainText()

    def test_a_stopped_run_goes_on_from_the_menu(self, ready: QtFace) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        ready.click("stop")
        ready.work()
        run = ready.bench.training.state.run
        ready.choose_from_menu("train-bar-subject", f"Continue {Path(run).name}")
        ready.work(3)
        assert ready.asked(Train).resume
        assert ready.asked(Train).run == run

    def test_a_recipe_file_is_opened(self, ready: QtFace, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(Recipe(name="mine").with_values({"training.steps": 55}).to_toml())
        ready.answer_dialogs(file)
        ready.go_to("train")
        ready.choose_from_menu("train-bar-subject", "Open a recipe")
        ready.work()
        assert ready.shown("training.steps") == "55"

    def test_closing_while_training_asks_first(self, ready: QtFace) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        ready.close_window(answer="Keep training")
        ready.work(2)
        assert ready.worker.phase is Phase.TRAINING
        assert ready.window.isEnabled()
        ready.close_window(answer="Save and close")
        ready.work()
        assert ready.bench.is_closed
        assert ready.bench.training.state.saved_step > 0

    def test_closing_while_nothing_trains_asks_nothing(self, ready: QtFace) -> None:
        ready.close_window(answer="")
        ready.work()
        assert ready.bench.is_closed

    def test_a_run_that_fails_says_so_and_can_be_begun_again(self, ready: QtFace) -> None:
        ready.go_to("train")
        ready.work()
        ready.worker.mailbox.put(Failed(0, about="Train", what="the disk is full", fix="Free some space"))
        ready.settle()
        assert "the disk is full. Free some space." in ready.problem()
        assert ready.is_enabled("start")
