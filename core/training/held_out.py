"""The loss on images that training never sees: the same images, levels and noise every time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from ..conditioning import each_tensor, tensors_of
from ..data.unit import to_unit
from ..randomness import generator
from ..schedule import stratified
from .losses import by_band, denoising_loss, noise_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from torch import Tensor

    from ..conditioning import Condition, ConditioningScheme, Tensors
    from ..data.cache import Dataset
    from ..precondition import Denoiser
    from ..recipe import Recipe


class HeldOut(NamedTuple):
    """EDM's loss, whatever weighting trains, at the recipe's noise levels: its mean, by noise level, and by what the
    images are of: each part of a mixture, each size where there are several.
    """

    loss: float = math.nan
    bands: tuple[tuple[str, float], ...] = ()
    groups: tuple[tuple[str, float], ...] = ()


@torch.no_grad()
def held_out_loss(
    denoise: Denoiser,
    encode: Callable[[Tensors], Condition],
    scheme: ConditioningScheme,
    data: Dataset,
    recipe: Recipe,
    device: torch.device,
    most: int = 512,
) -> Generator[None, None, HeldOut]:
    """Yields after every pass through the network; at most `most` images are looked at. NaN where none are held out."""
    which = data.held_out[:most]
    if not len(which):
        return HeldOut()
    settings = recipe.training
    sigma = noise_levels(recipe)(stratified(len(which), generator(settings.seed, "held-out sigma"))).float()
    every = torch.empty(len(which))
    for bucket, places in data.by_bucket(which):
        images, at_levels = which[places], sigma[places]
        x0 = to_unit(torch.from_numpy(data.batch(images)))
        noise = torch.randn(x0.shape, generator=generator(settings.seed, "held-out noise", 0, bucket))
        chance = generator(settings.seed, "held-out prepared", 0, bucket)
        prepared = scheme.for_training(tensors_of(data.prepared[images]), x0, chance)
        for start in range(0, len(images), settings.micro_batch):
            part = slice(start, start + settings.micro_batch)
            cond = encode(each_tensor(prepared, lambda each, part=part: each[part].to(device)))
            levels = at_levels[part].to(device)
            found = denoising_loss(
                denoise, x0[part].to(device), levels, noise[part].to(device), cond, recipe.model.sigma_data
            )
            every[places[part]] = found.cpu()
            yield
    return HeldOut(float(every.mean()), tuple(by_band(every, sigma)), tuple(_by_group(every, which, data, recipe)))


def _by_group(losses: Tensor, which: np.ndarray, data: Dataset, recipe: Recipe) -> Iterator[tuple[str, float]]:
    """losses: [k] of the images `which` → (part or size, mean) for those that have any."""
    names = [part.name for part in recipe.data.parts]
    sizes = [f"{height} × {width}" for height, width in data.shapes]
    for numbers, called in ((data.parts, names), (data.buckets, sizes)):
        if numbers is not None:
            for number in np.unique(numbers[which]):
                yield called[number], float(losses[numbers[which] == number].mean())
