"""The training loop: a generator that reads like the algorithm.

It yields after every pass through the network, when a draw may go ahead, and after every optimizer step,
when alone its state is whole and may be saved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from ..data.augment import augment
from ..denoisers.layers import set_dropout_generator
from ..errors import RunError
from ..randomness import generator
from ..schedule import lognormal, stratified
from . import ema
from .losses import by_band, denoising_loss
from .optimizers import learning_rate, load_state_tensors, make_optimizer, state_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

    import numpy as np
    from torch import Tensor

    from ..conditioning import Condition
    from ..data.cache import Dataset
    from ..denoisers.model import DenoisingModel
    from ..precondition import Denoiser
    from ..recipe import Recipe


@dataclass
class TrainingState:
    """Everything a continuation needs. One counter, `seen` (images), from which the rest follows."""

    model: DenoisingModel
    optimizer: torch.optim.Optimizer
    emas: dict[str, dict[str, Tensor]]
    seen: int = 0
    attempt: int = 0

    @classmethod
    def begin(cls, model: DenoisingModel, recipe: Recipe) -> TrainingState:
        """The state before the first step; the average starts as the weights."""
        averages = {
            ema.name_of(length): {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
            for length in recipe.training.emas
        }
        return cls(model, make_optimizer(model, recipe.training), averages)

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by file: `weights`, `ema-LENGTH`, `optimizer`."""
        return {
            "weights": {name: tensor.detach() for name, tensor in self.model.named_parameters()},
            **{f"ema-{name}": dict(average) for name, average in self.emas.items()},
            "optimizer": state_tensors(self.optimizer, self.model),
        }

    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], seen: int, attempt: int) -> None:
        """The other way; shapes have been checked against the recipe's network."""
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(tensors["weights"][name])
            for name, average in self.emas.items():
                for key, tensor in average.items():
                    tensor.copy_(tensors[f"ema-{name}"][key])
        load_state_tensors(self.optimizer, self.model, tensors["optimizer"])
        self.seen, self.attempt = seen, attempt


@dataclass(frozen=True)
class Tick:
    """whole: an optimizer step has just been made, and the rest tells of it; else a pass through the network."""

    whole: bool = False
    step: int = 0
    loss: float = math.nan
    grad_norm: float = math.nan
    learning_rate: float = 0.0


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


def train(state: TrainingState, data: Dataset, recipe: Recipe, device: torch.device, steps: int) -> Iterator[Tick]:
    """Trains up to `steps` optimizer steps in all (Karras et al. 2022, Sec. 5).

    Raises RunError, leaving the weights as they were, where a loss is not finite.
    """
    settings, model, optimizer = recipe.training, state.model, state.optimizer
    order = BatchOrder(data.train, settings.seed)
    while (step := state.seen // settings.batch) < steps:
        which = order.batch(state.seen, settings.batch, state.attempt)
        x0, sigma, noise, dropped = _draw_batch(state, data, recipe, which)

        rate = learning_rate(settings, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(0, settings.batch, settings.micro_batch):
            part = slice(start, start + settings.micro_batch)
            set_dropout_generator(model, _random(state, recipe, "dropout", start, device))
            cond = model.encode(torch.from_numpy(data.prepared[which[part]]).to(device))
            if cond.null is not None:
                cond = cond.drop(dropped[part].to(device))
            losses = denoising_loss(
                model,
                x0[part].to(device),
                sigma[part].to(device),
                noise[part].to(device),
                cond,
                recipe.model.sigma_data,
            )
            loss = losses.sum() / settings.batch
            loss.backward()
            total += float(loss.detach())
            yield Tick()

        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise RunError(
                f"the loss at step {step + 1:,} is not finite (learning rate {rate:.3g})",
                field="training.learning_rate",
                fix="Lower it, and continue from the last saved state",
            )
        optimizer.step()
        state.seen += settings.batch
        weights = dict(model.named_parameters())
        for name, average in state.emas.items():
            ema.update(average, weights, ema.decay(state.seen, settings.batch, float(name)))
        yield Tick(whole=True, step=step + 1, loss=total, grad_norm=norm, learning_rate=rate)


def _draw_batch(
    state: TrainingState, data: Dataset, recipe: Recipe, which: np.ndarray
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x0 [b c h w] in [-1, 1], sigma [b], noise like x0, and which conditions are dropped [b]; on the CPU."""
    settings = recipe.training
    x0 = to_unit(torch.from_numpy(data.pixels[which]))
    x0 = augment(x0, recipe.data.shift, _random(state, recipe, "augment"), flip=recipe.data.flip)
    u = stratified(len(which), _random(state, recipe, "sigma"))
    sigma = lognormal(u, settings.sigma_mean, settings.sigma_std).float()
    noise = torch.randn(x0.shape, generator=_random(state, recipe, "noise"))
    dropped = torch.rand(len(which), generator=_random(state, recipe, "condition")) < recipe.conditioning.dropout
    return x0, sigma, noise, dropped


def _random(
    state: TrainingState, recipe: Recipe, purpose: str, offset: int = 0, device: torch.device | None = None
) -> torch.Generator:
    made = generator(recipe.training.seed, purpose, state.attempt, state.seen + offset)
    if device is None or device.type == "cpu":
        return made
    there = torch.Generator(device)
    there.manual_seed(made.initial_seed())
    return there


def to_unit(pixels: Tensor) -> Tensor:
    """uint8 0…255 → float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


@torch.no_grad()
def held_out_loss(
    denoise: Denoiser,
    encode: Callable[[Tensor], Condition],
    data: Dataset,
    recipe: Recipe,
    device: torch.device,
    most: int = 512,
) -> Generator[None, None, tuple[float, list[tuple[str, float]]]]:
    """The loss on held-out images, with the same noise every time: its mean, and its mean by noise level.

    Yields after every pass through the network; at most `most` images are looked at. NaN where none are held out.
    """
    which = data.held_out[:most]
    if not len(which):
        return math.nan, []
    settings = recipe.training
    sigma = lognormal(
        stratified(len(which), generator(settings.seed, "held-out sigma")), settings.sigma_mean, settings.sigma_std
    ).float()
    x0 = to_unit(torch.from_numpy(data.pixels[which]))
    noise = torch.randn(x0.shape, generator=generator(settings.seed, "held-out noise"))
    prepared = torch.from_numpy(data.prepared[which])
    losses = []
    for start in range(0, len(which), settings.micro_batch):
        part = slice(start, start + settings.micro_batch)
        cond = encode(prepared[part].to(device))
        losses.append(
            denoising_loss(
                denoise,
                x0[part].to(device),
                sigma[part].to(device),
                noise[part].to(device),
                cond,
                recipe.model.sigma_data,
            ).cpu()
        )
        yield
    every = torch.cat(losses)
    return float(every.mean()), by_band(every, sigma)
