"""Samples of a model, measured batch by batch as they are drawn, so that no more than a batch must be held."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ..commands import Draw
from ..drawing import images_per_call, to_pixels
from ..generators import retold
from ..recipe import Sampling
from .classify import Judgement, judge
from .copies import nearest_in_turns
from .images import StoredImages
from .pixels import PixelStatistics, PixelSums
from .turns import Turn

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..data.cache import Dataset
    from ..events import Drawn, Preview
    from ..models import Drawer
    from .classify import Classifier

SHOWN, SUSPICIOUS = 100, 10
"""Samples that are kept to be looked at: the first ones, and those nearest to a training image."""
CALLS_PER_BATCH = 8
DRAWING = "Drawing"


@dataclass(frozen=True)
class Evidence:
    """Samples to look at. images: [k h w c] uint8; indices: [k] in the draw; conditions: [k] as asked for;
    answers: [k] what the classifier takes them for, by name, empty without one; recipe: of the draw.

    suspicious: [s h w c] the samples nearest to a training image, nearest: [s h w c] those training images.
    """

    images: np.ndarray
    indices: tuple[int, ...]
    conditions: tuple[str, ...]
    answers: tuple[str, ...]
    recipe: dict[str, Any]
    suspicious: np.ndarray
    suspicious_indices: tuple[int, ...]
    suspicious_conditions: tuple[str, ...]
    nearest: np.ndarray


@dataclass
class Samples:
    """What is kept of the samples, batch by batch; of their images only those that will be shown."""

    classifier: Classifier | None
    settings: Sampling
    sums: PixelSums
    recipe: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    _labels: list[int] = field(default_factory=list)
    _conditions: list[str] = field(default_factory=list)
    _judged: list[Judgement] = field(default_factory=list)
    _distances: list[np.ndarray] = field(default_factory=list)
    _nearest: list[np.ndarray] = field(default_factory=list)
    _images: dict[int, np.ndarray] = field(default_factory=dict)
    _suspects: list[tuple[float, int, np.ndarray]] = field(default_factory=list)

    def take(self, start: int, drawn: Drawn, distances: np.ndarray, nearest: np.ndarray) -> None:
        """A finished batch, whose first image is number `start` of the draw."""
        assert drawn.arrays is not None
        assert drawn.images is not None
        self.sums.add(drawn.arrays)
        self.seconds += drawn.seconds
        self._labels += drawn.labels
        self._conditions += drawn.conditions
        self._distances.append(distances)
        self._nearest.append(nearest)
        if self.classifier is not None:
            self._judged.append(judge(self.classifier, drawn.arrays))
        for index in range(start, min(SHOWN, start + len(drawn.images))):
            self._images[index] = drawn.images[index - start]
        near = np.argsort(distances, kind="stable")[:SUSPICIOUS].tolist()
        found = [(float(distances[k]), start + k, drawn.images[k].copy()) for k in near]
        self._suspects = sorted(self._suspects + found, key=lambda each: each[:2])[:SUSPICIOUS]

    @property
    def labels(self) -> np.ndarray:
        return np.asarray(self._labels, np.int64)

    @property
    def distances(self) -> np.ndarray:
        return np.concatenate(self._distances)

    @property
    def nearest(self) -> np.ndarray:
        return np.concatenate(self._nearest)

    @property
    def judgement(self) -> Judgement | None:
        if not self._judged:
            return None
        return Judgement(
            np.concatenate([each.answers for each in self._judged]),
            np.concatenate([each.features for each in self._judged]),
        )

    @property
    def pixels(self) -> PixelStatistics:
        return self.sums.statistics()

    def evidence(self, data: Dataset) -> Evidence:
        indices = tuple(sorted(self._images))
        judged = self.judgement
        suspects = tuple(index for _, index, _ in self._suspects)
        copied_from = data.train[self.nearest[list(suspects)]]
        return Evidence(
            np.stack([self._images[index] for index in indices]),
            indices,
            tuple(self._conditions[index] for index in indices),
            tuple(data.classes[judged.answers[index]] for index in indices) if judged else (),
            self.recipe,
            np.stack([image for _, _, image in self._suspects]),
            suspects,
            tuple(self._conditions[index] for index in suspects),
            to_pixels(torch.from_numpy(StoredImages(data, copied_from)[:])),
        )


class _Progress:
    """A draw's network calls as turns: `size` of `count` images are on their way, `start` are there."""

    def __init__(self, start: int, size: int, count: int) -> None:
        self._start, self._size, self._count = start, size, count
        self._done = start

    def __call__(self, preview: Preview | None) -> Turn:
        if preview is not None:
            self._done = self._start + self._size * preview.step // preview.steps
        return Turn(DRAWING, self._done, self._count)


def draw_samples(
    drawer: Drawer,
    conditions: tuple[str, ...],
    count: int,
    settings: Sampling,
    classifier: Classifier | None,
    train: StoredImages,
) -> Generator[Turn, None, Samples]:
    """Draws `count` images, conditions in turn; judges each batch and looks for what it copies before the next one."""
    samples = Samples(classifier, settings, PixelSums(drawer.recipe.data.channels))
    batch = CALLS_PER_BATCH * images_per_call(drawer.recipe.data.size)
    for start in range(0, count, batch):
        indices = tuple(range(start, min(start + batch, count)))
        request = Draw(0, drawer.reference, conditions, len(indices), samples.settings, film=False)
        drawn = yield from retold(drawer.drawing(request, indices), _Progress(start, len(indices), count))
        assert drawn.arrays is not None
        finished = Turn(DRAWING, start + len(indices), count)
        distances, nearest = yield from retold(nearest_in_turns(drawn.arrays, train), lambda _, turn=finished: turn)
        # levels that were measured for the first batch hold for all
        samples.settings = Sampling.model_validate(drawn.recipe["sampling"])
        samples.recipe = samples.recipe or drawn.recipe
        samples.take(start, drawn, distances, nearest)
    return samples
