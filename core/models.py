"""Finding and opening models, and drawing from them in a few lines.

from imagen_workbench.core import open_model
model = open_model("digits")
drawn = model.draw(conditions=["7"], count=8, seed=7, guidance=1.5)
drawn.images[0].show()
"""

from __future__ import annotations

import datetime
import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .commands import Draw
from .data.source import Facts
from .denoisers.model import DenoisingModel, Weighted, build_model, load_weights
from .drawing import Weights, conditions_of, draw, images_per_call, with_indices, with_levels
from .errors import ModelError, RequestError, WorkbenchError
from .events import Drawn, ModelOpened
from .extensions import bundled_models, make_scheme
from .generators import finish
from .machine import choose_device, choose_precision, set_threads
from .recipe import REBUILT, Recipe
from .runs.checkpoint import (
    Checkpoint,
    checkpoints,
    read_checkpoint,
    read_model_file,
    weights_hash,
    write_model_file,
)
from .runs.files import write_atomically
from .runs.folder import Run, find_runs
from .runs.picture import film_bytes, grid, read_recipe, save_png, to_image
from .runs.snapshots import snapshots
from .training.posthoc import KeptAverages

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy as np
    import torch
    from PIL import Image
    from torch import Tensor

    from .conditioning import ConditioningScheme


TOGETHER = 128
"""Images of a large draw that are held in memory at once."""


@dataclass
class Model:
    """An opened model: its recipe, scheme, and the weights of each EMA by length (0: the raw ones)."""

    reference: str
    name: str
    recipe: Recipe
    scheme: ConditioningScheme
    module: DenoisingModel
    weights: dict[float, dict[str, Tensor]]
    device: torch.device
    step: int = 0
    trained: str = ""
    kept: KeptAverages | None = None
    """What other EMA lengths can be rebuilt from, for a run's model."""
    picture: dict[str, Any] = field(default_factory=dict)
    """The recipe of the picture that it was opened through, if it was."""
    _ready: Weights | None = None
    """What drew last, so that a redraw need not hash or rebuild."""

    @property
    def any_ema(self) -> bool:
        """Whether EMAs of other lengths can be rebuilt."""
        return self.kept is not None

    def stored_ema(self, length: float | None) -> float | None:
        """The length that the model carries and that this one names; None where it names none of them."""
        near = min(self.weights, key=lambda known: abs(known - (length or 0.0)))
        return near if length is not None and abs(near - length) <= 5e-4 else None

    def chosen_ema(self, length: float | None) -> float:
        """The EMA length that draws: None is the recipe's own. Raises ModelError where the model has not that one."""
        if length is None:
            first = self.recipe.training.emas[0]
            return min(self.weights, key=lambda known: abs(known - first))
        stored = self.stored_ema(length)
        if stored is not None:
            return stored
        if self.kept is not None and REBUILT[0] <= length <= REBUILT[1]:
            return length
        known = ", ".join(f"{each:g}" for each in sorted(self.weights, reverse=True))
        span = f", and any from {REBUILT[0]:g} to {REBUILT[1]:g}" if self.kept else ""
        raise ModelError(
            f"{self.name} has no EMA of length {length:g}",
            field="sampling.ema",
            fix=f"It has {known} (0: raw weights){span}",
        )

    def drawing_weights(self, ema: float | None = None) -> Weights:
        """What `draw` needs. Raises ModelError where the model cannot give this EMA length."""
        length = self.chosen_ema(ema)
        if self._ready is None or self._ready.ema != length:
            tensors = self._tensors(length)
            self._ready = Weights(
                Weighted(self.module, tensors),
                self.recipe,
                self.scheme,
                self.device,
                self.reference,
                self.name,
                weights_hash(tensors),
                length,
                self.step,
            )
        return self._ready

    def facts(self, ticket: int = 0) -> ModelOpened:
        """What a face shows of it."""
        return ModelOpened(
            ticket,
            self.reference,
            self.name,
            sum(parameter.numel() for parameter in self.module.parameters()),
            self.trained,
            self.step,
            self.drawing_weights().hash,
            self.recipe.data.size,
            self.recipe.data.channels,
            self.scheme.choices,
            self.scheme.vector_width > 0,
            tuple(sorted(self.weights)),
            self.chosen_ema(self.recipe.sampling.ema if self.kept else self.stored_ema(self.recipe.sampling.ema)),
            self.any_ema,
            self.recipe.sampling.model_dump(mode="json"),
        )

    def draw(self, conditions: Sequence[str] = (), count: int = 8, **sampling: Any) -> Drawing:
        """Draws `count` images; conditions are cycled, with none the classes come in turn.

        sampling: any of the recipe's sampling settings (seed, guidance, sampler, steps, …).
        Raises RecipeError or RequestError where a setting or a condition cannot be used.
        """
        settings = self.recipe.with_values({f"sampling.{key}": value for key, value in sampling.items()}).sampling
        return self._finish(Draw(0, self.reference, tuple(map(str, conditions)), count, settings), None)

    def draw_all(
        self, conditions: Sequence[str] = (), count: int = 8, first: int = 0, **sampling: Any
    ) -> Iterator[Drawing]:
        """As `draw`, for any number of images: some at a time, so that memory stays bounded.

        first: the image to begin with; image k is the same whatever is drawn beside it. Raises as `draw`.
        """
        settings = self.recipe.with_values({f"sampling.{key}": value for key, value in sampling.items()}).sampling
        asked = tuple(map(str, conditions)) or tuple(self.scheme.in_turn(max(1, len(self.scheme.choices))))
        weights = self.drawing_weights(settings.ema)
        texts = [asked[k % len(asked)] for k in range(images_per_call(self.recipe.data.size))]
        settings = finish(with_levels(weights, conditions_of(weights, texts)[0], settings, len(texts)))
        for start in range(first, count, TOGETHER):
            indices = tuple(range(start, min(start + TOGETHER, count)))
            texts = [asked[index % len(asked)] for index in indices]
            request = Draw(0, self.reference, tuple(texts), len(indices), settings, film=False)
            yield self._finish(request, indices)

    def draw_again(self) -> Drawing:
        """The picture's own draw, where the model was opened through a picture of ours."""
        if not self.picture:
            raise ModelError("was not opened through a picture", file=self.reference, fix="Open a PNG that we drew")
        return self._finish(*with_indices(Draw(0, self.reference), self.picture))

    def save(self, path: Path | str, *, ema: float | None = None, card: Mapping[str, Any] | None = None) -> None:
        """Writes the weights of one EMA length as a single-file model with recipe and card in its metadata.

        Raises ModelError where the model has no such length.
        """
        length = self.chosen_ema(ema)
        facts = {
            "recipe": self.recipe.to_toml(),
            "classes": list(self.scheme.facts.classes),
            "step": self.step,
            "ema": length,
            "name": self.name,
            "trained": self.trained,
            "card": dict(card or {}),
        }
        write_model_file(Path(path), self._tensors(length), facts)

    def _tensors(self, length: float) -> dict[str, Tensor]:
        """The weights of a length that `chosen_ema` has given: carried, or rebuilt."""
        if length in self.weights:
            return self.weights[length]
        assert self.kept is not None
        return {name: tensor.to(self.device) for name, tensor in self.kept.rebuilt(length).items()}

    def _finish(self, request: Draw, indices: tuple[int, ...] | None) -> Drawing:
        return Drawing(finish(draw(self.drawing_weights(request.sampling.ema), request, indices)))


