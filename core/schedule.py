"""Noise levels in sigma-space: grids to sample on, and the distribution and weight to train with.

Pure functions. x = x0 + sigma n throughout (Karras et al. 2022, arXiv 2206.00364).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .errors import RecipeError


def karras(n: int, lo: float, hi: float, rho: float = 7.0) -> Tensor:
    """[n+1] float64 levels, even in sigma**(1/rho) (Eq. 5), then 0; strictly falling.

    Raises RecipeError naming the field unless n >= 1, rho > 0 and 0 < lo < hi.
    """
    if n < 1:
        raise RecipeError(f"{n} steps", field="sampling.steps", fix="Give at least 1")
    if not 0 < lo < hi:
        raise RecipeError(
            f"levels from {hi:g} to {lo:g} do not fall",
            field="sampling.sigma_min",
            fix="Give 0 < sigma_min < sigma_max",
        )
    if not rho > 0:
        raise RecipeError(f"{rho:g} is no spacing", field="sampling.rho", fix="Give a number above 0; 7 is usual")
    t = torch.linspace(0, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)
    levels = (hi ** (1 / rho) + t * (lo ** (1 / rho) - hi ** (1 / rho))) ** rho
    levels[0] = hi
    return torch.cat([levels, levels.new_zeros(1)])


def stratified(n: int, generator: torch.Generator) -> Tensor:
    """[n] float64 in (0, 1): one uniform number from each n-th of the interval, in random order."""
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    order = torch.randperm(n, generator=generator)
    return ((order + uniform) / n).clamp(1e-9, 1 - 1e-9)


def lognormal(u: Tensor, mean: float, std: float) -> Tensor:
    """Quantiles u in (0, 1) → sigma with ln sigma ~ N(mean, std²) (Table 1, training)."""
    return torch.exp(mean + std * math.sqrt(2) * torch.erfinv(2 * u - 1))


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) = (sigma² + sigma_data²) / (sigma sigma_data)² (Table 1): makes the first loss 1 at every level."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2
