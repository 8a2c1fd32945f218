"""`imagen-workbench runs`, `datasets`, `recipes` and `doctor`: what there is."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from rich.text import Text

from ...core.recipe import Recipe, known_keys, recipe_schema
from ..listings import doctor_facts, run_rows
from .console import plain_console
from .table import print_table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Collection, Sequence
    from pathlib import Path


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the commands."""
    for name, work, about in (
        ("runs", _runs, "list the runs"),
        ("datasets", _datasets, "list the datasets that can be trained on"),
        ("recipes", _recipes, "list the bundled recipes, or show one"),
        ("doctor", _doctor, "what this machine has, and what is missing"),
    ):
        command = commands.add_parser(name, help=about)
        command.add_argument("--json", action="store_true", help="as JSON")
        command.set_defaults(work=work)
        if name == "recipes":
            command.add_argument("name", nargs="?", help="show this one, as a start for your own")
            command.add_argument("--schema", action="store_true", help="the JSON schema of recipe files, for editors")


def _runs(options: argparse.Namespace) -> int:
    from ...core.runs.folder import find_runs, runs_home

    rows = run_rows(find_runs())
    empty = f"No runs in {runs_home()} yet. Begin one: imagen-workbench train digits"
    return _tell(options, ("run", "state", "step", "recipe", "folder"), rows, prose=("state",), empty=empty)


def _datasets(options: argparse.Namespace) -> int:
    from ...core.extensions import catalogue

    found = catalogue().datasets
    rows = [
        (each.name, each.error or each.summary, each.package, "data.path" if each.needs_path else "") for each in found
    ]
    return _tell(options, ("name", "what it is", "package", "needs"), rows, prose=("what it is",))


def _recipes(options: argparse.Namespace) -> int:
    from ...core.extensions import bundled_recipes
    from ..cli import find_recipe

    if options.schema:
        return _write(recipe_schema())
    if options.name:
        recipe = find_recipe(options.name)
        if options.json:
            return _write(recipe.model_dump(mode="json"))
        sys.stdout.write(recipe.to_toml())
        return 0
    rows = []
    for name, path in bundled_recipes().items():
        recipe = Recipe.read(path)
        height, width = recipe.data.size
        rows.append((name, recipe.data.source, f"{height} × {width}", f"{recipe.training.steps:,}"))
    after = f"Show one with `recipes NAME`; change a key with --set. {len(known_keys())} keys are known."
    return _tell(options, ("name", "data", "size", "steps"), rows, after=after)


def _doctor(options: argparse.Namespace) -> int:
    facts, missing = doctor_facts()
    if options.json:
        return _write({"facts": {name: str(value) for name, value in facts}, "missing": missing})
    console = plain_console()
    print_table(console, ("", "this machine"), facts, prose=("this machine",))
    for line in missing:
        console.print(Text.assemble(("missing", "yellow"), f" {line}"), soft_wrap=True)
    if not missing:
        console.print("Nothing is missing.", style="green")
    return 0


def _tell(
    options: argparse.Namespace,
    columns: Sequence[str],
    rows: Sequence[Sequence[str | Path]],
    *,
    prose: Collection[str] = (),
    empty: str = "",
    after: str = "",
) -> int:
    """A table, or its rows as JSON objects."""
    if options.json:
        return _write([dict(zip(columns, map(str, row), strict=True)) for row in rows])
    console = plain_console()
    if rows or not empty:
        print_table(console, columns, rows, prose)
    else:
        console.print(empty, soft_wrap=True)
    if after:
        console.print(after, soft_wrap=True)
    return 0


def _write(value: object) -> int:
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")
    return 0