@dataclass(frozen=True)
class Drawing:
    """A finished draw."""

    drawn: Drawn

    @property
    def arrays(self) -> np.ndarray:
        """[n c h w] float32 in [-1, 1]."""
        assert self.drawn.arrays is not None
        return self.drawn.arrays

    @property
    def images(self) -> list[Image.Image]:
        """PIL images."""
        assert self.drawn.images is not None
        return [to_image(pixels) for pixels in self.drawn.images]

    @property
    def labels(self) -> tuple[int, ...]:
        """[n] class numbers, -1 where there is none."""
        return self.drawn.labels

    @property
    def conditions(self) -> tuple[str, ...]:
        return self.drawn.conditions

    @property
    def recipe(self) -> dict[str, Any]:
        """Everything that makes the draw again."""
        return self.drawn.recipe

    def save(self, path: Path | str, columns: int = 0) -> None:
        """Writes all images as one PNG that carries the draw's recipe."""
        assert self.drawn.images is not None
        save_png(Path(path), grid(self.drawn.images, columns), self.recipe)

    def save_film(self, path: Path | str, columns: int = 0) -> None:
        """Writes the way from noise to the images as an animated GIF: x_t on the left, x̂_0 on the right."""
        drawn = self.drawn
        if drawn.film_x is None or drawn.film_x0 is None:
            raise RequestError("this draw kept no film", fix="Draw fewer images at once")
        write_atomically(Path(path), film_bytes(drawn.film_x, drawn.film_x0, columns))


