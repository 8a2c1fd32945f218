"""Every control is missed: with any one connection of the panel cut, at least one scenario fails."""

from __future__ import annotations

import inspect
import itertools
import sys
from typing import TYPE_CHECKING, Any

import ipywidgets
import pytest
from face_scenarios import FaceScenarios
from notebook_face import NotebookFace
from scripted_engine import FORMS
from test_notebook_scenarios import TestNotebook as Scenarios  # under its own name it would be collected again

from imagen_workbench.workbench.notebook.canvas import FrameWidget
from imagen_workbench.workbench.notebook.form import Form
from imagen_workbench.workbench.notebook.parts import all_within
from imagen_workbench.workbench.presenters.draw_form import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

BUTTONS = (
    "draw", "save", "copy-python", "save-now", "save-not",
    "undo", "look-again", "list-runs", "go-on", "draw-live", "start", "pause", "resume", "stop",
)  # fmt: skip
PRESSES = ("roll-seed", "lock-seed")
SAID = tuple(f"condition.{field.key}" for form in FORMS.values() for field in form)
ROWS = {
    "draw.form": ("model", "condition", *SAID, "count", "seed", "more", *(control.key for control in CONTROLS)),
    "draw.path": ("path",),
    "train.recipe": ("recipe",),
    "train.runs": ("run",),
    "train.fields": ("data.source", *sorted(FaceScenarios.EDITS), "data.options.hidden"),
}
CHOSEN = ("draw.grid", "draw.film")
"""Canvases in which a person chooses; what is chosen in the others only the page shows."""
SIGNALS = ("drawing", "training", "status", "live")
FIRST = {
    "draw": "locked_seed",
    "save": "picture_is_saved",
    "save-now": "picture_is_saved",
    "save-not": "thought_better_of",
    "path": "picture_is_saved",
    "copy-python": "copied_as_code",
    "undo": "undo_takes_it_back",
    "look-again": "mended_elsewhere",
    "list-runs": "stopped_run_goes_on",
    "go-on": "stopped_run_goes_on",
    "run": "stopped_run_goes_on",
    "model": "another_model",
    "condition": "conditions_are_chips",
    **dict.fromkeys(SAID, "several_things_are_said"),
    "condition.text": "words_are_said",
    **dict.fromkeys(("condition.low", "condition.noise"), "picture_is_said"),
    "sampler": "sampler_is_chosen",
    "grid": "levels_are_chosen",
    "ema": "weights_are_averaged",
    **dict.fromkeys(("more", "guidance_to", "threshold", "corrections"), "more_settings_unfold"),
    "roll-seed": "dice",
    "lock-seed": "locked_seed",
    "recipe": "another_recipe",
    "data.source": "folder_is_picked",
    "data.options.hidden": "own_settings",
    "draw.grid": "selected_and_its_film",
    "draw.film": "selected_and_its_film",
    "live": "deaf",
    "status": "status_line",
    **dict.fromkeys(("draw-live", "start", "pause", "resume", "stop"), "train_pause"),
}
"""Which scenario is tried first; where it does not fail, all others are."""


def at(face: NotebookFace, path: str) -> Any:
    widget: Any = face.view
    for name in path.split("."):
        widget = getattr(widget, name)
    return widget


def cut_button(face: NotebookFace, name: str) -> None:
    face.button(name)._click_handlers.callbacks.clear()


def cut_press(face: NotebookFace, name: str) -> None:
    form = face.view.draw.form
    plugged = form.pressed
    assert plugged is not None
    form.pressed = lambda button: None if button == name else plugged(button)


def cut_row(face: NotebookFace, path: str) -> None:
    form, _, key = path.partition(":")
    widget: Form = at(face, form)
    plugged = widget.edited
    assert plugged is not None
    widget.edited = lambda edited, text, hear: None if edited == key else plugged(edited, text, hear)


def cut_choice(face: NotebookFace, path: str) -> None:
    at(face, path).unobserve_all("selected")


def cut_signal(face: NotebookFace, name: str) -> None:
    match name:
        case "drawing" | "training":
            getattr(face.bench, name).changed.disconnect()
        case "status":
            face.bench.status_changed.disconnect(face.view._show_status)
        case "live":
            face.view.draw.grid._msg_callbacks.callbacks.remove(face.view._page_answered)


