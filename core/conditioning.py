"""Conditions, and the schemes that make them.

A scheme has two halves. `prepare` turns an example into numbers on the CPU, is pure, and is cached;
`encoder` is a module that is trained and saved with the model and turns them into a `Condition`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

from .errors import RequestError

if TYPE_CHECKING:
    import numpy as np

    from .data.source import Example, Facts


@dataclass(frozen=True)
class Condition:
    """What a denoiser is told about b images. Parts that a scheme does not use are None.

    vector: [b n]; null: the same without the condition, for guidance and for dropout.
    """

    vector: Tensor | None = None
    null: Condition | None = None

    def without(self) -> Condition:
        """The null condition. Raises RequestError where the scheme has none."""
        if self.null is None:
            raise RequestError("this condition has no null", fix="Draw with guidance 1, or use a scheme that has one")
        return self.null

    def drop(self, where: Tensor) -> Condition:
        """The condition, replaced by its null for the images where `where` [b] is true."""
        null = self.without()
        mixed = {
            each.name: torch.where(where.reshape(-1, *[1] * (part.ndim - 1)), getattr(null, each.name), part)
            for each in fields(self)
            if isinstance(part := getattr(self, each.name), Tensor)
        }
        return Condition(**mixed, null=null)

    def to(self, device: torch.device) -> Condition:
        return Condition(
            None if self.vector is None else self.vector.to(device), None if self.null is None else self.null.to(device)
        )

    def __getitem__(self, which: slice) -> Condition:
        return Condition(
            None if self.vector is None else self.vector[which], None if self.null is None else self.null[which]
        )

    @staticmethod
    def join(first: Condition, second: Condition) -> Condition:
        """Both, one after the other, without nulls: for one pass through the network."""
        if first.vector is None or second.vector is None:
            return Condition()
        return Condition(torch.cat([first.vector, second.vector]))


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

    def label(self, prepared: np.ndarray) -> int:  # noqa: ARG002
        """A class number for tables and arrays, or -1."""
        return -1

    def describe(self, prepared: np.ndarray) -> str:  # noqa: ARG002
        """The condition in words."""
        return ""

    def in_turn(self, count: int) -> list[str]:
        """`count` texts when none are asked for: the choices, one after the other."""
        return [self.choices[k % len(self.choices)] for k in range(count)] if self.choices else [""] * count


def scheme_record(scheme: ConditioningScheme) -> dict[str, Any]:
    """What a model file keeps of its scheme, beside the recipe."""
    return {"classes": list(scheme.facts.classes)}
