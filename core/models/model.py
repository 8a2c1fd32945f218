"""A trained model: its network with the weights of each EMA, ready to draw."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..denoisers.model import DenoisingModel, Weighted
from ..drawing import Weights, conditions_of, draw, images_per_call, size_of, with_levels
from ..errors import ModelError
from ..events import ModelOpened
from ..generators import finish
from ..recipe import REBUILT, Recipe
from ..runs.checkpoint import weights_hash, write_model_file
from .drawer import Drawer

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    import torch
    from torch import Tensor

    from ..commands import Draw
    from ..conditioning import ConditioningScheme
    from ..events import Drawn, Preview
    from ..recipe import Sampling
    from ..training.posthoc import KeptAverages


@dataclass
class Model(Drawer):
    """An opened model: its recipe, scheme, and the weights of each EMA by length (0: the raw ones)."""

    reference: str
    name: str
    recipe: Recipe
    scheme: ConditioningScheme
    module: DenoisingModel
    weights: dict[float, dict[str, Tensor]]
    device: torch.device
    step: int = 0
    trained: str = ""
    kept: KeptAverages | None = None
    """What other EMA lengths can be rebuilt from, for a run's model."""
    picture: dict[str, Any] = field(default_factory=dict)
    """The recipe of the picture that it was opened through, if it was."""
    _ready: Weights | None = None
    """What drew last, so that a redraw need not hash or rebuild."""

    @property
    def any_ema(self) -> bool:
        """Whether EMAs of other lengths can be rebuilt."""
        return self.kept is not None

    def stored_ema(self, length: float | None) -> float | None:
        """The length that the model carries and that this one names; None where it names none of them."""
        near = min(self.weights, key=lambda known: abs(known - (length or 0.0)))
        return near if length is not None and abs(near - length) <= 5e-4 else None

    def chosen_ema(self, length: float | None) -> float:
        """The EMA length that draws: None is the recipe's own. Raises ModelError where the model has not that one."""
        if length is None:
            first = self.recipe.training.emas[0]
            return min(self.weights, key=lambda known: abs(known - first))
        stored = self.stored_ema(length)
        if stored is not None:
            return stored
        if self.kept is not None and REBUILT[0] <= length <= REBUILT[1]:
            return length
        known = ", ".join(f"{each:g}" for each in sorted(self.weights, reverse=True))
        span = f", and any from {REBUILT[0]:g} to {REBUILT[1]:g}" if self.kept else ""
        raise ModelError(
            f"{self.name} has no EMA of length {length:g}",
            field="sampling.ema",
            fix=f"It has {known} (0: raw weights){span}",
        )

    def drawing_weights(self, ema: float | None = None) -> Weights:
        """What `draw` needs. Raises ModelError where the model cannot give this EMA length."""
        length = self.chosen_ema(ema)
        if self._ready is None or self._ready.ema != length:
            tensors = self._tensors(length)
            self._ready = Weights(
                Weighted(self.module, tensors),
                self.recipe,
                self.scheme,
                self.device,
                self.reference,
                self.name,
                weights_hash(tensors),
                length,
                self.step,
            )
        return self._ready

    def facts(self, ticket: int = 0) -> ModelOpened:
        """What a face shows of it."""
        return ModelOpened(
            ticket,
            self.reference,
            self.name,
            sum(parameter.numel() for parameter in self.module.parameters()),
            self.trained,
            self.step,
            self.drawing_weights().hash,
            self.recipe.data.size,
            self.recipe.data.channels,
            self.scheme.choices,
            self.scheme.is_conditional,
            tuple(sorted(self.weights)),
            self.chosen_ema(self.recipe.sampling.ema if self.kept else self.stored_ema(self.recipe.sampling.ema)),
            self.any_ema,
            self.recipe.sampling.model_dump(mode="json"),
            self.scheme.form,
            self.recipe.data.shapes if self.recipe.data.buckets else (),
        )

    @property
    def asked(self) -> ConditioningScheme:
        return self.scheme

    def identity(self, ema: float | None = None) -> dict[str, Any]:
        return self.drawing_weights(ema).identity()

    def drawing(self, request: Draw, indices: tuple[int, ...] | None = None) -> Generator[Preview | None, None, Drawn]:
        return (yield from draw(self.drawing_weights(request.sampling.ema), request, indices))

    def levels_fixed(self, settings: Sampling, texts: Sequence[str]) -> Sampling:
        weights = self.drawing_weights(settings.ema)
        some = [texts[k % len(texts)] for k in range(images_per_call(size_of(weights, settings)))]
        return finish(with_levels(weights, conditions_of(weights, some)[0], settings, len(some)))

    def save(self, path: Path | str, *, ema: float | None = None, card: Mapping[str, Any] | None = None) -> None:
        """Writes the weights of one EMA length as a single-file model with recipe and card in its metadata.

        Raises ModelError where the model has no such length.
        """
        length = self.chosen_ema(ema)
        facts = {
            "recipe": self.recipe.to_toml(),
            "data": self.scheme.facts.as_dict(),
            "step": self.step,
            "ema": length,
            "name": self.name,
            "trained": self.trained,
            "card": dict(card or {}),
        }
        write_model_file(Path(path), self._tensors(length), facts)

    def _tensors(self, length: float) -> dict[str, Tensor]:
        """The weights of a length that `chosen_ema` has given: carried, or rebuilt."""
        if length in self.weights:
            return self.weights[length]
        assert self.kept is not None
        return {name: tensor.to(self.device) for name, tensor in self.kept.rebuilt(length).items()}
