"""`imagen-workbench sample`: draws from a model, as a grid, arrays, a film, or a folder of single images."""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import RecipeError, RequestError
from .console import plain_console
from .meter import Meter
from .writing import writing

if TYPE_CHECKING:
    from rich.console import Console

    from ...core.models import Drawer, Drawing


def read_size(text: str) -> tuple[int, int]:
    """ "24x32" → (24, 32): height, then width."""
    found = re.fullmatch(r"(\d+)[x×](\d+)", text.strip().lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write height and width as 24x32")
    return int(found[1]), int(found[2])


SETTINGS: tuple[tuple[str, Any, str, str], ...] = (
    ("guidance", float, "W", "1 is no guidance"),
    ("sampler", str, "S", "euler, heun, dpmpp-2m, dpmpp-2m-sde, unipc, ddim, ddpm, langevin, predictor-corrector"),
    ("steps", int, "N", "noise levels on the way"),
    ("grid", str, "G", "how the levels are spread: karras, exponential, cosine, flow, measured"),
    ("density", float, "Q", "0.5 leaves the density as it is; higher draws smoother, more likely images"),
    ("temperature", float, "T", "scales the starting noise"),
    ("threshold", str, "KIND", "none, static or dynamic"),
    ("seed", int, "K", "decides the starting noise"),
    ("size", read_size, "HxW", "height and width, where not those that the model was trained with"),
    ("ema", float, "L", "EMA length; 0 draws from the raw weights"),
)
"""Options that are settings of the recipe's `sampling`; `--set` reaches the others."""


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("sample", help="draw from a model")
    command.add_argument(
        "model", metavar="MODEL", help="a bundled name, a run folder, a checkpoint, a model file, or a PNG that we drew"
    )
    command.add_argument("--count", metavar="N", type=int, help="how many images (default: 8)")
    command.add_argument(
        "--condition", metavar="C", action="append", default=[],
        help="one image's condition, cycled to count; several at once: '3 AND 5:0.5'; mixed classes: '3 + 5:0.5'",
    )  # fmt: skip
    for name, kind, value, about in SETTINGS:
        command.add_argument(f"--{name}", metavar=value, type=kind, help=about)
    command.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], dest="settings",
        help="any other setting of a draw, for example churn=20 or guidance_to=2",
    )  # fmt: skip
    command.add_argument("--out", metavar="grid.png", type=Path, help="where the picture goes (default: grid.png)")
    command.add_argument("--arrays", metavar="out.npz", type=Path, help="images and labels as numpy arrays")
    command.add_argument("--film", metavar="out.gif", type=Path, help="the way from noise to the images as a film")
    command.add_argument(
        "--folder", metavar="DIR", type=Path,
        help="any number of single images, in a folder for each class, with a manifest; goes on where it was stopped",
    )  # fmt: skip
    command.add_argument("--json", action="store_true", help="tell what was drawn as JSON")
    command.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    command.set_defaults(work=_sample)


def _sample(options: argparse.Namespace) -> int:
    from ...core.models import open_drawer

    if options.count is not None and options.count < 1:
        raise RecipeError(f"{options.count} images", field="--count", fix="Give at least 1")
    _check_endings(options)
    model = open_drawer(options.model, options.device)
    given = _given(options)
    console = plain_console(stderr=options.json)
    told = (_into_folder if options.folder else _at_once)(options, model, given, console)
    if options.json:
        sys.stdout.write(json.dumps(told, ensure_ascii=False, indent=2) + "\n")
    return 0


def _check_endings(options: argparse.Namespace) -> None:
    """Raises RequestError where a file's name promises another kind of file."""
    for name, ending in (("out", ".png"), ("film", ".gif"), ("arrays", ".npz")):
        path: Path | None = getattr(options, name)
        if path is not None and path.suffix.lower() != ending:
            raise RequestError(
                f"a file for --{name} ends in {ending}", file=path, fix=f"Write {path.with_suffix(ending)}"
            )


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The settings that the person gave. Raises RecipeError where `--set` is not KEY=VALUE."""
    from ...core.recipe import parse_setting

    named = {name: value for name, *_ in SETTINGS if (value := getattr(options, name)) is not None}
    others = dict(parse_setting(text) for text in options.settings)
    return named | {key.removeprefix("sampling."): value for key, value in others.items()}


def _at_once(options: argparse.Namespace, model: Drawer, given: dict[str, Any], console: Console) -> dict[str, Any]:
    import numpy as np

    from ...core.runs.files import write_atomically

    drawing = _drawing(options, model, given)
    elsewhere = options.arrays or options.film
    out = options.out or (None if elsewhere else Path("grid.png"))
    if out:
        with writing(out):
            drawing.save(out)
        console.print(
            f"{out}: {len(drawing.labels)} images from {model.name}, {drawing.drawn.seconds:.1f} s", soft_wrap=True
        )
    if options.film:
        with writing(options.film):
            drawing.save_film(options.film)
        console.print(f"{options.film}: {len(drawing.drawn.sigmas)} steps", soft_wrap=True)
    if options.arrays:
        buffer = io.BytesIO()
        np.savez(buffer, images=drawing.arrays, labels=np.asarray(drawing.labels, np.int64))
        with writing(options.arrays):
            write_atomically(options.arrays, buffer.getvalue())
        console.print(f"{options.arrays}: images {drawing.arrays.shape} float32 in [-1, 1], labels", soft_wrap=True)
    files = [str(path) for path in (out, options.film, options.arrays) if path]
    return {"files": files, "labels": list(drawing.labels), "conditions": list(drawing.conditions), **drawing.recipe}


def _drawing(options: argparse.Namespace, model: Drawer, given: dict[str, Any]) -> Drawing:
    if model.picture and not given and not options.condition and options.count is None:
        return model.draw_again()
    kept, texts, count = _asked(options, model)
    return model.draw(texts, count, **(kept | given))


def _asked(options: argparse.Namespace, model: Drawer) -> tuple[dict[str, Any], list[str], int]:
    """A picture's own settings, the conditions and how many images; what the person says goes first."""
    kept = dict(model.picture.get("sampling", {}))
    texts = options.condition or list(model.picture.get("conditions", []))
    return kept, texts, options.count or len(model.picture.get("indices", ())) or max(8, len(texts))


def _into_folder(options: argparse.Namespace, model: Drawer, given: dict[str, Any], console: Console) -> dict[str, Any]:
    from ...core.runs.collection import Collection

    kept, texts, count = _asked(options, model)
    with writing(options.folder):
        collection = Collection(options.folder)
    begun = len(collection)
    drawings = model.draw_all(texts, count, begun, **(kept | given))
    with Meter(console) as meter:
        meter.show("Drawing", begun, count)
        for drawing in drawings:
            assert drawing.drawn.images is not None
            with writing(options.folder):
                collection.add(drawing.drawn.images, drawing.labels, drawing.recipe)
            meter.show("Drawing", len(collection), count)
    console.print(
        f"{options.folder}: {len(collection):,} images from {model.name}, listed in manifest.csv", soft_wrap=True
    )
    return {"folder": str(options.folder), "images": len(collection), "manifest": str(collection.manifest)}
