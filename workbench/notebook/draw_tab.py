"""The Draw tab: settings at the side; pictures, the way of one of them, and what can be done with them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ...core.errors import RecipeError
from ..presenters.condition_form import CONDITION, EACH, UNSAID, empty_text, help_of
from ..presenters.draw_form import CONTROLS, FIELDS, GUIDANCE, MORE, PATH, SIZE, START, WEIGHTS, DrawControl
from ..presenters.drawing import MOST_IMAGES, DrawingPresenter
from ..presenters.drawing_state import MOST_CHIPS, DrawingState
from ..presenters.forms import FormField, text_of, value_of
from .canvas import FilmStrip, ImageCanvas
from .form import Form, Row
from .parts import Button, Desk, Refresher, Words, box, is_shown, pictures, show_if

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    import ipywidgets

    from ...core.events import ConditionField
    from ..presenters.status import Status

COUNT = FormField("count", "Images", "", "integer", minimum=1, maximum=MOST_IMAGES)
NOTHING = np.zeros((0, 1, 1), np.uint8)
MAIN_HELP = {"Draw": "Draw with these settings.", "Stop": "End this draw. What it has shown so far stays."}
FOLDED = (("no", "More settings"), ("yes", "Fewer settings"))


class DrawTab:
    """A view of a `DrawingPresenter`: widgets, and what they say to each other, nothing else."""

    def __init__(self, presenter: DrawingPresenter, desk: Desk) -> None:
        self._presenter, self._desk = presenter, desk
        self._shown = DrawingState()
        self._start = self._shown.sampling
        self._refresh = Refresher(desk, self._show)
        self._refused: dict[str, str] = {}
        self._facts = self._shown.facts
        self._path = ""
        self._unfolded = False

        self.form = Form()
        self.problem = Words("iw-problem")
        self.grid = ImageCanvas(empty="The first pictures will be here in a moment.")
        self.film = FilmStrip(empty="The way from noise to the chosen image will be here.")
        self.image_facts = Words("iw-image-facts", hidden_when_empty=False)
        self.facts = Words("iw-facts", hidden_when_empty=False)
        self.copy = Button("Copy as Python", "This draw as code.", self._press(self._copy), "link")
        self.save = Button("Save", "Save the pictures as a PNG that carries its recipe.", self._press(self._open_save))
        self.draw = Button("Draw", MAIN_HELP["Draw"], self._press(presenter.draw_or_stop), "primary")
        self.draw.add_class("iw-main")
        self.path = Form([("", [Row("path", "text", "Save as", "A PNG that carries its recipe.", wide=True)])])
        self.save_now = Button("Save picture", "Write the file.", self._press(self._save), "primary")
        self.save_not = Button("Cancel", "", self._press(self._close_save), "link")
        self.save_line = box(self.path, self.save_now, self.save_not, kind="iw-save-line")
        self.code = Form([("", [Row("python", "lines", "This draw as Python", wide=True)])], kind="iw-code")
        show_if(self.save_line, when=False)
        show_if(self.code, when=False)
        self.view = self._laid_out()
        self._connect()
        self._lay_form()
        self._show()

    def _laid_out(self) -> ipywidgets.Box:
        actions = box(self.copy, self.save, self.draw, kind="iw-actions")
        foot = box(self.image_facts, self.facts, actions, kind="iw-foot")
        stage = box(self.problem, self.grid, self.film, foot, self.save_line, self.code, kind="iw-stage")
        return box(box(self.form, kind="iw-column"), stage, kind="iw-pane")

    def _connect(self) -> None:
        self.form.edited = lambda key, text, hear: self._desk.do(self._take, key, text, hear)
        self.form.pressed = lambda name: self._desk.do(self._take_press, name)
        self.path.edited = lambda _key, text, hear: self._desk.do(self._take_path, text, hear)
        self.grid.observe(self._tell(self._presenter.select), "selected")
        self.film.observe(self._tell(self._scrub), "selected")
        self._presenter.changed.connect(self._refresh.soon)

    def _press(self, verb: Callable[[], object]) -> Callable[[], None]:
        return lambda: self._desk.do(verb)

    def _tell(self, verb: Callable[[int], None]) -> Callable[[Any], None]:
        def told(change: Any) -> None:
            if self._desk.heard():
                self._desk.do(verb, change.new)

        return told

    # --- from the person, on the presenters' thread -------------------------------------------------

    def _take(self, key: str, text: str, hear: Callable[[], None]) -> None:
        hear()
        self._refresh.soon()
        self._refused.pop(key, None)
        match key:
            case "model":
                self._presenter.choose_model(_of_run(text))
            case "condition":
                self._presenter.set(conditions=() if text in ("", EACH) else (text,))
                self._keep_refused("condition", text)
            case _ if key.startswith(CONDITION):
                self._presenter.say(key.removeprefix(CONDITION), text)
                self._keep_refused(key, text)
            case "more":
                self._unfolded = text == "yes"
            case _ if key == "count" or key in FIELDS:
                field = COUNT if key == "count" else FIELDS[key]
                try:
                    value = value_of(field, text)
                except RecipeError:
                    value = text  # what it should be, the presenter says
                self._presenter.set(**{key: value})
                self._keep_refused(key, text)

    def _keep_refused(self, key: str, text: str) -> None:
        """What cannot be used stays in its field, beside what is said about it."""
        if key in errors_by_row(self._presenter.state):
            self._refused[key] = text

    def _take_press(self, name: str) -> None:
        if name == "roll-seed":
            self._presenter.roll_seed()
        else:
            self._presenter.set(locked=not self._presenter.state.locked)

    def _scrub(self, step: int) -> None:
        state = self._presenter.state
        last = len(state.drawn.sigmas) - 1 if state.drawn else 0
        if (-1 if step >= last else step) != state.film_at:
            self._presenter.scrub(step)

    def _copy(self) -> None:
        code = self._presenter.as_python()
        wanted = not is_shown(self.code) or self.code.values.get("python") != code
        show_if(self.code, when=wanted)
        if wanted:
            self.code.show({"python": code})
            self.code.copy(code)

    def _open_save(self) -> None:
        self._path = str(self._presenter.suggested_path())
        self.path.show({"path": self._path})
        show_if(self.save_line, when=not is_shown(self.save_line))

    def _close_save(self) -> None:
        show_if(self.save_line, when=False)

    def _take_path(self, text: str, hear: Callable[[], None]) -> None:
        hear()
        self._path = text
        self.path.show({"path": text})

    def _save(self) -> None:
        if self._presenter.save(self._path):
            self._close_save()

    # --- to the person ----------------------------------------------------------------------------

    def show_status(self, status: Status) -> None:
        self.facts.show("   ".join(status.right))

    def _show(self) -> None:
        """Sets what differs from the state shown last."""
        before, state = self._shown, self._presenter.state
        self._shown = state
        if (state.facts, state.models) != (before.facts, before.models):
            if state.facts is not before.facts:
                self._start = state.sampling
                self._refused.clear()
                self._facts = state.facts or self._facts
            self._lay_form()
        self._show_form(state)
        if state.frame != before.frame and state.images is not None:
            self.grid.show(pictures(state.images))
        if (state.drawn, state.selected) != (before.drawn, before.selected):
            self._show_film(state)
        if (state.drawn, state.selected, state.likely) != (before.drawn, before.selected, before.likely):
            self._show_facts(state)
        self._desk.write(self.grid, "selected", state.selected if state.images is not None else -1)
        last = len(state.drawn.sigmas) - 1 if state.drawn else 0
        if (state.film_at, state.drawn) != (before.film_at, before.drawn):
            self._desk.write(self.film, "selected", last if state.film_at < 0 else state.film_at)
        self.draw.show_verb(state.verb, MAIN_HELP[state.verb])
        self.draw.allow(state.why_not)
        self.save.allow(state.can_save)
        show_if(self.copy, when=state.drawn is not None)
        told = state.problem or (f"Saved as {state.saved}" if state.saved else "")
        self.problem.show(told, "error" if state.problem else "quiet")

    def _lay_form(self) -> None:
        state = self._presenter.state
        # the former model's settings stay until the next one's are known, so that nothing jumps
        facts = self._facts
        condition = _condition_rows(replace(state, facts=facts))
        other = "Open a run, model file or picture…"
        model = Row("model", "choice", help="What draws.", choices=state.models, other=other)
        count = Row(
            "count", "number", "Images", f"How many are drawn, up to {MOST_IMAGES}.", stops=growing(64), default="8"
        )
        seed = Row("seed", "seed", "Seed", FIELDS["seed"].help)
        sizes = tuple((text_of(shape), said) for shape, said in replace(state, facts=facts).sizes)
        size = Row(SIZE.key, "choice", SIZE.field.label, SIZE.help, choices=sizes)
        unfold = Row("more", "fold", help="Interval, threshold, fresh noise.", choices=FOLDED)
        models = ("Model", (model, Row("model-facts", "words")))
        if facts is None:
            self.form.lay_out((models,))
            return
        self.form.lay_out(
            (
                models,
                *((("Condition", condition),) if condition else ()),
                ("Start", (count, seed, *((size,) if sizes else ()), *self._rows(START))),
                ("Path", self._rows(PATH)),
                ("Guidance", self._rows(GUIDANCE)),
                ("Weights", self._rows(WEIGHTS)),
                ("", (unfold, *self._rows(MORE))),
            )
        )

    def _rows(self, controls: tuple[DrawControl, ...]) -> tuple[Row, ...]:
        started = replace(self._presenter.state, sampling=self._start)
        return tuple(_row(each, started.value(each.key)) for each in controls)

    def _show_form(self, state: DrawingState) -> None:
        sampling = state.sampling
        values = {
            "model": state.model,
            "model-facts": state.facts_line or "Opening the model …",
            "condition": state.conditions[0] if state.conditions else "",
            **{f"{CONDITION}{each.key}": dict(state.said).get(each.key, "") for each in state.fields},
            "count": str(state.count),
            "seed": str(sampling.seed),
            "more": "yes" if self._unfolded else "no",
            **{each.key: spoken(each, state.value(each.key)) for each in CONTROLS},
            SIZE.key: text_of(state.value(SIZE.key)),
        }
        if state.facts is None and state.problem:
            values["model-facts"] = ""
        errors = errors_by_row(state)
        self._refused = {key: text for key, text in self._refused.items() if key in errors}
        values |= self._refused
        values["seed"] = f"{values['seed'].replace(' ', '')} {'locked' if state.locked else 'free'}"
        keys = [each.key for each in CONTROLS]
        asked = [key for key in self.form.rows if key == "condition" or key.startswith(CONDITION)]
        opening = {} if state.facts else dict.fromkeys(asked, "The model is being opened.")
        changed = {key for key in keys if getattr(sampling, key) != getattr(self._start, key)}
        self.form.show(
            values,
            errors,
            changed=changed | ({"count"} if state.count != 8 else set()),
            off={key: why for key in keys if (why := state.off(key))} | opening,
            hidden=() if self._unfolded else [each.key for each in MORE],
        )

    def _show_film(self, state: DrawingState) -> None:
        film = state.film
        if film is None:
            self.film.show(NOTHING, NOTHING, [])
        else:
            self.film.show(pictures(film[0]), pictures(film[1]), film[2])

    def _show_facts(self, state: DrawingState) -> None:
        drawn = state.drawn
        if drawn is None:
            self.image_facts.show("")
        else:
            text = drawn.conditions[state.selected]
            words = [f"No. {state.selected + 1}", f"condition {text}" if text else "no condition", state.likely]
            self.image_facts.show(" · ".join(word for word in words if word))


def errors_by_row(state: DrawingState) -> dict[str, str]:
    """What is wrong, by the rows' names."""
    return {"condition" if key == "conditions" else key: error for key, error in state.errors}


