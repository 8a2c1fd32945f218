"""Coloured shapes, drawn as they are asked for, with captions that say exactly what there is.

`shapes_reading.py` reads the same out of a picture, so that it can be measured whether a model does as it is told.
"""

from __future__ import annotations

import itertools
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from imagen_workbench.core import Attribute, Example, RecipeError, Source

from .shapes_drawing import PALETTE, RADII, TURNED, coverage, paint
from .shapes_scenes import COLOURS, KINDS, NUMBERS, POSITIONS, RELATIONS, SHAPES, SIZES, Scene, captions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Self, TypeVar

    Choice = TypeVar("Choice")

FORMAT = 1
"""Rises when the same options would give other pictures."""
SIDES = (32, 128)
"""Sides of the smallest and the largest picture, in pixels."""

# all in shares of the picture's side
LINES = {"left": 0.28, "top": 0.28, "right": 0.72, "bottom": 0.72}
"""Where the outer positions are; the others are in the middle."""
STRAY = 0.025
"""How far an object is from its place at most, across and down."""
APART = 0.23
"""From the middle of a pair to each of the two."""
SPOTS = ((0.25, 0.25), (0.75, 0.25), (0.25, 0.75), (0.75, 0.75), (0.5, 0.5))
"""Where a group's objects can be."""

STRETCH = 0.05
"""A radius is so much larger or smaller, as a share of itself."""
TURN = 0.2
"""Objects are turned by so much at most, in radians."""
TINGE = 8.0
"""Each of a colour's three values is off by so much at most, of 255."""
GROUND = (208.0, 248.0)
"""How light the background is, of 255."""


class ShapesOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(20_000, ge=1, le=10_000_000, title="Images", description="How many to draw.")
    singles: float = Field(
        0.6, ge=0, le=1, title="Single objects", description="Share of pictures of one object; the three are weighed."
    )
    pairs: float = Field(0.2, ge=0, le=1, title="Pairs", description="Share of pictures of two, one beside the other.")
    groups: float = Field(0.2, ge=0, le=1, title="Groups", description="Share of pictures of two to five alike.")
    held_combinations: float = Field(
        0.0,
        ge=0,
        le=0.5,
        title="Held combinations",
        description="Share of the pairs of shape and colour that no picture has, to see whether a model combines.",
    )
    seed: int = Field(0, ge=0, le=2**63 - 1, title="Seed", description="Another one gives other pictures.")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.singles + self.pairs + self.groups == 0:
            raise ValueError("singles, pairs and groups are all 0; raise one of them")
        return self


