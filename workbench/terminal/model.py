"""`imagen-workbench model export`: a model as one file, to carry away."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ...core.errors import ModelError
from .console import plain_console
from .writing import writing


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("model", help="write a model as one file")
    actions = command.add_subparsers(title="actions", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="one safetensors file with recipe and card in its metadata")
    export.add_argument("model", metavar="MODEL", help="a bundled name, a run folder or a checkpoint")
    export.add_argument("out", metavar="OUT", type=Path, help="the file, which ends in .safetensors")
    export.add_argument("--ema", metavar="L", type=float, help="EMA length that is taken along (default: the recipe's)")
    export.add_argument("--card", metavar="FILE", type=Path, help="what people should know, as text or JSON")
    export.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help="show tracebacks")
    export.set_defaults(work=_export)


def _export(options: argparse.Namespace) -> int:
    from ...core.models import open_model

    if options.out.suffix != ".safetensors":
        raise ModelError("a model file ends in .safetensors", file=options.out, fix=f"Write {options.out}.safetensors")
    card = _card(options.card) if options.card else {}
    model = open_model(options.model)
    with writing(options.out):
        model.save(options.out, ema=options.ema, card=card)
    size = options.out.stat().st_size / 1e6
    plain_console().print(f"{options.out}: {model.name}, {size:.1f} MB", soft_wrap=True)
    return 0


def _card(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"cannot be read as text: {error}", file=path) from error
    try:
        card = json.loads(text)
    except ValueError:
        card = None
    return card if isinstance(card, dict) else {"text": text}
