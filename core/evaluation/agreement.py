"""Whether images are what they should be: a classifier's answers beside the classes that were wanted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

Z95 = 1.959964
"""The normal quantile of a two-sided interval of 95 %."""


@dataclass(frozen=True)
class Share:
    """`hits` of `count`."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count

    @property
    def interval(self) -> tuple[float, float]:
        """95 % by Wilson's score (1927), which holds for shares near 0 and 1, too."""
        p, n, z = self.value, self.count, Z95
        middle = p + z * z / (2 * n)
        half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (middle - half) / (1 + z * z / n)), min(1.0, (middle + half) / (1 + z * z / n))


@dataclass(frozen=True)
class Scores:
    """Of one class, or a mean over classes: precision, recall and F1 in [0, 1]; support: images that were wanted."""

    name: str
    precision: float
    recall: float
    f1: float
    support: int


@dataclass(frozen=True)
class Agreement:
    """accuracy: images that are taken for what was wanted; classes: scores of each; macro: their plain mean;
    weighted: their mean by support; confusion: [wanted][taken for] counts.
    """

    accuracy: Share
    classes: tuple[Scores, ...]
    macro: Scores
    weighted: Scores
    confusion: tuple[tuple[int, ...], ...]


def agreement(wanted: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> Agreement:
    """wanted, answers: [n] class numbers, n ≥ 1; names: of all classes. Where a score is 0/0 it is 0."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(names)))

    def scores(average: Literal["macro", "weighted"] | None) -> Any:  # arrays for None, else numbers
        # scikit-learn's own default makes zero_division look like a text
        no_images: Any = 0
        return precision_recall_fscore_support(
            wanted, answers, labels=numbers, average=average, zero_division=no_images
        )

    def mean(average: Literal["macro", "weighted"]) -> Scores:
        precision, recall, f1, _ = scores(average)
        return Scores(f"{average} mean", float(precision), float(recall), float(f1), len(wanted))

    each = zip(names, *scores(None), strict=True)
    return Agreement(
        Share(int((wanted == answers).sum()), len(wanted)),
        tuple(Scores(name, float(p), float(r), float(f), int(support)) for name, p, r, f, support in each),
        mean("macro"),
        mean("weighted"),
        tuple(tuple(map(int, row)) for row in confusion_matrix(wanted, answers, labels=numbers)),
    )
