"""Reads coloured shapes out of a picture, to tell whether it shows what was asked for.

By synthesis: a patch of colour is compared with every shape, drawn where the patch is and as large as it is. What
cannot be told is None rather than a guess. It knows no network, and serves for drawn pictures and for a model's, which
have noise, blur and specks.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from .captioned_shapes import place_of
from .shapes_drawing import PALETTE, RADII, TURNED, area, coverage
from .shapes_scenes import COLOURS, POSITIONS, SHAPES, Scene, scene_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SIDE = 32
"""Pictures are read at this size, in pixels."""
BLUR = 0.6
"""Standard deviation of the smoothing, in pixels of that size."""
LIGHT = 0.6
"""A background has to be lighter than this in each channel, in [0, 1]."""
HALF = 0.5
"""How much of a pixel an object covers to belong to a patch."""
SPECK = 10.0
"""Patches of fewer pixels are no objects."""
AROUND = 2
"""Pixels around a patch that may hold its soft edge."""
CORE = 0.8
"""Pixels covered by more than this, compared with the patch's most, tell its colour."""
FAINT = 0.55
"""A core that has less of a colour than this has none."""
OFF_COLOUR = 0.1
"""A core further from every colour of the palette has none of them: root mean square, in [0, 1], of the channels."""
UNLIKE = 0.12
"""A patch that differs more from each shape is none of them: squared error, as a share of the shape's square."""
TURNS = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""Angles at which shapes are compared, in radians."""
LARGE = (RADII["small"] * RADII["large"]) ** 0.5
PLAUSIBLE = (0.7 * RADII["small"], 1.35 * RADII["large"])
"""Radii between which an object has a size, as shares of the side."""
PAIR = ("shape", "colour", "other_shape", "other_colour", "relation")
"""What is asked of a pair."""
STEEP = 1.5
"""One is beside the other where it is further across than so many times down, and the other way round."""


@dataclass(frozen=True)
class Thing:
    """An object in a picture; None: cannot be told. x, y, radius: shares of the picture's side."""

    shape: str | None
    colour: str | None
    x: float
    y: float
    radius: float

    @cached_property
    def position(self) -> str:
        """The nearest one."""

        def distance(position: str) -> float:
            x, y = place_of(position)
            return (x - self.x) ** 2 + (y - self.y) ** 2

        return min(POSITIONS, key=distance)

    @property
    def size(self) -> str | None:
        if self.shape is None or not PLAUSIBLE[0] <= self.radius <= PLAUSIBLE[1]:
            return None
        return "large" if self.radius > LARGE else "small"


def things_in(picture: np.ndarray) -> tuple[Thing, ...]:
    """The objects in a picture [h w 3] uint8, the largest first; none where there is no light background."""
    pixels = _smoothed(picture)
    ground = np.median(pixels.reshape(3, -1), axis=1)
    if ground.min() < LIGHT:
        return ()
    change = pixels - ground[:, None, None]
    shares, misses = _unmixed(change, ground)
    nearest = misses.argmin(0)
    mask = np.take_along_axis(shares, nearest[None], 0)[0] > HALF
    found = (_thing(patch, mask & ~patch, shares, misses) for patch in _patches(mask))
    return tuple(sorted(filter(None, found), key=lambda thing: -thing.radius))


def right(things: Sequence[Thing], wanted: Scene | str) -> dict[str, bool]:
    """What is as wanted, by name: of a scene or caption, all that it says.

    single: shape, colour, position, size, all wrong unless there is one object. pair: shape, colour, other_shape,
    other_colour, relation, all wrong unless there are two. group: count; shape and colour of every object.
    """
    scene = scene_of(wanted) if isinstance(wanted, str) else wanted
    if scene.kind == "pair":
        orders = [(things[0], things[1]), (things[1], things[0])] if len(things) == 2 else []
        told = [_pair_right(*order, scene) for order in orders]
        wrong: dict[str, bool] = dict.fromkeys(PAIR, False)
        return max(told, key=lambda each: sum(each.values()), default=wrong)
    if scene.kind == "group":
        return {
            "count": len(things) == scene.count,
            "shape": bool(things) and all(thing.shape == scene.shape for thing in things),
            "colour": bool(things) and all(thing.colour == scene.colour for thing in things),
        }
    names = [name for name in ("shape", "colour", "position", "size") if getattr(scene, name)]
    return {name: len(things) == 1 and getattr(things[0], name) == getattr(scene, name) for name in names}


def _pair_right(first: Thing, second: Thing, scene: Scene) -> dict[str, bool]:
    return {
        "shape": first.shape == scene.shape,
        "colour": first.colour == scene.colour,
        "other_shape": second.shape == scene.other_shape,
        "other_colour": second.colour == scene.other_colour,
        "relation": relation(first, second) == scene.relation,
    }


def relation(first: Thing, second: Thing) -> str | None:
    """Where the first is from the second; None where it is askew."""
    across, down = first.x - second.x, first.y - second.y
    if abs(across) > STEEP * abs(down):
        return "left of" if across < 0 else "right of"
    if abs(down) > STEEP * abs(across):
        return "above" if down < 0 else "below"
    return None


