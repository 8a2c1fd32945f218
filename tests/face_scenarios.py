"""What a person does in either face: one suite, which each face runs with a driver of its real controls.

A scenario operates controls by name and looks at what the engine was asked and at what the face shows; so a control
that is not connected fails it. `Face` is the driver that a face's tests supply.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from scripted_engine import ScriptedEngine

from imagen_workbench.core.commands import LIVE, Draw, OpenModel, ShowData, Train
from imagen_workbench.core.events import Failed, Hanging, Phase
from imagen_workbench.core.runs.picture import read_recipe
from imagen_workbench.core.worker import Worker
from imagen_workbench.workbench.presenters.training_state import GROUPS

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from imagen_workbench.workbench.presenters.bench import Bench


CASCADE = """
version = 2
name = "two"
[[stages]]
name = "base"
recipe = "small"
model = "trained/base"
[[stages]]
name = "double"
recipe = "both"
model = "trained/double"
"""


class Face(ABC):
    """A face with its real controls. The worker is turned by hand (`work`), on the test's own thread.

    Controls of Draw: model, condition, count, seed, roll-seed, lock-seed, every setting of a draw, more, draw, save;
    in place of condition, where a model asks for more than one choice, `condition.key` for each of its fields.
    Controls of Train: recipe, undo, look-again, every dotted key of the form, start, pause, resume, stop, draw-live.
    """

    def __init__(self) -> None:
        self.engine: ScriptedEngine | None = None
        self.first_worker = Worker(self._make_engine)

    def _make_engine(self, emit: Any) -> ScriptedEngine:
        self.engine = ScriptedEngine(emit)
        return self.engine

    @property
    @abstractmethod
    def bench(self) -> Bench: ...

    @property
    def worker(self) -> Worker:
        """The one at work: another takes its place where it is given up."""
        return self.bench.worker

    @abstractmethod
    def settle(self) -> None:
        """Lets the face handle all that waits: events of the worker, of its toolkit, and timers that are due."""

    @abstractmethod
    def go_to(self, place: str) -> None:
        """Opens `draw` or `train`, as a person does."""

    @abstractmethod
    def type_into(self, name: str, text: str) -> None:
        """Types into the control's field and leaves it."""

    @abstractmethod
    def slide(self, name: str, value: float) -> None:
        """Moves the control's slider as near to the value as it goes."""

    @abstractmethod
    def choose(self, name: str, choice: str) -> None:
        """Picks from a list, or presses a chip."""

    @abstractmethod
    def click(self, name: str) -> None:
        """Presses a button. Fails where it cannot be pressed."""

    @abstractmethod
    def is_enabled(self, name: str) -> bool: ...

    @abstractmethod
    def is_there(self, name: str) -> bool:
        """Whether the setting can be seen, or scrolled to."""

    @abstractmethod
    def is_primary(self, name: str) -> bool:
        """Whether the button is the main one."""

    @abstractmethod
    def label(self, name: str) -> str:
        """What the button says."""

    @abstractmethod
    def shown(self, name: str) -> str:
        """What the control shows as its value."""

    @abstractmethod
    def error_at(self, name: str) -> str:
        """The words at the control, empty where there is no error."""

    @abstractmethod
    def grid(self) -> np.ndarray | None:
        """The images [n h w c] that the grid shows."""

    @abstractmethod
    def film_columns(self) -> int:
        """How many steps the film strip shows."""

    @abstractmethod
    def click_image(self, index: int) -> None: ...

    @abstractmethod
    def click_film(self, column: int) -> None: ...

    @abstractmethod
    def seed_steps(self) -> list[int]:
        """The steps in the table of fixed seeds."""

    @abstractmethod
    def loss_points(self) -> int:
        """How many points the smoothed curve has."""

    @abstractmethod
    def data_words(self) -> str:
        """What is said about the data."""

    @abstractmethod
    def data_images(self) -> int:
        """How many pictures of the data are shown."""

    @abstractmethod
    def problem(self) -> str:
        """The failure that is shown on the present place, empty where there is none."""

    @abstractmethod
    def status(self) -> str:
        """The whole status line."""

    @abstractmethod
    def unfold(self) -> None:
        """Shows the settings that are folded away, or folds them again."""

    @abstractmethod
    def save_picture(self, path: Path) -> None:
        """Saves the grid, as a person does."""

    # --- the worker, by hand -----------------------------------------------------------------------

    def work(self, turns: int | None = None) -> None:
        """Turns the worker so many times and lets the face see it; without a number, until neither has more to do."""
        self.settle()
        if turns is not None:
            for _ in range(turns):
                self.worker.turn()
            self.settle()
            return
        while self.worker.turn():
            while self.worker.turn():
                pass
            self.settle()

    def asked(self, kind: type[Any]) -> Any:
        assert self.engine is not None
        return self.engine.newest(kind)

    def begin(self) -> None:
        """What opening the face does, until the first pictures are there."""
        self.bench.start()
        self.work()


