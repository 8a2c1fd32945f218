"""The drawing pane: what it shows and what can be done there, with no toolkit and no torch in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from ...core.commands import LIVE, CancelDraw, Command, Draw, OpenModel
from ...core.errors import RecipeError, RequestError, WorkbenchError
from ...core.events import (
    Catalogue,
    Drawn,
    Event,
    Failed,
    Hanging,
    Measured,
    ModelOpened,
    Phase,
    PhaseChanged,
    Preview,
)
from ...core.recipe import Recipe, Sampling
from ...core.runs.folder import find_runs, runs_home, user_home
from ...core.runs.picture import grid, save_png
from .condition_form import CONDITION, condition_of, read_said
from .drawing_state import DrawingState

if TYPE_CHECKING:
    from collections.abc import Callable

    from .ui_thread import UiThread

FIRST_MODEL = "digits"
MOST_IMAGES = 400
STOP_AFTER = 0.5
"""Seconds that a draw takes before the button offers to stop it: quick redraws by a slider do not make it flicker."""


class DrawingPresenter:
    """State and verbs of the drawing pane; lives on its face's thread.

    post: hands a command to the worker; next_ticket: rising numbers shared with the other panes; ui: the face's clock;
    abandon: gives up a worker that hangs.
    """

    changed = Signal(DrawingState)

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
        self._state = DrawingState()
        self._ticket = 0
        self._open_ticket = 0
        self._is_partial = False
        self._hung = ""
        """What was said about a worker that hangs."""

    @property
    def state(self) -> DrawingState:
        return self._state

    # --- verbs ------------------------------------------------------------------------------------

    def start(self, model: str = FIRST_MODEL) -> None:
        """Opens the model; its first pictures follow without being asked for."""
        self.choose_model(model)

    def choose_model(self, model: str) -> None:
        """Takes another model; its own settings become the controls' and it draws at once."""
        self._open_ticket = self._next_ticket()
        self._show(model=model, facts=None, problem="", conditions=(), said=(), drawing=True, stoppable=False)
        self._post(OpenModel(self._open_ticket, model))

    def set(self, **settings: Any) -> None:
        """Takes settings (`guidance=2.0`, `count=16`, `conditions=("7",)`, …) and draws with them at once.

        What cannot be used, a text that is no number among it, is an error at its field: the last good value stays, and
        nothing is drawn until the field holds another.
        """
        errors = dict(self._state.errors)
        fields: dict[str, Any] = {}
        sampling: dict[str, Any] = self._state.sampling.model_dump()
        for key, value in settings.items():
            errors.pop(key, None)
            if key == "conditions":
                unknown = self._state.unknown_condition(tuple(value))
                if unknown:
                    errors["conditions"] = f"{unknown} is not among the conditions. Choose one from the list."
                else:
                    fields |= {"conditions": tuple(value), "said": ()}
            elif key == "count":
                if isinstance(value, int) and 1 <= value <= MOST_IMAGES:
                    fields["count"] = value
                else:
                    errors["count"] = f"Give a whole number from 1 to {MOST_IMAGES}."
            elif key == "locked":
                fields["locked"] = bool(value)
            else:
                wanted = self._state.nearest_ema(value) if key == "ema" and isinstance(value, int | float) else value
                tried = sampling | {key: wanted}
                if key in ("grid", "steps"):
                    tried["levels"] = ()  # the model's own list of levels was for others
                try:
                    checked = Recipe.of({"sampling": tried}).sampling
                    if key == "density" and self._state.facts:
                        self._state.check_density(checked)
                except (RecipeError, RequestError) as error:
                    errors[key] = f"{error.fix}." if error.fix else f"{error.what}."
                else:
                    sampling = tried
        self._show(sampling=Sampling(**sampling), errors=tuple(errors.items()), **fields)
        if settings.keys() - {"locked"} and not errors:
            self._draw()

    def say(self, key: str, value: str) -> None:
        """Takes what is said in a field of the condition, of every image, and draws at once.

        Empty is not said; where nothing is, the conditions are each in turn. What cannot be used is an error at
        `condition.key`, and what was said before stays. A key that the model does not ask for is passed over.
        """
        asked = next((each for each in self._state.fields if each.key == key), None)
        if asked is None:
            return
        errors, said = dict(self._state.errors), dict(self._state.said)
        errors.pop(f"{CONDITION}{key}", None)
        try:
            said[key] = read_said(asked, value)
        except RequestError as error:
            errors[f"{CONDITION}{key}"] = f"{error.fix}."
        condition = condition_of(self._state.fields, said)
        self._show(
            said=tuple((known, text) for known, text in said.items() if text),
            conditions=(condition,) if condition else (),
            errors=tuple(errors.items()),
        )
        if not errors:
            self._draw()

    def draw(self) -> None:
        """Draws; with a new seed unless the seed is locked."""
        if self._state.can_draw:
            return
        if self._state.locked:
            self._draw()
        else:
            self.roll_seed()

    def roll_seed(self) -> None:
        """Takes another seed and draws."""
        import secrets

        self.set(seed=secrets.randbelow(1_000_000))

    def cancel(self) -> None:
        """Ends the draw that runs, and gives up a worker that hangs. What it has shown so far stays."""
        self._abandon()
        self._post(CancelDraw(self._ticket))
        self._leave_unfinished()

    def draw_or_stop(self) -> None:
        """What the main button does: ends a draw that takes long, or draws."""
        if self._state.stoppable:
            self.cancel()
        else:
            self.draw()

    def select(self, image: int) -> None:
        """Chooses an image of the grid; the film strip shows it."""
        if self._state.images is not None and 0 <= image < len(self._state.images):
            self._show(selected=image)

    def scrub(self, step: int) -> None:
        """Shows all images as the network saw them at a step of the film; -1 is the finished draw."""
        drawn = self._state.drawn
        if drawn is None or drawn.film_x0 is None or self._state.drawing:
            return
        last = len(drawn.sigmas) - 1
        step = -1 if step < 0 or step >= last else step
        self._show(film_at=step, images=drawn.images if step < 0 else drawn.film_x0[step], frame=self._state.frame + 1)

    def runs_folder(self) -> Path:
        """Where a person begins to look for a run."""
        home = runs_home()
        return home if home.is_dir() else Path.home()

    def suggested_path(self) -> Path:
        """Where a picture would be saved unless the person says otherwise; a name that is free."""
        facts = self._state.facts
        stem = f"{facts.name if facts else 'draw'}-seed-{self._state.sampling.seed}"
        folder, count = user_home() / "pictures", 1
        path = folder / f"{stem}.png"
        while path.exists():
            count += 1
            path = folder / f"{stem}-{count}.png"
        return path

    def save(self, path: Path | str, *, selected_only: bool = False) -> bool:
        """Writes the grid, or the selected image, as a PNG that carries its recipe; says whether it could."""
        drawn, state = self._state.drawn, self._state
        if state.can_save or drawn is None or drawn.images is None:
            self._show(problem=state.can_save)
            return False
        recipe, pixels = dict(drawn.recipe), None
        if selected_only:
            recipe["indices"] = [recipe.get("indices", list(range(len(drawn.images))))[state.selected]]
            recipe["conditions"] = [drawn.conditions[state.selected]]
            pixels = drawn.images[state.selected]
        else:
            pixels = grid(drawn.images)
        target = Path(path).expanduser()
        target = target if target.suffix.lower() == ".png" else target.with_name(f"{target.name}.png")
        try:
            save_png(target, pixels, recipe)
        except OSError as error:
            self._show(problem=f"{target}: cannot be written: {error.strerror}. Choose another place.")
            return False
        self._show(saved=str(target), problem="")
        return True

    def as_python(self) -> str:
        """The draw as code that makes it again."""
        state, sampling = self._state, self._state.sampling
        conditions = f", conditions={list(state.conditions)!r}" if state.conditions else ""
        start = Sampling(**state.facts.sampling) if state.facts else Sampling()
        told = ("seed", "guidance", "sampler", "steps")
        others = [
            key for key in Sampling.model_fields if key not in told and getattr(sampling, key) != getattr(start, key)
        ]
        settings = "".join(f",\n    {key}={getattr(sampling, key)!r}" for key in (*told, *others))
        return (
            "from imagen_workbench.core import open_model\n\n"
            f"model = open_model({state.model!r})\n"
            f"drawn = model.draw(\n    count={state.count}{conditions}{settings},\n)\n"
            'drawn.save("grid.png")\n'
        )

    # --- events -----------------------------------------------------------------------------------

    def on_event(self, event: Event) -> None:
        """Takes what concerns this pane; drops answers to anything but the newest question."""
        match event:
            case Preview() if event.ticket == self._ticket and self._state.drawing:
                self._is_partial = True
                self._show(
                    images=event.images, frame=self._state.frame + 1, sigma=event.sigma, step=event.step, film_at=-1
                )
            case Drawn() if event.ticket == self._ticket and event.images is not None:
                self._is_partial = False
                self._show(
                    drawn=event,
                    images=event.images,
                    frame=self._state.frame + 1,
                    drawing=False,
                    stoppable=False,
                    sigma=0.0,
                    film_at=-1,
                    selected=min(self._state.selected, len(event.images) - 1),
                    problem="",
                )
            case Measured() if event.ticket == self._ticket:
                self._show(measured=event)
            case ModelOpened() if event.ticket == self._open_ticket:
                sampling = Sampling(**event.sampling) if event.sampling else Sampling()
                self._show(facts=event, sampling=sampling, conditions=(), said=(), errors=(), problem="")
                self._draw()
            case Failed() if event.ticket in (self._ticket, self._open_ticket) and event.about in ("Draw", "OpenModel"):
                self._leave_unfinished(problem=event.line)
            case Hanging() if event.plugin and self._state.drawing:
                self._hung = f"{event.line} Stop gives it up."
                self._show(problem=self._hung, stoppable=True)
            case Hanging() if self._hung and self._state.problem == self._hung:
                self._show(problem="")
            case Catalogue():
                self._show(models=_choices(event.models, live=any(ref == LIVE for ref, _ in self._state.models)))
            case PhaseChanged():
                self._follow_training(event)
            case _:
                pass

    def _follow_training(self, event: PhaseChanged) -> None:
        live = event.phase in (Phase.TRAINING, Phase.PAUSED)
        bundled = tuple(ref for ref, name in self._state.models if ref == name)
        self._show(models=_choices(bundled, live=live))
        if self._state.model == LIVE and event.phase is Phase.IDLE and event.run:
            # what was being drawn from goes on as the run that it became
            self.choose_model(event.run)

    # --- within -----------------------------------------------------------------------------------

    def _draw(self) -> None:
        state = self._state
        if state.can_draw:
            return
        self._ticket = self._next_ticket()
        self._show(drawing=True, problem="", saved="", step=0, measured=None)
        self._post(Draw(self._ticket, state.model, state.conditions, state.count, state.sampling))
        self._offer_to_stop(self._ticket)

    def _offer_to_stop(self, ticket: int) -> None:
        """Once this draw has taken long, unless another has taken its place."""

        def offer() -> None:
            if ticket == self._ticket and self._state.drawing:
                self._show(stoppable=True)

        self._ui.call_later(STOP_AFTER, offer)

    def _leave_unfinished(self, **changes: Any) -> None:
        """The draw has ended before its end: where pictures from its way are shown, they are no finished draw."""
        images = self._state.images
        if self._is_partial and images is not None:
            changes |= {"drawn": None, "selected": min(self._state.selected, len(images) - 1)}
        self._show(drawing=False, stoppable=False, **changes)

    def _show(self, **changes: Any) -> None:
        before, self._state = self._state, replace(self._state, **changes)
        if self._state != before:
            self.changed.emit(self._state)


def _choices(bundled: tuple[str, ...], *, live: bool) -> tuple[tuple[str, str], ...]:
    """Models to choose from: the one in training, the bundled ones, and the newest runs that have a state."""
    choices = [(LIVE, "the run in training")] if live else []
    choices += [(name, name) for name in bundled]
    try:
        runs = [run for run in find_runs() if any(run.checkpoints.glob("[0-9]*"))]
    except (OSError, WorkbenchError):
        runs = []
    return tuple(choices + [(str(run.path), f"run {run.name}") for run in runs[:50]])
