"""`imagen-workbench likelihood`: how likely images are under a model."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.errors import DataError, RecipeError, RequestError
from .console import plain_console
from .meter import Meter
from .table import print_table

if TYPE_CHECKING:
    import numpy as np

    from ...core.likelihood import Likelihood
    from ...core.models import Model


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("likelihood", help="how likely images are under a model, in bits per dimension")
    command.add_argument("model", metavar="MODEL", help="a bundled name, a run folder, a checkpoint, or a model file")
    command.add_argument(
        "images", metavar="IMAGE", nargs="+", type=Path,
        help="image files, or folders of them, brought to the model's size",
    )  # fmt: skip
    command.add_argument(
        "--condition", metavar="C", action="append", default=[], help="one image's condition; cycled to the images"
    )
    command.add_argument("--steps", metavar="N", type=int, default=20, help="steps on the way to noise (default: 20)")
    command.add_argument(
        "--probes", metavar="N", type=int, default=4, help="of the trace; more of them, less error (default: 4)"
    )
    command.add_argument("--seed", metavar="K", type=int, default=0, help="decides the probes")
    command.add_argument("--ema", metavar="L", type=float, help="EMA length; 0 takes the raw weights")
    command.add_argument("--json", action="store_true", help="print the figures as JSON")
    command.add_argument("--device", default="auto", help=argparse.SUPPRESS)
    command.set_defaults(work=_likelihood)


def _likelihood(options: argparse.Namespace) -> int:
    from ...core.models import open_model

    for name, least in (("steps", 2), ("probes", 1)):
        if getattr(options, name) < least:
            raise RecipeError(f"{getattr(options, name)}", field=f"--{name}", fix=f"Give {least} or more")
    model = open_model(options.model, options.device)
    given = [path for each in options.images for path in _files(each)]
    paths, texts, pixels = _read(given, set(options.images), _texts(options, model, len(given)), model)
    found = _measured(options, model, pixels, texts)
    rows = list(zip(paths, texts, found.bits, found.error, found.nats, strict=True))
    if options.json:
        images = [
            {"file": str(path), "condition": text, "bits_per_dim": bits, "error": _known(error), "nats": nats}
            for path, text, bits, error, nats in rows
        ]
        about = {"model": model.name, "sigma": found.sigma, "steps": found.steps, "probes": found.probes}
        sys.stdout.write(json.dumps({**about, "images": images}, ensure_ascii=False, indent=2) + "\n")
        return 0
    cells = [(path, text, f"{bits:.3f}", _spoken(error), f"{nats:,.1f}") for path, text, bits, error, nats in rows]
    console = plain_console()
    print_table(console, ("image", "condition", "bits/dim", "", "ln p"), cells, prose=("condition",))
    console.print(
        f"ln p at noise level {found.sigma:g}, in images of [-1, 1], without guidance; fewer bits, more likely.",
        soft_wrap=True,
    )
    return 0


def _files(path: Path) -> list[Path]:
    """The file itself, or the images that lie in a folder, by name. Raises DataError where there are none."""
    if not path.is_dir():
        return [path]
    endings = _endings()
    try:
        inside = sorted(path.iterdir())
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", file=path, fix="Choose another folder") from error
    shown = (each for each in inside if each.suffix.lower() in endings and not each.name.startswith("."))
    found = [each for each in shown if each.is_file() or not each.exists()]  # a link that leads nowhere is named later
    if not found:
        raise DataError(
            "no images are in this folder",
            file=path,
            fix="Name one that holds some itself, or name files",
        )
    return found


def _endings() -> set[str]:
    """Of files that can be read as images."""
    from PIL import Image

    known = Image.registered_extensions()
    return {".npy", ".npz"} | {ending for ending, kind in known.items() if kind in Image.OPEN}


def _texts(options: argparse.Namespace, model: Model, count: int) -> list[str]:
    """One condition for each image. Raises RequestError where the model needs one."""
    asked = options.condition or ([""] if not model.scheme.choices else [])
    if not asked:
        raise RequestError(
            f"{model.name} draws by condition, and none is given",
            field="--condition",
            fix=f"Say what the images show: {', '.join(model.scheme.choices[:10])}",
        )
    return [asked[k % len(asked)] for k in range(count)]


def _read(
    paths: list[Path], named: set[Path], texts: list[str], model: Model
) -> tuple[list[Path], list[str], np.ndarray]:
    """What can be read of the files, with their conditions and pixels [n c h w].

    One of a folder that cannot be is set aside by name; what is made grey is told once. Raises DataError for one that
    was `named` itself, and where nothing is left.
    """
    import numpy as np

    read: list[tuple[Path, str, np.ndarray]] = []
    grey = 0
    for path, text in zip(paths, texts, strict=True):
        try:
            pixels = _pixels(path, model, model.recipe.data.channels)
            grey += model.recipe.data.channels == 1 and _is_coloured(_pixels(path, model, 3))
        except DataError as error:
            if path in named:
                raise DataError(error.what, file=path, fix=error.fix) from error
            sys.stderr.write(f"Set aside: {path}: {error.what}\n")
        else:
            read.append((path, text, pixels))
    if not read:
        raise DataError(f"none of {len(paths):,} images can be read", file=paths[0].parent, fix="Look at these files")
    if grey:
        sys.stderr.write(f"{grey:,} of {len(read):,} images were made grey, as the model is.\n")
    return [path for path, *_ in read], [text for _, text, _ in read], np.stack([pixels for *_, pixels in read])


def _pixels(path: Path, model: Model, channels: int) -> np.ndarray:
    """[c h w] at the model's size."""
    from ...core.data.decode import to_pixels

    return to_pixels(path, model.recipe.data.model_copy(update={"channels": channels}))


def _is_coloured(pixels: np.ndarray) -> bool:
    """pixels: [3 h w]."""
    return bool((pixels != pixels[:1]).any())


def _measured(options: argparse.Namespace, model: Model, pixels: np.ndarray, texts: list[str]) -> Likelihood:
    import torch

    from ...core.data.unit import to_unit
    from ...core.generators import finish, retold
    from ...core.likelihood import likelihood

    arrays = to_unit(torch.from_numpy(pixels)).numpy()
    weights = model.drawing_weights(options.ema)
    turns = likelihood(weights, arrays, texts, steps=options.steps, probes=options.probes, seed=options.seed)
    with Meter(plain_console(stderr=True)) as meter:
        done = 0

        def tell(told: Likelihood | None) -> None:
            nonlocal done
            done = len(told.bits) if told else done
            meter.show("Measuring", done, len(texts))

        return finish(retold(turns, tell))


def _spoken(error: float) -> str:
    if error == 0:
        return "exact"
    return f"± {error:.3f}" if _known(error) else ""


def _known(error: float) -> float | None:
    return None if math.isnan(error) else error