class CaptionedShapes(Source):
    """Square pictures of 32 to 128 pixels; the shape is the class. Nothing is read: index and options decide all."""

    title = "Captioned shapes"
    summary = "Coloured shapes, alone, in pairs and in groups, with exact captions; drawn as they are needed."
    licence = "CC0 1.0"
    defaults = {"size": [32, 32], "channels": 3, "validation": 1000}  # noqa: RUF012
    Options = ShapesOptions
    options: ShapesOptions

    def __init__(self, settings: Any, options: BaseModel) -> None:
        super().__init__(settings, options)
        height, width = settings.size
        if height != width or not SIDES[0] <= height <= SIDES[1]:
            raise RecipeError(
                f"captioned shapes are not drawn at {height} × {width} pixels",
                field="data.size",
                fix=f"Choose a square of {SIDES[0]} to {SIDES[1]} pixels",
            )
        if settings.channels < 3:
            raise RecipeError("the captions tell of colours", field="data.channels", fix="Choose 3")
        if settings.flip:
            raise RecipeError("the captions tell left from right", field="data.flip", fix="Choose false")

    @property
    def classes(self) -> tuple[str, ...]:
        return SHAPES

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return (
            Attribute("kind", KINDS),
            Attribute("shape", SHAPES),
            Attribute("colour", COLOURS),
            Attribute("position", POSITIONS),
            Attribute("size", SIZES),
            Attribute("relation", RELATIONS),
            Attribute("other_shape", SHAPES),
            Attribute("other_colour", COLOURS),
            Attribute("count", low=1, high=max(NUMBERS.values())),
        )

    @property
    def fields(self) -> tuple[str, ...]:
        return ("image", "label", "caption", "attributes")

    @cached_property
    def held(self) -> tuple[tuple[str, str], ...]:
        """(shape, colour) that no picture has, whatever the seed: spread evenly over shapes and colours."""
        return combinations()[: held_count(self.options.held_combinations)]

    @cached_property
    def shown(self) -> tuple[tuple[str, str], ...]:
        """The other (shape, colour)."""
        return combinations()[len(self.held) :]

    def __len__(self) -> int:
        return self.options.count

    def __getitem__(self, index: int) -> Example:
        scene, chance = self._scene(index)
        caption = _one_of(chance, captions(scene))
        picture = picture_of(scene, self.settings.size[0], chance)
        label = SHAPES.index(scene.shape)
        return Example(picture, label, self.name_of(index), caption, attributes_of(scene))

    def scene(self, index: int) -> Scene:
        """What example `index` shows."""
        return self._scene(index)[0]

    def name_of(self, index: int) -> str:
        return f"shapes {index}"

    def fingerprint(self) -> str:
        return f"captioned shapes {FORMAT}, {self.settings.size[0]} px, {self.options.model_dump_json()}"

    def _scene(self, index: int) -> tuple[Scene, np.random.Generator]:
        """The scene, and the chance that decides the rest."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        chance = np.random.default_rng((FORMAT, self.options.seed, index))
        weights = (self.options.singles, self.options.pairs, self.options.groups)
        kind = KINDS[_weighed(chance, weights)]
        at = _below(chance, len(self.shown))
        shape, colour = self.shown[at]
        if kind == "pair":
            other = (at + 1 + _below(chance, len(self.shown) - 1)) % len(self.shown)
            return Scene(shape, colour, "", "", _one_of(chance, RELATIONS), *self.shown[other]), chance
        if kind == "group":
            return Scene(shape, colour, count=_one_of(chance, tuple(NUMBERS.values()))), chance
        return Scene(shape, colour, _one_of(chance, POSITIONS), _one_of(chance, SIZES)), chance


def combinations() -> tuple[tuple[str, str], ...]:
    """All (shape, colour), so that a part from the beginning has each shape and each colour about equally often."""
    step = 3  # has no factor in common with their number, so that each colour comes once in a round
    return tuple(
        (shape, COLOURS[(step * at + turn) % len(COLOURS)])
        for turn in range(1, 1 + len(COLOURS))
        for at, shape in enumerate(SHAPES)
    )


def held_count(share: float) -> int:
    """Of the combinations; a share above 0 holds at least one."""
    return max(round(share * len(combinations())), int(share > 0))


def attributes_of(scene: Scene) -> dict[str, str | float]:
    """What is said of a scene, by name; of a group and of a single object also how many there are."""
    said: dict[str, str | float] = {
        "kind": scene.kind,
        "shape": scene.shape,
        "colour": scene.colour,
        "position": scene.position,
        "size": scene.size,
        "relation": scene.relation,
        "other_shape": scene.other_shape,
        "other_colour": scene.other_colour,
    }
    return {name: value for name, value in said.items() if value} | {"count": 2.0 if scene.relation else scene.count}


# --- pictures -------------------------------------------------------------------------------------


def picture_of(scene: Scene, side: int, chance: np.random.Generator) -> np.ndarray:
    """[side side 3] uint8: all that a scene does not say, `chance` decides."""
    tone = _between(chance, *GROUND)
    picture = np.empty((side, side, 3), np.float32)
    picture[:] = [tone + _between(chance, -TINGE / 2, TINGE / 2) for _ in range(3)]
    for shape, colour, x, y, radius in _objects(scene, chance):
        turn = _between(chance, -TURN, TURN) if shape in TURNED else 0.0
        tint = np.array([value + _between(chance, -TINGE, TINGE) for value in PALETTE[colour]], np.float32)
        paint(picture, coverage(shape, side, x * side, y * side, radius * side, (turn,)), tint)
    return np.rint(picture.clip(0, 255)).astype(np.uint8)


def _objects(scene: Scene, chance: np.random.Generator) -> Iterator[tuple[str, str, float, float, float]]:
    """(shape, colour, x, y, radius) of each object, in shares of the side."""
    for (shape, colour), (x, y) in zip(_things(scene), _places(scene, chance), strict=True):
        radius = RADII[scene.size or "small"] * _between(chance, 1 - STRETCH, 1 + STRETCH)
        yield shape, colour, x + _between(chance, -STRAY, STRAY), y + _between(chance, -STRAY, STRAY), radius


def _things(scene: Scene) -> list[tuple[str, str]]:
    if scene.kind == "pair":
        return [(scene.shape, scene.colour), (scene.other_shape, scene.other_colour)]
    return [(scene.shape, scene.colour)] * scene.count


def _places(scene: Scene, chance: np.random.Generator) -> list[tuple[float, float]]:
    """(x, y) of each object, before it strays."""
    if scene.kind == "single":
        return [place_of(scene.position)]
    if scene.kind == "group":
        order = np.argsort(chance.random(len(SPOTS)), kind="stable")
        return [SPOTS[at] for at in order[: scene.count]]
    along, across = 0.5 + _between(chance, -STRAY, STRAY), 0.5 + _between(chance, -0.15, 0.15)
    sign = -1 if scene.relation in ("left of", "above") else 1
    pair = [(along + sign * APART, across), (along - sign * APART, across)]
    return pair if scene.relation in ("left of", "right of") else [(x, y) for y, x in pair]


def place_of(position: str) -> tuple[float, float]:
    """(x, y) that a position means, in shares of the side."""
    words = position.split()
    x = next((LINES[word] for word in words if word in ("left", "right")), 0.5)
    y = next((LINES[word] for word in words if word in ("top", "bottom")), 0.5)
    return x, y


# --- chance ---------------------------------------------------------------------------------------
# All of it by `random()`, whose numbers are the same in every version of numpy.


def _between(chance: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * chance.random()


def _below(chance: np.random.Generator, count: int) -> int:
    return int(chance.random() * count)


def _one_of(chance: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    return choices[_below(chance, len(choices))]


def _weighed(chance: np.random.Generator, weights: Sequence[float]) -> int:
    """The index of one of the weights, each as likely as it is heavy."""
    mark = chance.random() * sum(weights)
    ends = itertools.accumulate(weights)
    return next(at for at, end in enumerate(ends) if mark < end)