def _of_run(reference: str) -> str:
    """A file of a run or of a checkpoint means its folder."""
    folder, _, name = reference.rpartition("/")
    return folder if name in ("recipe.toml", "state.json") else reference


def growing(high: int) -> tuple[str, ...]:
    """Whole numbers from 1 to `high` that grow by about a constant factor: where a slider can stand."""
    return tuple(str(stop) for stop in sorted({round(high ** (i / 240)) for i in range(241)}))


def _condition_rows(state: DrawingState) -> tuple[Row, ...]:
    """What the model asks for; empty where it asks for nothing."""
    choices = tuple((text, text) for text in state.choices)
    each = (("", EACH),)
    if len(choices) > MOST_CHIPS:
        return (Row("condition", "search", "Condition", "What every image shows.", choices=each + choices),)
    if choices:
        return (Row("condition", "chips", "Condition", choices=choices + each),)
    return tuple(_said_row(field, state) for field in state.fields)


def _said_row(field: ConditionField, state: DrawingState) -> Row:
    key, help = f"{CONDITION}{field.key}", help_of(field)
    if field.kind == "choice":
        choices = (("", UNSAID), *((text, text) for text in field.choices))
        return Row(key, "search" if len(choices) > MOST_CHIPS else "choice", field.label, help, choices=choices)
    wide, empty = field.kind != "number", empty_text(field, state.fields)
    return Row(key, "text", field.label, help, wide=wide, placeholder=empty)


def _row(control: DrawControl, start: object) -> Row:
    field = control.field
    if control.kind == "choice":
        return Row(control.key, "choice", field.label, control.help, choices=control.choices)
    return Row(
        control.key,
        "number",
        field.label,
        control.help,
        field.unit,
        control.note,
        stops=_stops(control),
        default=spoken(control, start),
    )


def _stops(control: DrawControl) -> tuple[str, ...]:
    low, high = control.low, control.high
    if control.integer:
        return growing(round(high))
    if control.logarithmic:
        return tuple(f"{low * (high / low) ** (i / 240):.3g}" for i in range(241))
    return tuple(spoken(control, low + i * control.step) for i in range(round((high - low) / control.step) + 1))


def spoken(control: DrawControl, value: object) -> str:
    """A setting as the form writes it: with the decimals of its steps where it has no more."""
    if not isinstance(value, float) or control.logarithmic:
        return text_of(value)
    return f"{value:.2f}" if abs(round(value, 2) - value) < 1e-9 and control.step < 1 else f"{value:.6g}"
