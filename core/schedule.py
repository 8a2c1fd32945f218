"""Noise levels in sigma-space: families, grids to sample on, distributions and weights to train with.

Pure functions. x = x0 + sigma n throughout (Karras et al. 2022, arXiv 2206.00364); any z = alpha x0 + beta n
is x / (1 + …) of it with sigma = beta / alpha. L = ln sigma; log-SNR = -2 L.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .errors import RecipeError

if TYPE_CHECKING:
    from collections.abc import Sequence

# --- families: sigma as a function of a time t in [0, 1] -------------------------------------------


@dataclass(frozen=True)
class VariancePreservingLinear:
    """sigma(t) = sqrt(exp(½ β_d t² + β_min t) - 1): beta grows linearly in t (Song et al. 2021, arXiv 2011.13456)."""

    beta_d: float = 19.9
    beta_min: float = 0.1

    def sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(0.5 * self.beta_d * t**2 + self.beta_min * t).sqrt()

    def time(self, sigma: Tensor) -> Tensor:
        grown = 2 * torch.log1p(sigma**2)
        # the root of the quadratic that loses no digits at small sigma
        return grown / (self.beta_min + (self.beta_min**2 + self.beta_d * grown).sqrt())

    def scale(self, sigma: Tensor) -> Tensor:
        """alpha: z = alpha x has unit variance for data of unit variance."""
        return (1 + sigma**2).rsqrt()


@dataclass(frozen=True)
class Cosine:
    """sigma(t) = shift tan(π t / 2), so alpha = cos and beta = sin where shift is 1 (Nichol & Dhariwal 2021).

    shift: resolution / 64 moves the levels with the size (Hoogeboom et al. 2023, arXiv 2301.11093, Sec. 3.1).
    """

    shift: float = 1.0

    def sigma(self, t: Tensor) -> Tensor:
        return self.shift * torch.tan(math.pi / 2 * t)

    def time(self, sigma: Tensor) -> Tensor:
        return 2 / math.pi * torch.atan(sigma / self.shift)

    def scale(self, sigma: Tensor) -> Tensor:
        """As `VariancePreservingLinear.scale`."""
        return (1 + sigma**2).rsqrt()


@dataclass(frozen=True)
class Flow:
    """sigma(t) = shift t / (1 - t): z = (1 - t) x0 + t n where shift is 1 (Liu et al. 2022, arXiv 2209.03003).

    shift m is t' = m t / (1 + (m - 1) t) (Esser et al. 2024, arXiv 2403.03206, Eq. 23).
    """

    shift: float = 1.0

    def sigma(self, t: Tensor) -> Tensor:
        return self.shift * t / (1 - t)

    def time(self, sigma: Tensor) -> Tensor:
        return sigma / (self.shift + sigma)

    def scale(self, sigma: Tensor) -> Tensor:
        """alpha = 1 - t of the unshifted flow."""
        return 1 / (1 + sigma)


Family = VariancePreservingLinear | Cosine | Flow


def family(name: str, shift: float = 1.0) -> Family:
    """By the recipe's names: vp-linear, cosine, flow. Raises RecipeError naming the field for another."""
    match name:
        case "vp-linear":
            return VariancePreservingLinear()
        case "cosine":
            return Cosine(shift)
        case "flow":
            return Flow(shift)
        case _:
            raise RecipeError(f"{name!r} is no family", field="model.schedule", fix="Choose vp-linear, cosine or flow")


# --- grids: [n+1] float64 levels, strictly falling, then 0 -----------------------------------------


def karras(n: int, lo: float, hi: float, rho: float = 7.0) -> Tensor:
    """[n+1] float64 levels, even in sigma**(1/rho) (Eq. 5), then 0; strictly falling.

    Raises RecipeError naming the field unless n >= 1, rho > 0 and 0 < lo < hi.
    """
    if not rho > 0:
        raise RecipeError(f"{rho:g} is no spacing", field="sampling.rho", fix="Give a number above 0; 7 is usual")
    t = _even(n, lo, hi)
    return _ended((hi ** (1 / rho) + t * (lo ** (1 / rho) - hi ** (1 / rho))) ** rho, hi)


def exponential(n: int, lo: float, hi: float) -> Tensor:
    """[n+1] levels even in ln sigma, which is even in log-SNR; raises as `karras`."""
    t = _even(n, lo, hi)
    return _ended(torch.exp(math.log(hi) + t * (math.log(lo) - math.log(hi))), hi)


