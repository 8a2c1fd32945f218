"""Explicit density: how likely images are, and draws that are made more or less so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..precondition import per_image
from .limits import check_quantile

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..precondition import Denoiser
    from .guidance import Given, Guided

PLAIN_BELOW = 0.1
"""Where |x - D|² is below this share of d sigma², the mode is near, and D stays as it is."""


@dataclass(frozen=True)
class DensityGuided:
    """D_q = x + eta (D - x) with eta = 1 + sqrt(2 d) Phi^-1(q) sigma² / |x - D|² (Karczewski et al. 2025,
    arXiv 2502.05807, Eq. 23, 25, in sigma-space): the least change of the path that makes
    d ln p / d ln sigma = tr J - d - sqrt(2 d) Phi^-1(q).

    quantile: q; 0.5 is no change, higher is denser and smoother. The step from the lowest level to 0 is plain.
    """

    quantile: float

    def bind(self, denoise: Guided, sigmas: Tensor) -> Guided:
        """The denoiser raises RequestError where images have too few values for this quantile on these levels."""
        levels = [level for level in sigmas.tolist() if level > 0]
        lowest, pull = levels[-1], NormalDist().inv_cdf(self.quantile)

        def guided(x: Tensor, sigma: Tensor, cond: Given = None) -> Tensor:
            x0 = denoise(x, sigma, cond)
            first, d = sigma.reshape(-1)[0], x[0].numel()
            if pull == 0 or first <= lowest:  # in sigma's own number format
                return x0
            level = float(first)
            check_quantile(self.quantile, d, lowest, levels[0])
            distance = (x - x0).reshape(len(x), -1).square().sum(1)
            eta = 1 + math.sqrt(2 * d) * pull * level**2 / distance.clamp(min=1e-30)
            near = distance < PLAIN_BELOW * d * level**2
            return torch.where(per_image(near, x), x0, x + per_image(eta, x) * (x0 - x))

        return guided


# --- log-likelihood --------------------------------------------------------------------------------

EXACT_UP_TO = 64
"""Up to so many values an image's trace is computed exactly, one product for each."""


@dataclass(frozen=True)
class LogDensity:
    """ln p at level sigma_min of b images. nats: [b] float64; error: [b], the standard error of the trace's estimate.

    The error is 0 where the trace is exact, and NaN where one probe cannot tell it.
    """

    nats: Tensor
    error: Tensor
    dimension: int

    @property
    def bits_per_dim(self) -> Tensor:
        """[b]: of 256 grey levels, -ln p / (d ln 2) + 7, since a level is 2 / 256 wide in [-1, 1]."""
        return -self.nats / (self.dimension * math.log(2)) + 7

    @property
    def bits_error(self) -> Tensor:
        """[b]: standard error of `bits_per_dim`."""
        return self.error / (self.dimension * math.log(2))


@torch.no_grad()
def log_density(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    sigma_data: float,
    probes: Callable[[Tensor], Tensor] | None = None,
    count: int = 1,
) -> Generator[None, None, LogDensity]:
    """ln p(x) at level sigmas[-1], by the probability-flow ODE (Song et al. 2021, arXiv 2011.13456, Eq. 39).

    ln p(x) = ln p_T(x_T) + ∫ (d - tr J) d ln sigma with J = ∂D/∂x and p_T = N(0, sigma_data² + sigma_T²), by
    the Runge-Kutta method of fourth order in ln sigma: four calls for each step between two levels.
    x: [b …] at level sigmas[-1]; sigmas: [n] falling, none of them 0. The trace is exact for few values, or else
    Hutchinson's v J v with `count` probes v of ±1, the same along the whole path: `probes(like)` gives them.
    Yields after every pass through the network and back.
    """
    d, levels = x[0].numel(), sigmas.flip(0).tolist()
    exact = d <= EXACT_UP_TO
    if exact:
        vectors = [unit.reshape(x.shape[1:]).expand_as(x) for unit in torch.eye(d, dtype=x.dtype, device=x.device)]
    elif probes is None:
        raise ValueError("an estimated trace needs probes")
    else:
        vectors = [probes(x) for _ in range(count)]

    def slope(y: Tensor, sigma: float) -> Generator[None, None, tuple[Tensor, Tensor]]:
        """dy/d ln sigma, and d - v J v for each probe: [probes b]; the exact trace has one row."""
        scale = math.hypot(sigma, sigma_data)
        x0, products = yield from _jacobian_products(denoise, scale * y, sigma, vectors)
        rows = torch.stack(products)
        return (sigma_data / scale) ** 2 * y - x0 / scale, d - (rows.sum(0, keepdim=True) if exact else rows)

    # y = x / sqrt(sigma² + sigma_data²) hardly moves, and not at all for data N(0, sigma_data²)
    y = x / math.hypot(levels[0], sigma_data)
    gained = torch.zeros(1 if exact else count, len(x), dtype=torch.float64)
    for s, s_next in pairwise(levels):
        h, between = math.log(s_next / s), math.sqrt(s * s_next)
        move1, rate1 = yield from slope(y, s)
        move2, rate2 = yield from slope(y + h / 2 * move1, between)
        move3, rate3 = yield from slope(y + h / 2 * move2, between)
        move4, rate4 = yield from slope(y + h * move3, s_next)
        y = y + h / 6 * (move1 + 2 * move2 + 2 * move3 + move4)
        gained += h / 6 * (rate1 + 2 * rate2 + 2 * rate3 + rate4).cpu().double()
    variance = sigma_data**2 + levels[-1] ** 2
    prior = -y.cpu().double().reshape(len(x), -1).square().sum(1) / 2 - d / 2 * math.log(2 * math.pi * variance)
    nats = prior + gained.mean(0)
    if exact:
        return LogDensity(nats, torch.zeros_like(nats), d)
    spread = gained.std(0) / math.sqrt(count) if count > 1 else torch.full_like(nats, math.nan)
    return LogDensity(nats, spread, d)


def _jacobian_products(
    denoise: Denoiser, x: Tensor, sigma: float, vectors: list[Tensor]
) -> Generator[None, None, tuple[Tensor, list[Tensor]]]:
    """D(x), and v J v per image for each v, by reverse mode; grad mode is never on across a yield."""
    products = []
    with torch.enable_grad():
        watched = x.detach().requires_grad_()
        x0 = denoise(watched, x.new_full((len(x),), sigma))
        for k, v in enumerate(vectors):
            (pulled,) = torch.autograd.grad(x0, watched, v, retain_graph=k + 1 < len(vectors))
            products.append((pulled * v).reshape(len(x), -1).sum(1))
    yield
    return x0.detach(), products
