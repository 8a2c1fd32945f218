"""Drawing: from a request and a model's weights to images, one network call at a time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .conditioning import Composition, composed_texts, each_tensor, tensors_of
from .errors import ModelError, RequestError, WorkbenchError
from .events import Drawn, Preview
from .machine import described_device, environment_now, memory_held
from .randomness import ImageNoise
from .recipe import Recipe
from .sampling.path import draw_path, levels_of, measured_levels

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from torch import Tensor

    from .commands import Draw
    from .conditioning import Condition, ConditioningScheme
    from .denoisers.model import Weighted
    from .recipe import Sampling
    from .sampling.samplers import Step

PIXELS_PER_CALL = 25_000
"""Pixels that go through the network at once; decides how many images one call holds."""
MOST_AGAIN = 100_000
"""A picture's recipe that asks for more images than this is not drawn again."""
FILM_BYTES = 64 << 20
"""A film larger than this is thinned to fewer steps."""


@dataclass(frozen=True)
class Weights:
    """A denoiser ready to draw from, and what a picture must say about it.

    reference: how the model was named; hash: over the weights; ema: their EMA length, 0 for raw ones.
    """

    denoiser: Weighted
    recipe: Recipe
    scheme: ConditioningScheme
    device: torch.device
    reference: str
    name: str
    hash: str
    ema: float
    step: int

    def identity(self) -> dict[str, Any]:
        """What a picture says of the weights that drew it."""
        return {"reference": self.reference, "name": self.name, "hash": self.hash, "step": self.step}