def even_in_time(n: int, lo: float, hi: float, levels: Family) -> Tensor:
    """[n+1] levels even in a family's time t between those of hi and lo; raises as `karras`."""
    t = _even(n, lo, hi)
    first, last = (levels.time(torch.tensor(edge, dtype=torch.float64)) for edge in (hi, lo))
    return _ended(levels.sigma(first + t * (last - first)), hi)


def even_in_work(n: int, levels: Tensor, work: Tensor) -> Tensor:
    """[n+1] levels that share out what was measured to be hard: each step gets the same part of it.

    levels: [m] falling, where it was measured; work: [m-1] >= 0, what each interval between them costs. After the
    idea of Align Your Steps (Sabour et al. 2024, arXiv 2404.14507): fit the levels to the model at hand.
    """
    _even(n, float(levels[-1]), float(levels[0]))
    spread = work.double() + 0.02 * work.double().mean() + 1e-12  # no stretch is left without levels
    done = torch.cat([spread.new_zeros(1), spread.cumsum(0)])
    wanted = torch.linspace(0, 1, n, dtype=torch.float64) * done[-1]
    right = torch.searchsorted(done, wanted).clamp(1, len(done) - 1)
    share = (wanted - done[right - 1]) / (done[right] - done[right - 1])
    logs = levels.double().log()
    return _ended((logs[right - 1] + share * (logs[right] - logs[right - 1])).exp(), float(levels[0]))


def own_levels(levels: Sequence[float]) -> Tensor:
    """A person's own falling levels, then 0."""
    return torch.tensor([*levels, 0.0], dtype=torch.float64)


def _even(n: int, lo: float, hi: float) -> Tensor:
    if n < 1:
        raise RecipeError(f"{n} steps", field="sampling.steps", fix="Give at least 1")
    if not 0 < lo < hi:
        raise RecipeError(
            f"levels from {hi:g} to {lo:g} do not fall",
            field="sampling.sigma_min",
            fix="Give 0 < sigma_min < sigma_max",
        )
    return torch.linspace(0, 1, n, dtype=torch.float64) if n > 1 else torch.zeros(1, dtype=torch.float64)


def _ended(levels: Tensor, hi: float) -> Tensor:
    levels[0] = hi
    return torch.cat([levels, levels.new_zeros(1)])


# --- training: which levels, and how much each counts ----------------------------------------------


def stratified(n: int, generator: torch.Generator) -> Tensor:
    """[n] float64 in (0, 1): one uniform number from each n-th of the interval, in random order."""
    uniform = torch.rand(n, generator=generator, dtype=torch.float64)
    order = torch.randperm(n, generator=generator)
    return ((order + uniform) / n).clamp(1e-9, 1 - 1e-9)


def lognormal(u: Tensor, mean: float, std: float) -> Tensor:
    """Quantiles u in (0, 1) → sigma with ln sigma ~ N(mean, std²) (Table 1, training).

    With mean 0 and std 1 this is the logit-normal time of Stable Diffusion 3 (Esser et al. 2024).
    """
    return torch.exp(mean + std * math.sqrt(2) * torch.erfinv(2 * u - 1))


def log_uniform(u: Tensor, lo: float, hi: float) -> Tensor:
    """Quantiles u → sigma with ln sigma uniform over [ln lo, ln hi]: the variance-exploding choice."""
    return torch.exp(math.log(lo) + u * (math.log(hi) - math.log(lo)))


def uniform_in_time(u: Tensor, lo: float, hi: float, levels: Family) -> Tensor:
    """Quantiles u → sigma of a family at uniform times between those of lo and hi."""
    first, last = (levels.time(torch.tensor(edge, dtype=u.dtype)) for edge in (lo, hi))
    return levels.sigma(first + u * (last - first))


def edm_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """lambda(sigma) = (sigma² + sigma_data²) / (sigma sigma_data)² (Table 1): makes the first loss 1 at every level."""
    return (sigma**2 + sigma_data**2) / (sigma * sigma_data) ** 2


def simple_weight(sigma: Tensor) -> Tensor:
    """W = 1 / sigma²: every error of the noise counts alike, L_simple (Ho et al. 2020, Eq. 14)."""
    return sigma**-2


def min_snr_weight(sigma: Tensor, cap: float = 5.0) -> Tensor:
    """W = min(1 / sigma², cap) (Hang et al. 2023, arXiv 2303.09556, Eq. 8, on x̂_0)."""
    return (sigma**-2).clamp(max=cap)


def soft_min_snr_weight(sigma: Tensor, sigma_data: float) -> Tensor:
    """W = 1 / (sigma² + sigma_data²): min-SNR with a soft knee (Crowson et al. 2024, arXiv 2401.11605, Eq. 9)."""
    return 1 / (sigma**2 + sigma_data**2)
