"""Presenters alone: no toolkit, no torch, a clock that stands still."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from imagen_workbench.core.commands import CancelDraw, Command, Draw, OpenModel, ShowData, Train
from imagen_workbench.core.events import (
    Catalogue,
    ConditionField,
    DataShown,
    Drawn,
    Failed,
    ModelOpened,
    Phase,
    PhaseChanged,
    PluginFacts,
    Preview,
    Progress,
)
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.runs.journal import Journal
from imagen_workbench.workbench.presenters.cascade import OpenCascade
from imagen_workbench.workbench.presenters.curves import CurveReader
from imagen_workbench.workbench.presenters.drawing import STOP_AFTER, DrawingPresenter
from imagen_workbench.workbench.presenters.forms import options_form, recipe_form, text_of, value_of
from imagen_workbench.workbench.presenters.numbers import short_count, spoken_bytes, spoken_time
from imagen_workbench.workbench.presenters.status import Status, status_after
from imagen_workbench.workbench.presenters.training import DATA_DELAY, TrainingPresenter
from imagen_workbench.workbench.presenters.training_state import GROUPS
from imagen_workbench.workbench.presenters.ui_thread import ManualThread, Sparing

if TYPE_CHECKING:
    from pathlib import Path


class Desk:
    """A drawing and a training presenter with their commands kept."""

    def __init__(self) -> None:
        self.asked: list[Command] = []
        self.ui = ManualThread()
        self._ticket = 0
        self.drawing = DrawingPresenter(self.asked.append, self.next_ticket, self.ui)
        self.training = TrainingPresenter(self.asked.append, self.next_ticket, self.ui)

    def next_ticket(self) -> int:
        self._ticket += 1
        return self._ticket

    def open(self, *form: ConditionField) -> Draw:
        self.drawing.start()
        opened = self.asked[-1]
        assert isinstance(opened, OpenModel)
        form = form or (ConditionField("class", "Class label", "choice", choices=("0", "1")),)
        self.drawing.on_event(ModelOpened(opened.ticket, "digits", "digits", 5, conditional=True, form=form))
        drawn = self.asked[-1]
        assert isinstance(drawn, Draw)
        return drawn


def pictures(tone: int) -> np.ndarray:
    return np.full((2, 4, 4, 1), tone, np.uint8)


def test_an_answer_to_an_older_question_is_dropped() -> None:
    desk = Desk()
    first = desk.open()
    desk.drawing.set(guidance=3.0)
    second = desk.asked[-1]
    desk.drawing.on_event(Preview(first.ticket, pictures(1)))
    desk.drawing.on_event(Drawn(first.ticket, pictures(1), conditions=("0", "1")))
    desk.drawing.on_event(Failed(first.ticket, about="Draw", what="old"))
    assert desk.drawing.state.images is None
    assert not desk.drawing.state.problem
    desk.drawing.on_event(Preview(second.ticket, pictures(2)))
    assert desk.drawing.state.images is not None
    assert desk.drawing.state.images[0, 0, 0, 0] == 2
    assert desk.drawing.state.drawing


def test_a_change_that_changes_nothing_is_not_told() -> None:
    desk = Desk()
    desk.open()
    told: list[object] = []
    desk.drawing.changed.connect(told.append)
    desk.drawing.set(locked=True)
    desk.drawing.on_event(Preview(0, pictures(1)))
    assert told == []


def test_a_wrong_setting_posts_nothing_and_keeps_the_last_good_one() -> None:
    desk = Desk()
    desk.open()
    count = len(desk.asked)
    desk.drawing.set(steps=0)
    assert len(desk.asked) == count
    assert dict(desk.drawing.state.errors)["steps"].startswith("At least 1")
    assert desk.drawing.state.sampling.steps == 18
    desk.drawing.set(count=1000)
    assert "400" in dict(desk.drawing.state.errors)["count"]


def test_a_text_that_is_no_number_is_refused_until_there_is_one() -> None:
    desk = Desk()
    desk.open()
    count = len(desk.asked)
    for key in ("guidance", "ema", "seed", "steps", "count", "corrections"):
        desk.drawing.set(**{key: "abc"})
    assert len(desk.asked) == count
    errors = dict(desk.drawing.state.errors)
    assert errors["guidance"] == "Give a number; try 1.5."
    assert errors["ema"] == "Give a number."
    assert errors["steps"] == "Give a whole number; try 18."
    assert len(errors) == 6
    assert desk.drawing.state.why_not == "Mend the marked settings first."
    desk.drawing.set(guidance=2.0, ema=None, seed=1, steps=9, count=4, corrections=None)
    drawn = desk.asked[-1]
    assert isinstance(drawn, Draw)
    assert (drawn.sampling.guidance, drawn.count) == (2.0, 4)


def test_a_condition_that_the_model_does_not_know_is_refused() -> None:
    desk = Desk()
    desk.open()
    count = len(desk.asked)
    desk.drawing.set(conditions=("1", "wren"))
    assert dict(desk.drawing.state.errors)["conditions"].startswith("wren is not among the conditions")
    assert len(desk.asked) == count
    desk.drawing.set(conditions=("1",))
    assert not desk.drawing.state.errors
    assert len(desk.asked) == count + 1


def test_one_field_alone_is_its_plain_text() -> None:
    desk = Desk()
    desk.open(ConditionField("size", "Size", "number", low=-1))
    desk.drawing.say("size", "−0.50")
    assert desk.drawing.state.conditions == ("-0.5",)
    assert dict(desk.drawing.state.said) == {"size": "-0.5"}
    desk.drawing.say("size", " ")
    assert (desk.drawing.state.conditions, desk.drawing.state.said) == ((), ())


def test_what_is_said_of_another_model_is_passed_over() -> None:
    desk = Desk()
    desk.open(ConditionField("text", "Text", "text"))
    desk.drawing.choose_model("other")
    count = len(desk.asked)
    desk.drawing.say("text", "a red square")  # a field that is left as the model goes
    assert len(desk.asked) == count
    assert desk.drawing.state.conditions == ()


def test_what_cannot_be_said_keeps_what_was() -> None:
    desk = Desk()
    desk.open(ConditionField("text", "Text", "text"), ConditionField("class", "Class", "choice", choices=("0", "1")))
    desk.drawing.say("text", "a red square")
    count = len(desk.asked)
    desk.drawing.say("class", "wren")
    assert dict(desk.drawing.state.errors) == {"condition.class": "Choose one from the list."}
    assert desk.drawing.state.conditions == ("text=a red square",)
    assert len(desk.asked) == count
    desk.drawing.say("class", "1")
    assert desk.drawing.state.conditions == ("text=a red square;class=1",)
    assert not desk.drawing.state.errors


def test_only_a_draw_that_takes_long_can_be_stopped() -> None:
    desk = Desk()
    drawn = desk.open()
    told: list[bool] = []
    desk.drawing.changed.connect(lambda state: told.append(state.stoppable))
    for guidance in range(20):  # a slider is dragged, and each picture comes quickly
        desk.ui.advance(STOP_AFTER / 4)
        desk.drawing.on_event(Drawn(drawn.ticket, pictures(1), conditions=("0", "1")))
        desk.ui.advance(STOP_AFTER / 4)
        desk.drawing.set(guidance=float(guidance))
        newest = desk.asked[-1]
        assert isinstance(newest, Draw)
        drawn = newest
    assert not any(told), "the button does not flicker"
    desk.ui.advance(0.99 * STOP_AFTER)
    assert desk.drawing.state.verb == "Draw"
    desk.ui.advance(0.02 * STOP_AFTER)
    assert desk.drawing.state.verb == "Stop"
    desk.drawing.set(guidance=1.5)
    assert desk.drawing.state.verb == "Stop", "it goes on drawing, if something else"
    desk.drawing.draw_or_stop()
    assert desk.asked[-1] == CancelDraw(desk.asked[-2].ticket)
    assert desk.drawing.state.verb == "Draw"
    desk.ui.advance(2 * STOP_AFTER)
    assert desk.drawing.state.verb == "Draw"


def test_a_stopped_draw_leaves_what_is_shown_and_nothing_that_could_be_saved_for_it() -> None:
    desk = Desk()
    first = desk.open()
    desk.drawing.on_event(Drawn(first.ticket, pictures(1), conditions=("0", "1")))
    desk.drawing.set(seed=2)
    desk.drawing.cancel()
    assert not desk.drawing.state.can_save, "nothing of the new draw was shown, so the old one stands"
    desk.drawing.set(seed=3)
    ticket = desk.asked[-1].ticket
    desk.drawing.on_event(Preview(ticket, pictures(7)))
    desk.drawing.cancel()
    desk.drawing.on_event(Preview(ticket, pictures(8)))
    assert desk.drawing.state.images is not None
    assert desk.drawing.state.images[0, 0, 0, 0] == 7
    assert desk.drawing.state.can_save
    assert desk.drawing.state.film is None
    desk.drawing.on_event(Drawn(ticket, pictures(9), conditions=("0", "1")))  # it was done before it could be stopped
    assert not desk.drawing.state.can_save


def test_a_model_that_cannot_be_opened_takes_no_picture_away() -> None:
    desk = Desk()
    first = desk.open()
    desk.drawing.on_event(Preview(first.ticket, pictures(1)))
    desk.drawing.on_event(Drawn(first.ticket, pictures(1), conditions=("0", "1")))
    desk.drawing.choose_model("missing")
    desk.drawing.on_event(Failed(desk.asked[-1].ticket, about="OpenModel", what="no such model"))
    assert desk.drawing.state.drawn is not None
    assert not desk.drawing.state.can_save


def test_code_for_the_draw_says_what_was_set() -> None:
    desk = Desk()
    desk.open()
    desk.drawing.set(guidance=2.5, conditions=("1",), count=3)
    code = desk.drawing.as_python()
    compile(code, "copied", "exec")
    for part in ("open_model('digits')", "count=3", "guidance=2.5", "conditions=['1']"):
        assert part in code


def test_data_is_read_once_after_the_last_edit() -> None:
    desk = Desk()
    for size in ("16, 16", "20, 20", "24, 24"):
        desk.training.set("data.size", size)
        desk.ui.advance(DATA_DELAY / 2)
    assert not any(isinstance(command, ShowData) for command in desk.asked)
    desk.ui.advance(DATA_DELAY)
    looked = [command for command in desk.asked if isinstance(command, ShowData)]
    assert [command.recipe.data.size for command in looked] == [(24, 24)]


def test_errors_at_several_fields_stand_beside_each_other() -> None:
    desk = Desk()
    desk.training.set("training.steps", "many")
    desk.training.set("training.learning_rate", "0.2")
    desk.training.set("training.batch", "32")
    errors = dict(desk.training.state.errors)
    assert errors.keys() == {"training.steps", "training.learning_rate"}
    assert errors["training.steps"] == f"Give a whole number; try {Recipe().training.steps}."
    assert desk.training.state.recipe.training.batch == 32
    desk.training.start()
    assert not any(isinstance(command, Train) for command in desk.asked)


def test_a_mistake_elsewhere_does_not_keep_the_data_from_being_read() -> None:
    desk = Desk()
    desk.training.set("training.steps", "many")
    desk.training.set("data.size", "16, 16")
    desk.ui.advance(DATA_DELAY)
    assert isinstance(desk.asked[-1], ShowData)
    desk.training.set("data.channels", "none")
    desk.ui.advance(DATA_DELAY)
    assert len(desk.asked) == 1, "this one would only be read as it was before"


def test_what_was_set_aside_of_another_source_is_forgotten() -> None:
    desk = Desk()
    folder = PluginFacts("image-folder", "Source", needs_path=True)
    desk.training.on_event(Catalogue(1, (PluginFacts("digits", "Source"), folder)))
    desk.training.set("data.source", "image-folder")
    desk.training.set("data.path", "/pets")
    desk.ui.advance(DATA_DELAY)
    ticket = desk.asked[-1].ticket
    desk.training.on_event(DataShown(ticket, training=2, set_aside=(("broken.png", "the file is empty"),)))
    assert "1 set aside" in desk.training.state.data_line
    desk.training.set("data.size", "16, 16")
    desk.ui.advance(DATA_DELAY)
    desk.training.on_event(Failed(desk.asked[-1].ticket, about="ShowData", what="the file is empty"))
    assert desk.training.state.data is None
    desk.training.on_event(DataShown(ticket, training=2))
    assert desk.training.state.data is None, "an older answer"
    assert desk.training.state.why_not("start") == "The data cannot be read. Mend it first."
    desk.training.set("data.source", "digits")
    assert (desk.training.state.data_line, desk.training.state.data_problem) == ("", "")


def test_undo_takes_back_one_edit_after_the_other() -> None:
    desk = Desk()
    for steps in ("10", "20", "30"):
        desk.training.set("training.steps", steps)
    for expected in (20, 10, Recipe().training.steps):
        desk.training.undo()
        assert desk.training.state.recipe.training.steps == expected
    assert not desk.training.state.can_undo


def test_a_failure_at_a_field_of_the_form_stands_there() -> None:
    desk = Desk()
    desk.training.on_event(
        Failed(1, about="Train", what="cuda is not here", field="training.device", fix="Choose auto")
    )
    assert dict(desk.training.state.errors)["training.device"] == "Choose auto."


def test_the_form_has_labels_help_and_units_for_every_key() -> None:
    for field in recipe_form(tuple(key for _, keys in GROUPS for key in keys)):
        assert field.label
        assert field.help.endswith(".")
        if field.kind in ("integer", "number", "choice") and field.default is not None:
            assert value_of(field, text_of(field.default)) == field.default


def test_numbers_are_read_as_people_write_them() -> None:
    steps, rate = recipe_form(("training.steps", "training.learning_rate"))
    assert value_of(steps, "12,000") == 12_000
    assert value_of(rate, "2e-3") == 0.002
    assert value_of(rate, "0,004") == 0.004


def test_options_become_a_form() -> None:
    schema = {
        "properties": {
            "count": {"type": "integer", "title": "Images", "minimum": 1, "default": 200},
            "kind": {"enum": ["a", "b"], "default": "a"},
            "nested": {"type": "object"},
        }
    }
    count, kind = options_form(schema, "data.options")
    assert (count.key, count.label, count.minimum, count.default) == ("data.options.count", "Images", 1, 200)
    assert (kind.kind, kind.choices) == ("choice", ("a", "b"))


def test_curves_follow_the_journal_and_take_back_what_a_resume_did_again(tmp_path: Path) -> None:
    reader = CurveReader(tmp_path)
    with Journal(tmp_path / "journal") as journal:
        journal.write("started", 0)
        for step in range(1, 6):
            journal.write("step", step, loss=1 / step)
        journal.write("held_out", 4, loss=0.3, bands=[["> 3", 0.1]])
        assert reader.read().steps.tolist() == [1, 2, 3, 4, 5]
        journal.write("resumed", 3)
        journal.write("step", 4, loss=0.5)
    curves = reader.read()
    assert curves.steps.tolist() == [1, 2, 3, 4]
    assert curves.loss[-1] == 0.5
    assert len(curves.held) == 0
    assert curves.smoothed.min() >= min(curves.loss)
    assert curves.smoothed.max() <= max(curves.loss)


def test_long_curves_are_thinned(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal") as journal:
        for step in range(1, 5_001):
            journal.write("step", step, loss=1.0)
    assert len(CurveReader(tmp_path).read().steps) <= 1_500


def test_times_and_sizes_are_spoken() -> None:
    assert [spoken_time(each) for each in (0.4, 42, 185, 7384)] == ["0 s", "42 s", "3 min 5 s", "2 h 3 min"]
    assert [spoken_bytes(each) for each in (0, 300 << 20, int(1.1 * (1 << 30)))] == ["", "300 MB", "1.1 GB"]
    assert [short_count(each) for each in (12, 12_000, 1_104_000)] == ["12", "12 k", "1.1 M"]


def test_the_status_tells_the_phase() -> None:
    status = status_after(Status(), PhaseChanged(0, Phase.TRAINING, "/runs/mine"))
    assert (status.state, status.run, status.tone) == ("Training", "mine", "accent")
    assert status_after(status, PhaseChanged(0, Phase.IDLE, "/runs/mine", finished=True)).state == "Finished"


def test_a_failure_gives_way_to_the_next_success() -> None:
    failed = status_after(status_after(Status(), Drawn(1)), Failed(2, about="ShowData", what="no images"))
    assert (failed.state, failed.tone) == ("Failed", "error")
    for success in (Drawn(3), DataShown(3), ModelOpened(3)):
        assert (status_after(failed, success).state, status_after(failed, success).tone) == ("Ready", "good")
    assert status_after(Status(), DataShown(1)).state == "Starting", "the first pictures are not there yet"
    ended = status_after(status_after(Status(), PhaseChanged(0, Phase.IDLE, finished=True)), DataShown(1))
    assert ended.state == "Finished"


def test_a_failure_beside_a_training_does_not_hide_it() -> None:
    status = status_after(Status(), PhaseChanged(0, Phase.TRAINING, "/runs/mine"))
    assert status_after(status, Failed(1, about="Draw", what="no")).state == "Training"
    assert "step 3 of 6" in status_after(status, Progress(1, step=3, steps=6)).training
    failed = status_after(status, Failed(1, about="Train", what="the disk is full"))
    ended = status_after(failed, PhaseChanged(1, Phase.IDLE, "/runs/mine"))
    assert (ended.state, ended.training) == ("Failed", "")
    assert status_after(ended, DataShown(2)).state == "Ready"


def test_a_stage_that_is_drawn_from_a_file_is_not_trained(tmp_path: Path) -> None:
    (tmp_path / "base.safetensors").write_bytes(b"a model")
    stages = [{"name": "base", "model": "base.safetensors"}, {"name": "double", "model": "trained/double"}]
    cascade = OpenCascade.opened(tmp_path / "cascade.toml", Recipe.of({"stages": stages}))
    assert (cascade.stage, cascade.why_not) == ("double", "")
    assert "base is drawn from a file" in replace(cascade, stage="base").why_not


def test_choosing_a_recipe_that_is_not_there_says_so() -> None:
    desk = Desk()
    desk.training.on_event(Catalogue(1, recipes=(("digits", Recipe(name="digits").to_toml()),)))
    desk.training.choose_recipe("nothing")
    assert "nothing" in desk.training.state.problem


def test_what_comes_too_often_is_done_once_in_a_while_and_at_last() -> None:
    ui, done = ManualThread(), []
    newest = 0
    sparing = Sparing(ui, 1.0, lambda: done.append((ui.now, newest)))
    for newest in range(10):  # noqa: B007 - the job sees it
        sparing.ask()
        ui.advance(0.25)
    assert done == [(0.0, 0), (1.0, 3), (2.0, 7)]
    ui.advance(1.0)
    assert done[-1] == (3.0, 9), "the newest is not lost"
    ui.advance(5.0)
    assert len(done) == 4, "and nothing is done twice"
    newest = 10
    sparing.ask()
    sparing.ask()
    sparing.now()
    assert [number for _, number in done[4:]] == [10, 10]
    ui.advance(5.0)
    assert len(done) == 6
