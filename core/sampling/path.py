"""One draw's way from noise to images: levels, starting noise, guidance and sampler, from the settings."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch

from ..randomness import ImageNoise
from ..schedule import Cosine, Flow, even_in_time, even_in_work, exponential, karras, own_levels
from .density import DensityGuided
from .guidance import ClassifierFree, Thresholded, conditioned
from .samplers import Sampler, Step, dpmpp_2m, euler, heun, unipc
from .stochastic import ddpm, dpmpp_2m_sde, langevin, predictor_corrector

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from torch import Tensor

    from ..precondition import Denoiser
    from ..recipe import Sampling
    from .guidance import Given

SAMPLERS: dict[str, Sampler] = {
    "euler": euler,
    "heun": heun,
    "dpmpp-2m": dpmpp_2m,
    "dpmpp-2m-sde": dpmpp_2m_sde,
    "unipc": unipc,
    "ddim": euler,  # the same step, in sigma-space
    "ddpm": ddpm,
    "langevin": langevin,
    "predictor-corrector": predictor_corrector,
}
"""By the recipe's names."""

FIRST_ORDER = frozenset({"euler", "ddim", "ddpm", "langevin", "predictor-corrector"})
MEASURED_LEVELS = 24
"""Levels on which the work of each stretch is measured."""


def levels_of(settings: Sampling) -> Tensor:
    """[n+1] float64 noise levels that fall to 0, as the settings have them.

    Raises RecipeError where they do not fall; "measured" levels must have been measured: see `measured_levels`.
    """
    n, lo, hi = settings.steps, settings.sigma_min, settings.sigma_max
    if settings.levels:
        return own_levels(settings.levels)
    match settings.grid:
        case "karras":
            return karras(n, lo, hi, settings.rho)
        case "exponential":
            return exponential(n, lo, hi)
        case "cosine":
            return even_in_time(n, lo, hi, Cosine(settings.shift))
        case "flow":
            return even_in_time(n, lo, hi, Flow(settings.shift))
        case "measured":
            raise ValueError("these levels have to be measured first")


def draw_path(
    denoise: Denoiser,
    cond: Given,
    shape: tuple[int, ...],
    indices: tuple[int, ...],
    settings: Sampling,
    sigmas: Tensor,
    device: torch.device,
) -> Iterator[Step]:
    """The steps of a draw of images `indices` of a seed on the levels `sigmas`; shape: [c h w] of one image.

    Image k's noise depends on `settings.seed` and k alone, not on which others are drawn beside it.
    """
    noise = ImageNoise(settings.seed, indices)
    start = noise(shape).to(device) * (float(sigmas[0]) * settings.temperature)

    def fresh(like: Tensor) -> Tensor:
        return noise(shape, like)

    return chosen_sampler(settings)(guided(denoise, cond, settings, sigmas), start, sigmas, fresh)


def guided(denoise: Denoiser, cond: Given, settings: Sampling, sigmas: Tensor) -> Denoiser:
    """The denoiser with all guidance that the settings ask for, bound for one draw."""
    steered = ClassifierFree(settings.guidance, settings.guidance_from, settings.guidance_to).bind(denoise, sigmas)
    if settings.threshold != "none":
        steered = Thresholded(settings.threshold, settings.percentile).bind(steered, sigmas)
    if settings.density != 0.5:
        steered = DensityGuided(settings.density).bind(steered, sigmas)
    return conditioned(steered, cond)


def chosen_sampler(settings: Sampling) -> Sampler:
    """The sampler with the settings of its own."""
    corrections, snr = settings.langevin
    match settings.sampler:
        case "heun" if settings.churn:
            return partial(heun, churn=settings.churn)
        case "dpmpp-2m-sde":
            return partial(dpmpp_2m_sde, eta=settings.eta)
        case "ddpm":
            return partial(ddpm, eta=settings.eta)
        case "langevin":
            return partial(langevin, corrections=corrections, snr=snr)
        case "predictor-corrector":
            return partial(predictor_corrector, corrections=corrections, snr=snr)
        case name:
            return SAMPLERS[name]


@torch.no_grad()
def measured_levels(
    denoise: Denoiser, cond: Given, shape: tuple[int, ...], count: int, settings: Sampling, device: torch.device
) -> Generator[None, None, Tensor]:
    """[n+1] levels that suit the model, the conditions and the guidance at hand; yields after every network call.

    `count` images are followed down an even grid. One step of Euler's, h in ln sigma, errs by ½ h² |dD / d ln sigma|,
    so that the sum of all errors is least where each step has the same part of the integral of |dD / d ln sigma|^½;
    of a method of second order, whose error falls with h³, the power is ⅓.
    """
    sigmas = exponential(MEASURED_LEVELS, settings.sigma_min, settings.sigma_max)
    x = ImageNoise(settings.seed, tuple(range(count)))(shape).to(device) * settings.sigma_max
    seen = []
    for step in dpmpp_2m(guided(denoise, cond, settings, sigmas), x, sigmas):
        if step.index < MEASURED_LEVELS:
            seen.append(step.x0)
            yield
    h = math.log(settings.sigma_max / settings.sigma_min) / (MEASURED_LEVELS - 1)
    change = torch.stack([(after - before).square().mean().sqrt() for before, after in pairwise(seen)])
    power = 1 / 2 if settings.sampler in FIRST_ORDER else 1 / 3
    return even_in_work(settings.steps, sigmas[:-1], ((change / h) ** power).cpu())
