"""The training loop: a generator that reads like the algorithm.

It yields after every pass through the network, when a draw may go ahead, and after every optimizer step,
when alone its state is whole and may be saved.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..denoisers.layers import set_dropout_generator
from ..randomness import generator
from . import ema
from .batches import Batches
from .losses import denoising_error, loss_weight
from .optimizers import learning_rate
from .processes import Processes
from .state import Diverged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..data.cache import Dataset
    from ..recipe import Recipe
    from .state import TrainingState

SKIPPED = 3
"""Steps in a row without a finite loss that end it: one may be an unlucky batch, three are the weights."""
ALONE = Processes()


@dataclass(frozen=True)
class Tick:
    """whole: an optimizer step has just been made, and the rest tells of it; else a pass through the network.

    loss: W(sigma) mean (D - x0)² over the batch, without a learned uncertainty; skipped: it was not finite, and the
    weights stayed as they were.
    """

    whole: bool = False
    step: int = 0
    loss: float = math.nan
    grad_norm: float = math.nan
    learning_rate: float = 0.0
    skipped: bool = False


def train(
    state: TrainingState,
    data: Dataset,
    recipe: Recipe,
    device: torch.device,
    steps: int,
    processes: Processes = ALONE,
) -> Iterator[Tick]:
    """Trains up to `steps` optimizer steps in all (Karras et al. 2022, Sec. 5), on this process's share of the batches.

    A step whose loss is not finite is skipped. Raises Diverged after `SKIPPED` such steps in a row, and where the
    weights are not finite when they are about to be saved.
    """
    settings, model, optimizer = recipe.training, state.model, state.optimizer
    batches, weight = Batches(data, recipe, model.scheme), loss_weight(recipe)
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    share = processes.share(settings.batch)
    rate_share = recipe.finetune.rate if recipe.finetune.base else 1.0
    while (step := state.seen // settings.batch) < steps:
        if not processes.goes_on():
            return
        batch = batches.at(state.seen, state.attempt)
        rate = rate_share * learning_rate(settings, step, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        optimizer.zero_grad(set_to_none=True)
        total = 0.0
        for start in range(share.start, share.stop, settings.micro_batch):
            part = batch.part(slice(start, min(start + settings.micro_batch, share.stop)), device)
            set_dropout_generator(model, _dropout(state, recipe, start, device))
            cond = part.condition(model)
            losses = weight(part.sigma) * denoising_error(model, part.x0, part.sigma, part.noise, cond)
            total += float(losses.detach().sum() / settings.batch)
            if state.uncertainty is not None:
                losses = state.uncertainty.objective(losses, part.sigma)
            (losses.sum() / settings.batch).backward()
            yield Tick()

        total = processes.summed(trained, total)
        norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip))
        state.seen += settings.batch
        finite = math.isfinite(total) and math.isfinite(norm)
        if finite:
            optimizer.step()
            weights = dict(model.named_parameters())
            counted = state.seen + state.before
            for name, average in state.emas.items():
                ema.update(average, weights, ema.decay(counted, settings.batch, float(name)))
        state.skipped = 0 if finite else state.skipped + 1
        _check(state, recipe, step + 1, steps, rate)
        yield Tick(whole=True, step=step + 1, loss=total, grad_norm=norm, learning_rate=rate, skipped=not finite)


def _check(state: TrainingState, recipe: Recipe, step: int, steps: int, rate: float) -> None:
    """Raises Diverged where nothing good can come of going on."""
    about_to_save = step == steps or step % recipe.training.checkpoint_every == 0
    if state.skipped >= SKIPPED:
        what = f"the loss was not finite in {SKIPPED} steps in a row, up to step {step:,}"
    elif about_to_save and not state.is_finite():
        what = f"the weights are not finite at step {step:,}"
    else:
        return
    raise Diverged(
        f"{what} (learning rate {rate:.3g})",
        field="training.learning_rate",
        fix="Lower it and begin again; if that does not help, look at the images",
    )


def _dropout(state: TrainingState, recipe: Recipe, start: int, device: torch.device) -> torch.Generator:
    """The masks of the chunk that begins with image `start` of the batch."""
    made = generator(recipe.training.seed, "dropout", state.attempt, state.seen + start)
    if device.type == "cpu":
        return made
    there = torch.Generator(device)
    there.manual_seed(made.initial_seed())
    return there
