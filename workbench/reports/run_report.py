"""What is made of a finished run: a labelled grid, a film strip, the loss curve, and a page about it all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...core.datasets import read
from ...core.drawing import to_pixels
from ...core.evaluation.copies import copies
from ...core.evaluation.images import StoredImages
from ...core.models import open_model
from ...core.runs.files import write_atomically
from ...core.runs.picture import png_bytes
from ..presenters.curves import CurveReader
from ..presenters.numbers import short_count, spoken_time
from .page import Figure, Part, page
from .pictures import film_strip, labelled_grid
from .plots import distances_png, loss_png

if TYPE_CHECKING:
    from pathlib import Path

    from ...core.evaluation.copies import Copies
    from ...core.models import Drawing, Model
    from ...core.runs.folder import Run


@dataclass(frozen=True)
class RunReport:
    """The files that were written, and the figures behind them."""

    grid: Path
    film: Path
    loss: Path
    page: Path
    drawing: Drawing
    copies: Copies | None


def write_report(run: Run, columns: int = 10) -> RunReport:
    """Draws from the run's newest state and writes `grid.png`, `film.png`, `loss.png` and `report.html` into it."""
    model = open_model(run.path)
    choices = model.scheme.choices
    rows = choices[:10] if choices else ("",) * columns
    texts = [text for text in rows for _ in range(columns)]
    drawing = model.draw(texts, len(texts), seed=model.recipe.sampling.seed)
    strip = model.draw(texts[::columns], min(len(rows), 10), seed=model.recipe.sampling.seed)
    assert drawing.drawn.images is not None
    assert strip.drawn.film_x is not None
    assert strip.drawn.film_x0 is not None

    which = min(7, len(rows) - 1)
    grid_png = png_bytes(labelled_grid(drawing.drawn.images, rows if choices else (), columns), drawing.recipe)
    strip_pixels = film_strip(strip.drawn.film_x[:, which], strip.drawn.film_x0[:, which], strip.drawn.sigmas)
    strip_png = png_bytes(strip_pixels, strip.recipe | {"indices": [which], "conditions": [strip.conditions[which]]})
    curves = CurveReader(run.path).read()
    curve_png = loss_png(curves)
    data = read(model.recipe)
    train, held_out = (StoredImages(data, which) for which in (data.train, data.held_out))
    found = copies(drawing.arrays, train, held_out) if len(held_out) else None

    paths = {name: run.path / name for name in ("grid.png", "film.png", "loss.png", "report.html")}
    write_atomically(paths["grid.png"], grid_png)
    write_atomically(paths["film.png"], strip_png)
    write_atomically(paths["loss.png"], curve_png)
    parts = [
        Part(
            "Drawn by the model",
            _drawn_words(model, drawing),
            (Figure(grid_png, "A grid of drawn images", _carried()),),
        ),
        Part(
            "From noise to image",
            "Above, the image on its way at falling noise levels σ; below, what the network takes it for there.",
            (Figure(strip_png, "A film strip of denoising", _carried()),),
        ),
        Part("Training", "", (Figure(curve_png, "Loss over training"),), _training_rows(run, model)),
    ]
    if found is not None:
        firsts = np.arange(0, len(drawing.labels), columns)
        nearest = to_pixels(torch.from_numpy(train[found.nearest[firsts]]))
        pairs = png_bytes(
            labelled_grid(np.concatenate([drawing.drawn.images[firsts], nearest]), ("drawn", "nearest"), len(nearest)),
            drawing.recipe | {"indices": firsts.tolist(), "conditions": [drawing.conditions[k] for k in firsts]},
        )
        parts.append(
            Part(
                "Copying or learning",
                copies_words(found),
                (
                    Figure(distances_png(found.generated, found.held_out), "Distances to the nearest training image"),
                    Figure(pairs, "Drawn images and their nearest training images", "Drawn, and nearest in training."),
                ),
            )
        )
    parts.append(Part("Recipe", "", code=model.recipe.to_toml()))
    subtitle = f"{short_count(model.facts().weights)} weights · step {model.step:,} · trained {model.trained}"
    write_atomically(paths["report.html"], page(run.name, subtitle, parts))
    return RunReport(paths["grid.png"], paths["film.png"], paths["loss.png"], paths["report.html"], drawing, found)


def copies_words(found: Copies, mark: float = 0.05) -> str:
    """The copy rate in a sentence. mark: the share of held-out images that are called near."""
    return (
        f"{found.near(mark):.0%} of {len(found.generated):,} drawn images lie nearer to a training image than the "
        f"nearest {mark:.0%} of {len(found.held_out):,} held-out ones do (by chance {mark:.0%} "
        f"± {2 * found.standard_error(mark):.0%}); the median distance is {found.ratio:.2f} of theirs."
    )


def _carried() -> str:
    return "The picture carries its recipe: save it and draw it again with `imagen-workbench sample`."


def _drawn_words(model: Model, drawing: Drawing) -> str:
    settings = drawing.recipe["sampling"]
    return (
        f"{len(drawing.labels)} images, sampler {settings['sampler']}, {settings['steps']} steps, "
        f"guidance {settings['guidance']:g}, seed {settings['seed']}, "
        f"{drawing.drawn.seconds:.1f} s on {model.device.type}."
    )


def _training_rows(run: Run, model: Model) -> tuple[tuple[str, str], ...]:
    records = run.records()
    started = next((record for record in records if record["kind"] == "started"), {})
    finished = next((record for record in reversed(records) if record["kind"] == "finished"), {})
    held = [record["loss"] for record in records if record["kind"] == "held_out"]
    rates = [record["images_per_second"] for record in records if record["kind"] == "step"]
    facts = run.read_json("dataset.json")
    rows = [
        ("first weights", f"{started.get('weights', 'unknown')}, seed {started.get('seed', '')}"),
        ("images", f"{facts.get('training', 0):,} to train, {facts.get('held_out', 0):,} held out"),
        ("set aside", f"{len(facts.get('set_aside', [])):,}"),
        ("steps", f"{model.step:,} of {model.recipe.training.batch} images"),
    ]
    if held:
        rows.append(("held-out loss", f"{held[0]:.3f} at first, {held[-1]:.3f} at last"))
    if rates:
        rows.append(("speed", f"{np.median(rates):,.0f} images/s"))
    if finished:
        rows.append(("time", spoken_time(finished["seconds"])))
    return tuple(rows)
