"""`imagen-workbench evaluate`: how good a model is, beside held-out real images."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import RecipeError
from .console import plain_console
from .meter import Meter
from .table import print_table
from .writing import writing

if TYPE_CHECKING:
    from collections.abc import Generator

    from rich.console import Console

    from ...core.evaluation.evaluate import Evaluation
    from ...core.evaluation.turns import Turn
    from ...core.models import Drawer
    from ...core.recipe import Recipe

HELD_OUT_OF_FOLDER = 0.2
"""Share of a folder's images that the classifier does not see."""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("evaluate", help="measure a model's samples beside held-out real images")
    command.add_argument("model", metavar="MODEL", help="a bundled name, a run folder, a checkpoint, or a model file")
    command.add_argument(
        "--data",
        metavar="RECIPE|FOLDER",
        help="the real images: a recipe's, or a folder's, of which a fifth is held out (default: the model's own)",
    )
    command.add_argument("--count", metavar="N", type=int, default=1000, help="images to draw (default: 1000)")
    command.add_argument("--guidance", metavar="W", type=float, help="1 is no guidance")
    command.add_argument("--sampler", metavar="S", help="by default, the recipe's")
    command.add_argument("--steps", metavar="N", type=int)
    command.add_argument("--seed", metavar="K", type=int)
    command.add_argument("--ema", metavar="L", type=float, help="EMA length; 0 draws from the raw weights")
    command.add_argument(
        "--epochs", metavar="N", type=int, help="the classifier's passes over the data (default: as its size asks for)"
    )
    command.add_argument(
        "--out", metavar="DIR", type=Path, help="where evaluation.html and evaluation.json go (default: here)"
    )
    command.add_argument(
        "--json", action="store_true", help="print the figures as JSON; files are then written only with --out"
    )
    command.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    command.set_defaults(work=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    from ...core.models import open_drawer

    for name in ("count", "epochs"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise RecipeError(
                f"{value:,} {'images' if name == 'count' else name}", field=f"--{name}", fix="Give 1 or more"
            )
    model = open_drawer(options.model, options.device)
    found = _shown(plain_console(stderr=options.json), _turns(options, model))
    text = json.dumps(found.as_dict(), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    written = _write(found, text, options.out or Path()) if options.out or not options.json else ()
    if options.json:
        sys.stdout.write(text)
        return 0
    _print(plain_console(), found, written)
    return 0


def _turns(options: argparse.Namespace, model: Drawer) -> Generator[Turn, None, Evaluation]:
    """Reads the data, then evaluates."""
    from ...core.datasets import reading
    from ...core.evaluation.evaluate import evaluating
    from ...core.evaluation.turns import Turn
    from ...core.generators import retold

    given = {
        f"sampling.{key}": value
        for key in ("guidance", "sampler", "steps", "seed", "ema")
        if (value := getattr(options, key)) is not None
    }
    settings = model.recipe.with_values(given).sampling
    data, _ = yield from retold(
        reading(_recipe_of_data(options.data, model.recipe)),
        lambda seen: Turn(seen.what, seen.done, seen.total),
    )
    return (yield from evaluating(model, data, options.count, settings, epochs=options.epochs))


def _recipe_of_data(reference: str | None, recipe: Recipe) -> Recipe:
    """The recipe that the real images are read with: always at the model's own size and channels."""
    if reference is None:
        return recipe
    folder = Path(reference).expanduser()
    if folder.is_dir():
        values = {"data.source": "image-folder", "data.path": str(folder.absolute()), "data.options": {}}
        values |= {"data.parts": []}
        values |= {"data.validation": HELD_OUT_OF_FOLDER}
        # nothing is said about the images, so that those without a class are read, too; classes stay known
        return recipe.with_values(values | {"conditioning.scheme": "none", "conditioning.options": {}})
    from ..cli import find_recipe

    kept = {key: getattr(recipe.data, key.removeprefix("data.")) for key in ("data.size", "data.channels")}
    return find_recipe(reference).with_values(kept)


def _shown(console: Console, turns: Generator[Turn, None, Evaluation]) -> Evaluation:
    from ...core.generators import finish, retold

    with Meter(console) as meter:
        return finish(retold(turns, lambda turn: meter.show(turn.what, turn.done, turn.total)))


def _write(found: Evaluation, text: str, folder: Path) -> tuple[Path, ...]:
    from ...core.runs.files import write_atomically
    from ..reports.evaluation_report import evaluation_page

    page, figures = folder / "evaluation.html", folder / "evaluation.json"
    for path, content in ((page, evaluation_page(found)), (figures, text)):
        with writing(path):
            write_atomically(path, content)
    return page, figures


def _print(console: Console, found: Evaluation, written: tuple[Path, ...]) -> None:
    from ..reports.evaluation_report import summary

    measures = f"{found.count:,} images"
    print_table(console, (measures, "drawn", "held-out real"), summary(found), prose=(measures,))
    for note in found.notes:
        console.print(note, soft_wrap=True)
    for path in written:
        console.print(str(path), soft_wrap=True)