def open_model(reference: str | Path, device: str = "auto") -> Model:
    """Opens a MODEL: a bundled name, a run folder, a checkpoint, a model file, or a PNG that we drew.

    Raises ModelError where it cannot be found or read.
    """
    set_threads()
    reference = str(reference)
    path = Path(reference).expanduser()
    if not path.exists() and reference in (bundled := bundled_models()):
        return _open_file(bundled[reference], reference, device)
    if path.is_dir():
        return _open_folder(path, device)
    if path.is_file() and path.suffix.lower() == ".png":
        return _open_picture(path, device)
    if path.is_file():
        return _open_file(path, str(path), device)
    named = [run for run in find_runs() if run.name == reference]
    if named:
        return _open_folder(named[0].path, device)
    known = [*bundled_models(), *(run.name for run in find_runs())]
    near = difflib.get_close_matches(reference, known, n=1)
    names = " or ".join(bundled_models()) or "a bundled name"
    fix = f"Did you mean {near[0]}?" if near else f"Give a run folder, a model file, a PNG of ours, or {names}"
    raise ModelError("no such model", file=reference, fix=fix)


def model_of_checkpoint(
    checkpoint: Checkpoint, recipe: Recipe, reference: str, name: str, device: str = "auto"
) -> Model:
    """The model in a saved state, with the weights of all its EMAs and the raw ones."""
    weights = {0.0: checkpoint.tensors("weights")}
    for file in checkpoint.names():
        if file.startswith("ema-"):
            weights[float(file.removeprefix("ema-"))] = checkpoint.tensors(file)
    trained = datetime.date.fromtimestamp((checkpoint.path / "state.json").stat().st_mtime).isoformat()
    facts = Facts(tuple(checkpoint.facts.get("classes", ())))
    model = _assembled(reference, name, recipe, facts, weights, device, checkpoint.step, trained, checkpoint.path)
    averages = {length: tensors for length, tensors in weights.items() if length}
    if len(averages) > 1:
        folder = Run(checkpoint.path.parent.parent).averages
        time = int(checkpoint.facts["seen"]) + int(checkpoint.facts.get("before", 0))
        model.kept = KeptAverages(time, averages, tuple(snapshots(folder, checkpoint.step)))
    return model


def _open_folder(path: Path, device: str) -> Model:
    """A run folder, or one of its checkpoints."""
    if (path / "state.json").is_file():
        checkpoint, run = read_checkpoint(path), Run(path.parent.parent)
        if checkpoint is None:
            raise ModelError("this checkpoint is not whole", file=path, fix="Use another one of the run")
        return model_of_checkpoint(checkpoint, run.recipe(), str(path), f"{run.name} at {checkpoint.step:,}", device)
    run = Run(path)
    recipe = run.recipe()
    saved = checkpoints(run.checkpoints)
    damaged: ModelError | None = None
    for checkpoint in saved:
        try:
            return model_of_checkpoint(checkpoint, recipe, str(path), run.name, device)
        except ModelError as error:
            damaged = damaged or error
    if damaged:
        raise damaged
    raise ModelError("this run has saved nothing yet", file=path, fix="Train it to its first checkpoint")


def _open_file(path: Path, reference: str, device: str) -> Model:
    tensors, facts = read_model_file(path)
    recipe = Recipe.from_toml(str(facts.get("recipe", "")), file=path)
    weights = {float(facts.get("ema", 0.0)): tensors}
    return _assembled(
        reference,
        str(facts.get("name", path.stem)),
        recipe,
        Facts(tuple(facts.get("classes", ()))),
        weights,
        device,
        int(facts.get("step", 0)),
        str(facts.get("trained", "")),
        path,
    )


def _open_picture(path: Path, device: str) -> Model:
    """The model that drew a picture: by its reference, if that still has the same weights; else by hash."""
    picture = read_recipe(path)
    wanted = picture.get("model", {})
    candidates = [str(wanted.get("reference", ""))]
    candidates += [name for name in bundled_models() if name not in candidates]
    candidates += [str(each.path) for run in find_runs() for each in checkpoints(run.checkpoints)]
    for candidate in candidates:
        try:
            model = open_model(candidate, device) if candidate and not candidate.lower().endswith(".png") else None
            if model and model.drawing_weights(picture.get("ema")).hash == wanted.get("hash"):
                model.picture = picture
                return model
        except WorkbenchError:
            continue  # whatever is there now, it did not draw the picture
    raise ModelError(
        f"the model that drew it ({wanted.get('name', 'unnamed')}) is not here, or has other weights now",
        file=path,
        fix=f"Bring back {wanted.get('reference', 'it')}, or name a model instead of the picture",
    )


def _assembled(
    reference: str,
    name: str,
    recipe: Recipe,
    facts: Facts,
    weights: dict[float, dict[str, Tensor]],
    device: str,
    step: int,
    trained: str,
    file: Path,
) -> Model:
    place = choose_device(device)
    scheme = make_scheme(recipe, facts)
    module = build_model(recipe, scheme, choose_precision(recipe.training, place))
    for tensors in weights.values():
        load_weights(module, tensors, file)
    module.eval().to(place)
    moved = {
        length: {key: tensor.to(place, copy=True) for key, tensor in group.items()} for length, group in weights.items()
    }
    return Model(reference, name, recipe, scheme, module, moved, place, step, trained)
