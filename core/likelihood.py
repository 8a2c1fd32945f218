"""How likely images are under a model: the worker's form of `sampling.density.log_density`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .drawing import conditions_of, images_per_call
from .errors import RequestError
from .randomness import ImageNoise
from .sampling.density import log_density
from .sampling.guidance import ClassifierFree, conditioned
from .schedule import karras

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    import numpy as np

    from .drawing import Weights

STEPS = 20
PROBES = 2


@dataclass(frozen=True)
class Likelihood:
    """bits: bits per value of 256 grey levels, one for each image; error: their standard errors, NaN where unknown.

    nats: ln p at noise level `sigma`, in images of [-1, 1]; the density of images that have that little noise.
    """

    bits: tuple[float, ...] = ()
    error: tuple[float, ...] = ()
    nats: tuple[float, ...] = ()
    sigma: float = 0.0
    steps: int = STEPS
    probes: int = PROBES


def likelihood(
    weights: Weights,
    arrays: np.ndarray,
    texts: Sequence[str],
    *,
    steps: int = STEPS,
    probes: int = PROBES,
    seed: int = 0,
) -> Generator[Likelihood | None, None, Likelihood]:
    """ln p(x given its condition) of images [n c h w] in [-1, 1], without guidance.

    texts: one condition for each image. steps: on the way to pure noise, of four network calls each; probes: of the
    trace, for each image; more of them, less error. Image k's probes depend on the seed and k alone.
    Yields after every pass through the network: None, or all that is known so far once some images are done.
    Raises RequestError where images are of another shape than the model's.
    """
    recipe = weights.recipe
    shape = arrays.shape[1:]
    if shape[:1] != (recipe.data.channels,) or (weights.scheme.image_channels and shape[1:] != recipe.data.size):
        own = (recipe.data.channels, *recipe.data.size)
        raise RequestError(f"images of shape {shape}", fix=f"This model has {own} (c, h, w)")
    cond, _ = conditions_of(weights, texts)
    settings = recipe.sampling
    sigmas = karras(steps + 1, settings.sigma_min, settings.sigma_max, settings.rho)[:-1]
    denoise = ClassifierFree().bind(weights.denoiser, sigmas)
    done = Likelihood(sigma=settings.sigma_min, steps=steps, probes=probes)
    chunk = images_per_call(shape[1:])
    for start in range(0, len(arrays), chunk):
        span = slice(start, min(start + chunk, len(arrays)))
        signs = ImageNoise(seed, tuple(range(span.start, span.stop)), "probe")

        def probe(like: Tensor, signs: ImageNoise = signs) -> Tensor:
            return torch.where(signs(shape, like) < 0, -1.0, 1.0)

        x = torch.from_numpy(arrays[span]).to(weights.device)
        told = conditioned(denoise, cond[span])
        path = log_density(told, x, sigmas, recipe.model.sigma_data, probe, probes)
        found = yield from path
        done = Likelihood(
            done.bits + tuple(found.bits_per_dim.tolist()),
            done.error + tuple(found.bits_error.tolist()),
            done.nats + tuple(found.nats.tolist()),
            done.sigma,
            steps,
            probes,
        )
        yield done
    return done
