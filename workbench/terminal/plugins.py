"""`imagen-workbench plugins`: what there is, what of the person's own may run, and help for those who write one."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import PluginError
from .console import plain_console
from .table import print_table
from .writing import writing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...core.events import PluginFacts
    from ...core.plugin_files import PluginFile
    from ...core.recipe import Recipe

TESTS = "import sys; sys.path[:] = sys.argv[1:]; from imagen_workbench.core.testing.installed import main; main()"


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("plugins", help="list plugins, allow your own files, write and test new ones")
    command.add_argument("--json", action="store_true", help="as JSON")
    command.set_defaults(work=_list)
    actions = command.add_subparsers(title="actions", metavar="ACTION")

    listed = actions.add_parser("list", help="list the plugins, with what is wrong with them")
    listed.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as JSON")

    for name, work, about in (
        ("allow", _allow, "let a file of your plugin folder run, as it is now"),
        ("forbid", _forbid, "take that back"),
    ):
        action = actions.add_parser(name, help=about)
        action.add_argument("file", metavar="FILE", help="its name, as `plugins list` tells it")
        action.set_defaults(work=work)

    new = actions.add_parser("new", help="write a package with a plugin and its tests, to begin with")
    new.add_argument("name", metavar="NAME", help="what recipes will call it: small letters, digits, hyphens")
    new.add_argument("--kind", choices=("conditioning", "dataset"), default="dataset", help="default: dataset")
    new.add_argument("--dir", metavar="DIR", type=Path, default=Path(), help="where its folder goes (default: here)")
    new.set_defaults(work=_new)

    test = actions.add_parser("test", help="hold a plugin against what is asked of its kind")
    test.add_argument("name", metavar="NAME", help="as recipes call it")
    test.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings", help="such as data.path=…"
    )
    test.set_defaults(work=_test)
    for action in actions.choices.values():
        action.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")


# --- what there is --------------------------------------------------------------------------------


def _list(options: argparse.Namespace) -> int:
    from ...core.events import KINDS
    from ...core.plugin_files import plugins_folder

    found = _plugins()
    rows = [(each.name, KINDS[each.kind], each.error or each.summary, each.package) for each in found]
    if options.json:
        facts = [
            {"name": each.name, "kind": KINDS[each.kind], "summary": each.summary, "package": each.package}
            | {"error": each.error}
            for each in found
        ]
        sys.stdout.write(json.dumps({"folder": str(plugins_folder()), "plugins": facts}, ensure_ascii=False, indent=2))
        sys.stdout.write("\n")
        return 0
    console = plain_console()
    print_table(console, ("name", "kind", "what it is", "from"), rows, prose=("what it is",))
    console.print(f"Your own, as single files: {plugins_folder()}", soft_wrap=True)
    return 0


def _plugins() -> tuple[PluginFacts, ...]:
    from ...core.extensions import catalogue

    found = catalogue()
    return *found.datasets, *found.schemes


def _allow(options: argparse.Namespace) -> int:
    from ...core.plugin_files import allow

    return _tell_of(allow(options.file), "Allowed")


def _forbid(options: argparse.Namespace) -> int:
    from ...core.plugin_files import forbid

    return _tell_of(forbid(options.file), "Forbidden")


def _tell_of(file: PluginFile, done: str) -> int:
    """What was done with a file; with code 2 where it is of no use all the same."""
    console = plain_console()
    entries = file.entries()
    console.print(f"{done}: {file.path}", soft_wrap=True)
    for entry in entries:
        wrong = "" if entry.class_name else entry.error
        console.print(f"  {entry.kind} {entry.name}{': ' * bool(wrong)}{wrong}", soft_wrap=True)
    return 0 if all(entry.class_name for entry in entries) else 2


# --- for authors ----------------------------------------------------------------------------------


def _new(options: argparse.Namespace) -> int:
    from .plugin_template import template

    folder = options.dir.expanduser() / options.name
    files = template(options.name, options.kind, {each.name for each in _plugins()})
    if folder.exists():
        raise PluginError("is already there", file=folder, fix="Choose another name or --dir")
    for name, text in files.items():
        with writing(folder / name):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    console = plain_console()
    console.print(f"{folder}: {', '.join(files)}", soft_wrap=True)
    console.print(f"Next: pip install -e {folder} && imagen-workbench plugins test {options.name}", soft_wrap=True)
    return 0


def _test(options: argparse.Namespace) -> int:
    from ...core.testing.chosen import chosen, words_of

    kind, recipe = chosen(options.name, options.settings)
    passed = failed = 0
    console = plain_console()
    for told in _results(kind, recipe):
        what = words_of(told["test"])
        if told["error"]:
            failed += 1
            console.print(f"✗ {what}", style="red", soft_wrap=True)
            console.print(f"  {told['error']}", soft_wrap=True)
        else:
            passed += 1
            console.print(f"✓ {what}", style="green", soft_wrap=True)
    console.print(f"{passed} of {passed + failed} hold.", soft_wrap=True)
    return 2 if failed else 0


def _results(kind: str, recipe: Recipe) -> Iterator[dict[str, str]]:
    """Each test's, as it is known. The tests run in a process of their own; one that ends it is told as failed."""
    asked = json.dumps({"kind": kind, "recipe": recipe.model_dump(mode="json", exclude_none=True)})
    with subprocess.Popen(  # noqa: S603 - this very interpreter
        [sys.executable, "-P", "-c", TESTS, *sys.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(asked)
            process.stdin.close()
            for line in process.stdout:
                yield json.loads(line)
            process.wait()
        finally:
            process.kill()
    if process.returncode:
        yield {"test": "test_it_keeps_its_process_alive", "error": f"the tests ended with code {process.returncode}"}
