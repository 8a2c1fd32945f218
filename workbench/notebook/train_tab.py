"""The Train tab: the recipe with its data at the side; loss, noise levels and the same seeds beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import ipywidgets

from .canvas import ImageCanvas, LossPlot, SeedTable
from .form import Form, Row, row_of
from .measures import Bands, Figures
from .parts import Button, Desk, Refresher, Words, box, is_shown, pictures, show_if

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from ..presenters.status import Status
    from ..presenters.training import TrainingPresenter
    from ..presenters.training_state import TrainingState

COLUMN = 308
"""Pixels that thumbnails of the data may fill."""
LARGEST = 64
"""Pixels of a thumbnail's side."""
MOST_COLUMNS = 24
"""Of the table of seeds: more than a page shows need not travel."""


class TrainTab:
    """A view of a `TrainingPresenter`: widgets, and what they say to each other, nothing else."""

    def __init__(self, presenter: TrainingPresenter, desk: Desk, draw_live: Callable[[], None]) -> None:
        self._presenter, self._desk = presenter, desk
        self._shown: TrainingState | None = None
        self._refresh = Refresher(desk, self._show)
        self._run = ""

        press = self._press
        self.recipe = Form()
        self.undo = Button("Undo", "Take back the last edit.", press(presenter.undo), "link")
        self.more = Button("Continue a run…", "Runs that were stopped before their end.", press(self._list), "link")
        self.runs = Form()
        self.go_on = Button("Continue", "Train on from its last good state.", press(self._continue))
        self.continue_line = box(self.runs, self.go_on, kind="iw-save-line")
        self.again = Button("Read again", "Read the data once more.", press(presenter.look_again), "link")
        self.again.add_class("iw-again")
        self.thumbnails = ImageCanvas(max_height=2 * LARGEST + 12, empty="")
        self.fields = Form()

        self.subject = Words("iw-subject")
        self.subject_facts = Words("iw-subject-facts", hidden_when_empty=False)
        self.progress = ipywidgets.FloatProgress(0, min=0, max=1)
        self.progress.add_class("iw-progress")
        self.left = Words("iw-left")
        going_on = "Go on; after a stop, from the state that was saved."
        self.buttons = {
            "draw": Button("Draw now", "Draw from this run as it is now.", press(draw_live)),
            "pause": Button("Pause", "Pause after this step; everything stays loaded.", press(presenter.pause)),
            "resume": Button("Resume", going_on, press(presenter.resume), "primary"),
            "stop": Button("Stop", "Stop after this step and save.", press(presenter.stop)),
            "start": Button("Start", "Train this recipe in a new run.", press(self._start), "primary"),
        }
        self.problem = Words("iw-problem")
        self.loss = LossPlot(height=280, empty="The loss will be drawn here.")
        self.bands, self.figures = Bands(), Figures()
        self.seeds_line = Words("iw-seeds-line", hidden_when_empty=False)
        self.seeds = SeedTable(empty="The same eight seeds will be drawn here again and again.")
        self.facts = Words("iw-facts", hidden_when_empty=False)
        show_if(self.continue_line, when=False)
        self.view = self._laid_out()
        self._connect()
        self._show()

    def _laid_out(self) -> ipywidgets.Box:
        column = box(
            self.recipe, box(self.undo, self.more, kind="iw-links"), self.continue_line, self.thumbnails, self.again,
            self.fields, kind="iw-column",
        )  # fmt: skip
        told = box(self.subject, self.subject_facts, kind="iw-told")
        bar = box(told, self.progress, self.left, box(*self.buttons.values(), kind="iw-actions"), kind="iw-bar")
        levels = box(_title("Held-out loss by noise level σ"), self.bands, self.figures, kind="iw-card")
        levels.add_class("iw-levels")
        seeds = box(
            box(_title("The same eight seeds over training"), self.seeds_line, kind="iw-told"),
            self.seeds,
            kind="iw-card",
        )
        loss = box(self.loss, kind="iw-card")
        loss.add_class("iw-loss")
        foot = box(self.facts, kind="iw-foot")
        stage = box(bar, self.problem, box(loss, levels, kind="iw-cards"), seeds, foot, kind="iw-stage")
        return box(column, stage, kind="iw-pane")

    def _connect(self) -> None:
        self.recipe.edited = lambda _key, text, hear: self._desk.do(self._take_recipe, text, hear)
        self.runs.edited = lambda _key, text, hear: self._desk.do(self._take_run, text, hear)
        self.fields.edited = lambda key, text, hear: self._desk.do(self._take, key, text, hear)
        self._presenter.changed.connect(self._refresh.soon)

    def _press(self, verb: Callable[[], object]) -> Callable[[], None]:
        return lambda: self._desk.do(verb)

    # --- from the person, on the presenters' thread -------------------------------------------------

    def _take(self, key: str, text: str, hear: Callable[[], None]) -> None:
        hear()
        self._refresh.soon()
        if key:
            self._presenter.set(key, text)

    def _take_recipe(self, text: str, hear: Callable[[], None]) -> None:
        hear()
        self._refresh.soon()
        if text in self._presenter.state.recipes:
            self._presenter.choose_recipe(text)
        elif text:
            self._presenter.open_recipe(text)

    def _start(self) -> None:
        self._presenter.start()

    def _list(self) -> None:
        """Shows the runs that can go on; looking for them reads folders, so it is done when asked for."""
        if is_shown(self.continue_line):
            show_if(self.continue_line, when=False)
            return
        runs = self._presenter.unfinished_runs()
        row = Row("run", "choice", help="Runs that were stopped before their end.", choices=tuple(runs))
        self.runs.lay_out((("", (row if runs else Row("none", "words"),)),))
        self._run = runs[0][0] if runs else ""
        self.runs.show({"run": self._run, "none": "No run was stopped before its end."})
        show_if(self.go_on, when=bool(runs))
        show_if(self.continue_line, when=True)

    def _take_run(self, text: str, hear: Callable[[], None]) -> None:
        hear()
        self._run = text
        self.runs.show({"run": text})

    def _continue(self) -> None:
        show_if(self.continue_line, when=False)
        self._presenter.continue_run(self._run)

    # --- to the person ----------------------------------------------------------------------------

    def show_status(self, status: Status) -> None:
        self.facts.show("   ".join(status.machine))

    def _show(self) -> None:
        """Sets what differs from the state shown last."""
        before, state = self._shown, self._presenter.state
        self._shown = state
        if before is None or (state.recipes, state.recipe_name) != (before.recipes, before.recipe_name):
            self._lay_recipe(state)
        self.recipe.show({"recipe": state.recipe_name})
        if before is None or state.form != before.form:
            self._lay_fields(state)
        if before is None or _of_form(state) != _of_form(before) or self.fields.is_behind:
            self._show_fields(state)
        if before is None or (state.data, state.data_problem) != (before.data, before.data_problem):
            self._show_thumbnails(state)
        show_if(self.undo, when=state.can_undo)
        show_if(self.again, when=bool(state.data_problem))
        self._show_run(state)
        if before is None or state.curves_version != before.curves_version:
            curves = state.curves
            self.loss.show(
                {
                    "smoothed": (curves.steps, curves.smoothed),
                    "held out": (curves.held_steps, curves.held),
                    "each step": (curves.steps, curves.loss),
                }
            )
            self.bands.show(curves.bands)
        if before is None or state.rows_version != before.rows_version:
            self.seeds.show([(step, pictures(images)) for step, images in thinned(state.rows)])
            self._desk.write(self.seeds, "selected", -1)
        self.seeds_line.show(state.seeds_line)

    def _lay_recipe(self, state: TrainingState) -> None:
        names = tuple((name, name) for name in state.recipes)
        help, other = "A recipe to begin from.", "Open a recipe file…"
        self.recipe.lay_out((("Recipe", (Row("recipe", "choice", "Begin from", help, choices=names, other=other),)),))

    def _lay_fields(self, state: TrainingState) -> None:
        groups = tuple((title, tuple(row_of(field) for field in fields)) for title, fields in state.form)
        told = (Row("data-words", "words"), Row("set-aside", "lines", "Set aside"))
        toml = Row("toml", "lines", "The recipe as TOML")
        self.fields.lay_out((("", told), *groups, ("", (toml,))))

    def _show_fields(self, state: TrainingState) -> None:
        whole = {field.key for _, fields in state.form for field in fields if field.kind == "integer"}
        values = {
            key: f"{int(text):,}" if key in whole and key != "training.seed" and text.isdecimal() else text
            for key, text in state.texts
        }
        aside = state.data.set_aside[:200] if state.data is not None else ()
        values["data-words"] = "" if state.data_problem else state.data_line
        values["set-aside"] = "\n".join(f"{name}: {reason}" for name, reason in aside)
        values["toml"] = state.recipe.to_toml()
        hidden = () if aside else ("set-aside",)
        errors = dict(state.errors) | {"data-words": state.data_problem}
        self.fields.show(values, errors, changed=state.changed, hidden=hidden)

    def _show_thumbnails(self, state: TrainingState) -> None:
        images = state.data.images if state.data is not None and not state.data_problem else None
        show_if(self.thumbnails, when=images is not None)
        if images is None:
            return
        side = max(images.shape[1:3])
        tile = side if side <= LARGEST else side // -(-side // LARGEST)
        columns = max(1, min(9, COLUMN // (tile + 6)))
        self.thumbnails.columns = columns
        self.thumbnails.show(pictures(images[: 2 * columns]))

    def _show_run(self, state: TrainingState) -> None:
        self.subject.show(state.subject, "text")
        self.subject_facts.show(state.subject_facts)
        share = state.share_done
        show_if(self.progress, when=share is not None)
        self.progress.value = round(share or 0, 3)
        self.left.show(state.left_line if share is not None else "")
        for verb, made in self.buttons.items():
            made.allow(state.why_not(verb))
            show_if(made, when=verb in state.verbs)
        self.buttons["start"].make("primary" if state.main_verb == "start" else "")
        self.go_on.allow(state.why_not("start") if state.busy else "")
        self.figures.show(state.figures)
        self.problem.show(state.problem, "error")


def thinned(rows: tuple[tuple[int, np.ndarray], ...]) -> list[tuple[int, np.ndarray]]:
    """Every k-th row and the newest, few enough for a page."""
    stride = max(1, -(-len(rows) // MOST_COLUMNS))
    return [row for at, row in enumerate(rows) if at % stride == 0 or at == len(rows) - 1]


def _of_form(state: TrainingState) -> tuple[object, ...]:
    """What the form shows."""
    return state.form, state.texts, state.errors, state.changed, state.data, state.data_problem, state.data_ticket


def _title(text: str) -> ipywidgets.HTML:
    made = ipywidgets.HTML(f"<b>{text}</b>")
    made.add_class("iw-title")
    return made
