"""Class labels: one learned vector for each class, and one for "no class said"."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from imagen_workbench.core import Condition, ConditioningScheme, DataError, RequestError

if TYPE_CHECKING:
    from imagen_workbench.core import Example, Facts


class LabelOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    width: int = Field(64, ge=1, le=4096, title="Label width", description="Numbers that each class is learned as.")


class Label(ConditioningScheme):
    """One class per image, asked for by its name."""

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
        if text.strip() not in self.facts.classes:
            known = ", ".join(self.facts.classes[:20]) + (", …" if len(self.facts.classes) > 20 else "")
            raise RequestError(f"{text.strip() or 'nothing'} is no class of this model", fix=f"Known: {known}")
        return np.asarray(self.facts.classes.index(text.strip()), np.int64)

    def encoder(self) -> nn.Module:
        return LabelEncoder(len(self.facts.classes), self.options.width)

    def carried_over(self, name: str, tensor: Tensor, own: Tensor, before: Facts) -> Tensor:  # noqa: ARG002
        """Classes of the same name keep their row, new ones start at the mean of the base's; the null's stays last."""
        rows, null = tensor[:-1], tensor[-1]
        known = dict(zip(before.classes, rows, strict=True))
        return torch.stack([*(known.get(each, rows.mean(0)) for each in self.facts.classes), null])

    def label(self, prepared: np.ndarray) -> int:
        return int(prepared)

    def describe(self, prepared: np.ndarray) -> str:
        return self.facts.classes[int(prepared)]


class LabelEncoder(nn.Module):
    """Class numbers [b] → Condition with vector [b width]; the last row of the table is the null."""

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(classes + 1, width))

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            self.table.copy_(torch.randn(self.table.shape, generator=generator))

    def forward(self, labels: Tensor) -> Condition:
        null = self.table[-1].expand(len(labels), -1)
        return Condition(self.table[labels], null=Condition(null))
