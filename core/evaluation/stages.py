"""A cascade, looked at stage by stage: where quality is lost, and whether colours drift."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F

from ..commands import Draw
from ..data.unit import to_unit
from ..datasets import reading
from ..drawing import images_per_call, to_pixels
from ..errors import RequestError
from ..generators import retold
from .agreement import agreement
from .classify import judge_in_turns
from .frechet import fitted, frechet_distance
from .images import StoredImages
from .kept import classifier_of
from .turns import Turn

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..data.cache import Dataset
    from ..models import Cascade
    from .classify import Classifier

SHOWN = 8
"""Images of each kind that are kept to be looked at."""


@dataclass(frozen=True)
class Fed:
    """A stage's images, fed with one kind of small pictures.

    drift: mean over the images of (drawn − fed) mean colour, for each channel, in [-1, 1] units, and its root mean
    square over images and channels; distance: Fréchet, to real images of the stage's size, in the classifier's
    features; agreement: with the condition. What could not be measured is None.
    """

    drift: tuple[float, ...]
    drift_rms: float
    distance: float | None
    agreement: float | None


@dataclass(frozen=True)
class StageReport:
    """A stage after the first. true: fed with real images made small; drawn: fed by the stages before it.

    images: [3 k h w c] uint8: what it was truly fed (as large as the rest), what it made of it, and what the whole
    chain draws for the same conditions.
    """

    name: str
    size: tuple[int, int]
    true: Fed
    drawn: Fed
    images: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Without the images, as JSON knows it."""
        return {"name": self.name, "size": list(self.size), "true": asdict(self.true), "drawn": asdict(self.drawn)}


def inspecting(cascade: Cascade, count: int = 200) -> Generator[Turn, None, tuple[StageReport, ...]]:
    """Looks at every stage after the first, in short turns, with `count` held-out images of its own data.

    Where the loss from "true" to "drawn" is large, the stages before it are at fault; where "true" itself is far
    from real images, this one is. Raises RequestError where a stage has no held-out images to be fed with.
    """
    reports = []
    for at in range(1, len(cascade.stages)):
        recipe = cascade.stage(at).recipe
        data, _ = yield from retold(reading(recipe), lambda seen: Turn(seen.what, seen.done, seen.total))
        held_out = data.held_out[:count]
        if not len(held_out):
            raise RequestError(
                "no image is held out", field="data.validation", fix=f"Train {cascade.stages[at].name} with some"
            )
        reports.append((yield from _stage(cascade, at, data, held_out)))
    return tuple(reports)


def _stage(cascade: Cascade, at: int, data: Dataset, held_out: np.ndarray) -> Generator[Turn, None, StageReport]:
    name, model = cascade.stages[at].name, cascade.stage(at)
    real = to_unit(torch.from_numpy(data.images(held_out))).numpy()
    texts = [_text(data, index) for index in held_out]
    classifier = None
    if data.classes:
        labelled = data.train[data.labels[data.train] >= 0]
        classifier = yield from classifier_of(data, labelled, model.device)
    small = _small(real, cascade.opened[at - 1].size)
    from_true = yield from _drawn(cascade, at, texts, small, f"{name}, fed with real images")
    before = yield from _before(cascade, at, texts, len(held_out))
    from_drawn = yield from _drawn(cascade, at, texts, before, f"{name}, fed by the stages before")
    true = yield from _judged(from_true, small, real, data, held_out, classifier)
    drawn = yield from _judged(from_drawn, before, real, data, held_out, classifier)
    shown = slice(0, SHOWN)
    large = F.interpolate(torch.from_numpy(small[shown]), model.recipe.data.size, mode="nearest").numpy()
    rows = [to_pixels(torch.from_numpy(each)) for each in (large, from_true[shown], from_drawn[shown])]
    return StageReport(name, model.recipe.data.size, true, drawn, np.stack(rows))


def _text(data: Dataset, index: int) -> str:
    """What an image of the data shows, as a first stage would be asked for it."""
    label = int(data.labels[index])
    return data.classes[label] if label >= 0 else ""


def _small(real: np.ndarray, before: tuple[int, int]) -> np.ndarray:
    """Real images as the stage before, whose size is (height, width), would have to draw them."""
    height, width = real.shape[2:]
    return F.interpolate(torch.from_numpy(real), (min(before[0], height), min(before[1], width)), mode="area").numpy()


def _before(cascade: Cascade, at: int, texts: list[str], count: int) -> Generator[Turn, None, np.ndarray]:
    """What the stages up to `at` draw for these texts."""
    images: np.ndarray | None = None
    for stage in range(at):
        images = yield from _drawn(cascade, stage, texts, images, f"{cascade.stages[stage].name}, {count:,} images")
    assert images is not None
    return images


def _drawn(
    cascade: Cascade, at: int, texts: list[str], pictures: np.ndarray | None, what: str
) -> Generator[Turn, None, np.ndarray]:
    """[n c h w] of one stage, fed with `pictures`, a few at a time."""
    size, found = images_per_call(cascade.stage(at).recipe.data.size), []
    for start in range(0, len(texts), size):
        part = slice(start, start + size)
        fed = None if pictures is None else pictures[part]
        request = Draw(0, "", tuple(texts[part]), len(texts[part]), cascade.recipe.sampling, film=False)
        indices = tuple(range(start, start + len(request.conditions)))
        drawn = yield from retold(
            cascade.stage_drawing(at, request, indices, fed), lambda _, at=start: Turn(what, at, len(texts))
        )
        assert drawn.arrays is not None
        found.append(drawn.arrays)
    return np.concatenate(found)


def _judged(
    images: np.ndarray,
    fed: np.ndarray,
    real: np.ndarray,
    data: Dataset,
    held_out: np.ndarray,
    classifier: Classifier | None,
) -> Generator[Turn, None, Fed]:
    moved = images.mean((2, 3)) - fed.mean((2, 3))
    drift, rms = tuple(map(float, moved.mean(0))), float(np.sqrt((moved**2).mean()))
    if classifier is None:
        return Fed(drift, rms, None, None)
    theirs = yield from judge_in_turns(classifier, images, "Judging")
    ours = yield from judge_in_turns(classifier, StoredImages(data, held_out), "Judging")
    distance = None
    if len(real) > theirs.features.shape[1]:
        distance = frechet_distance(fitted(ours.features), fitted(theirs.features))
    agreed = agreement(data.labels[held_out], theirs.answers, data.classes)
    return Fed(drift, rms, distance, agreed.accuracy.value)
