"""How far density guidance can be asked to go. Free of torch, for faces."""

from __future__ import annotations

import math
from statistics import NormalDist


def density_limits(dimension: int, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """The lowest and the highest quantile q that density guidance bears on images of `dimension` values.

    On its way ln p changes by sqrt(2 d) Phi^-1(q) ln(sigma_max / sigma_min) nats more than without, and the distance
    to the mode is finite, d / 2 nats on a Gaussian: beyond it |x - D| goes to 0 and the correction explodes.
    """
    most = dimension / 2 / (math.sqrt(2 * dimension) * math.log(sigma_max / sigma_min))
    high = min(0.99, NormalDist().cdf(most))
    return 1 - high, high
