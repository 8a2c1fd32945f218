"""The pictures of docs/method.md: one function for each step of the method, returning a PNG file's bytes.

What is drawn is drawn by the bundled digits model; nothing here needs a screen.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image, ImageChops, ImageFilter

from imagen_workbench.core import Model, Recipe, open_model, train
from imagen_workbench.core.commands import Draw
from imagen_workbench.core.data.augment import augment, augmented
from imagen_workbench.core.data.unit import to_unit
from imagen_workbench.core.datasets import read
from imagen_workbench.core.drawing import draw, to_pixels
from imagen_workbench.core.generators import finish
from imagen_workbench.core.likelihood import likelihood
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.runs.picture import png_bytes, to_image
from imagen_workbench.core.sampling.path import levels_of
from imagen_workbench.workbench.presenters.draw_form import GRID_NAMES, SAMPLER_NAMES
from imagen_workbench.workbench.reports.pictures import captioned_grid, film_strip, labelled_grid
from imagen_workbench.workbench.reports.plots import BLUE, GREEN, INK, ORANGE, QUIET, new_figure, png_with_legend

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any, TypeVar

    from imagen_workbench.core.data.cache import Dataset

    Result = TypeVar("Result")

SEED = 7
CLASSES = tuple("0123456789")
QUICK: dict[str, Any] = {"sampler": "dpmpp-2m-sde", "steps": 20, "seed": SEED}
"""One network call a step, where the sampler is not what is shown."""


@dataclass(frozen=True)
class Material:
    """What the pictures are made of: a model, and the images that it was trained on. folder: for a run's files."""

    folder: Path

    @cached_property
    def model(self) -> Model:
        return open_model("digits")

    @cached_property
    def data(self) -> Dataset:
        return read(self.model.recipe)


def data_png(material: Material) -> bytes:
    """Training digits as they are read, and as augmentation shows them."""
    x0 = to_unit(torch.from_numpy(_one_of_each(material.data, material.data.train)))
    shifted = augment(x0, 3, generator(SEED, "shift"), flip=False)
    changed = [augmented(x0, 0.5, generator(SEED, "augment", attempt))[0] for attempt in range(2)]
    rows = torch.cat([x0, shifted, *changed])
    labels = ["as read", "shift 3", "augment 0.5", "once more"]
    return _png(labelled_grid(to_pixels(rows), labels, len(CLASSES)))


def start_png(material: Material) -> bytes:
    """The starting noise, and what it becomes at several temperatures."""
    temperatures = (0.6, 0.8, 1.0, 1.2)
    drawn = [
        material.model.draw(CLASSES, len(CLASSES), sampler="unipc", steps=16, seed=SEED, temperature=each).drawn
        for each in temperatures
    ]
    film = _shown(drawn[-2].film_x)
    images = np.concatenate([film[0], *(_shown(each.images) for each in drawn)])
    labels = ["noise", *(f"κ = {each:g}" for each in temperatures)]
    return _png(labelled_grid(images, labels, len(CLASSES)))


def levels_png(material: Material) -> bytes:
    """The noise levels of each grid, from the first step to the last."""
    settings = material.model.recipe.sampling
    count = 18
    figure, axes = new_figure(7.2, 3.4)
    looks = {"karras": (BLUE, "-"), "exponential": (ORANGE, "-"), "cosine": (GREEN, "-"), "flow": (QUIET, "-")}
    for key, name in GRID_NAMES:
        colour, line = looks.get(key, (INK, "--"))
        asked = {"grid": key, "steps": count, "sampler": "dpmpp-2m"}
        drawn = material.model.draw(CLASSES, len(CLASSES), **asked).drawn if key == "measured" else None
        levels = drawn.sigmas if drawn else levels_of(settings.model_copy(update=asked)).tolist()
        axes.plot(
            range(1, count + 1), levels[:count], line, color=colour, linewidth=1.6, marker=".", markersize=5, label=name
        )
    axes.set_yscale("log")
    axes.minorticks_off()
    axes.set_xticks(range(1, count + 1))
    axes.set_xlabel("step")
    axes.set_ylabel("σ")
    axes.yaxis.set_major_formatter(lambda value, _position: f"{value:g}")
    return png_with_legend(figure, axes)


@torch.no_grad()
def denoising_png(material: Material) -> bytes:
    """A digit that training never saw, with more and more noise, and what the denoiser makes of each."""
    model, data = material.model, material.data
    chosen = next(index for index in data.held_out if data.labels[index] == 3)
    sigmas = (0.02, 0.1, 0.2, 0.4, 0.7, 1.0, 1.5, 2.5, 5.0, 10.0, 40.0)
    x0 = to_unit(torch.from_numpy(data.pixels[[chosen]])).expand(len(sigmas), -1, -1, -1)
    level = torch.tensor(sigmas)
    noise = torch.randn(x0.shape[1:], generator=generator(SEED, "noise"))
    x = x0 + level[:, None, None, None] * noise
    weights = model.drawing_weights()
    without = weights.denoiser.encoder(torch.zeros(len(sigmas), dtype=torch.int64, device=model.device)).without()
    spread = model.recipe.model.sigma_data
    seen = x * (spread / torch.hypot(level, torch.tensor(spread)))[:, None, None, None]
    guess = weights.denoiser(x.to(model.device), level.to(model.device), without)
    return _png(film_strip(to_pixels(seen), to_pixels(guess), sigmas))


