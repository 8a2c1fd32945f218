"""The suite that both faces share, on the panel's real widgets; and what only a panel has."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from face_scenarios import FaceScenarios
from notebook_face import NotebookFace, images_of, say, set_in_page

from imagen_workbench.core.commands import Draw, OpenModel, Train
from imagen_workbench.core.events import Failed, Phase
from imagen_workbench.core.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class TestNotebook(FaceScenarios):
    @pytest.fixture
    def face(self) -> Iterator[NotebookFace]:
        face = NotebookFace()
        yield face
        face.close()

    # --- Draw -------------------------------------------------------------------------------------

    def test_many_choices_are_a_list_that_is_searched(self, ready: NotebookFace) -> None:
        facts = ready.bench.drawing.state.facts
        assert facts is not None
        birds = tuple(f"bird {number}" for number in range(60))
        ready.worker.mailbox.put(replace(facts, choices=birds, form=(replace(facts.form[0], choices=birds),)))
        ready.settle()
        ready.choose("condition", "bird 41")
        ready.work()
        assert ready.asked(Draw).conditions == ("bird 41",)
        ready.edit("condition", "wren")
        ready.settle()
        assert "wren is not among" in ready.error_at("condition")
        ready.choose("condition", "each in turn")
        ready.work()
        assert ready.asked(Draw).conditions == ()
        assert not ready.error_at("condition")

    def test_a_model_without_conditions_is_not_guided(self, ready: NotebookFace) -> None:
        facts = ready.bench.drawing.state.facts
        assert facts is not None
        ready.worker.mailbox.put(replace(facts, choices=(), conditional=False, form=()))
        ready.settle()
        form, _ = ready.form_with("guidance")
        assert "condition" not in form.rows
        assert "nothing to guide" in form.off["guidance"]
        before = ready.asked(Draw)
        say(form, kind="edit", key="guidance", text="4", page="test", number=77)
        ready.work()
        assert ready.asked(Draw).sampling.guidance == before.sampling.guidance
        assert form.heard["test"] == 77, "the page waits for ever"

    def test_a_draw_is_copied_as_code(self, ready: NotebookFace) -> None:
        ready.type_into("seed", "11")
        ready.work()
        sent: list[object] = []
        ready.view.draw.code.send = lambda content, buffers=None: sent.append(content)  # type: ignore[method-assign]
        ready.click("copy-python")
        ready.settle()
        assert "seed=11" in ready.shown("python")
        assert sent == [{"kind": "copy", "text": ready.shown("python")}]
        ready.click("copy-python")
        ready.settle()
        with pytest.raises(AssertionError, match="python"):
            ready.shown("python")

    def test_saving_is_thought_better_of(self, ready: NotebookFace) -> None:
        ready.click("save")
        ready.settle()
        assert ready.shown("path").endswith("digits-seed-0.png")
        ready.click("save-not")
        ready.settle()
        assert not ready.is_enabled("save-now")

    def test_a_place_that_cannot_be_written_to_is_named(self, ready: NotebookFace, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        ready.save_picture(tmp_path / "file" / "grid.png")
        assert "cannot be written" in ready.problem()
        assert ready.is_enabled("save-now")

    def test_a_model_file_is_opened(self, ready: NotebookFace, tmp_path: Path) -> None:
        assert ready.form_with("model")[1].other
        for chosen, opened in (
            (tmp_path / "cats.safetensors", tmp_path / "cats.safetensors"),
            (tmp_path / "run" / "recipe.toml", tmp_path / "run"),
        ):
            ready.edit("model", str(chosen))
            ready.work()
            assert ready.asked(OpenModel).model == str(opened)

    def test_what_differs_from_the_models_own_has_a_dot(self, ready: NotebookFace) -> None:
        form, _ = ready.form_with("steps")
        assert not form.changed
        ready.slide("steps", 30)
        ready.work()
        assert form.changed == ["steps"]
        ready.edit("steps", form.rows["steps"].default)
        ready.work()
        assert not form.changed

    def test_one_edit_of_a_row_is_answered_before_the_next(self, ready: NotebookFace) -> None:
        form, _ = ready.form_with("seed")
        ready.type_into("seed", "12")
        number = ready._edits
        assert form.heard.get("test", 0) < number
        ready.settle()
        assert form.heard["test"] == number
        ready.type_into("seed", "12")  # changes nothing, and is answered all the same
        ready.settle()
        assert form.heard["test"] == number + 1

    def test_a_line_says_when_the_page_is_deaf_while_cells_run(self, ready: NotebookFace) -> None:
        say(ready.view.draw.grid, kind="painted", frame=1)  # on the main thread
        ready.settle()
        assert "While a cell runs" in ready.view.note.text

    # --- Train ------------------------------------------------------------------------------------

    def test_what_was_set_aside_and_the_whole_recipe_can_be_read(self, ready: NotebookFace, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        ready.type_into("data.path", str(tmp_path))
        ready.work()
        assert ready.shown("set-aside") == "broken.png: the file is empty"
        ready.type_into("training.steps", "77")
        ready.work()
        assert "steps = 77" in ready.shown("toml")

    def test_a_stopped_run_goes_on(self, ready: NotebookFace) -> None:
        runs = []
        ready.go_to("train")
        for _ in range(2):
            ready.click("start")
            ready.work(6)
            ready.click("stop")
            ready.work()
            runs.append(ready.bench.training.state.run)
        ready.click("list-runs")
        ready.settle()
        ready.choose("run", next(label for value, label in ready.form_with("run")[1].choices if value == runs[0]))
        ready.settle()
        ready.click("go-on")
        ready.work(3)
        assert ready.asked(Train).resume
        assert ready.asked(Train).run == runs[0]

    def test_no_run_goes_on_where_none_was_stopped(self, ready: NotebookFace) -> None:
        ready.go_to("train")
        ready.click("list-runs")
        ready.settle()
        assert "No run" in ready.shown("none")
        assert not ready.is_enabled("go-on")

    def test_a_recipe_file_is_opened(self, ready: NotebookFace, tmp_path: Path) -> None:
        file = tmp_path / "mine.toml"
        file.write_text(Recipe(name="mine").with_values({"training.steps": 55}).to_toml())
        ready.go_to("train")
        assert ready.form_with("recipe")[1].other
        ready.edit("recipe", str(file))
        ready.work()
        assert ready.shown("training.steps") == "55"
        ready.edit("recipe", str(tmp_path / "none.toml"))
        ready.work()
        assert "none.toml" in ready.problem()

    def test_a_run_that_fails_says_so_and_can_be_begun_again(self, ready: NotebookFace) -> None:
        ready.go_to("train")
        ready.work()
        ready.worker.mailbox.put(Failed(0, about="Train", what="the disk is full", fix="Free some space"))
        ready.settle()
        assert "the disk is full. Free some space." in ready.problem()
        assert ready.is_enabled("start")

    def test_the_reason_stands_at_a_button_that_cannot_be_pressed(self, ready: NotebookFace) -> None:
        ready.go_to("train")
        assert ready.button("pause").tooltip == "Nothing is training."
        ready.click("start")
        ready.work(6)
        assert ready.worker.phase is Phase.TRAINING
        assert "Pause after this step" in str(ready.button("pause").tooltip)

    # --- both -------------------------------------------------------------------------------------

    def test_what_the_panel_shows_is_no_edit(self, ready: NotebookFace) -> None:
        ready.click_image(3)
        ready.work()
        before = len(ready.engine.asked) if ready.engine else 0
        ready.bench.drawing.select(5)
        ready.bench.drawing.scrub(0)
        ready.settle()
        assert ready.view.draw.grid.selected == 5
        assert ready.view.draw.film.selected == 0
        assert ready.bench.drawing.state.selected == 5
        assert ready.engine is not None
        assert len(ready.engine.asked) == before

    def test_only_what_differs_is_sent(self, ready: NotebookFace) -> None:
        sent: list[str] = []
        for name, form in (("draw", ready.view.draw.form), ("train", ready.view.train.fields)):
            form._send = lambda msg, buffers=None, name=name: sent.append(f"{name} {sorted(msg.get('state', ()))}")
        ready.click_image(2)
        ready.settle()
        assert sent == []
        ready.type_into("seed", "8")
        ready.settle()
        assert sent == ["draw ['heard', 'values']"]
        frames = ready.view.draw.grid.frames
        set_in_page(ready.view.tabs, index=1)
        ready.settle()
        assert ready.view.draw.grid.frames == frames
        assert images_of(ready.view.draw.grid) is not None
