"""Attributes: numbers and words that tell of each image, each learned as a vector of its own."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from imagen_workbench.core import Condition, ConditionField, ConditioningScheme, DataError, RequestError, keyed_texts

from .octaves import WIDTH, octaves

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagen_workbench.core import Attribute, Example, Facts, Tensors

UNSAID = 0.1
"""Share of training images that go without one attribute."""
NUMBERS = 1 + WIDTH
"""How many features a number is told by."""


class AttributeOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=4096, title="Width", description="Numbers that each attribute is learned as.")
    names: tuple[str, ...] = Field(
        (), title="Attributes", description="Which of the dataset's are told; empty takes all of them."
    )


class Attributes(ConditioningScheme):
    """What a dataset tells of its images: "colour=red;size=0.4", of one alone "red". What is not named is not said."""

    title = "Attributes"
    summary = "Numbers and words that tell of each image; needs a dataset with attributes."
    key = "attributes"
    needs = reads = ("attributes",)
    Options = AttributeOptions
    options: AttributeOptions

    def __init__(self, options: BaseModel, facts: Facts) -> None:
        super().__init__(options, facts)
        known = {each.name: each for each in facts.attributes}
        for name in self.options.names:
            if name not in known:
                raise DataError(
                    f"the dataset has no attribute {name}",
                    field="conditioning.options.names",
                    fix=f"Known: {', '.join(known) or 'none'}",
                )
        self.told = tuple(known[name] for name in self.options.names or known)

    @property
    def vector_width(self) -> int:
        return self.options.width

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return tuple(
            ConditionField(each.name, each.name, "choice", choices=each.choices)
            if each.choices
            else ConditionField(each.name, each.name, "number", low=each.low, high=each.high)
            for each in self.told
        )

    def prepare(self, example: Example) -> np.ndarray:
        return self._numbers({name: str(value) for name, value in example.attributes.items()}, DataError)

    def parse(self, text: str) -> np.ndarray:
        names = [each.name for each in self.told]
        if len(names) != 1 and text.strip() and not any(text.strip().startswith(f"{name}=") for name in names):
            raise RequestError(f"{text.strip()!r} names no attribute of this model", fix=f"Write {self._example()}")
        return self._numbers(keyed_texts(text, names), RequestError)

    def encoder(self) -> nn.Module:
        return AttributeEncoder(self.told, self.options.width)

    def for_training(self, prepared: Tensors, x0: Tensor, generator: torch.Generator) -> Tensors:  # noqa: ARG002
        """Some images go without single attributes, so that each can be left out when drawing."""
        assert isinstance(prepared, Tensor)
        unsaid = torch.rand(prepared.shape, generator=generator) < UNSAID
        return torch.where(unsaid, torch.nan, prepared)

    def describe(self, prepared: np.ndarray) -> str:
        words = []
        for each, value in zip(self.told, prepared, strict=True):
            if not math.isnan(value):
                words.append(f"{each.name}={each.choices[int(value)] if each.choices else f'{value:g}'}")
        return ";".join(words)

    def in_turn(self, count: int) -> list[str]:
        """The words of each attribute, turned over at different speeds."""
        return [
            ";".join(f"{each.name}={each.choices[k // (at + 1) % len(each.choices)]}" for at, each in worded)
            for k in range(count)
            for worded in [[(at, each) for at, each in enumerate(self.told) if each.choices]]
        ]

    def _numbers(self, given: Mapping[str, str], error: type[DataError | RequestError]) -> np.ndarray:
        """[attributes] float32: a word's place among its choices, or the number; NaN where nothing is said."""
        return np.array([_number(each, given.get(each.name, ""), error) for each in self.told], np.float32)

    def _example(self) -> str:
        return ";".join(f"{each.name}={each.choices[0] if each.choices else f'{each.low:g}'}" for each in self.told)


def _number(attribute: Attribute, text: str, error: type[DataError | RequestError]) -> float:
    if not text:
        return math.nan
    if attribute.choices:
        if text not in attribute.choices:
            raise error(f"{attribute.name} is {text!r}", fix=f"Known: {', '.join(attribute.choices)}")
        return float(attribute.choices.index(text))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not attribute.low <= value <= attribute.high:
        raise error(f"{attribute.name} is {text!r}", fix=f"Give a number from {attribute.low:g} to {attribute.high:g}")
    return value


class AttributeEncoder(nn.Module):
    """[b attributes], NaN where nothing is said → Condition with vector [b width], the sum of what is said.

    A word has a row of its own; a number turns a plane and shifts along a line. The null is zero.
    """

    def __init__(self, told: tuple[Attribute, ...], width: int) -> None:
        super().__init__()
        self._told = told
        sizes = [len(each.choices) or NUMBERS for each in told]
        self.tables = nn.ParameterList(nn.Parameter(torch.empty(size, width)) for size in sizes)

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for table in self.tables:
                table.copy_(torch.randn(table.shape, generator=generator))

    def forward(self, values: Tensor) -> Condition:
        said = ~values.isnan()
        values = values.nan_to_num()
        total = values.new_zeros(len(values), self.tables[0].shape[1] if len(self.tables) else 0)
        for at, (attribute, table) in enumerate(zip(self._told, self.tables, strict=True)):
            value = values[:, at]
            if attribute.choices:
                row = table[value.long()]
            else:
                row = waves((value - attribute.low) / max(attribute.high - attribute.low, 1e-9)) @ table
            total = total + row * said[:, at, None]
        return Condition(total, null=Condition(torch.zeros_like(total)))


def waves(share: Tensor) -> Tensor:
    """[b] in [0, 1] → [b NUMBERS]: itself, and sine and cosine of half a turn, one, two and four."""
    return torch.cat([2 * share[:, None] - 1, octaves(share)], 1)
