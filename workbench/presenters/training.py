"""The training pane: what it shows and what can be done there, with no toolkit and no torch in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from psygnal import Signal

from ...core.commands import Command, Pause, Resume, ShowData, Stop, Train
from ...core.errors import RecipeError, WorkbenchError
from ...core.events import (
    Catalogue,
    DataShown,
    Event,
    Failed,
    Phase,
    PhaseChanged,
    Preparing,
    Progress,
    RolledBack,
    SampleRow,
    Saved,
)
from ...core.recipe import Recipe
from ...core.runs.folder import Run, find_runs, new_run_path
from ...core.runs.samples import read_rows
from .curves import CurveReader, Curves
from .forms import FormField, options_form, recipe_form, text_of, value_of
from .training_state import GROUPS, TrainingState
from .ui_thread import Sparing

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from .ui_thread import UiThread

FIRST_RECIPE = "digits"
DATA_DELAY = 0.4
"""Seconds without an edit before the data is read again."""
CURVES_EVERY = 1.0
"""Seconds between two readings of a run's journal while it trains."""
MOST_ROWS = 200
NO_FOLDER = "Choose the folder that the images are in."


class TrainingPresenter:
    """State and verbs of the training pane; lives on its face's thread."""

    changed = Signal(TrainingState)

    def __init__(self, post: Callable[[Command], None], next_ticket: Callable[[], int], ui: UiThread) -> None:
        self._post = post
        self._next_ticket = next_ticket
        self._ui = ui
        self._catalogue = Catalogue()
        self._base = Recipe()
        self._past: list[tuple[Recipe, tuple[tuple[str, str], ...]]] = []
        self._train_ticket = 0
        self._data_due = 0
        self._reader: CurveReader | None = None
        self._curves = Sparing(ui, CURVES_EVERY, self._read_curves)
        self._state = TrainingState()
        self._fill(Recipe())

    @property
    def state(self) -> TrainingState:
        return self._state

    @property
    def catalogue(self) -> Catalogue:
        return self._catalogue

    # --- verbs: the recipe ------------------------------------------------------------------------

    def choose_recipe(self, name: str) -> None:
        """Starts the form from a bundled recipe."""
        for known, toml in self._catalogue.recipes:
            if known == name:
                self._begin_from(Recipe.from_toml(toml, file=name), name)
                return
        self._show(problem=f"{name}: no such recipe. Known: {', '.join(self._state.recipes)}.")

    def open_recipe(self, path: Path | str) -> None:
        """Starts the form from a recipe file."""
        try:
            self._begin_from(Recipe.read(Path(path).expanduser()), Path(path).stem)
        except RecipeError as error:
            self._show(problem=str(error))

    def set(self, key: str, text: str) -> None:
        """Takes a field as typed. What cannot be used is an error at the field; the rest stays usable."""
        if dict(self._state.texts).get(key) == text:
            return
        self._past.append((self._state.recipe, self._state.texts))
        del self._past[:-100]
        texts = dict(self._state.texts) | {key: text}
        self._judge(texts)
        if key.startswith(("data.", "conditioning.scheme", "conditioning.options.")):
            if key == "data.source":
                self._show(data=None, data_ticket=0, data_problem="")
                self._take_source_defaults(text)
            self._look_soon()

    def undo(self) -> None:
        """Takes back the last edit of the form."""
        if not self._past:
            return
        recipe, texts = self._past.pop()
        self._show(form=self._form_for(recipe))  # what was chosen then may be no choice now
        self._judge(dict(texts))
        self._look_soon()

    def look_again(self) -> None:
        """Reads the data once more: what was in its way may have been mended elsewhere."""
        self._look()

    # --- verbs: the run ---------------------------------------------------------------------------

    def start(self, run: Path | str | None = None, minutes: float | None = None) -> None:
        """Trains the recipe in a new run folder."""
        if reason := self._state.why_not("start"):
            self._show(problem=reason)
            return
        folder = Path(run) if run else new_run_path(self._state.recipe.name)
        self._begin(Train(self._next_ticket(), str(folder), self._state.recipe, minutes=minutes))

    def continue_run(self, run: Path | str) -> None:
        """Continues a run from its last good state."""
        if self._state.busy:
            self._show(problem=self._state.why_not("start"))
            return
        self._begin(Train(self._next_ticket(), str(Path(run).expanduser()), resume=True))

    def unfinished_runs(self) -> list[tuple[str, str]]:
        """(folder, name and step) of runs that were stopped before their end, newest first."""
        found: list[tuple[str, str]] = []
        for run in find_runs()[:50]:
            try:
                last = run.last_records()
            except OSError:
                continue
            if last and not any(record["kind"] == "finished" for record in last):
                found.append((str(run.path), f"{run.name} from step {last[-1]['step']:,}"))
        return found

    def pause(self) -> None:
        self._post(Pause(self._next_ticket()))

    def resume(self) -> None:
        """Goes on after a pause, or after a stop from the last good state."""
        if self._state.goes_on_from_disk:
            self.continue_run(self._state.run)
        else:
            self._post(Resume(self._next_ticket()))

    def stop(self) -> None:
        self._post(Stop(self._next_ticket()))

    # --- events -----------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Takes what concerns this pane."""
        match event:
            case Catalogue():
                self._take_catalogue(event)
            case DataShown() if event.ticket == self._state.data_ticket:
                self._show(data=event, data_problem="")
            case PhaseChanged():
                self._follow(event)
            case Preparing():
                self._show(preparing=event)
            case Progress():
                self._show(progress=event, preparing=None)
                self._curves.ask()
            case SampleRow() if event.images is not None:
                rows = tuple(row for row in self._state.rows if row[0] < event.step)
                self._show_rows((*rows, (event.step, event.images)))
            case Saved():
                self._show(saved_step=event.step)
            case RolledBack():
                self._show(problem=event.line)
                self._curves.ask()
            case Failed() if event.about == "ShowData" and event.ticket == self._state.data_ticket:
                self._show(data=None, data_problem=event.line)
            case Failed() if event.about in ("Train", "Pause", "Resume", "Stop"):
                self._show_failure(event)
            case _:
                pass

    # --- within -----------------------------------------------------------------------------------

    def _begin(self, command: Train) -> None:
        self._train_ticket = command.ticket
        self._reader = None
        self._show(
            problem="",
            finished=False,
            unfinished=False,
            run=command.run,
            progress=None,
            preparing=None,
            saved_step=-1,
            curves=Curves(),
            curves_version=self._state.curves_version + 1,
        )
        self._show_rows(())
        self._post(command)

    def _follow(self, event: PhaseChanged) -> None:
        run, ended = event.run or self._state.run, event.phase is Phase.IDLE
        if ended and not Run(run).exists:
            run = ""  # it ended before there was a folder
        unfinished = ended and not event.finished and self._is_saved(run)
        self._show(phase=event.phase, finished=event.finished, unfinished=unfinished, run=run)
        if event.run and self._reader is None and event.phase in (Phase.TRAINING, Phase.PAUSED):
            self._reader = CurveReader(Path(event.run))
            try:
                recipe = Run(event.run).recipe()
                self._show_rows(read_rows(Path(event.run), recipe.data.size)[-MOST_ROWS:])
            except WorkbenchError as error:
                self._show(problem=str(error))
        if event.phase in (Phase.PAUSED, Phase.IDLE):
            self._read_curves()
            self._show(preparing=None)

    def _is_saved(self, run: str) -> bool:
        """Whether there is a state of the run to go on from."""
        return bool(run) and (self._state.saved_step >= 0 or any(Run(run).checkpoints.glob("[0-9]*")))

    def _show_failure(self, event: Failed) -> None:
        run = self._state.run
        if event.about == "Train" and event.ticket == self._train_ticket and not Run(run).exists:
            run = ""
        self._show(problem=event.line, preparing=None, run=run)
        if event.field and event.field in dict(self._state.texts):
            errors = dict(self._state.errors) | {event.field: f"{event.fix or event.what}."}
            self._show(errors=tuple(errors.items()))

    def _read_curves(self) -> None:
        """Takes the journal's news: of a long one a piece at a time, so that nothing waits for it."""
        reader = self._reader
        if reader is None:
            return
        if reader.advance():
            self._show(curves=reader.curves(), curves_version=self._state.curves_version + 1)
        else:
            self._ui.call_later(0, self._read_curves)

    def _show_rows(self, rows: tuple[tuple[int, np.ndarray], ...]) -> None:
        while len(rows) > MOST_ROWS:
            rows = (*rows[:-1:2], rows[-1])
        self._show(rows=rows, rows_version=self._state.rows_version + 1)

    def _take_catalogue(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._show(recipes=tuple(name for name, _ in catalogue.recipes))
        if not self._state.recipe_name and FIRST_RECIPE in self._state.recipes:
            self.choose_recipe(FIRST_RECIPE)
        else:
            self._fill(self._state.recipe)

    def _take_source_defaults(self, source: str) -> None:
        """A new source brings its own size and channels, and forgets the old one's options."""
        facts = next((plugin for plugin in self._catalogue.datasets if plugin.name == source), None)
        if facts is None or "data.source" in dict(self._state.errors):
            return
        values: dict[str, Any] = {"data.options": {}}
        values |= {f"data.{key}": value for key, value in facts.defaults.items()}
        recipe = self._state.recipe.with_values(values)
        self._fill(recipe)

    def _begin_from(self, recipe: Recipe, name: str) -> None:
        self._base = recipe
        self._past.clear()
        self._show(recipe_name=name, problem="")
        self._fill(recipe)
        self._look_soon()

    def _fill(self, recipe: Recipe) -> None:
        """Shows a recipe that is valid."""
        form = self._form_for(recipe)
        flat = _flat(recipe)
        texts = tuple((each.key, text_of(flat.get(each.key, each.default))) for _, fields in form for each in fields)
        self._show(
            recipe=recipe,
            form=form,
            texts=texts,
            errors=tuple(self._unnamed(recipe).items()),
            changed=self._differences(recipe),
            can_undo=bool(self._past),
        )

    def _form_for(self, recipe: Recipe) -> tuple[tuple[str, tuple[FormField, ...]], ...]:
        """The groups, with the chosen plugins' own options among them and their names as choices."""
        groups: list[tuple[str, tuple[FormField, ...]]] = []
        chosen = {
            "data.source": (self._catalogue.datasets, recipe.data.source),
            "conditioning.scheme": (self._catalogue.schemes, recipe.conditioning.scheme),
        }
        for title, keys in GROUPS:
            fields: list[FormField] = []
            own: tuple[FormField, ...] = ()
            needs_path = bool(recipe.data.path)
            for each in recipe_form(keys):
                if each.key == "data.path" and not needs_path:
                    continue
                if each.key not in chosen:
                    fields.append(each)
                    continue
                plugins, name = chosen[each.key]
                names = tuple(plugin.name for plugin in plugins if not plugin.error) or (name,)
                if each.key == "conditioning.scheme" and name not in names:
                    names = (*names, name)  # several at once, as "label + text"
                fields.append(replace(each, kind="choice", choices=names))
                facts = next((plugin for plugin in plugins if plugin.name == name), None)
                if facts is not None:
                    own = options_form(facts.options, f"{each.key.partition('.')[0]}.options")
                    needs_path = facts.needs_path
            groups.append((title, (*fields, *own)))
        return tuple(groups)

    def _judge(self, texts: dict[str, str]) -> None:
        """Reads all fields as typed: a new recipe from those that can be used, errors at the others."""
        fields = {each.key: each for _, group in self._state.form for each in group}
        errors: dict[str, str] = {}
        recipe = self._base
        values: dict[str, Any] = {}
        for key, text in texts.items():
            if key not in fields:
                continue
            try:
                values[key] = value_of(fields[key], text)
            except RecipeError as error:
                errors[key] = f"{error.fix}."
        while values:
            try:
                recipe = self._base.with_values(values)
                break
            except RecipeError as error:
                key = next(
                    (known for known in values if error.field == known or error.field.startswith(f"{known}.")), ""
                )
                if not key:
                    self._show(problem=str(error))
                    break
                errors[key] = f"{error.fix}." if error.fix else f"{error.what}."
                del values[key]
        self._show(
            recipe=recipe,
            texts=tuple(texts.items()),
            errors=tuple((self._unnamed(recipe) | errors).items()),
            changed=self._differences(recipe) | frozenset(errors),
            can_undo=bool(self._past),
            problem="",
        )
        form = self._form_for(recipe)
        if form != self._state.form:
            known = {each.key for _, group in form for each in group}
            kept = {key: text for key, text in texts.items() if key in known}
            flat = _flat(recipe)
            added = {
                each.key: text_of(flat.get(each.key, each.default))
                for _, group in form
                for each in group
                if each.key not in kept
            }
            self._show(form=form)
            self._judge(kept | added)

    def _unnamed(self, recipe: Recipe) -> dict[str, str]:
        """The error at the folder's field, where the source needs one and none is named."""
        facts = next((plugin for plugin in self._catalogue.datasets if plugin.name == recipe.data.source), None)
        return {"data.path": NO_FOLDER} if facts and facts.needs_path and not recipe.data.path else {}

    def _differences(self, recipe: Recipe) -> frozenset[str]:
        defaults = {each.key: each.default for _, fields in self._state.form for each in fields}
        base = defaults | _flat(self._base)
        return frozenset(key for key, value in _flat(recipe).items() if base.get(key) != value)

    def _look_soon(self) -> None:
        self._data_due += 1
        due = self._data_due
        if self._unnamed(self._state.recipe):
            self._show(data=None, data_ticket=0, data_problem="")
            return

        def look() -> None:
            if due == self._data_due:
                self._look()

        self._ui.call_later(DATA_DELAY, look)

    def _look(self) -> None:
        is_clear = not any(key.startswith(("data.", "conditioning.")) for key, _ in self._state.errors)
        if is_clear and self._state.phase is not Phase.CLOSED:
            ticket = self._next_ticket()
            self._show(data_ticket=ticket)
            self._post(ShowData(ticket, self._state.recipe))

    def _show(self, **changes: Any) -> None:
        before, self._state = self._state, replace(self._state, **changes)
        if self._state != before:
            self.changed.emit(self._state)


def _flat(recipe: Recipe) -> dict[str, Any]:
    """Dotted keys → values, plugins' options among them."""
    flat: dict[str, Any] = {}
    tables: dict[str, Any] = recipe.model_dump(mode="json")
    for section, table in tables.items():
        if not isinstance(table, dict):
            flat[section] = table
            continue
        for key, value in cast("dict[str, Any]", table).items():
            if key == "options":
                flat |= {f"{section}.options.{name}": inner for name, inner in value.items()}
            else:
                flat[f"{section}.{key}"] = value
    return flat