CUTS: dict[str, tuple[Callable[[NotebookFace, str], None], str]] = {
    **{f"button {name}": (cut_button, name) for name in BUTTONS},
    **{f"press {name}": (cut_press, name) for name in PRESSES},
    **{f"row {form}:{key}": (cut_row, f"{form}:{key}") for form, keys in ROWS.items() for key in keys},
    **{f"choice {path}": (cut_choice, path) for path in CHOSEN},
    **{f"signal {name}": (cut_signal, name) for name in SIGNALS},
}


def test_no_connection_is_forgotten_here() -> None:
    """What the panel really has, against what is cut below."""
    face = NotebookFace()
    face.begin()
    asked = {key for key in face.view.draw.form.rows if key.startswith("condition")}
    for model in FORMS:
        face.choose("model", model)
        face.work()
        asked |= {key for key in face.view.draw.form.rows if key.startswith("condition")}
    face.go_to("train")
    face.choose("data.source", "image-folder")
    face.work()
    face.click("list-runs")
    face.settle()
    widgets = list(all_within(face.view.widget))
    buttons = {each for each in widgets if isinstance(each, ipywidgets.Button)}
    assert buttons == {face.button(name) for name in BUTTONS}
    forms: dict[str, Form] = {name: at(face, name) for name in ROWS}
    assert {each for each in widgets if isinstance(each, Form)} - set(forms.values()) == {face.view.draw.code}
    for name, form in forms.items():
        rows = {key for key, row in form.rows.items() if row.kind not in ("words", "lines")}
        rows |= asked if name == "draw.form" else set()
        assert rows == set(ROWS[name]) - {"run"}, name
    for each in widgets:
        if isinstance(each, FrameWidget):
            listens = "selected" in each._trait_notifiers
            assert listens == (each in [at(face, path) for path in CHOSEN])
    face.close()


def scenarios(first: str) -> list[tuple[str, dict[str, Any]]]:
    """All scenarios with each of their parameters; those with `first` in their names before the others."""
    found = []
    for name, function in inspect.getmembers(Scenarios, inspect.isfunction):
        if not name.startswith("test_"):
            continue
        choices: list[list[dict[str, Any]]] = [[{}]]
        for mark in getattr(function, "pytestmark", []):
            if mark.name == "parametrize":
                names = [mark.args[0]] if isinstance(mark.args[0], str) else list(mark.args[0])
                choices.append(
                    [dict(zip(names, each if len(names) > 1 else (each,), strict=True)) for each in mark.args[1]]
                )
        found += [(name, {k: v for part in parts for k, v in part.items()}) for parts in itertools.product(*choices)]
    return sorted(found, key=lambda each: first not in f"{each[0]} {each[1]}")  # stable


@pytest.mark.timeout(600)
@pytest.mark.parametrize("cut", CUTS)
def test_a_cut_connection_is_noticed(cut: str, tmp_path: Path) -> None:
    pull, what = CUTS[cut]
    name_of_control = what.partition(":")[2] or what
    for number, (name, values) in enumerate(scenarios(FIRST.get(name_of_control, f"'{name_of_control}'"))):
        place = tmp_path / f"{number}"
        place.mkdir()
        face = NotebookFace()
        pull(face, what)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IMAGEN_WORKBENCH_HOME", str(place / "home"))
            noticed = failure_of(name, values, face, place)
            face.close()
        if noticed:
            sys.stdout.write(f"{name}{values or ''}: {noticed}\n")
            return
    pytest.fail(f"{cut}: nobody misses it")


def failure_of(name: str, values: dict[str, Any], face: NotebookFace, place: Path) -> str:
    """How the scenario fails; empty where it does not."""
    suite = Scenarios()
    wanted = inspect.signature(getattr(suite, name)).parameters
    given: dict[str, Any] = {"tmp_path": place, "face": face, "ready": face}
    try:
        if "ready" in wanted:
            face.begin()
        getattr(suite, name)(**{key: given[key] for key in wanted if key in given}, **values)
    except Exception as failure:  # noqa: BLE001 - however it fails, it was noticed
        return str(failure).partition("\n")[0] or type(failure).__name__
    return ""
