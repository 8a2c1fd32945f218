"""Train: the recipe with its data at the side; loss, noise levels and the same seeds in the middle."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Qt, Signal
from PySide6.QtWidgets import (
    QFileDialog,
    QGridLayout,
    QHBoxLayout,
    QMenu,
    QPlainTextEdit,
    QStackedWidget,
    QTabBar,
    QVBoxLayout,
    QWidget,
)

from ..presenters.training_state import TrainingState
from . import theme
from .canvas import Thumbnails
from .controls import ChoiceControl
from .parts import Button, Note, set_property
from .plots import BandBars, Figure, LossPlot
from .rail import StatusBar, TopBar
from .recipe_form import LABELS, RecipeForm
from .seed_table import SeedTable
from .surfaces import Card, Column, Group, Surface

if TYPE_CHECKING:
    from PySide6.QtGui import QAction, QResizeEvent

    from ..presenters.status import Status
    from ..presenters.training import TrainingPresenter

SIDE = 340
UPPER = 306
LEVELS, NARROW_LEVELS = 246, 186
ROOM_FOR_LEVELS = 1000
"""Of the page, for the wide card of noise levels."""


class TrainPage(QWidget):
    """A view of a `TrainingPresenter`: widgets and layout, nothing else."""

    draw_wanted = Signal()
    """The person asks for a draw from the run in training."""

    def __init__(self, presenter: TrainingPresenter) -> None:
        super().__init__()
        self.presenter = presenter
        self._shown = TrainingState()
        self.top = TopBar("train-bar", choosable=True)
        self.draw_live = self.top.add_button("Draw now", name="draw-live", help="Draw from this run as it is now.")
        self.pause = self.top.add_button("Pause", name="pause", help="Pause after this step; everything stays loaded.")
        going_on = "Go on; after a stop, from the state that was saved."
        self.resume = self.top.add_button("Resume", kind="primary", name="resume", help=going_on)
        self.stop = self.top.add_button("Stop", name="stop", help="Stop after this step and save.")
        self.start = self.top.add_button("Start", kind="primary", name="start", help="Train this recipe in a new run.")
        self._buttons = {
            "draw": self.draw_live, "pause": self.pause, "resume": self.resume, "stop": self.stop, "start": self.start,
        }  # fmt: skip
        self.problem = Note("", name="train-problem")
        self.problem.setContentsMargins(theme.L, theme.S, theme.L, theme.S)
        self.loss = LossPlot(name="loss", empty="The loss will be drawn here.")
        self.bands = BandBars("bands", empty="After the first measurement.")
        self.figures = {
            "images_per_second": Figure("images/s", name="images-per-second"),
            "learning_rate": Figure("learning rate", name="learning-rate"),
            "grad_norm": Figure("gradient norm", name="gradient-norm"),
            "loss": Figure("loss", name="loss-now", help="Of the newest step; 1 is a network that knows nothing."),
        }
        self.seeds_card = Card("The same eight seeds over training", "")
        self.seeds = SeedTable("seeds", "The same eight seeds will be drawn here again and again.")
        self.status = StatusBar()
        self.form = RecipeForm(self)
        self._build()
        self._connect()
        self.show_state(presenter.state)

    # --- layout -----------------------------------------------------------------------------------

    def _build(self) -> None:
        loss, levels = Card(), Card("Held-out loss by noise level σ", short="Held-out loss by σ")
        self._levels = levels
        loss.add(self.loss, 1)
        levels.setFixedWidth(LEVELS)
        levels.add(self.bands)
        line = Surface("card")
        line.setFixedHeight(1)
        levels.body.addSpacing(theme.XS)
        levels.add(line)
        levels.body.addSpacing(theme.XS)
        figures = QGridLayout()
        figures.setVerticalSpacing(10)
        for at, figure in enumerate(self.figures.values()):
            figures.addWidget(figure, at // 2, at % 2)
        levels.add(figures)
        levels.body.addStretch()
        for card in (loss, levels):
            card.setFixedHeight(UPPER)
        upper = QHBoxLayout()
        upper.setSpacing(theme.M)
        upper.addWidget(loss, 1)
        upper.addWidget(levels)
        self.seeds_card.add(self.seeds, 1)

        body = QWidget()
        inside = QVBoxLayout(body)
        inside.setContentsMargins(theme.L, theme.M, theme.L, theme.M)
        inside.setSpacing(theme.M)
        inside.addLayout(upper)
        inside.addWidget(self.seeds_card, 1)
        middle = QVBoxLayout()
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        for widget, stretch in ((self.top, 0), (self.problem, 0), (body, 1), (self.status, 0)):
            middle.addWidget(widget, stretch)
        page = QHBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(0)
        page.addWidget(self._side())
        page.addLayout(middle, 1)

    def _side(self) -> Surface:
        self.tabs = QTabBar()
        self.tabs.setObjectName("recipe-tabs")
        for title in ("Recipe", "Data", "TOML"):
            self.tabs.addTab(title)
        self.undo = Button("Undo", kind="link", name="undo", help="Take back the last edit.")
        head = Surface("pane", "below")
        head.setFixedHeight(TopBar.HEIGHT)
        row = QHBoxLayout(head)
        row.setContentsMargins(theme.L, 0, theme.L, 1)
        row.addWidget(self.tabs, 0, Qt.AlignmentFlag.AlignBottom)
        row.addStretch()
        row.addWidget(self.undo)

        self.recipe = ChoiceControl(
            "Begin from", name="recipe", help="A recipe to begin from.", label_width=LABELS, width=160
        )
        self.thumbnails = Thumbnails("data-images")
        self.data_words = Note("", name="data-words", size=13)
        self.again = Button("Read again", kind="link", name="look-again", help="Read the data once more.")
        self.column = Column(SIDE - 2, "")
        self._first = Group("Recipe", spacing=5)
        self._first.add(self.recipe, self.thumbnails, self.data_words)
        self._first.body.addWidget(self.again, 0, Qt.AlignmentFlag.AlignLeft)
        self.column.add(self._first)

        self.more_thumbnails = Thumbnails("more-data-images", rows=4)
        self.aside = Note("", name="set-aside")
        data = Column(SIDE - 2, "")
        group = Group("Images", spacing=5)
        group.add(self.more_thumbnails, self.aside)
        data.add(group)
        self.toml = QPlainTextEdit()
        self.toml.setObjectName("toml")
        self.toml.setReadOnly(True)
        self.toml.setFont(theme.code_font())
        self.toml.setAccessibleName("The recipe as TOML")
        self.pages = QStackedWidget()
        for widget in (self.column, data, self.toml):
            self.pages.addWidget(widget)

        side = Surface("pane", "right")
        side.setFixedWidth(SIDE)
        inside = QVBoxLayout(side)
        inside.setContentsMargins(0, 0, 1, 0)
        inside.setSpacing(0)
        inside.addWidget(head)
        inside.addWidget(self.pages, 1)
        return side

    def _connect(self) -> None:
        presenter = self.presenter
        self.tabs.currentChanged.connect(self.pages.setCurrentIndex)
        self.undo.clicked.connect(self._undo)
        self.again.clicked.connect(self._look_again)
        self.recipe.edited.connect(self._choose_recipe)
        self.form.edited.connect(presenter.set)
        self.start.clicked.connect(self._start)
        self.pause.clicked.connect(self._pause)
        self.resume.clicked.connect(self._resume)
        self.stop.clicked.connect(self._stop)
        self.draw_live.clicked.connect(self.draw_wanted)
        self.top.subject_pressed.connect(self._choose_run)
        presenter.changed.connect(self.show_state)

    def release(self) -> None:
        """Lets go of the presenter."""
        self.presenter.changed.disconnect(self.show_state)

    def resizeEvent(self, event: QResizeEvent) -> None:
        super().resizeEvent(event)
        self._levels.setFixedWidth(LEVELS if self.width() >= ROOM_FOR_LEVELS else NARROW_LEVELS)

    # --- from the person --------------------------------------------------------------------------

    def _undo(self) -> None:
        self.presenter.undo()

    def _look_again(self) -> None:
        self.presenter.look_again()

    def _choose_recipe(self, name: object) -> None:
        self.presenter.choose_recipe(str(name))

    def _start(self) -> None:
        self.presenter.start()

    def _pause(self) -> None:
        self.presenter.pause()

    def _resume(self) -> None:
        self.presenter.resume()

    def _stop(self) -> None:
        self.presenter.stop()

    def _choose_run(self) -> None:
        """A menu of runs that can go on, and of recipes in files."""
        menu = QMenu(self)
        menu.setObjectName("unfinished-runs")
        for path, text in self.presenter.unfinished_runs():
            menu.addAction(f"Continue {text}").setData(path)
        menu.addSeparator()
        menu.addAction("Open a recipe file…").setData(None)
        menu.triggered.connect(self._run_chosen)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.top.subject.mapToGlobal(QPoint(0, self.top.subject.height() + 4)))

    def _run_chosen(self, action: QAction) -> None:
        if action.data() is not None:
            self.presenter.continue_run(action.data())
            return
        path, _ = QFileDialog.getOpenFileName(self, "Open a recipe", "", "Recipes (*.toml)")
        if path:
            self.presenter.open_recipe(path)

    # --- to the person ----------------------------------------------------------------------------

    def show_status(self, status: Status) -> None:
        self.status.show_status(status.tone, status.left, status.machine)

    def show_state(self, state: TrainingState) -> None:
        """Sets what differs from the state shown last."""
        before, self._shown = self._shown, state
        first = before is state or not self.form.rows
        if not self.form.is_built_for(state.form):
            for group in self.form.groups.values():
                group.hide()
                group.deleteLater()
            self.column.add(*self.form.rebuild(state.form))
            first = True
        if first or (state.texts, state.errors, state.changed) != (before.texts, before.errors, before.changed):
            self.form.show_values(state)
            self.toml.setPlainText(state.recipe.to_toml())
        if first or (state.recipes, state.recipe_name) != (before.recipes, before.recipe_name):
            self.recipe.show_choices([(name, name) for name in state.recipes])
            self.recipe.show_value(state.recipe_name)
        self.undo.setVisible(state.can_undo)
        if first or (state.data, state.data_problem, state.data_ticket) != (
            before.data,
            before.data_problem,
            before.data_ticket,
        ):
            self._show_data(state)
        self._show_run(state)
        if state.curves_version != before.curves_version:
            curves = state.curves
            self.loss.show_curves(curves.steps, curves.loss, curves.smoothed, curves.held_steps, curves.held)
            self.bands.show_bands(curves.bands)
        if state.rows_version != before.rows_version:
            self.seeds.show_rows(state.rows)
        self.seeds_card.facts.show_text(state.seeds_line, short=state.seeds_facts)

    def _show_data(self, state: TrainingState) -> None:
        self.data_words.show_text(state.data_problem or state.data_line, "error" if state.data_problem else "quiet")
        self.again.setVisible(bool(state.data_problem))
        images = state.data.images if state.data is not None and not state.data_problem else None
        self.thumbnails.show_images(images)
        self.more_thumbnails.show_images(images)
        aside = state.data.set_aside if state.data is not None else ()
        lines = [f"{name}: {reason}" for name, reason in aside[:200]]
        self.aside.show_text("\n".join(["Set aside:", *lines]) if lines else state.data_line)

    def _show_run(self, state: TrainingState) -> None:
        self.top.show_subject(state.subject, state.subject_facts)
        self.top.show_progress(state.share_done, state.left_line)
        for verb, button in self._buttons.items():
            button.allow(state.why_not(verb))
            button.setVisible(verb in state.verbs)
        set_property(self.start, "kind", "primary" if state.main_verb == "start" else "plain")
        for key, text in state.figures:
            self.figures[key].show_value(text)
        self.problem.show_text(state.problem, "error")
        self.problem.setVisible(bool(state.problem))
