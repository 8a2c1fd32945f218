"""The training objective: how far D is from the clean images, weighted so that every noise level counts."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from ..denoisers.layers import Linear, NoiseEmbedding
from ..errors import RecipeError
from ..precondition import per_image
from ..schedule import (
    edm_weight,
    family,
    log_uniform,
    lognormal,
    min_snr_weight,
    simple_weight,
    soft_min_snr_weight,
    uniform_in_time,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from ..conditioning import Condition
    from ..precondition import Denoiser
    from ..recipe import Recipe

    Levels = Callable[[Tensor], Tensor]


def denoising_error(denoise: Denoiser, x0: Tensor, sigma: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
    """mean (D(x0 + sigma n; sigma, cond) - x0)², for each image. x0, noise: [b c h w]; sigma: [b]; returns [b]."""
    guess = denoise(x0 + per_image(sigma, x0) * noise, sigma, cond)
    return (guess - x0).square().mean(dim=tuple(range(1, x0.ndim)))


def denoising_loss(
    denoise: Denoiser, x0: Tensor, sigma: Tensor, noise: Tensor, cond: Condition | None, sigma_data: float
) -> Tensor:
    """lambda(sigma) mean (D - x0)², for each image (Karras et al. 2022, Eq. 2, 8); shapes as `denoising_error`.

    1 at every level for a denoiser whose network gives 0.
    """
    return edm_weight(sigma, sigma_data) * denoising_error(denoise, x0, sigma, noise, cond)


# --- as the recipe says ---------------------------------------------------------------------------


def noise_levels(recipe: Recipe) -> Levels:
    """The training distribution as its quantile function: u [b] in (0, 1) → sigma [b].

    Raises RecipeError naming the field where the recipe's settings make none.
    """
    settings, lo, hi = recipe.training, recipe.training.sigma_min, recipe.training.sigma_max
    if settings.noise == "lognormal":
        return partial(lognormal, mean=settings.sigma_mean, std=settings.sigma_std)
    if lo >= hi:
        raise RecipeError(f"{lo:g} is not below the highest noise, {hi:g}", field="training.sigma_min", fix="Lower it")
    if settings.noise == "log-uniform":
        return partial(log_uniform, lo=lo, hi=hi)
    if recipe.model.schedule == "edm":
        raise RecipeError(
            "the schedule edm has no time to be uniform in",
            field="training.noise",
            fix="Choose lognormal, or a family in model.schedule",
        )
    return partial(uniform_in_time, lo=lo, hi=hi, levels=family(recipe.model.schedule, recipe.model.shift))


def loss_weight(recipe: Recipe) -> Levels:
    """W(sigma) of the recipe's weighting: sigma [b] → [b]. The learned uncertainty starts from EDM's."""
    settings, sigma_data = recipe.training, recipe.model.sigma_data
    match settings.weighting:
        case "edm" | "uncertainty":
            return partial(edm_weight, sigma_data=sigma_data)
        case "simple":
            return simple_weight
        case "min-snr":
            return partial(min_snr_weight, cap=settings.snr_cap)
        case "soft-min-snr":
            return partial(soft_min_snr_weight, sigma_data=sigma_data)


class Uncertainty(nn.Module):
    """u(sigma), the log of the loss that is to be expected at each noise level (Karras et al. 2024, Eq. 14-16).

    A linear head on waves of c_noise = ln(sigma) / 4. It lives in training alone: no drawing weight, no EMA.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.waves = NoiseEmbedding(width)
        self.head = Linear(width, 1, gain=0.0)

    def forward(self, sigma: Tensor) -> Tensor:
        """[b] → [b]; 0 at first."""
        return self.head(self.waves(sigma.log() / 4)).squeeze(1)

    def objective(self, losses: Tensor, sigma: Tensor) -> Tensor:
        """loss e^(-u) + u for each image, whose minimum over u is at ln E[loss]. losses, sigma: [b] → [b]."""
        u = self(sigma)
        return losses * torch.exp(-u) + u


# --- by noise level -------------------------------------------------------------------------------

BANDS = ((0.0, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0), (1.0, 3.0), (3.0, 10.0), (10.0, math.inf))
"""Noise levels that the held-out loss is parted into."""


def band_name(low: float, high: float) -> str:
    """(0.05, 0.2) → ".05–.2"."""
    if low == 0:
        return f"< {_plain(high)}"
    return f"> {_plain(low)}" if high == math.inf else f"{_plain(low)}–{_plain(high)}"


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
