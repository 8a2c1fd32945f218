"""Class labels: one learned vector for each class, and one for "no class said"."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from imagen_workbench.core import Condition, ConditioningScheme, DataError, RequestError

if TYPE_CHECKING:
    from imagen_workbench.core import Example, Facts, Tensors

AND = re.compile(r"\s\+\s")
"""Between several classes of one image."""


class LabelOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=4096, title="Label width", description="Numbers that each class is learned as.")


class Label(ConditioningScheme):
    """One class per image, asked for by its name; or several, "3 + 5:0.5", whose vectors are mixed by their weights.

    While training, images have one class each; weights are those of a mean, and sum to 1.
    """

    title = "Class label"
    summary = "One class per image; needs a dataset with classes."
    key = "class"
    reads = ("label",)
    Options = LabelOptions
    options: LabelOptions

    def __init__(self, options: BaseModel, facts: Facts) -> None:
        if not facts.classes:
            raise DataError(
                "the dataset has no classes",
                field="conditioning.scheme",
                fix="Put the images into a subfolder for each class, or use the scheme none",
            )
        super().__init__(options, facts)

    @property
    def vector_width(self) -> int:
        return self.options.width

    @property
    def choices(self) -> tuple[str, ...]:
        return self.facts.classes

    def prepare(self, example: Example) -> np.ndarray:
        if example.label is None or not 0 <= example.label < len(self.facts.classes):
            raise DataError("has no class")
        return np.asarray(example.label, np.int64)

    def parse(self, text: str) -> np.ndarray:
        """[classes] float32: the weight of each, of which a class alone has 1."""
        weights = np.zeros(len(self.facts.classes))
        said = self._said(text.strip())
        for name, weight in said:
            weights[self.facts.classes.index(name)] += weight / max(each for _, each in said)
        return (weights / weights.sum()).astype(np.float32)

    def for_training(self, prepared: Tensors, x0: Tensor, generator: torch.Generator) -> Tensors:  # noqa: ARG002
        """A class number [b] → as `parse` gives it."""
        assert isinstance(prepared, Tensor)
        return F.one_hot(prepared, len(self.facts.classes)).float()

    def encoder(self) -> nn.Module:
        return LabelEncoder(len(self.facts.classes), self.options.width)

    def carried_over(self, name: str, tensor: Tensor, own: Tensor, before: Facts) -> Tensor:  # noqa: ARG002
        """Classes of the same name keep their row, new ones start at the mean of the base's; the null's stays last."""
        rows, null = tensor[:-1], tensor[-1]
        known = dict(zip(before.classes, rows, strict=True))
        return torch.stack([*(known.get(each, rows.mean(0)) for each in self.facts.classes), null])

    def label(self, prepared: np.ndarray) -> int:
        """The class; -1 for several."""
        if not prepared.ndim:
            return int(prepared)
        return int(prepared.argmax()) if prepared.max() == 1 else -1

    def describe(self, prepared: np.ndarray) -> str:
        known = self.facts.classes
        alone = self.label(prepared)
        if alone >= 0:
            return known[alone]
        return " + ".join(f"{known[at]}:{prepared[at]:.3g}" for at in np.flatnonzero(prepared))

    def _said(self, text: str) -> list[tuple[str, float]]:
        """(class, weight) of each that is named. Raises RequestError."""
        if text in self.facts.classes:
            return [(text, 1.0)]
        return [self._term(part.strip()) for part in AND.split(text)]

    def _term(self, text: str) -> tuple[str, float]:
        if text in self.facts.classes:
            return text, 1.0
        name, colon, weight = text.rpartition(":")
        if not colon or name.strip() not in self.facts.classes:
            known = ", ".join(self.facts.classes[:20]) + (", …" if len(self.facts.classes) > 20 else "")
            raise RequestError(f"{text or 'nothing'} is no class of this model", fix=f"Known: {known}")
        try:
            value = float(weight)
        except ValueError:
            value = math.nan
        if not 0 < value < math.inf:
            first = self.facts.classes[0]
            raise RequestError(f"{weight!r} in {text!r} is no weight", fix=f"Write one above 0, as in {first}:0.5")
        return name.strip(), value


class LabelEncoder(nn.Module):
    """Weights [b classes], or class numbers [b] → Condition with vector [b width]; the table's last row is the null."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(classes + 1, width))

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.table.copy_(torch.randn(self.table.shape, generator=generator))

    def forward(self, said: Tensor) -> Condition:
        null = self.table[-1].expand(len(said), -1)
        if said.ndim == 1:
            return Condition(self.table[said], null=Condition(null))
        most, first = said.max(1)
        # a class alone is its row to the last bit, on every device
        vector = torch.where((most == 1)[:, None], self.table[first], said @ self.table[:-1])
        return Condition(vector, null=Condition(null))
