"""The command line. With no command, the desktop window opens.

Errors are one line that names the thing, the place and the fix, with exit code 2; `--debug` adds the traceback.
"""

from __future__ import annotations

import argparse
import difflib
import io
import os
import shlex
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ..core.errors import RecipeError, WorkbenchError
from ..core.recipe import Recipe, parse_setting
from .terminal import cache, completion, evaluate, likelihood, lists, model, plugins, sample, stages
from .terminal.console import plain_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class OneLineParser(argparse.ArgumentParser):
    """Says what is wrong on one line, what may have been meant, and where help is."""

    def error(self, message: str) -> NoReturn:
        end = "" if message.endswith("?") else "."
        self.exit(2, f"{self.prog}: {message}{end} See {self.prog} --help.\n")

    def parse_known_args(  # pyright: ignore[reportIncompatibleMethodOverride] - overloads that say the same
        self, args: Any = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """A word that nothing takes is an error at once, by the command that knows its own options."""
        found, rest = super().parse_known_args(args, namespace)
        if rest:
            option = next((word.partition("=")[0] for word in rest if word.startswith("-")), "")
            if option:
                self.error(f"{option}: no such option{_meant(option, self._option_string_actions)}")
            self.error(f"{rest[0]}: nothing more was expected")
        return found, rest

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            self.error(f"{value}: no such command{_meant(value, action.choices)}")
        super()._check_value(action, value)


def _meant(word: str, known: Iterable[str]) -> str:
    """ "; did you mean WORD?" where a known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that its encoding lacks ends no training
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
    train.add_argument("--stage", metavar="NAME", help="of a cascade's recipe: train this one, in its own run folder")
    train.add_argument("--minutes", metavar="M", type=float, help="train for that long instead of the recipe's steps")
    train.add_argument("--resume", action="store_true", help="continue the run if there is one, begin it if not")
    train.set_defaults(work=_train)

    demo = commands.add_parser("demo", help="train on the bundled digits, draw, and write a report")
    demo.add_argument("--run", metavar="DIR", type=Path, default=Path("demo"), help="the run folder (default: demo)")
    demo.add_argument("--recipe", metavar="RECIPE", default="digits", help=argparse.SUPPRESS)
    demo.set_defaults(work=_demo)

    for module in (sample, likelihood, evaluate, stages, model, lists, plugins, cache, completion):
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
    recipe, run = find_recipe(options.recipe), options.run
    if recipe.stages or options.stage:
        recipe, run = _stage(recipe, options)
    recipe = recipe.with_values(dict(parse_setting(text) for text in options.settings))
    again = [
        options.recipe,
        *(("--stage", options.stage) if options.stage else ()),
        *(word for text in options.settings for word in ("--set", text)),
    ]
    if options.base is not None:
        recipe = recipe.with_values({"finetune.base": options.base, "finetune.hash": ""})
        again += ["--from", options.base]
    reference = shlex.join(again)
    return train_here(plain_console(), recipe, run, reference, minutes=options.minutes, resume=options.resume)


def _stage(recipe: Recipe, options: argparse.Namespace) -> tuple[Recipe, Path]:
    """The recipe of a cascade's stage, and where it is trained: in the run folder that the cascade draws from."""
    names = [stage.name for stage in recipe.stages]
    if options.stage not in names:
        what = f"there is no stage {options.stage}" if options.stage else "is a cascade, whose stages are trained apart"
        fix = f"Say which with --stage: {', '.join(names)}" if names else "Leave --stage out: the recipe has no stages"
        raise RecipeError(what, file=options.recipe, fix=fix)
    stage = recipe.stages[names.index(options.stage)]
    if not stage.recipe:
        raise RecipeError("names no recipe", field=f"stages.{stage.name}.recipe", fix="Say what trains it")
    beside = Path(options.recipe).expanduser().parent
    own = beside / stage.recipe
    return find_recipe(str(own) if own.is_file() else stage.recipe), options.run or beside / stage.model


def _demo(options: argparse.Namespace) -> int:
    from .training_in_terminal import demo_here

    return demo_here(plain_console(), find_recipe(options.recipe), options.run)
