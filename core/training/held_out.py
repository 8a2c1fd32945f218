"""The loss on images that training never sees: the same images, levels and noise every time."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ..conditioning import each_tensor, tensors_of
from ..data.unit import to_unit
from ..randomness import generator
from ..schedule import stratified
from .losses import by_band, denoising_loss, noise_levels

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..conditioning import Condition, ConditioningScheme, Tensors
    from ..data.cache import Dataset
    from ..precondition import Denoiser
    from ..recipe import Recipe


@torch.no_grad()
def held_out_loss(
    denoise: Denoiser,
    encode: Callable[[Tensors], Condition],
    scheme: ConditioningScheme,
    data: Dataset,
    recipe: Recipe,
    device: torch.device,
    most: int = 512,
) -> Generator[None, None, tuple[float, list[tuple[str, float]]]]:
    """EDM's loss, whatever weighting trains, at the recipe's noise levels: its mean, and its mean by noise level.

    Yields after every pass through the network; at most `most` images are looked at. NaN where none are held out.
    """
    which = data.held_out[:most]
    if not len(which):
        return math.nan, []
    settings = recipe.training
    sigma = noise_levels(recipe)(stratified(len(which), generator(settings.seed, "held-out sigma"))).float()
    x0 = to_unit(torch.from_numpy(data.pixels[which]))
    noise = torch.randn(x0.shape, generator=generator(settings.seed, "held-out noise"))
    chance = generator(settings.seed, "held-out prepared")
    prepared = scheme.for_training(tensors_of(data.prepared[which]), x0, chance)
    losses = []
    for start in range(0, len(which), settings.micro_batch):
        part = slice(start, start + settings.micro_batch)
        cond = encode(each_tensor(prepared, lambda each, part=part: each[part].to(device)))
        levels = sigma[part].to(device)
        found = denoising_loss(
            denoise, x0[part].to(device), levels, noise[part].to(device), cond, recipe.model.sigma_data
        )
        losses.append(found.cpu())
        yield
    every = torch.cat(losses)
    return float(every.mean()), by_band(every, sigma)
