"""`imagen-workbench likelihood`: how likely images are under a model."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from ...core.errors import DataError, RecipeError, RequestError

if TYPE_CHECKING:
    import numpy as np

    from ...core.likelihood import Likelihood
    from ...core.models import Model


def add_to(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command."""
    command = commands.add_parser("likelihood", help="how likely images are under a model, in bits per dimension")
    command.add_argument("model", metavar="MODEL", help="a bundled name, a run folder, a checkpoint, or a model file")
    command.add_argument(
        "images", metavar="IMAGE", nargs="+", type=Path, help="image files, brought to the model's size"
    )
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
    texts = _texts(options, model)
    found = _measured(options, model, texts)
    rows = list(zip(options.images, texts, found.bits, found.error, found.nats, strict=True))
    if options.json:
        images = [
            {"file": str(path), "condition": text, "bits_per_dim": bits, "error": _known(error), "nats": nats}
            for path, text, bits, error, nats in rows
        ]
        about = {"model": model.name, "sigma": found.sigma, "steps": found.steps, "probes": found.probes}
        sys.stdout.write(json.dumps({**about, "images": images}, ensure_ascii=False, indent=2) + "\n")
        return 0
    from ..listings import table

    cells = [(str(path), text, f"{bits:.3f}", _spoken(error), f"{nats:,.1f}") for path, text, bits, error, nats in rows]
    console = Console(highlight=False)
    console.print(table(("image", "condition", "bits/dim", "", "ln p"), cells), soft_wrap=True)
    console.print(
        f"ln p at noise level {found.sigma:g}, in images of [-1, 1], without guidance; fewer bits, more likely."
    )
    return 0


def _texts(options: argparse.Namespace, model: Model) -> list[str]:
    """One condition for each image. Raises RequestError where the model needs one."""
    asked = options.condition or ([""] if not model.scheme.choices else [])
    if not asked:
        raise RequestError(
            f"{model.name} draws by condition, and none is given",
            field="--condition",
            fix=f"Say what the images show: {', '.join(model.scheme.choices[:10])}",
        )
    return [asked[k % len(asked)] for k in range(len(options.images))]


def _measured(options: argparse.Namespace, model: Model, texts: list[str]) -> Likelihood:
    import numpy as np
    import torch

    from ...core.data.unit import to_unit
    from ...core.generators import finish
    from ...core.likelihood import likelihood

    pixels = np.stack([_pixels(path, model) for path in options.images])
    arrays = to_unit(torch.from_numpy(pixels)).numpy()
    weights = model.drawing_weights(options.ema)
    return finish(likelihood(weights, arrays, texts, steps=options.steps, probes=options.probes, seed=options.seed))


def _pixels(path: Path, model: Model) -> np.ndarray:
    from ...core.data.decode import to_pixels

    try:
        return to_pixels(path, model.recipe.data)
    except DataError as error:
        raise DataError(error.what, file=path, fix=error.fix) from error


def _spoken(error: float) -> str:
    if error == 0:
        return "exact"
    return f"± {error:.3f}" if _known(error) else ""


def _known(error: float) -> float | None:
    return None if math.isnan(error) else error
