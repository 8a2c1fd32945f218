"""How far density guidance can be asked to go. Free of torch, for faces."""

from __future__ import annotations

import math
from statistics import NormalDist

from ..errors import RequestError


def density_limits(dimension: int, sigma_min: float, sigma_max: float) -> tuple[float, float]:
    """The lowest and the highest quantile q that density guidance bears on images of `dimension` values.

    On its way ln p changes by sqrt(2 d) Phi^-1(q) ln(sigma_max / sigma_min) nats more than without, and the distance
    to the mode is finite, d / 2 nats on a Gaussian: beyond it |x - D| goes to 0 and the correction explodes. Away from
    the mode there is room: nothing explodes at low q.
    """
    most = dimension / 2 / (math.sqrt(2 * dimension) * math.log(sigma_max / sigma_min))
    return 0.01, min(0.99, NormalDist().cdf(most))


def check_quantile(quantile: float, dimension: int, sigma_min: float, sigma_max: float) -> None:
    """Raises RequestError where the quantile is beyond `density_limits`."""
    low, high = density_limits(dimension, sigma_min, sigma_max)
    if not low <= quantile <= high:
        raise RequestError(
            f"{quantile:g} is beyond what images of {dimension:,} values bear on these noise levels",
            field="sampling.density",
            fix=f"Choose between {low:.2f} and {high:.2f}, or a narrower range of noise levels",
        )