def images_per_call(size: tuple[int, int]) -> int:
    """How many images of this size go through the network at once."""
    return max(1, PIXELS_PER_CALL // (size[0] * size[1]))


def size_of(weights: Weights, settings: Sampling) -> tuple[int, int]:
    """(height, width) of what is drawn: as asked, or the data's. Raises RequestError where the model has only that."""
    own = weights.recipe.data.size
    if settings.size in (None, own):
        return own
    if weights.scheme.image_channels:
        raise RequestError(
            "the model is told by pictures of one size",
            field="sampling.size",
            fix=f"Draw {own[0]} × {own[1]}, or leave the size out",
        )
    return settings.size


@torch.no_grad()
def draw(
    weights: Weights, request: Draw, indices: tuple[int, ...] | None = None, pictures: np.ndarray | None = None
) -> Generator[Preview | None, None, Drawn]:
    """Draws what is asked; yields after every network call, returns the finished images.

    pictures: [n c h w] in [-1, 1], of a stage before this one, for a scheme that is told by pictures.
    All images go from level to level together, a few at a time. A yielded `Preview` holds x̂_0 of all;
    None means that some have not reached this level yet.
    Raises RequestError where a condition cannot be used.
    """
    began = time.perf_counter()
    recipe, scheme, settings = weights.recipe, weights.scheme, request.sampling
    indices = tuple(range(request.count)) if indices is None else indices
    if not indices:
        raise RequestError(f"{request.count} images cannot be drawn", fix="Ask for at least one")
    asked = request.conditions or scheme.in_turn(max(indices) + 1)
    texts = asked if len(asked) == len(indices) else [asked[index % len(asked)] for index in indices]
    texts = tuple(texts)
    cond, labels = conditions_of(weights, texts, ImageNoise(settings.seed, indices, "condition"), pictures)
    size = size_of(weights, settings)
    shape = (recipe.data.channels, *size)
    chunk = images_per_call(size)
    spans = [slice(start, start + chunk) for start in range(0, len(indices), chunk)]
    few = min(chunk, len(indices))
    settings = yield from with_levels(weights, cond[:few], settings, few)
    sigmas = levels_of(settings)
    last = len(sigmas) - 1

    film = _Film(last, recipe.model.sigma_data, (len(indices), *shape), kept=request.film)
    paths = [
        draw_path(weights.denoiser, cond[span], shape, indices[span], settings, sigmas, weights.device)
        for span in spans
    ]
    steps: list[Step] = []
    while True:
        steps = []
        for path in paths:
            step = next(path, None)
            if step is None:
                raise RuntimeError("a sampler ended before its last level")
            steps.append(step)
            if step.index < last and len(steps) < len(paths):
                yield None
        if steps[0].index == last:
            break
        if not steps[0].trial:
            x0 = torch.cat([step.x0 for step in steps])
            film.take(steps[0], torch.cat([step.x for step in steps]), x0)
            yield Preview(request.ticket, to_pixels(x0), steps[0].sigma, steps[0].index, last, steps[0].nfe)
        else:
            yield None

    x = torch.cat([step.x for step in steps])
    if not torch.isfinite(x).all():
        raise RequestError(
            "the draw ran away to infinity", field="sampling.guidance", fix="Lower the guidance or take more steps"
        )
    film.take(steps[0], x, x)
    arrays = x.float().clamp(-1, 1).cpu().numpy()
    films = film.arrays()
    return Drawn(
        request.ticket,
        images=to_pixels(x),
        arrays=arrays,
        film_x=films[0],
        film_x0=films[1],
        sigmas=films[2],
        labels=labels,
        conditions=texts,
        nfe=steps[0].nfe,
        seconds=time.perf_counter() - began,
        device=described_device(weights.device, None),
        memory=memory_held(),
        recipe=picture_recipe(weights, settings, indices, texts, chunk),
    )


def with_levels(
    weights: Weights, cond: Condition | Composition, settings: Sampling, count: int
) -> Generator[None, None, Sampling]:
    """The settings, with levels that must be measured written into them: with `count` images of these conditions."""
    if settings.grid != "measured" or settings.levels:
        return settings
    shape = (weights.recipe.data.channels, *size_of(weights, settings))
    sigmas = yield from measured_levels(weights.denoiser, cond, shape, count, settings, weights.device)
    return settings.model_copy(update={"levels": tuple(sigmas[:-1].tolist())})


def conditions_of(
    weights: Weights, texts: Sequence[str], noise: ImageNoise | None = None, pictures: np.ndarray | None = None
) -> tuple[Condition | Composition, tuple[int, ...]]:
    """What the denoiser is told about images with these conditions, and their classes: -1 for none, or several.

    noise: for schemes that need some; by default that of seed 0; pictures: as in `draw`. Raises RequestError where a
    text cannot be used.
    """
    scheme = weights.scheme
    composed = [composed_texts(text, scheme.choices) for text in texts]
    most = max(len(terms) for terms in composed)
    # an image with fewer terms than others gets its first one again, with weight 0
    padded = [[*terms, *[(0.0, terms[0][1])] * (most - len(terms))] for terms in composed]
    columns = [[terms[k][1] for terms in padded] for k in range(most)]
    prepared = [
        np.stack([scheme.parse(text) for text in column]) if pictures is None else scheme.of_pictures(pictures, column)
        for column in columns
    ]
    noise = noise or ImageNoise(0, tuple(range(len(texts))), "condition")
    shown = [scheme.for_drawing(tensors_of(each), noise) for each in prepared]
    encoded = [weights.denoiser.encoder(each_tensor(each, lambda part: part.to(weights.device))) for each in shown]
    labels = tuple(
        scheme.label(each) if len(terms) == 1 else -1 for terms, each in zip(composed, prepared[0], strict=True)
    )
    plain = most == 1 and all(terms[0][0] == 1 for terms in composed)
    if plain:
        return encoded[0], labels
    table = torch.tensor([[terms[k][0] for terms in padded] for k in range(most)], device=weights.device)
    return Composition(tuple(encoded), table), labels


def picture_recipe(
    weights: Weights, settings: Sampling, indices: tuple[int, ...], texts: tuple[str, ...], chunk: int
) -> dict[str, Any]:
    """Everything that makes the draw again: what a PNG of ours carries."""
    return {
        "version": 1,
        "model": weights.identity(),
        "ema": weights.ema,
        "sampling": settings.model_dump(mode="json", exclude_none=True),
        "conditions": list(texts),
        "indices": list(indices),
        "batch_layout": {"images_per_call": chunk},
        "environment": environment_now(weights.device, None),
    }


def to_pixels(x: Tensor) -> np.ndarray:
    """[n c h w] in [-1, 1] → [n h w c] uint8, to be looked at; values beyond are cut off.

    Of images that are neither grey nor colour, c is the first three channels, or the first of two.
    """
    if x.shape[1] not in (1, 3, 4):
        x = x[:, : 3 if x.shape[1] > 4 else 1]
    return (x.clamp(-1, 1) + 1).mul(127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


class _Film:
    """x_t and x̂_0 of every step, in view: x_t scaled to the data's spread at every level."""

    def __init__(self, last: int, spread: float, shape: tuple[int, ...], *, kept: bool) -> None:
        """spread: of the data; shape: of all images, [n c h w]."""
        self._stride = max(1, -(-2 * math.prod(shape) * (last + 1) // FILM_BYTES))
        self._last = last
        self._kept = kept
        self._spread = spread
        self._x: list[np.ndarray] = []
        self._x0: list[np.ndarray] = []
        self._sigmas: list[float] = []

    def take(self, step: Step, x: Tensor, x0: Tensor) -> None:
        if not self._kept or (step.index % self._stride and step.index != self._last):
            return
        scale = self._spread / (step.sigma**2 + self._spread**2) ** 0.5
        self._x.append(to_pixels(x * scale))
        self._x0.append(to_pixels(x0))
        self._sigmas.append(step.sigma)

    def arrays(self) -> tuple[np.ndarray | None, np.ndarray | None, tuple[float, ...]]:
        if not self._kept:
            return None, None, ()
        return np.stack(self._x), np.stack(self._x0), tuple(self._sigmas)


def with_indices(request: Draw, picture: dict[str, Any]) -> tuple[Draw, tuple[int, ...]]:
    """A picture's own request: the same settings, conditions and indices, to be drawn again.

    Raises ModelError where the picture's recipe is none of ours: whoever wrote the file, it is not to be trusted.
    """
    try:
        indices = tuple(int(index) for index in picture.get("indices", [0]))
        texts = tuple(str(text) for text in picture.get("conditions", []))
        settings = Recipe.of({"sampling": picture.get("sampling", {})}).sampling
    except (TypeError, ValueError, WorkbenchError) as error:
        raise ModelError(f"its recipe cannot be used: {error}", file=request.model) from error
    if not 0 < len(indices) <= MOST_AGAIN or not all(0 <= index < 2**63 for index in indices):
        raise ModelError(f"its recipe asks for {len(indices):,} images", file=request.model)
    return replace(request, conditions=texts, count=len(indices), sampling=settings), indices
