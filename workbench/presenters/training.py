"""The training pane: what it shows and what can be done there, with no toolkit and no torch in it."""

from __future__ import annotations

import copy
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
    Hanging,
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
from .cascade import STAGE, OpenCascade
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
OPTIONS = "conditioning.options."
NO_FOLDER = "Choose the folder that the images are in."


class TrainingPresenter:
    """State and verbs of the training pane; lives on its face's thread. Its arguments are a `DrawingPresenter`'s."""

    changed = Signal(TrainingState)

    def __init__(
        self,
        post: Callable[[Command], None],
        next_ticket: Callable[[], int],
        ui: UiThread,
        abandon: Callable[[], None] = lambda: None,
    ) -> None:
        self._post = post
        self._next_ticket = next_ticket
        self._ui = ui
        self._abandon = abandon
        self._catalogue = Catalogue()
        self._base = Recipe()
        self._cascade: OpenCascade | None = None
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
                self._cascade = None
                self._begin_from(Recipe.from_toml(toml, file=name), name)
                return
        self._show(problem=f"{name}: no such recipe. Known: {', '.join(self._state.recipes)}.")

    def open_recipe(self, path: Path | str) -> None:
        """Starts the form from a recipe file; from that of a cascade, with one of its stages."""
        file = Path(path).expanduser()
        try:
            recipe = Recipe.read(file)
        except RecipeError as error:
            self._show(problem=str(error))
            return
        if recipe.stages:
            self._take_stage(OpenCascade.opened(file, recipe))
        else:
            self._cascade = None
            self._begin_from(recipe, file.stem)

    def _take_stage(self, cascade: OpenCascade) -> None:
        """Starts the form from a stage's own recipe."""
        try:
            recipe = cascade.stage_recipe(self._catalogue.recipes)
        except RecipeError as error:
            self._show(problem=str(error))
            return
        self._cascade = cascade
        self._begin_from(recipe, cascade.path.stem)

    def set(self, key: str, text: str) -> None:
        """Takes a field as typed. What cannot be used is an error at the field; the rest stays usable."""
        if dict(self._state.texts).get(key) == text:
            return
        if key == STAGE and self._cascade is not None:
            if text in self._cascade.field.choices:
                self._take_stage(replace(self._cascade, stage=text))
            return
        self._past.append((self._state.recipe, self._state.texts))
        del self._past[:-100]
        texts = dict(self._state.texts) | {key: text}
        if key == "conditioning.scheme":  # another scheme's options are others, whatever they are called
            texts = {known: each for known, each in texts.items() if not known.startswith(OPTIONS)}
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
        if run is None and self._cascade is not None:
            if reason := self._cascade.why_not:
                self._show(problem=reason)
                return
            run = self._cascade.run
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
        """Goes on after a pause, or from the last good state: after a stop, or where the worker hangs."""
        if self._state.hanging is not None:
            trained = self._state.busy
            self._abandon()
            if trained and Run(self._state.run).exists:
                self.continue_run(self._state.run)
        elif self._state.goes_on_from_disk:
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
            case Hanging():
                self._show_hanging(event)
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
                self._show_rows(read_rows(Path(event.run), recipe.sampling.size or recipe.data.size)[-MOST_ROWS:])
            except WorkbenchError as error:
                self._show(problem=str(error))
        if event.phase in (Phase.PAUSED, Phase.IDLE):
            self._read_curves()
            self._show(preparing=None)

    def _is_saved(self, run: str) -> bool:
        """Whether there is a state of the run to go on from."""
        return bool(run) and (self._state.saved_step >= 0 or any(Run(run).checkpoints.glob("[0-9]*")))

    def _show_hanging(self, event: Hanging) -> None:
        if event.plugin:
            then = "Resume goes on from the last checkpoint." if self._state.busy else "Resume gives it up."
            self._show(hanging=event, problem=f"{event.line} {then}")
        elif self._state.hanging is not None:
            told = self._state.problem.startswith(self._state.hanging.line)
            self._show(hanging=None, problem="" if told else self._state.problem, preparing=None)

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
        if self._cascade is not None:
            groups.append(("Cascade", (self._cascade.field,)))
        for title, keys in GROUPS:
            fields: list[FormField] = []
            own: tuple[FormField, ...] = ()
            needs_path = bool(recipe.data.path)
            for each in recipe_form(keys):
                if each.key == "data.path" and not needs_path:
                    continue
                if each.key == "data.most" and recipe.data.parts:
                    continue  # each part has its own
                if each.key not in chosen:
                    fields.append(each)
                    continue
                plugins, name = chosen[each.key]
                names = tuple(plugin.name for plugin in plugins if not plugin.error) or (name,)
                several = name  # at once, as "label + text"
                if each.key == "data.source":
                    several = self._base.data.source if self._base.data.parts else ""
                if several and several not in names:
                    names = (*names, several)
                fields.append(replace(each, kind="choice", choices=names))
                facts = next((plugin for plugin in plugins if plugin.name == name), None)
                if facts is not None:
                    own = options_form(facts.options, f"{each.key.partition('.')[0]}.options")
                    needs_path = facts.needs_path
            groups.append((title, (*fields, *own)))
            if title == "Condition":
                groups += self._several_forms(recipe)
        return tuple(groups)

    def _several_forms(self, recipe: Recipe) -> list[tuple[str, tuple[FormField, ...]]]:
        """Of several schemes at once, each one's options under its own heading."""
        known = {plugin.name: plugin for plugin in self._catalogue.schemes}
        chosen = [known[name] for name in several(recipe.conditioning.scheme) if name in known]
        forms = ((each.title or each.name, options_form(each.options, f"{OPTIONS}{each.name}")) for each in chosen)
        return [(title, fields) for title, fields in forms if fields]

    def _judge(self, texts: dict[str, str]) -> None:
        """Reads all fields as typed: a new recipe from those that can be used, errors at the others."""
        fields = {each.key: each for _, group in self._state.form for each in group}
        errors: dict[str, str] = {}
        values: dict[str, Any] = {}
        for key, text in texts.items():
            if key not in fields or key == STAGE:
                continue
            try:
                values[key] = value_of(fields[key], text)
            except RecipeError as error:
                errors[key] = f"{error.fix}."
        if self._base.data.parts and values.get("data.source") != self._base.data.source:
            values["data.parts"] = []  # another source was chosen in place of them
        recipe = base = self._base_of(values)
        while values:
            try:
                recipe = base.with_values(values)
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
        if form != self._state.form or any(each.key not in texts for _, group in form for each in group):
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

    def _base_of(self, values: dict[str, Any]) -> Recipe:
        """What the form started from, without the options of plugins that are no longer chosen.

        Of the values, those of several schemes' options are put together in `values`, each scheme's in a table.
        """
        base = self._base
        source, scheme = values.get("data.source"), values.get("conditioning.scheme", base.conditioning.scheme)
        options = options_for(base.conditioning.scheme, base.conditioning.options, scheme)
        for key in [key for key in values if key.startswith(OPTIONS)]:
            name, _, inner = key.removeprefix(OPTIONS).partition(".")
            if inner or name in several(scheme):
                value = values.pop(key)
                if value is not None and name in several(scheme):
                    options.setdefault(name, {})[inner] = value
        others: dict[str, Any] = {}
        if source not in (None, base.data.source) and base.data.options:
            others["data.options"] = {}
        if options != base.conditioning.options:
            others["conditioning.options"] = options
        return base.with_values(others) if others else base

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


def several(scheme: str) -> list[str]:
    """ "label + text" → label, text; empty for one alone."""
    names = [name.strip() for name in scheme.split("+")]
    return names if len(names) > 1 else []


def options_for(before: str, options: dict[str, Any], scheme: str) -> dict[str, Any]:
    """The options that a scheme, or several at once, keep of those of the schemes before."""
    if before == scheme:
        return copy.deepcopy(options)
    tables: dict[str, Any] = options if several(before) else {before: options}
    kept = {name: copy.deepcopy(tables[name]) for name in several(scheme) or [scheme] if tables.get(name)}
    return kept if several(scheme) else kept.get(scheme, {})


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
                for name, inner in value.items():
                    if isinstance(inner, dict):  # of one of several schemes
                        own = cast("dict[str, Any]", inner)
                        flat |= {f"{section}.options.{name}.{option}": each for option, each in own.items()}
                    else:
                        flat[f"{section}.options.{name}"] = inner
            else:
                flat[f"{section}.{key}"] = value
    return flat