# --- from pixels to objects -----------------------------------------------------------------------


def _smoothed(picture: np.ndarray) -> np.ndarray:
    """[h w 3] uint8 → [3 SIDE SIDE] in [0, 1]."""
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ValueError(f"a picture is [h w 3] uint8, not {list(picture.shape)} {picture.dtype}")
    if picture.shape[:2] != (SIDE, SIDE):
        picture = np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))
    return _blurred(picture.transpose(2, 0, 1).astype(np.float32) / 255)


def _blurred(planes: np.ndarray) -> np.ndarray:
    """[... SIDE SIDE] → the same, smoothed."""
    return _kernel() @ planes @ _kernel().T


@cache
def _kernel() -> np.ndarray:
    """[SIDE SIDE]: a Gaussian around each place, its edge repeated."""
    at = np.arange(SIDE)
    padded = np.arange(-AROUND - 1, SIDE + AROUND + 1)
    weights = np.exp(-0.5 * ((padded - at[:, None]) / BLUR) ** 2)
    kernel = np.zeros((SIDE, SIDE))
    np.add.at(kernel.T, padded.clip(0, SIDE - 1), weights.T)
    return (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)


def _unmixed(change: np.ndarray, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """change: [3 h w] from the background → for each colour, how much of it is there, and what that leaves unexplained.

    Both [colours h w]; the second as squared distance.
    """
    colours = np.array([PALETTE[colour] for colour in COLOURS], np.float32) / 255 - ground
    square = (colours * colours).sum(1)[:, None, None]
    along = np.tensordot(colours, change, 1)
    shares = along / square
    taken = shares.clip(0.0, 1.15)
    misses = (change * change).sum(0) - 2 * taken * along + taken * taken * square
    return shares, misses.clip(0.0)


def _patches(mask: np.ndarray) -> Iterator[np.ndarray]:
    """The connected parts of a mask [h w], each as a mask."""
    labels = np.where(mask, np.arange(1, mask.size + 1).reshape(mask.shape), 0)
    while True:
        spread = np.where(mask, _largest_near(labels), 0)
        if np.array_equal(spread, labels):
            break
        labels = spread
    for label in np.unique(labels[mask]):
        yield labels == label


def _largest_near(values: np.ndarray) -> np.ndarray:
    """Of each place and its four neighbours. [h w]"""
    wide = np.pad(values, 1)
    return np.maximum.reduce([values, wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]])


def _thing(patch: np.ndarray, others: np.ndarray, shares: np.ndarray, misses: np.ndarray) -> Thing | None:
    """The object that a patch [h w] is of; None for a speck. others: the other patches, which it does not reach."""
    within = patch
    for _ in range(AROUND):
        within = _largest_near(within)
    within = within & ~others
    at, colour = _colour(patch, shares, misses)
    share = np.where(within, shares[at].clip(-0.3, 1.15), 0.0)
    covered = float(share.sum())
    if covered < SPECK:
        return None
    middles = np.arange(SIDE) + 0.5
    x, y = float(share.sum(0) @ middles) / covered, float(share.sum(1) @ middles) / covered
    shape, radius = _shape(share, covered, x, y)
    return Thing(shape, colour, x / SIDE, y / SIDE, radius / SIDE)


def _colour(patch: np.ndarray, shares: np.ndarray, misses: np.ndarray) -> tuple[int, str | None]:
    """The colour that explains a patch's core best, and its name unless it does not do so well enough."""
    nearest = np.take_along_axis(shares, misses.argmin(0)[None], 0)[0]
    core = patch & (nearest >= CORE * nearest[patch].max())
    unexplained = misses[:, core].mean(1)
    at = int(unexplained.argmin())
    is_clear = shares[at, core].mean() >= FAINT and (unexplained[at] / 3) ** 0.5 <= OFF_COLOUR
    return at, COLOURS[at] if is_clear else None


def _shape(share: np.ndarray, covered: float, x: float, y: float) -> tuple[str | None, float]:
    """The shape that is most like a patch, or None where none is; and its radius in pixels."""
    found = {shape: (covered / area(shape)) ** 0.5 for shape in SHAPES}
    errors = {shape: _unlikeness(share, shape, x, y, radius) for shape, radius in found.items()}
    best = min(SHAPES, key=errors.__getitem__)
    return best if errors[best] <= UNLIKE else None, found[best]


def _unlikeness(share: np.ndarray, shape: str, x: float, y: float, radius: float) -> float:
    """How far a patch is from a shape of the same size and place, at the best of the angles."""
    turns = TURNS if shape in TURNED else (0.0,)
    drawn = np.zeros((len(turns), SIDE, SIDE), np.float32)
    covered = coverage(shape, SIDE, x, y, radius, turns)
    drawn[:, covered.rows, covered.columns] = covered.share
    drawn = _blurred(drawn)
    error = ((drawn - share) ** 2).sum((1, 2)) / (drawn**2).sum((1, 2))
    return float(error.min())
