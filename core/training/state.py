"""All that a continuation of training needs, in one place and from one counter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..denoisers.layers import initialise
from ..errors import RunError
from ..randomness import generator
from . import ema
from .losses import Uncertainty
from .optimizers import load_state_tensors, make_optimizer, state_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ..denoisers.model import DenoisingModel
    from ..recipe import Recipe


class Diverged(RunError):
    """Training has come to numbers that are not finite, and does not get out of it by itself."""


@dataclass
class TrainingState:
    """Everything a continuation needs. One counter, `seen` (images), from which the rest follows.

    uncertainty: the learned loss weight, where the recipe asks for it; attempt: rises with each roll-back;
    skipped: steps in a row, up to now, whose loss was not finite; before: images that the averages count as seen
    before the first, all with the weights that it began with.
    """

    model: DenoisingModel
    optimizer: torch.optim.Optimizer
    emas: dict[str, dict[str, Tensor]]
    uncertainty: Uncertainty | None = None
    seen: int = 0
    attempt: int = 0
    skipped: int = 0
    before: int = 0

    @classmethod
    def begin(cls, model: DenoisingModel, recipe: Recipe, *, before: int = 0) -> TrainingState:
        """The state before the first step, on the model's device; the averages start as the weights."""
        averages = {
            ema.name_of(length): {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
            for length in recipe.training.emas
        }
        optimizer = make_optimizer(model, recipe.training)
        uncertainty = None
        if recipe.training.weighting == "uncertainty":
            uncertainty = Uncertainty()
            initialise(uncertainty, generator(recipe.training.seed, "uncertainty"))
            uncertainty.to(next(model.parameters()).device)
            optimizer.add_param_group(
                {"params": list(uncertainty.parameters()), "matrices": False, "weight_decay": 0.0}
            )
        return cls(model, optimizer, averages, uncertainty, before=before)

    def try_again(self, attempt: int) -> None:
        """Goes on with the noise and order of this attempt, if it is a later one."""
        if attempt > self.attempt:
            self.attempt, self.skipped = attempt, 0

    def is_finite(self) -> bool:
        """Whether every weight is a number."""
        return all(bool(torch.isfinite(weights).all()) for weights in self.model.parameters())

    def counters(self) -> dict[str, int]:
        """What is saved beside the tensors: `load` takes it back."""
        return {"seen": self.seen, "attempt": self.attempt, "skipped": self.skipped, "before": self.before}

    def tensors(self) -> dict[str, dict[str, Tensor]]:
        """All tensors, by file: `weights`, `ema-LENGTH`, `optimizer`, and `uncertainty` with its optimizer's state."""
        groups = {
            "weights": {name: tensor.detach() for name, tensor in self.model.named_parameters()},
            **{f"ema-{name}": dict(average) for name, average in self.emas.items()},
            "optimizer": state_tensors(self.optimizer, self.model),
        }
        if self.uncertainty is not None:
            own = {name: tensor.detach() for name, tensor in self.uncertainty.named_parameters()}
            groups["uncertainty"] = own | state_tensors(self.optimizer, self.uncertainty)
        return groups

    @torch.no_grad()
    def load(self, tensors: Mapping[str, Mapping[str, Tensor]], counters: Mapping[str, Any]) -> None:
        """The other way; shapes have been checked against the recipe's network."""
        for name, parameter in self.model.named_parameters():
            parameter.copy_(tensors["weights"][name])
        for name, average in self.emas.items():
            for key, tensor in average.items():
                tensor.copy_(tensors[f"ema-{name}"][key])
        load_state_tensors(self.optimizer, self.model, tensors["optimizer"])
        if self.uncertainty is not None:
            own = dict(tensors["uncertainty"])
            for name, parameter in self.uncertainty.named_parameters():
                parameter.copy_(own.pop(name))
            load_state_tensors(self.optimizer, self.uncertainty, own)
        self.seen, self.attempt = int(counters["seen"]), int(counters["attempt"])
        self.skipped, self.before = int(counters.get("skipped", 0)), int(counters.get("before", 0))
