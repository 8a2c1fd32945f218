"""Samplers of the probability-flow ODE, as generators.

Each yields a `Step` after every network call, and may be closed at any yield. Where x is data and not
an image it has any shape [b …].
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ..precondition import Denoiser


Noise = Callable[[Tensor], Tensor]
"""Fresh standard normal noise, like what it is given."""


@dataclass(frozen=True)
class Step:
    """x: [b …] at level sigma; x0: D(x; sigma), or x itself at the end, where sigma is 0.

    index: how many levels have been left behind; nfe: network calls so far.
    trial: x is not its level's own point but a corrector's trial, or one of several Langevin steps there.
    """

    x: Tensor
    x0: Tensor
    sigma: float
    index: int
    nfe: int
    trial: bool = False


class Sampler(Protocol):
    """sigmas: [n+1] falling to 0, or to where it shall end; noise(like): fresh standard normal noise."""

    def __call__(self, denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise | None = None) -> Iterator[Step]: ...


@torch.no_grad()
def euler(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,  # noqa: ARG001 - the samplers' common signature
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
    noise: Noise | None = None,
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
    noise: Noise | None = None,  # noqa: ARG001 - the samplers' common signature
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


@torch.no_grad()
def unipc(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,  # noqa: ARG001 - the samplers' common signature
    *,
    order: int = 2,
) -> Iterator[Step]:
    """UniPC with B(h) = e^-h - 1 (Zhao et al. 2023, arXiv 2302.04867, Alg. 2): a predictor of `order` p, corrected.

    The corrector uses the call at the new level, which the next step needs in any case. Order p + 1; one call a step.
    """
    nfe = 0
    x0 = denoise(x, x.new_full((len(x),), float(sigmas[0])))
    nfe += 1
    yield Step(x, x0, float(sigmas[0]), 0, nfe)
    earlier: deque[tuple[float, Tensor]] = deque(maxlen=order - 1)  # (sigma, D) of the levels before
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist()), start=1):
        if s_next == 0:
            x = x0
            break
        h = math.log(s / s_next)
        known = [(math.log(s / each) / h, x0_each) for each, x0_each in earlier]
        plain = s_next / s * x + (1 - s_next / s) * x0
        x_predicted = plain - _unified(x0, known, h)
        x0_next = denoise(x_predicted, x.new_full((len(x),), s_next))
        nfe += 1
        x = plain - _unified(x0, [*known, (1.0, x0_next)], h)
        earlier.append((s, x0))
        x0 = x0_next
        yield Step(x if i == len(sigmas) - 1 else x_predicted, x0, s_next, i, nfe)
    if float(sigmas[-1]) == 0:
        yield Step(x, x, 0.0, len(sigmas) - 1, nfe)


def _unified(x0: Tensor, known: Sequence[tuple[float, Tensor]], h: float) -> Tensor | float:
    """B(h) sum_m a_m (D_m - D) / r_m over known (r_m, D_m), with a from sum_m a_m r_m^(k-1) = k! h-phi_{k+1} / B."""
    if not known:
        return 0.0
    b = math.expm1(-h)
    if len(known) == 1:
        a = [0.5]  # the paper's shortcut, of the same order
    else:
        phi, right = math.expm1(-h) / -h, []
        for k in range(1, len(known) + 1):
            phi = (phi - 1 / math.factorial(k)) / -h
            right.append(math.factorial(k) * -h * phi / b)
        powers = torch.tensor([[r**k for r, _ in known] for k in range(len(known))], dtype=torch.float64)
        a = torch.linalg.solve(powers, torch.tensor(right, dtype=torch.float64)).tolist()
    return sum((b * a_m / r * (x0_m - x0) for a_m, (r, x0_m) in zip(a, known, strict=True)), start=torch.zeros_like(x0))
