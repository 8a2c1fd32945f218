"""One draw's way from noise to images: levels, starting noise, guidance and sampler, from the settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..randomness import ImageNoise
from ..schedule import karras
from .guidance import ClassifierFree, conditioned
from .samplers import SAMPLERS, Sampler, Step, heun

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch
    from torch import Tensor

    from ..conditioning import Condition
    from ..precondition import Denoiser
    from ..recipe import Sampling


def draw_path(
    denoise: Denoiser,
    cond: Condition | None,
    shape: tuple[int, ...],
    indices: tuple[int, ...],
    settings: Sampling,
    device: torch.device,
) -> Iterator[Step]:
    """The steps of a draw of images `indices` of a seed; shape: [c h w] of one image.

    Image k's noise depends on `settings.seed` and k alone, not on which others are drawn beside it.
    """
    sigmas = karras(settings.steps, settings.sigma_min, settings.sigma_max, settings.rho)
    noise = ImageNoise(settings.seed, indices)
    start = noise(shape).to(device) * settings.sigma_max

    def fresh(like: Tensor) -> Tensor:
        return noise(shape, like)

    sampler: Sampler = SAMPLERS[settings.sampler]
    if settings.sampler == "heun" and settings.churn:
        sampler = partial(heun, churn=settings.churn)
    guided = ClassifierFree(settings.guidance).bind(denoise, sigmas)
    return sampler(conditioned(guided, cond), start, sigmas, fresh)