def condition_png(material: Material) -> bytes:
    """One noise under every condition, with growing guidance."""
    weights = (0.0, 1.0, 1.75, 3.0, 6.0)
    drawn = []
    for weight in weights:
        settings = material.model.recipe.with_values(
            {f"sampling.{key}": value for key, value in QUICK.items()} | {"sampling.guidance": weight}
        ).sampling
        request = Draw(0, "digits", CLASSES, len(CLASSES), settings, film=False)
        drawn.append(finish(draw(material.model.drawing_weights(), request, (2,) * len(CLASSES))))
    images = np.concatenate([_shown(each.images) for each in drawn])
    return _png(labelled_grid(images, [f"w = {each:g}" for each in weights], len(CLASSES)))


def density_png(material: Material) -> bytes:
    """The same seeds at several densities, each image over its quantile and its measured bits/dim."""
    columns, quantiles = 6, (0.15, 0.3, 0.5, 0.7, 0.85)
    asked = {"sampler": "heun", "churn": 0.0, "steps": 18, "seed": SEED, "guidance": 1.0}
    drawn = [material.model.draw(CLASSES, columns, **asked, density=quantile).drawn for quantile in quantiles]
    arrays = np.concatenate([_shown(each.arrays) for each in drawn])
    texts = [text for each in drawn for text in each.conditions]
    found = finish(likelihood(material.model.drawing_weights(), arrays, texts))
    captions = [f"q {q:g} · {bits:.2f}" for q, bits in zip(np.repeat(quantiles, columns), found.bits, strict=True)]
    images = np.concatenate([_shown(each.images) for each in drawn])
    return _png(captioned_grid(images, captions, [False] * len(images), columns, scale=3))


def samplers_png(material: Material) -> bytes:
    """One seed by samplers of the ODE and of the SDE, at equal network calls, and Langevin's with more of them."""
    names = dict(SAMPLER_NAMES) | {"dpmpp-2m-sde": "SDE-2M", "predictor-corrector": "PC"}
    rows: list[tuple[str, int, dict[str, Any]]] = [
        ("euler", 36, {}),
        ("heun", 18, {"churn": 0.0}),
        ("ddpm", 36, {}),
        ("dpmpp-2m-sde", 36, {}),
        ("predictor-corrector", 18, {}),
        ("langevin", 7, {}),
        ("langevin", 28, {}),
    ]
    labels, images = [], []
    for sampler, steps, more in rows:
        drawn = material.model.draw(CLASSES, len(CLASSES), sampler=sampler, steps=steps, seed=SEED, **more).drawn
        labels.append(f"{names[sampler]}, {drawn.nfe}")
        images.append(_shown(drawn.images))
    return _png(labelled_grid(np.concatenate(images), labels, len(CLASSES)))


def finetuning_png(material: Material) -> bytes:
    """The bundled model taught another task: the outlines of digits."""
    folder = material.folder / "outlines"
    for index in material.data.train[:1000]:
        _save_outline(folder, material.data, int(index))
    recipe = _finetuning_recipe(material.model.recipe, folder)
    run = train(recipe, material.folder / "run")
    rows = [("before", material.model)]
    rows += [(f"{step} steps", open_model(run.checkpoints / f"{step:08d}")) for step in (40, 120)]
    images = [_shown(model.draw(CLASSES, len(CLASSES), **QUICK).drawn.images) for _, model in rows]
    examples = to_pixels(to_unit(torch.from_numpy(_one_of_each(read(recipe), read(recipe).train))))
    labels = [name for name, _ in rows]
    sheet = np.concatenate([*images, examples])
    return _png(labelled_grid(sheet, [*labels, "data"], len(CLASSES)))


def grid_png(material: Material) -> bytes:
    """A hundred digits at the model's own settings, each row one class; the file carries the recipe of the draw."""
    texts = [text for text in CLASSES for _ in range(10)]
    drawn = material.model.draw(texts, len(texts), seed=SEED).drawn
    return png_bytes(labelled_grid(_shown(drawn.images), CLASSES, 10, scale=1), drawn.recipe)


def _finetuning_recipe(base: Recipe, folder: Path) -> Recipe:
    return base.with_values(
        {
            "name": "outlines",
            "data.source": "image-folder",
            "data.path": str(folder),
            "data.validation": 64,
            "finetune.base": "digits",
            "finetune.rate": 1.0,
            "training.steps": 120,
            "training.batch": 64,
            "training.micro_batch": 64,
            "training.checkpoint_every": 40,
            "training.validate_every": 1000,
            "training.preview_every": 1000,
            **{f"sampling.{key}": value for key, value in QUICK.items()},
        }
    )


def _save_outline(folder: Path, data: Dataset, index: int) -> None:
    """What surrounds a digit's strokes, as a PNG file in its class's folder."""
    digit = Image.fromarray(data.pixels[index, 0])
    place = folder / data.classes[data.labels[index]]
    place.mkdir(parents=True, exist_ok=True)
    ImageChops.subtract(digit.filter(ImageFilter.MaxFilter(3)), digit).save(place / f"{index}.png")


def _one_of_each(data: Dataset, among: np.ndarray) -> np.ndarray:
    """[classes c h w]: the first image of each class."""
    first = [next(index for index in among if data.labels[index] == label) for label in range(len(data.classes))]
    return data.pixels[first]


def _png(sheet: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    to_image(sheet).save(buffer, "PNG")
    return buffer.getvalue()


def _shown(array: np.ndarray | None) -> np.ndarray:
    assert array is not None
    return array


PICTURES = {
    "method-data.png": data_png,
    "method-start.png": start_png,
    "method-levels.png": levels_png,
    "method-denoising.png": denoising_png,
    "method-condition.png": condition_png,
    "method-density.png": density_png,
    "method-samplers.png": samplers_png,
    "method-finetuning.png": finetuning_png,
    "grid.png": grid_png,
}
"""By the file names in docs/images."""
