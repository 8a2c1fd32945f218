"""The command line. With no command, the desktop window opens.

Errors are one line that names the thing, the place and the fix, with exit code 2; `--debug` adds the traceback.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from ..core.errors import RecipeError, WorkbenchError
from ..core.recipe import Recipe, known_keys, parse_setting

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

console = Console(highlight=False)


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong on one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}. See {self.prog} --help.\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    options = parser().parse_args(arguments)
    work: Callable[[argparse.Namespace], int] = options.work
    try:
        return work(options)
    except WorkbenchError as error:
        if options.debug:
            traceback.print_exc()
        sys.stderr.write(f"imagen-workbench: {error}\n")
        return 2
    except BrokenPipeError:
        # the reader of a list has gone, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        sys.stderr.write("imagen-workbench: interrupted\n")
        return 130
    except Exception as error:  # noqa: BLE001 - a person gets a line, a developer the traceback
        if options.debug:
            traceback.print_exc()
        sys.stderr.write(
            f"imagen-workbench: {type(error).__name__}: {error}. Run it again with --debug and report it.\n"
        )
        return 2


def parser() -> argparse.ArgumentParser:
    top = OneLineParser(prog="imagen-workbench", description="Train, steer and understand image diffusion models.")
    top.add_argument("--debug", action="store_true", help="show tracebacks")
    top.set_defaults(work=_window)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=OneLineParser)

    train = commands.add_parser("train", help="train a recipe in a run folder")
    train.add_argument("recipe", metavar="RECIPE", help="a recipe file, or a bundled recipe's name")
    train.add_argument("--run", metavar="DIR", type=Path, help="the run folder (default: a new one)")
    train.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings", help="change the recipe"
    )
    train.add_argument("--minutes", metavar="M", type=float, help="train for that long instead of the recipe's steps")
    train.add_argument("--resume", action="store_true", help="continue the run if there is one, begin it if not")
    train.set_defaults(work=_train)

    sample = commands.add_parser("sample", help="draw from a model")
    sample.add_argument(
        "model", metavar="MODEL", help="a bundled name, a run folder, a checkpoint, or a PNG that we drew"
    )
    sample.add_argument("--count", metavar="N", type=int, help="how many images")
    sample.add_argument(
        "--condition", metavar="C", action="append", default=[], help="one image's condition; cycled to count"
    )
    sample.add_argument("--guidance", metavar="W", type=float, help="1 is no guidance")
    sample.add_argument("--sampler", metavar="S", help="euler, heun or dpmpp-2m")
    sample.add_argument("--steps", metavar="N", type=int)
    sample.add_argument("--seed", metavar="K", type=int)
    sample.add_argument("--ema", metavar="L", type=float, help="EMA length; 0 draws from the raw weights")
    sample.add_argument("--out", metavar="grid.png", type=Path, help="where the picture goes (default: grid.png)")
    sample.add_argument("--arrays", metavar="out.npz", type=Path, help="images and labels as numpy arrays")
    sample.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    sample.set_defaults(work=_sample)

    demo = commands.add_parser("demo", help="train on the bundled digits, draw, and write a report")
    demo.add_argument("--run", metavar="DIR", type=Path, default=Path("demo"), help="the run folder (default: demo)")
    demo.add_argument("--recipe", metavar="RECIPE", default="digits", help=argparse.SUPPRESS)
    demo.set_defaults(work=_demo)

    for name, work, about in (
        ("runs", _runs, "list the runs"),
        ("datasets", _datasets, "list the datasets that can be trained on"),
        ("recipes", _recipes, "list the bundled recipes, or show one"),
        ("doctor", _doctor, "what this machine has, and what is missing"),
    ):
        command = commands.add_parser(name, help=about)
        command.set_defaults(work=work)
        if name == "recipes":
            command.add_argument("name", nargs="?", help="show this one, as a start for your own")
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    return top


# --- commands -------------------------------------------------------------------------------------


def _window(_options: argparse.Namespace) -> int:
    from .app import run

    return run()


def find_recipe(reference: str) -> Recipe:
    """A recipe file, or a bundled name. Raises RecipeError naming the bundled ones."""
    from ..core.extensions import bundled_recipes

    path = Path(reference).expanduser()
    bundled = bundled_recipes()
    if path.is_file():
        return Recipe.read(path)
    if reference in bundled:
        return Recipe.read(bundled[reference])
    raise RecipeError("no such recipe", file=reference, fix=f"Give a file, or one of {', '.join(bundled)}")


def _train(options: argparse.Namespace) -> int:
    from .training_in_terminal import train_here

    if options.minutes is not None and not options.minutes > 0:
        raise RecipeError(f"{options.minutes:g} minutes", field="--minutes", fix="Give a number above 0")
    recipe = find_recipe(options.recipe).with_values(dict(parse_setting(text) for text in options.settings))
    return train_here(console, recipe, options.run, options.recipe, minutes=options.minutes, resume=options.resume)


def _demo(options: argparse.Namespace) -> int:
    from .training_in_terminal import demo_here

    return demo_here(console, find_recipe(options.recipe), options.run)


def _sample(options: argparse.Namespace) -> int:
    import numpy as np

    from ..core.models import open_model
    from ..core.runs.files import write_atomically

    if options.count is not None and options.count < 1:
        raise RecipeError(f"{options.count} images", field="--count", fix="Give at least 1")
    model = open_model(options.model, options.device)
    given = {
        key: value
        for key in ("guidance", "sampler", "steps", "seed", "ema")
        if (value := getattr(options, key)) is not None
    }
    if model.picture and not given and not options.condition and options.count is None:
        drawing = model.draw_again()
    else:
        kept = dict(model.picture.get("sampling", {}))
        texts = options.condition or model.picture.get("conditions", [])
        count = options.count or len(model.picture.get("indices", ())) or max(8, len(texts))
        drawing = model.draw(texts, count, **(kept | given))
    out = options.out or (None if options.arrays else Path("grid.png"))
    try:
        if out:
            drawing.save(out)
            console.print(f"{out}: {len(drawing.labels)} images from {model.name}, {drawing.drawn.seconds:.1f} s")
        if options.arrays:
            import io

            buffer = io.BytesIO()
            np.savez(buffer, images=drawing.arrays, labels=np.asarray(drawing.labels, np.int64))
            write_atomically(options.arrays, buffer.getvalue())
            console.print(f"{options.arrays}: images {drawing.arrays.shape} float32 in [-1, 1], labels")
    except OSError as error:
        raise WorkbenchError(
            f"cannot be written: {error.strerror}", file=error.filename or out, fix="Choose another place"
        ) from error
    return 0


def _runs(_options: argparse.Namespace) -> int:
    from ..core.runs.folder import find_runs, runs_home
    from .listings import run_rows, table

    rows = run_rows(find_runs())
    if rows:
        console.print(table(("run", "state", "step", "recipe", "folder"), rows), soft_wrap=True)
    else:
        console.print(f"No runs in {runs_home()} yet. Begin one: imagen-workbench train digits", soft_wrap=True)
    return 0


def _datasets(_options: argparse.Namespace) -> int:
    from ..core.extensions import catalogue
    from .listings import table

    found = catalogue().datasets
    rows = [
        (each.name, each.error or each.summary, each.package, "data.path" if each.needs_path else "") for each in found
    ]
    console.print(table(("name", "what it is", "package", "needs"), rows))
    return 0


def _recipes(options: argparse.Namespace) -> int:
    from ..core.extensions import bundled_recipes
    from .listings import table

    if options.name:
        console.out(find_recipe(options.name).to_toml(), end="")
        return 0
    rows = []
    for name, path in bundled_recipes().items():
        recipe = Recipe.read(path)
        height, width = recipe.data.size
        rows.append((name, recipe.data.source, f"{height} × {width}", f"{recipe.training.steps:,}"))
    console.print(table(("name", "data", "size", "steps"), rows))
    console.print(f"Show one with `recipes NAME`; change a key with --set. {len(known_keys())} keys are known.")
    return 0


def _doctor(_options: argparse.Namespace) -> int:
    from .listings import doctor_report

    return doctor_report(console)
