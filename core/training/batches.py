"""Which images a training step sees, at which noise: functions of (seed, purpose, attempt, images seen)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from ..conditioning import each_tensor, tensors_of
from ..data.augment import augment, augmented
from ..data.unit import to_unit
from ..randomness import generator
from ..schedule import stratified
from .losses import noise_levels

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from ..conditioning import Condition, ConditioningScheme, Tensors
    from ..data.cache import Dataset
    from ..denoisers.model import DenoisingModel
    from ..recipe import Recipe


PLACES = 1024
"""In a block of turns: shares are kept to about one in so many."""


class Order(Protocol):
    """Which images are shown when."""

    def batch(self, seen: int, count: int, attempt: int) -> np.ndarray:
        """[count] indices into the dataset, for the batch at counter `seen`."""
        ...


@dataclass
class BatchOrder:
    """Which images the batch at counter `seen` holds: a new permutation of the training images each epoch."""

    train: np.ndarray
    seed: int
    purpose: str = "order"
    _epochs: dict[tuple[int, int], np.ndarray] = field(default_factory=dict)

    def batch(self, seen: int, count: int, attempt: int) -> np.ndarray:
        """[count] indices into the dataset."""
        return self.train[[self.at(at, attempt) for at in range(seen, seen + count)]]

    def at(self, position: int, attempt: int) -> int:
        """The place in `train` of the image that is shown there."""
        epoch, place = divmod(position, len(self.train))
        return int(self._order(attempt, epoch)[place])

    def _order(self, attempt: int, epoch: int) -> np.ndarray:
        key = (attempt, epoch)
        if key not in self._epochs:
            while len(self._epochs) > 1:
                del self._epochs[next(iter(self._epochs))]
            shuffled = torch.randperm(len(self.train), generator=generator(self.seed, self.purpose, attempt, epoch))
            self._epochs[key] = shuffled.numpy()
        return self._epochs[key]


class Turns:
    """Whose turn it is at a position, among several with shares of all positions.

    In blocks of about `PLACES` positions, each of which has as many for each as its share says, at least one, in an
    order of its own: so both answers of `at` follow from seed, attempt and position alone.
    """

    def __init__(self, shares: Sequence[float], seed: int, purpose: str) -> None:
        self._places = np.array([max(1, round(PLACES * share / sum(shares))) for share in shares])
        self._seed, self._purpose = seed, purpose
        self._blocks: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def at(self, position: int, attempt: int) -> tuple[int, int]:
        """(whose turn it is, how many they had before)."""
        block, place = divmod(position, int(self._places.sum()))
        order, before = self._block(attempt, block)
        who = int(order[place])
        return who, block * int(self._places[who]) + int(before[place])

    def _block(self, attempt: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """(whose each place is, how many they had in the block before it)."""
        key = (attempt, block)
        if key not in self._blocks:
            while len(self._blocks) > 1:
                del self._blocks[next(iter(self._blocks))]
            every = np.repeat(np.arange(len(self._places)), self._places)
            shuffled = torch.randperm(len(every), generator=generator(self._seed, self._purpose, attempt, block))
            order, before = every[shuffled.numpy()], np.zeros(len(every), np.int64)
            for who in range(len(self._places)):
                theirs = np.flatnonzero(order == who)
                before[theirs] = np.arange(len(theirs))
            self._blocks[key] = order, before
        return self._blocks[key]


class MixedOrder:
    """Images of several parts in turn, by weight, whatever the parts' sizes; each part goes by epochs of its own."""

    def __init__(
        self, parts: Sequence[np.ndarray], weights: Sequence[float], seed: int, purpose: str = "order"
    ) -> None:
        """parts: [n] indices of the training images of each, none of them empty."""
        self._turns = Turns(weights, seed, f"{purpose} of parts")
        self._orders = [BatchOrder(part, seed, f"{purpose} of part {at}") for at, part in enumerate(parts)]

    def batch(self, seen: int, count: int, attempt: int) -> np.ndarray:
        """As `Order.batch`."""
        turns = (self._turns.at(position, attempt) for position in range(seen, seen + count))
        return np.array([self._orders[who].train[self._orders[who].at(before, attempt)] for who, before in turns])


class BucketOrder:
    """Whole batches of several buckets in turn, by the buckets' shares; within one by an order of its own."""

    def __init__(self, orders: Sequence[Order], shares: Sequence[float], seed: int) -> None:
        self._turns = Turns(shares, seed, "buckets")
        self._orders = orders

    def batch(self, seen: int, count: int, attempt: int) -> np.ndarray:
        """As `Order.batch`, for batches of `count` images from the first on."""
        which, before = self._turns.at(seen // count, attempt)
        return self._orders[which].batch(before * count, count, attempt)


def order_of(data: Dataset, recipe: Recipe) -> Order:
    """All training images alike, or those of a mixture's parts by weight; each batch of one bucket."""
    if data.buckets is None:
        return _order_within(data, recipe, data.train, "order")
    groups = [(bucket, data.train[places]) for bucket, places in data.by_bucket(data.train)]
    orders = [_order_within(data, recipe, images, f"order of bucket {bucket}") for bucket, images in groups]
    return BucketOrder(orders, [sum(_shares(data, recipe, images)) for _, images in groups], recipe.training.seed)


def _order_within(data: Dataset, recipe: Recipe, images: np.ndarray, purpose: str) -> Order:
    """images: [n] indices into the dataset."""
    seed = recipe.training.seed
    if data.parts is None:
        return BatchOrder(images, seed, purpose)
    shares, parts = _shares(data, recipe, images), data.parts[images]
    there = [at for at, share in enumerate(shares) if share]
    return MixedOrder([images[parts == at] for at in there], [shares[at] for at in there], seed, purpose)


def _shares(data: Dataset, recipe: Recipe, images: np.ndarray) -> list[float]:
    """How often these training images are shown: of each part's weight, as much as they are of its images."""
    if data.parts is None:
        return [len(images) / len(data.train)]
    weights = [part.weight for part in recipe.data.parts]
    these, every = (np.bincount(data.parts[each], minlength=len(weights)).tolist() for each in (images, data.train))
    return [weight * (few / all_) if few else 0.0 for weight, few, all_ in zip(weights, these, every, strict=True)]


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
        self._order = order_of(data, recipe)

    def at(self, seen: int, attempt: int) -> Batch:
        """The whole batch of the step at this counter, whatever becomes of it in chunks and processes."""
        recipe, data = self._recipe, self._data

        def random(purpose: str) -> torch.Generator:
            return generator(recipe.training.seed, purpose, attempt, seen)

        which = self._order.batch(seen, recipe.training.batch, attempt)
        x0 = to_unit(torch.from_numpy(data.batch(which)))
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
