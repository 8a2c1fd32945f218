"""Samplers of the reverse SDE, and Langevin's: they follow stochastic gradients of ln p, s = (D - x) / sigma²."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..precondition import per_image
from .samplers import Noise, Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..precondition import Denoiser


@torch.no_grad()
def ddpm(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise | None = None, *, eta: float = 1.0
) -> Iterator[Step]:
    """Ancestral sampling: down to sigma_down, then noise up to sigma' (Ho et al. 2020; Song et al. 2021, Eq. 16).

    eta 1 is DDPM's posterior N(r² x + (1 - r²) D, sigma'² (1 - r²)) with r = sigma' / sigma; 0 is DDIM, which is Euler.
    Weak order 1; one network call a step.
    """
    nfe = 0
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(x, x.new_full((len(x),), s))
        nfe += 1
        yield Step(x, x0, s, i, nfe)
        x = _ancestral(x, x0, s, s_next, eta, noise)
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


def _ancestral(x: Tensor, x0: Tensor, s: float, s_next: float, eta: float, noise: Noise | None) -> Tensor:
    up = eta * s_next * math.sqrt(1 - (s_next / s) ** 2)
    r = math.sqrt(s_next**2 - up**2) / s
    x = r * x + (1 - r) * x0
    return x + up * _fresh(noise, x) if up > 0 else x


@torch.no_grad()
def dpmpp_2m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, noise: Noise | None = None, *, eta: float = 1.0
) -> Iterator[Step]:
    """SDE-DPM-Solver++(2M), midpoint form (Lu et al. 2022, arXiv 2211.01095, Sec. 6; eta as in k-diffusion).

    Second order in the variance; eta 0 is DPM-Solver++(2M). One network call a step.
    """
    nfe, h_before, x0_before = 0, 0.0, None
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(x, x.new_full((len(x),), s))
        nfe += 1
        yield Step(x, x0, s, i, nfe)
        if s_next == 0:
            x = x0
            continue
        h = math.log(s / s_next)
        a = -math.expm1(-(1 + eta) * h)
        x = s_next / s * math.exp(-eta * h) * x + a * x0
        if x0_before is not None:
            x = x + a * h / (2 * h_before) * (x0 - x0_before)
        if eta > 0:
            x = x + s_next * math.sqrt(-math.expm1(-2 * eta * h)) * _fresh(noise, x)
        h_before, x0_before = h, x0
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


@torch.no_grad()
def langevin(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    *,
    corrections: int = 1,
    snr: float = 0.16,
) -> Iterator[Step]:
    """Annealed Langevin dynamics (Song & Ermon 2019, arXiv 1907.05600, Alg. 1), ending with D.

    At each level `corrections` steps x <- x + (a / 2) s + sqrt(a) n with a = 4 snr² sigma²: the paper's
    a = eps sigma_i² / sigma_L². A step's bias falls with a. `corrections` network calls a level, and one more.
    """
    nfe = 0
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        level = x.new_full((len(x),), s)
        a = 4 * snr**2 * s**2
        x0 = x
        for k in range(corrections):
            x0 = denoise(x, level)
            nfe += 1
            yield Step(x, x0, s, i, nfe, trial=k > 0)
            x = x + a / 2 * (x0 - x) / s**2 + math.sqrt(a) * _fresh(noise, x)
        if s_next == 0:
            x0 = denoise(x, level)
            nfe += 1
            yield Step(x, x0, s, i, nfe, trial=True)
            x = x0
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


@torch.no_grad()
def predictor_corrector(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    noise: Noise | None = None,
    *,
    corrections: int = 1,
    snr: float = 0.16,
) -> Iterator[Step]:
    """Ancestral predictor, then Langevin corrections at the new level (Song et al. 2021, arXiv 2011.13456, Alg. 2, 4).

    A correction is x <- x + eps s + sqrt(2 eps) n with eps = 2 (snr |n| / |s|)², for each image by itself.
    1 + `corrections` network calls a step.
    """
    nfe = 0
    for i, (s, s_next) in enumerate(pairwise(sigmas.tolist())):
        x0 = denoise(x, x.new_full((len(x),), s))
        nfe += 1
        yield Step(x, x0, s, i, nfe)
        x = _ancestral(x, x0, s, s_next, 1.0, noise)
        for _ in range(corrections if s_next > 0 else 0):
            x0 = denoise(x, x.new_full((len(x),), s_next))
            nfe += 1
            yield Step(x, x0, s_next, i, nfe, trial=True)
            fresh, score = _fresh(noise, x), (x0 - x) / s_next**2
            eps = per_image(2 * (snr * _norm(fresh) / _norm(score).clamp(min=1e-12)) ** 2, x)
            x = x + eps * score + (2 * eps).sqrt() * fresh
    yield Step(x, x, float(sigmas[-1]), len(sigmas) - 1, nfe)


def _norm(x: Tensor) -> Tensor:
    return x.reshape(len(x), -1).norm(dim=1)


def _fresh(noise: Noise | None, like: Tensor) -> Tensor:
    if noise is None:
        raise ValueError("this sampler needs noise")
    return noise(like)
