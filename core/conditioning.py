"""Conditions, and the schemes that make them.

A scheme has two halves. `prepare` turns an example into numbers on the CPU, is pure, and is cached;
`encoder` is a module that is trained and saved with the model and turns them into a `Condition`.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from .errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from .data.source import Example, Facts


@dataclass(frozen=True)
class Condition:
    """What a denoiser is told about b images. Parts that a scheme does not use are None.

    vector: [b n]; tokens: [b t n], with mask: [b t] bool, true where there is a token; image: [b c h w];
    augmentation: [b k], how training images were changed, which is no condition: its zeros draw clean images;
    null: the same without the condition, for guidance and for dropout.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    image: Tensor | None = None
    augmentation: Tensor | None = None
    null: Condition | None = None

    def without(self) -> Condition:
        """The null condition. Raises RequestError where the scheme has none."""
        if self.null is None:
            raise RequestError("this condition has no null", fix="Draw with guidance 1, or use a scheme that has one")
        return self.null

    def drop(self, where: Tensor) -> Condition:
        """The condition, replaced by its null for the images where `where` [b] is true."""
        null = self.without()

        def mixed(name: str, part: Tensor) -> Tensor:
            other = getattr(null, name)
            return part if other is None else torch.where(where.reshape(-1, *[1] * (part.ndim - 1)), other, part)

        return replace(self, **{name: mixed(name, part) for name, part in self.parts()})

    def parts(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) of the parts that are there; not the null's."""
        for each in fields(self):
            part = getattr(self, each.name)
            if isinstance(part, Tensor):
                yield each.name, part

    def to(self, device: torch.device) -> Condition:
        return self._each(lambda part: part.to(device))

    def __getitem__(self, which: slice) -> Condition:
        return self._each(lambda part: part[which])

    def _each(self, change: Callable[[Tensor], Tensor]) -> Condition:
        parts = {name: change(part) for name, part in self.parts()}
        return Condition(**parts, null=None if self.null is None else self.null._each(change))

    @staticmethod
    def join(conditions: Sequence[Condition]) -> Condition:
        """All of them, one after the other, without nulls: for one pass through the network.

        Parts that one of them lacks are left out.
        """
        shared = [
            name for name, _ in conditions[0].parts() if all(getattr(each, name) is not None for each in conditions)
        ]
        return Condition(
            **{name: torch.cat([getattr(each, name) for each in conditions]) for name in shared}, null=None
        )


@dataclass(frozen=True)
class Composition:
    """Several conditions for the same b images, each with a weight per image: weights [k b].

    Weights are those of Liu et al. 2022 (arXiv 2206.01714); a negative one keeps away.
    """

    terms: tuple[Condition, ...]
    weights: Tensor

    def without(self) -> Condition:
        """The null condition. Raises RequestError where the scheme has none."""
        return self.terms[0].without()

    def to(self, device: torch.device) -> Composition:
        return Composition(tuple(term.to(device) for term in self.terms), self.weights.to(device))

    def __getitem__(self, which: slice) -> Composition:
        return Composition(tuple(term[which] for term in self.terms), self.weights[:, which])


def composed_texts(text: str, choices: Sequence[str] = ()) -> list[tuple[float, str]]:
    """ "3 AND 5:-0.5" → [(1.0, "3"), (-0.5, "5")]; a text without AND, or one of the choices, is one term of weight 1.

    Raises RequestError where a weight is no number.
    """
    if text in choices or " AND " not in text:
        return [(1.0, text)]
    terms: list[tuple[float, str]] = []
    for part in text.split(" AND "):
        name, colon, weight = part.strip().rpartition(":")
        if not colon or part.strip() in choices:
            terms.append((1.0, part.strip()))
            continue
        terms.append((_weight(weight, part.strip()), name.strip()))
    return terms


def _weight(text: str, part: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not math.isfinite(weight):
        raise RequestError(f"{text!r} in {part!r} is no weight", fix="Write for example 3 AND 5:0.5")
    return weight


class NoOptions(BaseModel):
    """For plugins without settings of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConditioningScheme(ABC):
    """What a model is told about each image; a plugin subclasses it.

    options: an instance of `Options`; facts: what is known of the dataset (its classes, …). Both are saved
    with the model, and make the same scheme again.
    """

    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: BaseModel, facts: Facts) -> None:
        self.options = options
        self.facts = facts

    @property
    @abstractmethod
    def vector_width(self) -> int:
        """n of `Condition.vector`; 0 where the scheme gives none."""

    @property
    def token_width(self) -> int:
        """n of `Condition.tokens`; 0 where the scheme gives none."""
        return 0

    @property
    def image_channels(self) -> int:
        """c of `Condition.image`; 0 where the scheme gives none."""
        return 0

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that can be asked for, where they can be listed."""
        return ()

    @abstractmethod
    def prepare(self, example: Example) -> np.ndarray:
        """An example → numbers of a fixed shape and type. Pure. Raises DataError where it lacks what is needed."""

    @abstractmethod
    def parse(self, text: str) -> np.ndarray:
        """What a person wrote ("7") → as `prepare`. Raises RequestError saying what can be written."""

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A module: prepared numbers [b …] → Condition with its null.

        Its parameters may be empty: `initialise` in core.denoisers fills what has a `reset(generator)`.
        """

    def carried_over(self, name: str, tensor: Tensor, own: Tensor, before: Facts) -> Tensor:  # noqa: ARG002
        """A base model's encoder tensor, fitted to this scheme's encoder when fine-tuning begins.

        name: the tensor's, in the encoder; own: what it replaces; before: the base's facts. One of another shape than
        `own` is refused with its name.
        """
        return tensor

    def label(self, prepared: np.ndarray) -> int:  # noqa: ARG002
        """A class number for tables and arrays, or -1."""
        return -1

    def describe(self, prepared: np.ndarray) -> str:  # noqa: ARG002
        """The condition in words."""
        return ""

    def in_turn(self, count: int) -> list[str]:
        """`count` texts when none are asked for: the choices, one after the other."""
        return [self.choices[k % len(self.choices)] for k in range(count)] if self.choices else [""] * count