class FaceScenarios:
    """Subclasses give the fixture `face`."""

    @pytest.fixture
    def ready(self, face: Face) -> Face:
        face.begin()
        return face

    # --- Draw -------------------------------------------------------------------------------------

    def test_first_start_draws_eight_guided_images(self, face: Face) -> None:
        face.begin()
        assert face.asked(OpenModel).model == "digits"
        asked = face.asked(Draw)
        assert asked.count == 8
        assert asked.sampling.guidance > 1
        shown = face.grid()
        assert shown is not None
        assert shown.shape[0] == 8
        assert "1.1 M weights" in face.shown("model-facts")
        assert face.film_columns() == 3

    def test_all_settings_come_at_once_and_stay(self, face: Face) -> None:
        names = ("condition", "count", "guidance", "ema")
        face.settle()
        assert not any(face.is_there(name) for name in names)
        face.begin()
        assert all(face.is_there(name) for name in names)
        face.bench.drawing.choose_model("portrait-of-a-very-long-name-2026-11-24-second-attempt")
        face.settle()
        assert all(face.is_there(name) for name in names), "while the next model is being opened"

    def test_previews_are_shown_before_the_draw_ends(self, ready: Face) -> None:
        ready.type_into("seed", "60")
        ready.work(2)
        first = ready.grid()
        assert first is not None
        assert int(first[0, 4, 4, 0]) in (40, 41)
        ready.work()
        last = ready.grid()
        assert last is not None
        assert int(last[0, 4, 4, 0]) == 80

    NUMBERS: ClassVar = [
        ("count", "12", 12),
        ("steps", "7", 7),
        ("guidance", "3.5", 3.5),
        ("seed", "99", 99),
        ("temperature", "0.8", 0.8),
        ("density", "0.55", 0.55),
    ]

    @pytest.mark.parametrize(("name", "text", "value"), NUMBERS)
    def test_typing_a_number_redraws_with_it(self, ready: Face, name: str, text: str, value: float) -> None:
        ready.type_into(name, text)
        ready.work()
        asked = ready.asked(Draw)
        assert (asked.count if name == "count" else getattr(asked.sampling, name)) == value
        assert float(ready.shown(name).replace(",", "")) == value
        assert not ready.error_at(name)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("count", 16), ("steps", 30), ("guidance", 4.0), ("temperature", 0.5), ("density", 0.6)],
    )
    def test_moving_a_slider_redraws_with_it(self, ready: Face, name: str, value: float) -> None:
        before = ready.asked(Draw).ticket
        ready.slide(name, value)
        ready.work()
        asked = ready.asked(Draw)
        assert asked.ticket > before
        assert (asked.count if name == "count" else getattr(asked.sampling, name)) == pytest.approx(value, rel=0.05)

    def test_a_wrong_number_is_named_at_its_field_and_nothing_is_lost(self, ready: Face) -> None:
        before = ready.asked(Draw)
        ready.type_into("guidance", "99")
        ready.work()
        assert "20" in ready.error_at("guidance")
        assert ready.asked(Draw) == before
        assert not ready.is_enabled("draw")
        ready.type_into("guidance", "2")
        ready.work()
        assert not ready.error_at("guidance")
        assert ready.asked(Draw).sampling.guidance == 2

    def test_the_same_mistake_again_is_named_again(self, ready: Face) -> None:
        for wrong in ("99", "98", "many"):
            ready.type_into("guidance", wrong)
            ready.settle()
            assert ready.error_at("guidance"), wrong
        ready.type_into("seed", "3")
        ready.work(1)
        assert ready.error_at("guidance"), "a picture that comes in between takes no complaint down"

    @pytest.mark.parametrize(
        ("name", "hint"),
        [
            ("guidance", "Give a number; try 1.5."),
            ("temperature", "Give a number; try 1."),
            ("steps", "Give a whole number; try 18."),
            ("seed", "Give a whole number; try 0."),
            ("count", "Give a whole number from 1 to 400."),
        ],
    )
    def test_nothing_is_drawn_while_a_setting_is_no_number(self, ready: Face, name: str, hint: str) -> None:
        before = ready.asked(Draw)
        ready.type_into(name, "abc")
        ready.work()
        assert ready.error_at(name) == hint
        assert ready.shown(name) == "abc"
        assert not ready.is_enabled("draw")
        assert ready.bench.drawing.state.why_not == "Mend the marked settings first."
        ready.choose("sampler", "euler")
        ready.work()
        assert ready.asked(Draw) == before
        ready.type_into(name, "2")
        ready.work()
        assert not ready.error_at(name)
        assert ready.is_enabled("draw")
        asked = ready.asked(Draw)
        assert (asked.count if name == "count" else getattr(asked.sampling, name)) == 2
        assert asked.sampling.sampler == "euler"

    def test_conditions_are_chips(self, ready: Face) -> None:
        ready.choose("condition", "7")
        ready.work()
        assert ready.asked(Draw).conditions == ("7",)
        ready.choose("condition", "each in turn")
        ready.work()
        assert ready.asked(Draw).conditions == ()

    def test_words_are_said_of_all_images(self, ready: Face) -> None:
        ready.choose("model", "captions")
        ready.work()
        assert (ready.is_there("condition.text"), ready.is_there("condition")) == (True, False)
        assert ready.asked(Draw).conditions == ()
        ready.type_into("condition.text", " a red square ")
        ready.work()
        assert ready.asked(Draw).conditions == ("a red square",)
        assert ready.shown("condition.text") == "a red square"
        ready.type_into("condition.text", "")
        ready.work()
        assert ready.asked(Draw).conditions == (), "each in turn"

    def test_several_things_are_said_of_all_images(self, ready: Face) -> None:
        ready.choose("model", "scenes")
        ready.work()
        for name, text, condition in (
            ("condition.class", "7", "class=7"),
            ("condition.size", "0,250", "class=7;size=0.25"),
            ("condition.class", "not said", "size=0.25"),
        ):
            operate = ready.choose if name == "condition.class" else ready.type_into
            operate(name, text)
            ready.work()
            assert ready.asked(Draw).conditions == (condition,)
        assert ready.shown("condition.size") == "0.25"
        ready.type_into("condition.size", "")
        ready.work()
        assert ready.asked(Draw).conditions == ()

    def test_a_number_that_cannot_be_said_is_named_at_its_field(self, ready: Face) -> None:
        ready.choose("model", "scenes")
        ready.work()
        before = ready.asked(Draw)
        for wrong in ("2", "large"):
            ready.type_into("condition.size", wrong)
            ready.work()
            assert ready.error_at("condition.size") == "Give a number from 0 to 1."
            assert ready.shown("condition.size") == wrong
        assert not ready.is_enabled("draw")
        ready.choose("condition.class", "7")
        ready.work()
        assert ready.asked(Draw) == before
        ready.type_into("condition.size", "1")
        ready.work()
        assert not ready.error_at("condition.size")
        assert ready.asked(Draw).conditions == ("class=7;size=1",)

    def test_a_picture_is_said_and_refused_by_the_worker(self, ready: Face) -> None:
        ready.choose("model", "larger")
        ready.work()
        ready.type_into("condition.noise", "0.2")
        ready.work()
        assert ready.asked(Draw).conditions == ("low=example 1;noise=0.2",), "it cannot do without a picture"
        ready.type_into("condition.low", "missing.png")
        ready.work()
        assert ready.problem() == "low: there is no such picture. Name another."
        ready.type_into("condition.low", "cat.png")
        ready.work()
        assert not ready.problem()
        assert ready.asked(Draw).conditions == ("low=cat.png;noise=0.2",)

    def test_what_was_said_is_not_said_to_another_model(self, ready: Face) -> None:
        ready.choose("model", "captions")
        ready.work()
        ready.type_into("condition.text", "a red square")
        ready.work()
        for model in ("digits", "captions"):
            ready.choose("model", model)
            ready.work()
            assert ready.asked(Draw).conditions == ()
            assert ready.is_there("condition") == (model == "digits")
        assert ready.shown("condition.text") == ""

    def test_sampler_is_chosen(self, ready: Face) -> None:
        for sampler in ("euler", "dpmpp-2m", "langevin", "heun"):
            ready.choose("sampler", sampler)
            ready.work()
            assert ready.asked(Draw).sampling.sampler == sampler

    def test_levels_are_chosen(self, ready: Face) -> None:
        for grid in ("measured", "karras"):
            ready.choose("grid", grid)
            ready.work()
            assert ready.asked(Draw).sampling.grid == grid

    def test_a_density_that_the_images_do_not_bear_is_refused_with_its_limits(self, ready: Face) -> None:
        before = ready.asked(Draw)
        ready.type_into("density", "0.98")
        ready.work()
        assert "Choose between" in ready.error_at("density")
        assert ready.asked(Draw) == before
        ready.type_into("density", "0.52")
        ready.work()
        assert not ready.error_at("density")
        assert ready.asked(Draw).sampling.density == 0.52

    def test_the_measured_density_of_the_chosen_image_stands_beside_it(self, ready: Face) -> None:
        assert "3.00 bits/dim" in ready.shown("image-likely")
        ready.click_image(2)
        ready.work()
        assert "3.20 bits/dim" in ready.shown("image-likely")
        ready.type_into("seed", "60")
        ready.work(1)
        assert "bits/dim" not in ready.shown("image-likely"), "those were other images"

    def test_weights_are_averaged_as_asked_for(self, ready: Face) -> None:
        ready.type_into("ema", "0.02")
        ready.work()
        assert ready.asked(Draw).sampling.ema == 0.0, "this model carries raw weights and one length"
        ready.type_into("ema", "0.1")
        ready.work()
        assert ready.asked(Draw).sampling.ema == 0.1

    def test_more_settings_unfold(self, ready: Face) -> None:
        assert (ready.is_there("guidance_to"), ready.label("more")) == (False, "More settings")
        ready.unfold()
        assert (ready.is_there("guidance_to"), ready.label("more")) == (True, "Fewer settings")
        ready.type_into("guidance_to", "2.5")
        ready.work()
        assert ready.asked(Draw).sampling.guidance_to == 2.5
        ready.choose("threshold", "dynamic")
        ready.work()
        assert ready.asked(Draw).sampling.threshold == "dynamic"
        assert not ready.is_enabled("corrections"), "Heun does not correct"
        ready.choose("sampler", "predictor-corrector")
        ready.work()
        ready.type_into("corrections", "3")
        ready.work()
        assert ready.asked(Draw).sampling.corrections == 3
        ready.unfold()
        assert not ready.is_there("guidance_to")

    @pytest.mark.parametrize(
        ("name", "text", "value", "sampler"),
        [("guidance_from", "0.5", 0.5, "heun"), ("churn", "10", 10, "heun"), ("eta", "0.5", 0.5, "ddpm")],
    )
    def test_more_settings_are_drawn_with(self, ready: Face, name: str, text: str, value: float, sampler: str) -> None:
        ready.choose("sampler", sampler)
        ready.unfold()
        ready.type_into(name, text)
        ready.work()
        assert getattr(ready.asked(Draw).sampling, name) == value

    def test_the_dice_take_another_seed(self, ready: Face) -> None:
        ready.type_into("seed", "5")
        ready.work()
        ready.click("roll-seed")
        ready.work()
        assert ready.asked(Draw).sampling.seed != 5
        assert ready.shown("seed") == str(ready.asked(Draw).sampling.seed)

    def test_draw_keeps_a_locked_seed_and_rolls_an_unlocked_one(self, ready: Face) -> None:
        ready.type_into("seed", "5")
        ready.work()
        ready.click("draw")
        ready.work()
        assert ready.asked(Draw).sampling.seed == 5
        ready.click("lock-seed")
        ready.work()
        ready.click("draw")
        ready.work()
        assert ready.asked(Draw).sampling.seed != 5

    def test_the_newest_request_wins(self, ready: Face) -> None:
        for seed in ("1", "2", "3"):
            ready.type_into("seed", seed)
        ready.work()
        shown = ready.grid()
        assert shown is not None
        assert int(shown[0, 4, 4, 0]) == 23

    def test_a_draw_that_takes_long_is_stopped(self, ready: Face) -> None:
        assert ready.label("draw") == "Draw"
        ready.type_into("seed", "60")
        ready.work(2)
        assert ready.label("draw") == "Stop"
        ready.click("draw")
        ready.work()
        assert ready.label("draw") == "Draw"
        shown = ready.grid()
        assert shown is not None
        assert int(shown[0, 4, 4, 0]) in (40, 41), "what was drawn so far stays"
        assert not ready.is_enabled("save"), "it is no finished picture"
        ready.click("draw")
        ready.work()
        shown = ready.grid()
        assert shown is not None
        assert int(shown[0, 4, 4, 0]) == 80
        assert ready.is_enabled("save")

    def test_a_wrong_setting_does_not_keep_a_draw_from_being_stopped(self, ready: Face) -> None:
        ready.type_into("seed", "60")
        ready.work(1)
        ready.type_into("steps", "abc")
        ready.settle()
        assert (ready.label("draw"), ready.is_enabled("draw")) == ("Stop", True)
        ready.click("draw")
        ready.work()
        assert (ready.label("draw"), ready.is_enabled("draw")) == ("Draw", False)

    def test_another_model_is_chosen(self, ready: Face) -> None:
        ready.choose("model", "portrait-of-a-very-long-name-2026-11-24-second-attempt")
        ready.work()
        assert ready.asked(OpenModel).model.startswith("portrait")
        assert ready.asked(Draw).model.startswith("portrait")

    def test_a_model_of_several_sizes_draws_each(self, ready: Face) -> None:
        assert not ready.is_there("size")
        ready.choose("model", "shapes")
        ready.work()
        assert ready.shown("size").replace(", ", " × ") == "8 × 8"
        ready.choose("size", "6 × 12")
        ready.work()
        assert ready.asked(Draw).sampling.size == (6, 12)
        assert ready.shown("size").replace(", ", " × ") == "6 × 12"
        grid = ready.grid()
        assert grid is not None
        assert grid.shape[1:3] == (6, 12)
        ready.choose("model", "digits")
        ready.work()
        assert not ready.is_there("size")
        assert ready.asked(Draw).sampling.size is None

    def test_an_image_is_selected_and_its_film_scrubbed(self, ready: Face) -> None:
        ready.type_into("seed", "60")
        ready.work()
        ready.click_image(3)
        ready.work()
        assert ready.bench.drawing.state.selected == 3
        ready.click_film(1)
        ready.work()
        scrubbed = ready.grid()
        assert scrubbed is not None
        assert int(scrubbed[0, 4, 4, 0]) == 20
        ready.click_film(2)
        ready.work()
        last = ready.grid()
        assert last is not None
        assert int(last[3, 0, 0, 0]) == 3

    def test_a_picture_is_saved_with_its_recipe(self, ready: Face, tmp_path: Path) -> None:
        target = tmp_path / "grid.png"
        ready.save_picture(target)
        ready.work()
        assert target.is_file()
        assert read_recipe(target)["indices"] == list(range(8))

    def test_a_model_that_cannot_be_opened_says_so(self, ready: Face) -> None:
        ready.bench.drawing.choose_model("missing")
        ready.work()
        assert "no such model" in ready.problem()
        assert not ready.is_enabled("draw")

    def test_the_status_line_tells_the_draw(self, ready: Face) -> None:
        status = ready.status()
        assert "2 network calls" in status
        assert "cpu" in status
        ready.go_to("train")
        status = ready.status()
        assert "network calls" not in status, "those are of a draw"
        assert "cpu" in status

    # --- Train ------------------------------------------------------------------------------------

    def test_data_is_seen_first(self, ready: Face) -> None:
        ready.go_to("train")
        ready.work()
        assert ready.asked(ShowData).recipe.data.source == "digits"
        assert "4,000 to train" in ready.data_words()
        assert "1,000 held out" in ready.data_words()
        assert ready.data_images() > 0

    def test_a_folder_is_picked_and_what_is_set_aside_is_named(self, ready: Face, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        ready.type_into("data.path", str(tmp_path))
        ready.work()
        asked = ready.asked(ShowData).recipe.data
        assert (asked.source, asked.path, asked.channels) == ("image-folder", str(tmp_path), 3)
        assert "1 set aside" in ready.data_words()
        assert ready.shown("data.size") == "32, 32"

    def test_a_folder_that_is_not_named_is_asked_for_at_its_field(self, ready: Face, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.work()
        assert ready.engine is not None
        looks = ready.engine.count(ShowData)
        ready.choose("data.source", "image-folder")
        ready.work()
        assert ready.error_at("data.path") == "Choose the folder that the images are in."
        assert not ready.is_enabled("start")
        assert ready.engine.count(ShowData) == looks
        assert (ready.data_words(), ready.data_images()) == ("", 0), "those were of another source"
        ready.type_into("data.path", str(tmp_path))
        ready.work()
        assert not ready.error_at("data.path")
        assert "1 set aside" in ready.data_words()
        assert ready.is_enabled("start")
        ready.type_into("data.path", "")
        ready.work()
        assert ready.error_at("data.path")
        assert (ready.data_words(), ready.data_images()) == ("", 0)

    def test_a_sources_own_settings_reach_the_recipe(self, ready: Face) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        ready.type_into("data.path", "/somewhere")
        ready.choose("data.options.hidden", "yes")
        ready.work()
        ready.click("start")
        ready.work(2)
        assert ready.asked(Train).recipe.data.options == {"hidden": True}

    def test_a_folder_without_images_says_so(self, ready: Face, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        ready.type_into("data.path", str(tmp_path / "empty"))
        ready.work()
        assert "no images" in ready.data_words()
        assert "Failed" in ready.status()
        assert not ready.is_enabled("start")
        assert ready.bench.training.state.why_not("start") == "The data cannot be read. Mend it first."
        ready.type_into("data.path", str(tmp_path))
        ready.work()
        assert "4,000 to train" in ready.data_words()
        assert "Ready" in ready.status()
        assert ready.is_enabled("start")

    def test_data_that_was_mended_elsewhere_is_read_again(self, ready: Face, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        assert not ready.is_enabled("look-again")
        ready.type_into("data.path", str(tmp_path / "empty"))
        ready.work()
        (tmp_path / "empty").mkdir()
        ready.click("look-again")
        ready.work()
        assert "4,000 to train" in ready.data_words()
        assert ready.is_enabled("start")
        assert not ready.is_enabled("look-again")

    def test_a_run_that_never_came_to_be_is_not_named(self, ready: Face, tmp_path: Path) -> None:
        ready.go_to("train")
        ready.choose("data.source", "image-folder")
        ready.work()
        ready.type_into("data.path", str(tmp_path / "gone"))
        ready.work()
        ready.click("start")
        ready.work()
        assert "the images are gone" in ready.problem()
        assert ready.label("subject") == "New run of digits"
        status = ready.status()
        assert "Failed" in status
        assert "digits-" not in status
        assert not ready.is_enabled("resume")

    EDITS: ClassVar = {
        "data.path": ("/somewhere", "/somewhere"),
        "data.size": ("16, 16", (16, 16)),
        "data.channels": ("3", 3),
        "data.depth": ("16", 16),
        "data.augment": ("0.12", 0.12),
        "data.fit": ("pad", "pad"),
        "data.validation": ("0,25", 0.25),
        "data.most": ("50", 50),
        "data.shift": ("2", 2),
        "data.flip": ("yes", True),
        "conditioning.dropout": ("0.2", 0.2),
        "conditioning.scheme": ("none", "none"),
        "model.network": ("transformer", "transformer"),
        "model.depth": ("3", 3),
        "model.prediction": ("v", "v"),
        "model.schedule": ("cosine", "cosine"),
        "model.width": ("16", 16),
        "model.stem": ("4", 4),
        "model.multipliers": ("1, 3", (1, 3)),
        "model.blocks": ("2, 2", (2, 2)),
        "model.attention": ("0, 1", (0, 1)),
        "model.coordinates": ("yes", True),
        "model.dropout": ("0.25", 0.25),
        "model.sigma_data": ("0.75", 0.75),
        "training.steps": ("77", 77),
        "training.batch": ("32", 32),
        "training.learning_rate": ("0.004", 0.004),
        "training.optimizer": ("adam", "adam"),
        "training.emas": ("0.05, 0.2", (0.05, 0.2)),
        "training.noise": ("log-uniform", "log-uniform"),
        "training.sigma_mean": ("-0.8", -0.8),
        "training.sigma_std": ("1.6", 1.6),
        "training.weighting": ("min-snr", "min-snr"),
        "training.checkpoint_every": ("11", 11),
        "training.preview_every": ("12", 12),
        "training.seed": ("13", 13),
        "training.device": ("cpu", "cpu"),
        "training.precision": ("bfloat16", "bfloat16"),
        "sampling.sampler": ("euler", "euler"),
        "sampling.steps": ("9", 9),
        "sampling.guidance": ("2.5", 2.5),
    }
    CHOICES: ClassVar = {
        "data.depth", "data.fit", "data.flip", "conditioning.scheme", "model.network", "model.stem",
        "model.coordinates", "model.prediction", "model.schedule", "training.optimizer", "training.noise",
        "training.weighting", "training.device", "training.precision", "sampling.sampler",
    }  # fmt: skip

    def test_every_field_of_the_form_has_a_scenario(self) -> None:
        assert {key for _, keys in GROUPS for key in keys} - {"data.source"} == set(self.EDITS)

    @pytest.mark.parametrize("key", sorted(EDITS))
    def test_a_field_reaches_the_recipe_that_is_trained(self, ready: Face, key: str) -> None:
        text, value = self.EDITS[key]
        ready.go_to("train")
        if key == "data.path":
            ready.choose("data.source", "image-folder")
            ready.work()
        if key in self.CHOICES:
            ready.choose(key, text)
        else:
            ready.type_into(key, text)
        ready.work()
        assert not ready.error_at(key)
        ready.click("start")
        ready.work(2)
        recipe = ready.asked(Train).recipe
        section, _, leaf = key.partition(".")
        assert getattr(getattr(recipe, section), leaf) == value

    def test_a_wrong_field_stops_the_start_and_undo_takes_it_back(self, ready: Face) -> None:
        ready.go_to("train")
        ready.type_into("training.learning_rate", "0.2")
        ready.work()
        assert "diverges" in ready.error_at("training.learning_rate")
        assert not ready.is_enabled("start")
        ready.click("undo")
        ready.work()
        assert not ready.error_at("training.learning_rate")
        assert ready.is_enabled("start")

    def test_another_recipe_fills_the_form(self, ready: Face) -> None:
        ready.go_to("train")
        ready.choose("recipe", "small")
        ready.work()
        assert ready.shown("training.steps").replace(",", "") == "40"

    def test_a_recipe_of_several_schemes_keeps_them(self, ready: Face) -> None:
        ready.go_to("train")
        ready.choose("recipe", "both")
        ready.work()
        assert ready.shown("conditioning.scheme") == "label + text"
        ready.choose("conditioning.scheme", "none")
        ready.work()
        assert ready.shown("conditioning.scheme") == "none"
        ready.click("undo")
        ready.work()
        assert ready.shown("conditioning.scheme") == "label + text"
        ready.type_into("training.steps", "77")
        ready.work()
        assert not ready.error_at("conditioning.scheme")
        ready.click("start")
        ready.work(2)
        recipe = ready.asked(Train).recipe
        assert (recipe.conditioning.scheme, recipe.training.steps) == ("label + text", 77)

    def test_a_recipe_of_several_datasets_keeps_them(self, ready: Face) -> None:
        ready.go_to("train")
        ready.choose("recipe", "mixed")
        ready.work()
        assert ready.shown("data.source") == "digits + image-folder"
        assert not ready.is_there("data.most")
        assert not ready.is_there("data.path")
        ready.choose("data.source", "digits")
        ready.work()
        assert ready.shown("data.source") == "digits"
        assert ready.asked(ShowData).recipe.data.parts == ()
        ready.choose("data.source", "digits + image-folder")
        ready.work()
        ready.type_into("training.steps", "77")
        ready.work()
        assert not ready.error_at("data.source")
        ready.click("start")
        ready.work(2)
        recipe = ready.asked(Train).recipe
        assert [(part.source, part.path, part.weight) for part in recipe.data.parts] == [
            ("digits", "", 1),
            ("image-folder", "leaves", 2.5),
        ]
        assert (recipe.data.source, recipe.training.steps) == ("digits + image-folder", 77)

    def test_of_several_schemes_each_has_its_options_under_its_name(self, ready: Face) -> None:
        ready.go_to("train")
        ready.choose("recipe", "both")
        ready.work()
        assert ready.shown("conditioning.options.text.words") == "16"
        ready.type_into("conditioning.options.text.words", "24")
        ready.work()
        assert ready.asked(ShowData).recipe.conditioning.options == {"text": {"words": 24}}
        ready.choose("conditioning.scheme", "text")
        ready.work()
        assert not ready.is_there("conditioning.options.text.words")
        ready.type_into("conditioning.options.words", "8")
        ready.work()
        assert ready.asked(ShowData).recipe.conditioning.options == {"words": 8}
        ready.choose("conditioning.scheme", "label")
        ready.work()
        assert ready.asked(ShowData).recipe.conditioning.options == {}
        for _ in range(3):
            ready.click("undo")
        ready.work()
        ready.click("start")
        ready.work(2)
        recipe = ready.asked(Train).recipe.conditioning
        assert (recipe.scheme, recipe.options) == ("label + text", {"text": {"words": 24}})

    def test_a_cascade_is_trained_stage_by_stage(self, ready: Face, tmp_path: Path) -> None:
        (tmp_path / "cascade.toml").write_text(CASCADE)
        ready.go_to("train")
        ready.bench.training.open_recipe(tmp_path / "cascade.toml")
        ready.work()
        assert (ready.shown("stage"), ready.shown("training.steps").replace(",", "")) == ("base", "40")
        ready.choose("stage", "double")
        ready.work()
        assert ready.shown("conditioning.scheme") == "label + text"
        ready.choose("stage", "base")
        ready.work()
        ready.click("start")
        ready.work()
        asked = ready.asked(Train)
        assert (asked.run, asked.recipe.name) == (str(tmp_path / "trained" / "base"), "small")
        ready.click("start")
        ready.work()
        assert ready.asked(Train) == asked, "it is there already"
        assert "base has its run already" in ready.problem()
        ready.bench.training.open_recipe(tmp_path / "cascade.toml")
        ready.work()
        assert ready.shown("stage") == "double", "the next one that is to be trained"
        ready.choose("recipe", "digits")
        ready.work()
        assert not ready.is_there("stage")

    def test_train_pause_draw_resume_stop(self, ready: Face) -> None:
        ready.go_to("train")
        assert not ready.is_enabled("pause")
        ready.click("start")
        ready.work(6)
        assert ready.worker.phase is Phase.TRAINING
        assert not ready.is_enabled("start")
        ready.click("pause")
        ready.work(4)
        assert ready.worker.phase is Phase.PAUSED
        step = ready.bench.training.state.progress
        assert step is not None
        assert "Paused" in ready.status()

        ready.click("draw-live")
        ready.work()
        assert ready.asked(Draw).model == LIVE
        assert ready.worker.phase is Phase.PAUSED

        ready.go_to("train")
        ready.click("resume")
        ready.work(3)
        assert ready.worker.phase is Phase.TRAINING
        ready.click("stop")
        ready.work()
        assert ready.worker.phase is Phase.IDLE
        assert "Finished" not in ready.status()
        assert " left" not in ready.status()
        assert ready.bench.training.state.saved_step >= step.step
        assert ready.is_enabled("start")

    def test_a_stopped_run_is_resumed(self, ready: Face) -> None:
        ready.go_to("train")
        assert ready.is_primary("start")
        ready.click("start")
        ready.work(6)
        ready.click("stop")
        ready.work()
        run = ready.bench.training.state.run
        assert ready.is_enabled("start")
        assert (ready.is_primary("resume"), ready.is_primary("start")) == (True, False)
        ready.click("resume")
        ready.work(3)
        asked = ready.asked(Train)
        assert (asked.resume, asked.run) == (True, run)
        assert not ready.is_enabled("start")
        ready.work()
        assert "Finished" in ready.status()
        assert not ready.is_enabled("resume")
        assert ready.is_primary("start")

    HANGING: ClassVar = Hanging(0, "slow", "slow-package", "its encoder", 70.0)

    def test_a_run_whose_plugin_hangs_goes_on_from_its_last_checkpoint(self, ready: Face) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        run, stuck = ready.bench.training.state.run, ready.worker
        stuck.mailbox.put(self.HANGING)
        ready.settle()
        assert "'slow' of slow-package has not come back from its encoder for 70 s" in ready.problem()
        assert "Resume goes on from the last checkpoint." in ready.problem()
        assert "Not answering" in ready.status()
        assert ready.is_primary("resume")
        ready.click("resume")
        ready.work(3)
        assert ready.worker is not stuck
        asked = ready.asked(Train)
        assert (asked.resume, asked.run) == (True, run)
        assert not ready.problem()
        assert "Training" in ready.status()
        stuck.mailbox.put(Failed(0, about="Train", what="it came back"))
        ready.work()
        assert not ready.problem(), "the other one is no longer heard"
        assert "Finished" in ready.status()

    def test_a_draw_that_hangs_is_given_up(self, ready: Face) -> None:
        ready.type_into("seed", "60")
        ready.work(1)
        stuck = ready.worker
        stuck.mailbox.put(self.HANGING)
        ready.settle()
        assert "Stop gives it up." in ready.problem()
        assert ready.label("draw") == "Stop"
        ready.click("draw")
        ready.work()
        assert ready.worker is not stuck
        assert (ready.problem(), ready.label("draw")) == ("", "Draw")
        assert "Ready" in ready.status()
        ready.click("draw")
        ready.work()
        shown = ready.grid()
        assert shown is not None
        assert int(shown[0, 4, 4, 0]) == 80

    def test_a_call_that_ends_after_all_is_hanging_no_more(self, ready: Face) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        ready.worker.mailbox.put(self.HANGING)
        ready.settle()
        ready.worker.mailbox.put(Hanging())
        ready.settle()
        assert not ready.problem()
        assert ready.is_enabled("pause")
        assert "Training" in ready.status()

    def test_a_face_whose_worker_hangs_can_be_closed(self, ready: Face) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        ready.worker.mailbox.put(self.HANGING)
        ready.settle()
        ready.bench.close()
        ready.work()
        assert ready.bench.is_closed

    def test_training_is_live_to_its_end(self, ready: Face) -> None:
        ready.go_to("train")
        ready.click("start")
        for _ in range(40):
            ready.work(1)
        assert "Finished" in ready.status()
        assert ready.seed_steps() == [0, 2, 4, 6]
        assert ready.loss_points() == 6
        assert ready.bench.training.state.curves.bands == (("< .05", 0.6), ("> 3", 0.1))

    def test_drawing_goes_on_while_it_trains(self, ready: Face) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        ready.click("draw-live")
        ready.work(1)
        ready.work(3)
        assert ready.worker.phase is Phase.TRAINING
        assert ready.asked(Draw).model == LIVE
        ready.go_to("draw")
        ready.type_into("seed", "60")
        ready.work(4)
        shown = ready.grid()
        assert shown is not None
        assert int(shown[0, 4, 4, 0]) == 80

    def test_closing_while_training_saves(self, ready: Face) -> None:
        ready.go_to("train")
        ready.click("start")
        ready.work(6)
        ready.bench.close()
        ready.work()
        assert ready.bench.is_closed
        assert ready.bench.training.state.saved_step > 0
