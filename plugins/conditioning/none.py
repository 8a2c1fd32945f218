"""No condition: the model learns the images as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor, nn

from imagen_workbench.core import Condition, ConditioningScheme, RequestError

if TYPE_CHECKING:
    from imagen_workbench.core import Example


class Unconditional(ConditioningScheme):
    """Nothing is said about any image."""

    title = "None"
    summary = "For images without classes; guidance has nothing to follow."
    reads = ()

    def prepare(self, example: Example) -> np.ndarray:  # noqa: ARG002
        return np.zeros(0, np.float32)

    def parse(self, text: str) -> np.ndarray:
        if text.strip():
            raise RequestError("this model takes no condition", fix="Leave the condition out")
        return np.zeros(0, np.float32)

    def encoder(self) -> nn.Module:
        return Nothing()


class Nothing(nn.Module):
    """Anything [b 0] → the empty condition."""

    def forward(self, prepared: Tensor) -> Condition:  # noqa: ARG002
        return Condition()
