"""`imagen-workbench completion`: a script that completes commands and options in a shell."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("completion", help="a script that completes commands in bash, zsh or tcsh")
    command.add_argument(
        "shell", choices=("bash", "zsh", "tcsh"), help='for bash: eval "$(imagen-workbench completion bash)"'
    )
    command.set_defaults(work=_completion)


def _completion(options: argparse.Namespace) -> int:
    import shtab

    from ..cli import parser

    sys.stdout.write(shtab.complete(parser(), options.shell) + "\n")
    return 0
