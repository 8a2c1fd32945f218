"""`imagen-workbench stages`: a cascade, stage by stage: where quality is lost."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from ...core.errors import ModelError, RequestError
from .console import plain_console
from .meter import Meter
from .table import print_table
from .writing import writing


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("stages", help="look at a cascade stage by stage: where quality is lost")
    command.add_argument("cascade", metavar="CASCADE", help="a recipe file with stages")
    command.add_argument("--count", metavar="N", type=int, default=200, help="held-out images to feed (default: 200)")
    command.add_argument("--out", metavar="stages.html", type=Path, help="a page with the figures and pictures")
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    command.set_defaults(work=_stages)


def _stages(options: argparse.Namespace) -> int:
    from ...core.evaluation.stages import inspecting
    from ...core.generators import finish, retold
    from ...core.models import Cascade, open_drawer

    if options.count < 1:
        raise RequestError(f"{options.count} images", field="--count", fix="Give at least 1")
    cascade = open_drawer(options.cascade, options.device)
    if not isinstance(cascade, Cascade):
        raise ModelError("is no cascade", file=options.cascade, fix="Name a recipe file with [[stages]]")
    if len(cascade.stages) < 2:
        raise ModelError("has one stage only", file=options.cascade, fix="Add a stage that draws larger")
    console = plain_console(stderr=options.json)
    with Meter(console) as meter:
        reports = finish(
            retold(inspecting(cascade, options.count), lambda turn: meter.show(turn.what, turn.done, turn.total))
        )
    if options.out:
        from ...core.runs.files import write_atomically
        from ..reports.stages_report import stages_page

        with writing(options.out):
            write_atomically(options.out, stages_page(cascade.name, reports))
    if options.json:
        sys.stdout.write(json.dumps([report.as_dict() for report in reports], indent=2, ensure_ascii=False) + "\n")
        return 0
    from ..reports.stages_report import COLUMNS, rows_of

    print_table(console, COLUMNS, rows_of(reports))
    console.print("Drift is drawn minus fed, in [-1, 1]. Where real images go in, what is lost is this stage's own.")
    if options.out:
        console.print(str(options.out), soft_wrap=True)
    return 0
