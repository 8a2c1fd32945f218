"""The training objective: how far D is from the clean images, weighted so that every noise level counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..precondition import per_image
from ..schedule import edm_weight

if TYPE_CHECKING:
    from torch import Tensor

    from ..conditioning import Condition
    from ..precondition import Denoiser


def denoising_loss(
    denoise: Denoiser, x0: Tensor, sigma: Tensor, noise: Tensor, cond: Condition | None, sigma_data: float
) -> Tensor:
    """lambda(sigma) mean (D(x0 + sigma n; sigma, cond) - x0)², for each image (Karras et al. 2022, Eq. 2, 8).

    x0, noise: [b c h w]; sigma: [b]; returns [b]. 1 at every level for a denoiser whose network gives 0.
    """
    guess = denoise(x0 + per_image(sigma, x0) * noise, sigma, cond)
    errors = (guess - x0).square().mean(dim=tuple(range(1, x0.ndim)))
    return edm_weight(sigma, sigma_data) * errors


BANDS = ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0), (1.0, 3.0), (3.0, float("inf")))
"""Noise levels that the held-out loss is parted into."""


def band_name(low: float, high: float) -> str:
    """(0.05, 0.2) → ".05–.2"."""
    if low == 0:
        return f"< {_plain(high)}"
    return f"> {_plain(low)}" if high == float("inf") else f"{_plain(low)}–{_plain(high)}"


def by_band(losses: Tensor, sigma: Tensor) -> list[tuple[str, float]]:
    """[b] losses at levels [b] → (band, mean) for the bands that have any."""
    found = []
    for low, high in BANDS:
        inside = (sigma >= low) & (sigma < high)
        if torch.any(inside):
            found.append((band_name(low, high), float(losses[inside].mean())))
    return found


def _plain(value: float) -> str:
    return f"{value:g}".removeprefix("0") if value < 1 else f"{value:g}"
