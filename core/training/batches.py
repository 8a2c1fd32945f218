"""Which images a training step sees, at which noise: functions of (seed, purpose, attempt, images seen)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from ..conditioning import each_tensor, tensors_of
from ..data.augment import augment, augmented
from ..data.unit import to_unit
from ..randomness import generator
from ..schedule import stratified
from .losses import noise_levels

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from ..conditioning import Condition, ConditioningScheme, Tensors
    from ..data.cache import Dataset
    from ..denoisers.model import DenoisingModel
    from ..recipe import Recipe


@dataclass
class BatchOrder:
    """Which images the batch at counter `seen` holds: a new permutation of the training images each epoch."""

    train: np.ndarray
    seed: int
    _epochs: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def batch(self, seen: int, count: int, attempt: int) -> np.ndarray:
        """[count] indices into the dataset."""
        n = len(self.train)
        return self.train[[self._order(attempt, at // n)[at % n] for at in range(seen, seen + count)]]

    def _order(self, attempt: int, epoch: int) -> np.ndarray:
        key = (attempt, epoch)
        if key not in self._epochs:
            while len(self._epochs) > 1:
                del self._epochs[next(iter(self._epochs))]
            shuffled = torch.randperm(len(self.train), generator=generator(self.seed, "order", attempt, epoch))
            self._epochs[key] = shuffled.numpy()
        return self._epochs[key]


@dataclass(frozen=True)
class Batch:
    """b images on their way into the network, on the CPU.

    x0: [b c h w] in [-1, 1]; sigma: [b]; noise: like x0; prepared: [b …], for the scheme's encoder; dropped: [b],
    which go without their condition; augmentation: [b k], how they were changed, where the network is told.
    """

    x0: Tensor
    sigma: Tensor
    noise: Tensor
    prepared: Tensors
    dropped: Tensor
    augmentation: Tensor | None = None

    def part(self, which: slice, device: torch.device) -> Batch:
        """Some of the images, on the device."""
        return Batch(
            self.x0[which].to(device),
            self.sigma[which].to(device),
            self.noise[which].to(device),
            each_tensor(self.prepared, lambda part: part[which].to(device)),
            self.dropped[which].to(device),
            None if self.augmentation is None else self.augmentation[which].to(device),
        )

    def condition(self, model: DenoisingModel) -> Condition:
        """What the network is told about these images."""
        cond = model.encode(self.prepared)
        if cond.null is not None:
            cond = cond.drop(self.dropped)
        return cond if self.augmentation is None else replace(cond, augmentation=self.augmentation)


class Batches:
    """The batches of a run."""

    def __init__(self, data: Dataset, recipe: Recipe, scheme: ConditioningScheme) -> None:
        self._data = data
        self._recipe = recipe
        self._scheme = scheme
        self._levels = noise_levels(recipe)
        self._order = BatchOrder(data.train, recipe.training.seed)

    def at(self, seen: int, attempt: int) -> Batch:
        """The whole batch of the step at this counter, whatever becomes of it in chunks and processes."""
        recipe, data = self._recipe, self._data

        def random(purpose: str) -> torch.Generator:
            return generator(recipe.training.seed, purpose, attempt, seen)

        which = self._order.batch(seen, recipe.training.batch, attempt)
        x0 = to_unit(torch.from_numpy(data.pixels[which]))
        changes = random("augment")
        x0 = augment(x0, recipe.data.shift, changes, flip=recipe.data.flip)
        augmentation = None
        if recipe.data.augment:
            x0, augmentation = augmented(x0, recipe.data.augment, changes)
        sigma = self._levels(stratified(len(which), random("sigma"))).float()
        noise = torch.randn(x0.shape, generator=random("noise"))
        dropped = torch.rand(len(which), generator=random("condition")) < recipe.conditioning.dropout
        prepared = self._scheme.for_training(tensors_of(data.prepared[which]), x0, random("prepared"))
        return Batch(x0, sigma, noise, prepared, dropped, augmentation)
