"""Coloured shapes as pixels: what each covers, exact to a quarter of a pixel, and its colour."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

PALETTE = {
    "red": (214, 32, 44),
    "orange": (244, 132, 16),
    "yellow": (250, 224, 36),
    "green": (36, 148, 60),
    "cyan": (32, 188, 208),
    "blue": (40, 72, 212),
    "purple": (140, 44, 164),
    "black": (28, 28, 32),
}
"""8-bit red, green and blue."""
RADII = {"small": 0.12, "large": 0.19}
"""As shares of the picture's side."""
REACH = 1.3
"""How far from its middle a shape of radius 1 goes at most."""
FINE = 4
"""Samples of a pixel across and down."""


class Coverage(NamedTuple):
    """Which rows and columns of a picture a shape may touch, and the share of each pixel that it covers: [t h w]."""

    rows: slice
    columns: slice
    share: np.ndarray


def coverage(shape: str, side: int, x: float, y: float, radius: float, turns: tuple[float, ...] = (0.0,)) -> Coverage:
    """A shape in a picture of side × side pixels, turned by each of t angles (radians, clockwise).

    x, y: where its centre of gravity is; radius: both in pixels.
    """
    rows, columns = _span(y, REACH * radius, side), _span(x, REACH * radius, side)
    down = (_samples(rows) - y) / radius
    across = (_samples(columns) - x) / radius
    angles = np.asarray(turns, np.float32)[:, None, None]
    cos, sin = np.cos(angles), np.sin(angles)
    inside = INSIDE[shape](cos * across + sin * down[:, None], cos * down[:, None] - sin * across)
    parts = inside.reshape(len(turns), rows.stop - rows.start, FINE, columns.stop - columns.start, FINE)
    share = parts.sum(axis=(2, 4), dtype=np.float32) / FINE**2
    return Coverage(rows, columns, share)


def paint(picture: np.ndarray, covered: Coverage, colour: np.ndarray) -> None:
    """Lays a colour [3] over a picture [h w 3] where a shape, turned one way, covers it."""
    part = picture[covered.rows, covered.columns]
    part += covered.share[0, :, :, None] * (colour - part)


@cache
def area(shape: str) -> float:
    """Of a shape of radius 1."""
    return float(coverage(shape, 320, 160.0, 160.0, 100.0).share.sum()) / 100**2


def _span(middle: float, reach: float, side: int) -> slice:
    start = min(max(0, math.floor(middle - reach)), side)
    return slice(start, max(start, min(side, math.ceil(middle + reach))))


def _samples(span: slice) -> np.ndarray:
    return (np.arange(span.start * FINE, span.stop * FINE, dtype=np.float32) + 0.5) / FINE


# --- the shapes -----------------------------------------------------------------------------------
# Of radius 1, their centre of gravity at the origin; x goes right, y down.


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return x * x + y * y <= 1.0


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    distance = x * x + y * y
    return (distance <= 1.1**2) & (distance >= 0.58**2)


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(abs(x), abs(y)) <= 0.9


def _diamond(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return abs(x) / 0.85 + abs(y) / 1.28 <= 1.0


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Equilateral, one corner up."""
    across = math.sqrt(3.0) * abs(x)
    return (y <= 0.65) & (across - y <= 1.3)


def _cross(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    x, y = abs(x), abs(y)
    return (np.minimum(x, y) <= 0.36) & (np.maximum(x, y) <= 1.12)


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Five points, one up, each folded onto a half of the first."""
    fifth = math.pi / 5
    angle = abs((np.arctan2(x, -y) + fifth) % (2 * fifth) - fifth)
    distance = np.hypot(x, y)
    along, beside = distance * np.cos(angle), distance * np.sin(angle)
    outer, inner = 1.28, 0.56
    tip = outer - inner * math.cos(fifth)
    return (outer - along) * inner * math.sin(fifth) >= beside * tip


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(x² + y² - 1)³ <= x² y³, upside down."""
    x, y = x / HEART, HEART_MIDDLE - y / HEART
    bulge = x * x + y * y - 1.0
    return bulge * bulge * bulge <= x * x * y * y * y


HEART, HEART_MIDDLE = 0.92, 0.2935

INSIDE: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "cross": _cross,
    "ring": _ring,
    "diamond": _diamond,
    "heart": _heart,
}
TURNED = frozenset(INSIDE) - {"circle", "ring"}
"""Shapes that look otherwise when they are turned a little."""
