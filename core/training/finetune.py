"""Fine-tuning: a new run that begins with another model's weights, fitted to its own data and classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from ..errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from ..conditioning import ConditioningScheme
    from ..data.source import Facts
    from ..denoisers.model import DenoisingModel
    from ..recipe import Recipe

MEANING = ("prediction", "schedule", "shift", "sigma_data")
"""Settings of `model` that say what a network's numbers mean: with others, its weights would be noise."""
ENCODER = "encode."
FIT = "Take [model], [conditioning], data.channels and data.augment from the base's recipe"


@dataclass(frozen=True)
class Base:
    """The model that a run begins with. tensors: its drawing weights; hash: over them; reference: as it was named."""

    reference: str
    hash: str
    recipe: Recipe
    facts: Facts
    tensors: Mapping[str, Tensor]

    def check(self, recipe: Recipe) -> None:
        """Raises ModelError where the recipe means another base, or reads its numbers in another way."""
        if recipe.finetune.hash not in ("", self.hash):
            raise ModelError(
                "has other weights than when the run was begun",
                file=self.reference,
                fix="Bring back the base that finetune.hash names",
            )
        for name in MEANING:
            ours, theirs = getattr(recipe.model, name), getattr(self.recipe.model, name)
            if ours != theirs:
                raise ModelError(
                    f"{ours} where the base has {theirs}", field=f"model.{name}", fix=f"Set model.{name}={theirs}"
                )

    @torch.no_grad()
    def pour_into(self, model: DenoisingModel, scheme: ConditioningScheme) -> None:
        """Fills a new model. Raises ModelError naming the first tensor that does not fit.

        The scheme says how its encoder's tensors are carried over to other classes; the network's stay as they are.
        """
        own = dict(model.named_parameters())
        for name in sorted(own.keys() | self.tensors.keys()):
            if name not in own or name not in self.tensors:
                owner = "the base" if name in own else "the recipe's network"
                raise ModelError(f"{name} is unknown to {owner}", file=self.reference, tensor=name, fix=FIT)
            found = self.tensors[name]
            if name.startswith(ENCODER):
                found = scheme.carried_over(name.removeprefix(ENCODER), found, own[name].detach(), self.facts)
            if found.shape != own[name].shape:
                raise ModelError(
                    f"{name} has shape {tuple(found.shape)}, and {tuple(own[name].shape)} in the recipe's network",
                    file=self.reference,
                    tensor=name,
                    fix=FIT,
                )
            own[name].copy_(found)
