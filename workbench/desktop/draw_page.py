"""Draw: pictures in the middle, the way of one of them below, settings at the side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QPoint, Qt
from PySide6.QtGui import QAction, QGuiApplication, QKeySequence, QShortcut
from PySide6.QtWidgets import QFileDialog, QHBoxLayout, QMenu, QVBoxLayout, QWidget

from ..presenters.condition_form import EACH
from ..presenters.draw_form import FIELDS, GUIDANCE, MORE, PATH, SIZE, START, WEIGHTS, DrawControl
from ..presenters.drawing_state import MOST_CHIPS, DrawingState
from . import theme
from .canvas import ImageGrid
from .chips import Chips
from .condition_rows import ConditionRows
from .controls import ChoiceControl, TextControl
from .film import FilmStrip
from .number import NumberControl, SeedControl
from .parts import Button, Note, Text
from .rail import StatusBar, TopBar
from .surfaces import Column, Group, Surface

if TYPE_CHECKING:
    from ..presenters.drawing import DrawingPresenter
    from ..presenters.status import Status

FIRST = "The first pictures will be here in a moment."
SIDE = 304
MAIN_BUTTON = {
    "Draw": ("return", "Draw with these settings."),
    "Stop": ("stop", "End this draw (Esc). What it has shown so far stays."),
}
"""What it says: its icon and its help."""


class DrawPage(QWidget):
    """A view of a `DrawingPresenter`: widgets and layout, nothing else."""

    def __init__(self, presenter: DrawingPresenter) -> None:
        super().__init__()
        self.presenter = presenter
        self._shown = DrawingState()
        self._shown_errors: dict[str, str] = {}
        self._has_settings = False
        self.top = TopBar("draw-bar", choosable=True)
        self.save = self.top.add_button("Save", name="save", help="Save the pictures as a PNG that carries its recipe.")
        self.draw = self.top.add_button("Draw", kind="primary", icon="return", name="draw")
        self.draw.reserve(*MAIN_BUTTON)
        self.escape = QShortcut(QKeySequence(Qt.Key.Key_Escape), self)
        self.problem = Note("", name="draw-problem")
        self.problem.setContentsMargins(theme.L, theme.S, theme.L, theme.S)
        self.grid = ImageGrid("images", FIRST)
        self.film = FilmStrip("film", "The way from noise to the chosen image will be here.")
        self.number = Text("", bold=True)
        self.what = Text("", tone="quiet", name="image-facts")
        self.likely = Text("", tone="quiet", name="image-likely")
        self.likely.setToolTip("How likely the model finds this image, without guidance: fewer bits, more likely.")
        self.copy = Button("Copy as Python", kind="link", name="copy-python", help="This draw as code.")
        self.status = StatusBar()
        self._build()
        self._connect()
        self._show_model(presenter.state)
        self.show_state(presenter.state)

    # --- layout -----------------------------------------------------------------------------------

    def _build(self) -> None:
        facts = QWidget()
        facts.setFixedWidth(148)
        lines = QVBoxLayout(facts)
        lines.setContentsMargins(0, theme.M, 0, 0)
        lines.setSpacing(0)
        for text in (self.number, self.what, self.likely):
            text.setFixedHeight(23)
            lines.addWidget(text)
        lines.addWidget(self.copy)
        lines.addStretch()
        below = Surface("pane", "above")
        row = QHBoxLayout(below)
        row.setContentsMargins(theme.L, 0, theme.L, 0)
        row.setSpacing(theme.S)
        row.addWidget(self.film, 1)
        row.addWidget(facts)

        middle = QVBoxLayout()
        middle.setContentsMargins(0, 0, 0, 0)
        middle.setSpacing(0)
        middle.addWidget(self.top)
        middle.addWidget(self.problem)
        middle.addWidget(self.grid, 1)
        middle.addWidget(below)
        middle.addWidget(self.status)
        page = QHBoxLayout(self)
        page.setContentsMargins(0, 0, 0, 0)
        page.setSpacing(0)
        page.addLayout(middle, 1)
        page.addWidget(self._settings())
        for widget in (self.problem, self.copy):
            widget.setVisible(False)

    def _settings(self) -> Column:
        self.chips = Chips(several=False, each=EACH, name="condition", label="Condition")
        self.choices = ChoiceControl("Shown", name="condition-choice", help="What every image shows.")
        self.count = NumberControl(
            "Images",
            1,
            64,
            default=8,
            integer=True,
            logarithmic=True,
            name="count",
            help="How many are drawn, up to 400.",
        )
        self.seed = SeedControl(name="seed", help=FIELDS["seed"].help)
        self.settings: dict[str, NumberControl | ChoiceControl] = {}
        self.condition_group = Group("Condition")
        self.said = ConditionRows()
        self.condition_group.add(self.chips, self.choices, self.said)
        self.choices.setVisible(False)
        start, path, guidance = Group("Start"), Group("Path"), Group("Guidance")
        weights, self.more = Group("Weights"), Group("More")
        start.add(self.count, self.seed, *self._rows((SIZE, *START)))
        self.settings[SIZE.key].setVisible(False)
        path.add(*self._rows(PATH))
        guidance.add(*self._rows(GUIDANCE))
        weights.add(*self._rows(WEIGHTS))
        self.more.add(*self._rows(MORE))
        self.more.setVisible(False)
        self.unfold = Button("More settings", kind="link", name="more", help="Interval, threshold, fresh noise.")
        fold = Surface("pane", "")
        line = QHBoxLayout(fold)
        line.setContentsMargins(theme.L, theme.S, theme.L, theme.S)
        line.addWidget(self.unfold)
        line.addStretch()
        column = Column(SIDE, "left")
        self._groups = (start, path, guidance, weights, fold)
        column.add(self.condition_group, *self._groups, self.more)
        return column

    def _rows(self, controls: tuple[DrawControl, ...]) -> list[NumberControl | ChoiceControl]:
        """The rows of a group, kept by the name of their setting."""
        for each in controls:
            self.settings[each.key] = _row(each)
        return [self.settings[each.key] for each in controls]

    def _connect(self) -> None:
        self.top.subject_pressed.connect(self._choose_model)
        self.draw.clicked.connect(self._draw)
        self.save.clicked.connect(self._save)
        self.escape.activated.connect(self._stop)
        self.copy.clicked.connect(self._copy)
        self.unfold.clicked.connect(self._unfold)
        self.grid.selected.connect(self.presenter.select)
        self.film.scrubbed.connect(self.presenter.scrub)
        self.chips.edited.connect(self._take_chips)
        self.choices.edited.connect(self._take_choice)
        self.said.edited.connect(self.presenter.say)
        self.seed.rolled.connect(self.presenter.roll_seed)
        self.seed.lock_toggled.connect(self._lock)
        for control in self._plain():
            control.edited.connect(self._take)
        self.presenter.changed.connect(self.show_state)

    def _plain(self) -> tuple[NumberControl | SeedControl | ChoiceControl | TextControl, ...]:
        """The controls whose object names are the presenter's settings."""
        return self.count, self.seed, *self.settings.values()

    def release(self) -> None:
        """Lets go of the presenter."""
        self.presenter.changed.disconnect(self.show_state)

    # --- from the person --------------------------------------------------------------------------

    def _take(self, value: object) -> None:
        control = self.sender()
        assert control is not None
        name = control.objectName()
        self.presenter.set(**{name: value})
        # the same complaint again is no change of state, but the control has taken it down
        self._shown_errors.pop(name, None)
        self._show_errors(self.presenter.state)

    def _take_chips(self, chosen: tuple[str, ...]) -> None:
        self.presenter.set(conditions=chosen)

    def _take_choice(self, chosen: object) -> None:
        self.presenter.set(conditions=(str(chosen),) if chosen else ())

    def _unfold(self) -> None:
        self.more.setVisible(self.more.isHidden())
        self.unfold.setText("More settings" if self.more.isHidden() else "Fewer settings")

    def _lock(self, locked: bool) -> None:  # noqa: FBT001 - Qt's signal
        self.presenter.set(locked=locked)

    def _draw(self) -> None:
        self.presenter.draw_or_stop()

    def _stop(self) -> None:
        self.presenter.cancel()

    def _choose_model(self) -> None:
        """A menu of models below the subject."""
        menu = QMenu(self)
        menu.setObjectName("models")
        for reference, name in self._shown.models:
            action = menu.addAction(name)
            action.setData(reference)
            action.setCheckable(True)
            action.setChecked(reference == self._shown.model)
        menu.addSeparator()
        for name, text in (("open-run", "Open a run…"), ("open-file", "Open a model file, cascade or picture…")):
            menu.addAction(text).setObjectName(name)
        menu.triggered.connect(self._model_chosen)
        menu.aboutToHide.connect(menu.deleteLater)
        menu.popup(self.top.subject.mapToGlobal(QPoint(0, self.top.subject.height() + 4)))

    def _model_chosen(self, action: QAction) -> None:
        match action.objectName():
            case "open-run":
                home = str(self.presenter.runs_folder())
                reference = QFileDialog.getExistingDirectory(self, "Open the folder of a run", home)
            case "open-file":
                kinds = "Models, cascades and pictures (*.safetensors *.toml *.png)"
                reference, _ = QFileDialog.getOpenFileName(self, "Open a model file, cascade or picture", "", kinds)
            case _:
                reference = action.data()
        if reference:
            self.presenter.choose_model(reference)

    def _save(self) -> None:
        suggested = self.presenter.suggested_path()
        suggested.parent.mkdir(parents=True, exist_ok=True)
        path, _ = QFileDialog.getSaveFileName(self, "Save the pictures", str(suggested), "PNG (*.png)")
        if path:
            self.presenter.save(path)

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.presenter.as_python())

    # --- to the person ----------------------------------------------------------------------------

    def show_status(self, status: Status) -> None:
        self.status.show_status(status.tone, status.left, status.right)

    def show_state(self, state: DrawingState) -> None:
        """Sets what differs from the state shown last."""
        before, self._shown = self._shown, state
        if state.facts != before.facts or state.model != before.model:
            self._show_model(state)
        if state.conditions != before.conditions or state.facts != before.facts:
            self.chips.show_value(state.conditions)
            self.choices.show_value(state.conditions[0] if state.conditions else "")
        self.said.show_said(dict(state.said), dict(state.errors))
        self._show_errors(state)
        self._show_settings(state)
        if state.frame != before.frame:
            self.grid.show_images(state.images)
        if state.selected != before.selected:
            self.grid.show_selected(state.selected)
        if (state.drawn, state.selected) != (before.drawn, before.selected):
            self._show_film(state)
        self.likely.show_text(state.likely)
        if state.film_at != before.film_at or state.drawn != before.drawn:
            self.film.show_current(state.film_at)
        self.draw.show_verb(state.verb, *MAIN_BUTTON[state.verb])
        self.draw.allow(state.why_not)
        self.escape.setEnabled(state.stoppable)
        self.save.allow(state.can_save)
        told = state.problem or (f"Saved as {state.saved}" if state.saved else "")
        self.problem.show_text(told, "error" if state.problem else "quiet")
        self.problem.setVisible(bool(told))

    def _show_model(self, state: DrawingState) -> None:
        facts = state.facts
        self.top.show_subject(facts.name if facts else (state.model or "No model"), state.facts_line)
        self.condition_group.setEnabled(facts is not None)
        self._has_settings |= facts is not None
        for group in self._groups:
            group.setVisible(self._has_settings)  # all at once, so that the first ones do not jump
        if facts is None:
            # the former model's conditions stay until the next one's are known, so that nothing jumps
            self.condition_group.setVisible(bool(self.chips.choices or self.choices.choices or self.said.rows))
            self.grid.show_empty_text("Opening the model …" if state.model else FIRST)
            return
        choices = state.choices
        many = len(choices) > MOST_CHIPS
        self.condition_group.setVisible(bool(facts.form))
        self.chips.setVisible(bool(choices) and not many)
        self.choices.setVisible(many)
        self.chips.show_choices(() if many else choices)
        self.choices.show_choices([("", EACH), *((text, text) for text in choices)] if many else [])
        self.said.lay_out(state.fields)
        size = self.settings[SIZE.key]
        assert isinstance(size, ChoiceControl)
        size.show_choices(state.sizes)
        size.setVisible(bool(state.sizes))
        for key, control in self.settings.items():
            if isinstance(control, NumberControl):
                control.default = state.value(key)

    def _show_settings(self, state: DrawingState) -> None:
        values = {"count": state.count, "seed": state.sampling.seed, **{key: state.value(key) for key in self.settings}}
        for control in self._plain():
            if control.objectName() not in dict(state.errors):
                control.show_value(values[control.objectName()])
        for key, control in self.settings.items():
            control.allow(state.off(key))
        self.seed.show_locked(state.locked)

    def _show_errors(self, state: DrawingState) -> None:
        """What the presenter says is wrong."""
        errors = dict(state.errors)
        for control in self._plain():
            name = control.objectName()
            if errors.get(name, "") != self._shown_errors.get(name, ""):
                control.show_error(errors.get(name, ""))
        self._shown_errors = errors

    def _show_film(self, state: DrawingState) -> None:
        film = state.film
        self.film.show_film(*(film or (None, None, ())))
        drawn = state.drawn
        self.copy.setVisible(drawn is not None)
        text = drawn.conditions[state.selected] if drawn is not None else ""
        self.number.show_text(f"No. {state.selected + 1}" if drawn is not None else "")
        self.what.show_text("" if drawn is None else f"condition {text}" if text else "no condition")


def _row(control: DrawControl) -> NumberControl | ChoiceControl:
    if control.kind == "choice":
        return ChoiceControl(control.field.label, control.choices, name=control.key, help=control.help)
    return NumberControl(
        control.field.label,
        control.low,
        control.high,
        default=control.field.default,
        integer=control.integer,
        step=control.step,
        logarithmic=control.logarithmic,
        unit=control.field.unit,
        name=control.key,
        help=control.help,
        note=control.note,
    )
