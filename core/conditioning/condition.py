"""Conditions: what a denoiser is told about images, alone and several for the same images."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


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
