"""The command line. With no command, the desktop window opens.

Errors are one line that names the thing, the place and the fix, with exit code 2; `--debug` adds the traceback.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rich.console import Console

from ..core.errors import RecipeError, WorkbenchError
from ..core.recipe import Recipe, parse_setting
from .terminal import cache, completion, evaluate, likelihood, lists, model, sample

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
    top.add_argument("--version", action="store_true", help="show the program's version and torch's")
    top.set_defaults(work=_window)
    commands = top.add_subparsers(title="commands", metavar="COMMAND", parser_class=OneLineParser)

    train = commands.add_parser("train", help="train a recipe in a run folder")
    train.add_argument("recipe", metavar="RECIPE", help="a recipe file, or a bundled recipe's name")
    train.add_argument("--run", metavar="DIR", type=Path, help="the run folder (default: a new one)")
    train.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings", help="change the recipe"
    )
    train.add_argument("--from", metavar="MODEL", dest="base", help="begin with this model's weights (fine-tuning)")
    train.add_argument("--minutes", metavar="M", type=float, help="train for that long instead of the recipe's steps")
    train.add_argument("--resume", action="store_true", help="continue the run if there is one, begin it if not")
    train.set_defaults(work=_train)

    demo = commands.add_parser("demo", help="train on the bundled digits, draw, and write a report")
    demo.add_argument("--run", metavar="DIR", type=Path, default=Path("demo"), help="the run folder (default: demo)")
    demo.add_argument("--recipe", metavar="RECIPE", default="digits", help=argparse.SUPPRESS)
    demo.set_defaults(work=_demo)

    for module in (sample, likelihood, evaluate, model, lists, cache, completion):
        module.add_to(commands)
    for command in commands.choices.values():
        command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    return top


# --- commands -------------------------------------------------------------------------------------


def _window(options: argparse.Namespace) -> int:
    if options.version:
        from importlib import metadata

        sys.stdout.write("".join(f"{name} {metadata.version(name)}\n" for name in ("imagen-workbench", "torch")))
        return 0
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
    again = [options.recipe, *(word for text in options.settings for word in ("--set", text))]
    if options.base is not None:
        recipe = recipe.with_values({"finetune.base": options.base, "finetune.hash": ""})
        again += ["--from", options.base]
    reference = shlex.join(again)
    return train_here(console, recipe, options.run, reference, minutes=options.minutes, resume=options.resume)


def _demo(options: argparse.Namespace) -> int:
    from .training_in_terminal import demo_here

    return demo_here(console, find_recipe(options.recipe), options.run)
