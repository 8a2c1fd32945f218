"""Fine-tuning: a new run that begins with another model's weights, fitted to its own data and classes."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from ..conditioning import ConditioningScheme
    from ..data.source import Facts
    from ..denoisers.model import DenoisingModel
    from ..recipe import Recipe

SHARED = (
    *("model.prediction", "model.schedule", "model.shift", "model.sigma_data"),
    *("model.network", "model.width", "data.channels", "conditioning.scheme"),
)
"""Settings that say what a network's numbers mean, and where they go."""
PARTS = {
    "unet": ("model.multipliers", "model.blocks", "model.attention", "model.stem", "model.coordinates"),
    "transformer": ("model.depth", "model.stem"),
}
"""The same of each kind of network."""
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
        """Raises ModelError where the recipe means another base, or another network: all that differs is named."""
        if recipe.finetune.hash not in ("", self.hash):
            raise ModelError(
                "has other weights than when the run was begun",
                file=self.reference,
                fix="Bring back the base that finetune.hash names",
            )
        settings = dict(self._differing(recipe))
        if settings:
            ours = ", ".join(f"{key} {_written(_value(recipe, key))}" for key in settings)
            theirs = ", ".join(map(_written, settings.values()))
            raise ModelError(
                f"is another network: the recipe has {ours}, and the base {theirs}",
                file=self.reference,
                field=next(iter(settings)),
                fix=" ".join(f"--set {key}={shlex.quote(_written(value))}" for key, value in settings.items()),
            )

    def _differing(self, recipe: Recipe) -> Iterator[tuple[str, Any]]:
        """(setting, the base's value) where the recipe has another one."""
        for key in (*SHARED, *PARTS[self.recipe.model.network]):
            theirs = _value(self.recipe, key)
            if _value(recipe, key) != theirs:
                yield key, theirs
        if (recipe.data.augment > 0) != (self.recipe.data.augment > 0):
            yield "data.augment", self.recipe.data.augment

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


def _value(recipe: Recipe, key: str) -> Any:
    section, name = key.split(".")
    return getattr(getattr(recipe, section), name)


def _written(value: Any) -> str:
    """As `--set` reads it."""
    return json.dumps(value) if not isinstance(value, str) else value
