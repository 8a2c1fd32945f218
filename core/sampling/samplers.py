"""Samplers of the probability-flow ODE and its stochastic relatives, as generators.

Each yields a `Step` after every network call, and may be closed at any yield. Where x is data and not
an image it has any shape [b …].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..precondition import Denoiser


@dataclass(frozen=True)
class Step:
    """x: [b …] at level sigma; x0: D(x; sigma), or x itself at the end, where sigma is 0.

    index: how many levels have been left behind; nfe: network calls so far.
    trial: x is a corrector's trial point, which the path may not pass through.
    """

    x: Tensor
    x0: Tensor
    sigma: float
    index: int
    nfe: int
    trial: bool = False


class Sampler(Protocol):
    """sigmas: [n+1] falling to 0, or to where it shall end; noise(like): fresh standard normal noise."""

    def __call__(
        self, denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Callable[[Tensor], Tensor] | None = None
    ) -> Iterator[Step]: ...


@torch.no_grad()
def euler(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Callable[[Tensor], Tensor] | None = None,  # noqa: ARG001 - the samplers' common signature
) -> Iterator[Step]:
    """x' = r x + (1 - r) D with r = sigma'/sigma: Euler on dx/dsigma = (x - D)/sigma, which is DDIM with eta = 0.

    First order; one network call a step.
    """
    nfe = 0
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(x, x.new_full((len(x),), s))
        nfe += 1
        yield Step(x, x0, s, i, nfe)
        r = s_next / s
        x = r * x + (1 - r) * x0
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


@torch.no_grad()
def heun(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Callable[[Tensor], Tensor] | None = None,
    *,
    churn: float = 0.0,
    churn_min: float = 0.0,
    churn_max: float = math.inf,
    churn_noise: float = 1.0,
) -> Iterator[Step]:
    """Euler predictor, trapezoid corrector (Karras et al. 2022, Alg. 1); with churn, Alg. 2.

    x: [b …] at level sigmas[0]; the step to 0 is Euler's. churn: S_churn; its noise comes from `noise`.
    Second order; two network calls a step.
    """
    gamma = min(churn / (len(sigmas) - 1), math.sqrt(2) - 1)
    nfe = 0
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        if gamma > 0 and churn_min <= s <= churn_max:
            if noise is None:
                raise ValueError("churn needs noise")
            s, s_before = s * (1 + gamma), s
            x = x + math.sqrt(s**2 - s_before**2) * churn_noise * noise(x)
        x0 = denoise(x, x.new_full((len(x),), s))
        nfe += 1
        yield Step(x, x0, s, i, nfe)
        slope = (x - x0) / s
        x_next = x + (s_next - s) * slope
        if s_next > 0:
            x0 = denoise(x_next, x.new_full((len(x),), s_next))
            nfe += 1
            yield Step(x_next, x0, s_next, i, nfe, trial=True)
            x_next = x + (s_next - s) * (slope + (x_next - x0) / s_next) / 2
        x = x_next
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


@torch.no_grad()
def dpmpp_2m(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Callable[[Tensor], Tensor] | None = None,  # noqa: ARG001 - the samplers' common signature
) -> Iterator[Step]:
    """DPM-Solver++(2M) (Lu et al. 2022, arXiv 2211.01095, Alg. 2): multistep in lambda = -ln sigma.

    Second order; one network call a step, and the call before it is used again.
    """
    nfe, h_before, x0_before = 0, 0.0, None
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(x, x.new_full((len(x),), s))
        nfe += 1
        yield Step(x, x0, s, i, nfe)
        r = s_next / s
        target = x0
        if s_next > 0:
            h = math.log(s / s_next)
            if x0_before is not None:
                target = x0 + (x0 - x0_before) * (h / (2 * h_before))
            h_before, x0_before = h, x0
        x = r * x + (1 - r) * target
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


SAMPLERS: dict[str, Sampler] = {"euler": euler, "heun": heun, "dpmpp-2m": dpmpp_2m}
"""By the recipe's names."""
