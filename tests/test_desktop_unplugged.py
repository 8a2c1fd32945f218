"""Every control is missed: with any one connection of the window cut, at least one scenario fails."""

from __future__ import annotations

import ast
import inspect
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from face_scenarios import FaceScenarios
from pytestqt.exceptions import TimeoutError
from qt_face import QtFace
from scripted_engine import FORMS
from test_desktop_scenarios import TestDesktop as Scenarios  # under its own name it would be collected again

from imagen_workbench.workbench.desktop import condition_rows, draw_page, recipe_form, theme, train_page, window
from imagen_workbench.workbench.presenters.draw_form import CONTROLS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

pytestmark = [pytest.mark.window, pytest.mark.slow]

MODULES = (draw_page, condition_rows, train_page, recipe_form, window)
USERS = {
    "ConditionRows": draw_page,
    "DrawPage": window,
    "TrainPage": window,
    "RecipeForm": train_page,
    "Window": window,
}
"""Where the class that a module is about is looked up."""
ONE_OF_MANY = {
    "control.edited.connect(self._take)": (
        "control.objectName()",
        ("count", "seed", *(control.key for control in CONTROLS)),
    ),
    "row.edited.connect(self._say)": (
        "row.objectName()",
        tuple(f"condition.{field.key}" for form in FORMS.values() for field in form),
    ),
    "row.edited.connect(self._tell)": (
        "field.key",
        ("data.source", *sorted(FaceScenarios.EDITS), "data.options.hidden"),
    ),
}
"""Lines that connect several controls: what tells them apart, and which there are."""
FIRST = {
    "top.subject_pressed.connect(self._choose_model)": "another_model",
    "draw.clicked": "locked_seed",
    "save.clicked": "picture_is_saved",
    "escape.activated": "escape_stops",
    "unfold.clicked": "more_settings_unfold",
    "again.clicked": "mended_elsewhere",
    "copy.clicked": "copied_as_code",
    "grid.selected": "selected_and_its_film",
    "film.scrubbed": "selected_and_its_film",
    "chips.edited": "conditions_are_chips",
    "choices.edited": "many_choices",
    "said.edited": "words_are_said",
    "condition.text": "words_are_said",
    "condition.low": "picture_is_said",
    "condition.noise": "picture_is_said",
    "condition.": "several_things_are_said",
    "link.clicked": "picture_is_found",
    "seed.rolled": "dice",
    "lock_toggled": "locked_seed",
    "draw_page: self.presenter.changed": "first_start",
    "train_page: presenter.changed": "another_recipe",
    "tabs.currentChanged": "as_toml",
    "undo.clicked": "undo_takes_it_back",
    "recipe.edited": "another_recipe",
    "form.edited": "reaches_the_recipe",
    "pause.clicked": "train_pause",
    "resume.clicked": "train_pause",
    "stop.clicked": "train_pause",
    "draw_live.clicked": "train_pause",
    "draw_wanted": "train_pause",
    "start.clicked": "train_pause",
    "subject_pressed.connect(self._choose_run)": "goes_on_from_the_menu",
    "_run_chosen": "goes_on_from_the_menu",
    "_model_chosen": "another_model",
    "draw_page: menu.aboutToHide": "another_model",
    "train_page: menu.aboutToHide": "goes_on_from_the_menu",
    "browse.clicked": "systems_dialog",
    "status_changed": "status_line",
    "bench.closed": "status_line",
    "rail.chosen": "data_is_seen_first",
    "data.source": "folder_is_picked",
    "data.options.hidden": "own_settings",
    **dict.fromkeys(("guidance_to", "threshold", "corrections"), "more_settings_unfold"),
}
"""Which scenario is tried first; where it does not fail, all others are."""

FAILURES = (AssertionError, pytest.fail.Exception, TimeoutError)


class Cut(ast.NodeTransformer):
    """Takes out the nth `….connect(…)` statement, or makes it skip one of its controls."""

    def __init__(self, nth: int, spared: str) -> None:
        self.nth, self.spared, self.seen = nth, spared, -1

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if not is_connection(node):
            return node
        self.seen += 1
        if self.seen != self.nth:
            return node
        if not self.spared:
            return ast.copy_location(ast.Pass(), node)
        which, _ = ONE_OF_MANY[ast.unparse(node)]
        return ast.parse(f"{which} == {self.spared!r} or {ast.unparse(node)}").body[0]


def is_connection(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Call)
        and isinstance(node.value.func, ast.Attribute)
        and node.value.func.attr == "connect"
    )


def connections() -> Iterator[Any]:
    """(module, number of the connection in it, its text, which of several controls)."""
    for module in MODULES:
        nodes = [node for node in ast.walk(ast.parse(inspect.getsource(module))) if is_connection(node)]
        nodes.sort(key=lambda node: getattr(node, "lineno", 0))
        for nth, node in enumerate(nodes):
            text = ast.unparse(node)
            for spared in ONE_OF_MANY[text][1] if text in ONE_OF_MANY else ("",):
                name = f"{Path(str(module.__file__)).stem}: {text} {spared}".strip()
                yield pytest.param(module, nth, text, spared, id=name)


def without(module: ModuleType, nth: int, spared: str) -> ModuleType:
    """The module made anew, but for that connection."""
    tree = ast.fix_missing_locations(Cut(nth, spared).visit(ast.parse(inspect.getsource(module))))
    made = ModuleType(module.__name__)
    made.__dict__.update(__package__=module.__package__, __file__=module.__file__)
    exec(compile(tree, str(module.__file__), "exec"), made.__dict__)  # noqa: S102 - our own source
    return made


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


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("module", "nth", "text", "spared"), list(connections()))
def test_a_cut_connection_is_noticed(
    module: ModuleType,
    nth: int,
    text: str,
    spared: str,
    qtbot: QtBot,
    qapp: QApplication,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    made = without(module, nth, spared)
    for name, user in USERS.items():
        if name in vars(module) and vars(module)[name].__module__ == module.__name__:
            monkeypatch.setattr(user, name, vars(made)[name])
    theme.apply(qapp, dark=True)
    told = spared or f"{Path(str(module.__file__)).stem}: {text}"
    hints = (scenario for part, scenario in FIRST.items() if part in told)
    first = next(hints, f"'{spared}'")
    for number, (name, values) in enumerate(scenarios(first)):
        place = tmp_path / f"{number}"
        place.mkdir()
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("IMAGEN_WORKBENCH_HOME", str(place / "home"))
            noticed = failure_of(name, values, QtFace(qtbot, patch), place)
        if noticed:
            sys.stdout.write(f"{name}{values or ''}: {noticed}\n")
            return
    pytest.fail(f"{text} {spared}: nobody misses it")


def failure_of(name: str, values: dict[str, Any], face: QtFace, place: Path) -> str:
    """How the scenario fails, closing included; empty where it does not."""
    suite = Scenarios()
    wanted = inspect.signature(getattr(suite, name)).parameters
    given: dict[str, Any] = {"tmp_path": place, "face": face, "ready": face, "many": None}
    failures = []
    try:
        if "ready" in wanted:
            face.begin()
        if "many" in wanted:
            suite.give_many_classes(face)
        getattr(suite, name)(**{key: given[key] for key in wanted if key in given}, **values)
    except FAILURES as failure:
        failures.append(str(failure).partition("\n")[0] or "an assertion")
    try:
        face.close()
    except FAILURES as failure:
        failures.append(f"at the end: {failure}".partition("\n")[0])
        face.drop()
    return "; ".join(failures)
