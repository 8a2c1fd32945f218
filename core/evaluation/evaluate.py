"""How good a model is: its samples beside held-out real images, by a judge that has only ever seen real ones.

from imagen_workbench.core import evaluate, open_model
found = evaluate(open_model("digits"), count=1000)
found.agreement.accuracy.value, found.distance.drawn, found.copies.near(0.05)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ..datasets import reading
from ..errors import RequestError
from ..generators import finish
from .agreement import Agreement, agreement
from .classify import FEATURES, Judgement, judge_in_turns
from .copies import MARKS, Copies, nearest_in_turns
from .frechet import fitted, frechet_distance
from .images import StoredImages
from .kept import classifier_of
from .pixels import PixelStatistics, pixel_statistics
from .samples import Evidence, draw_samples

if TYPE_CHECKING:
    from collections.abc import Generator

    import torch

    from ..data.cache import Dataset
    from ..models import Drawer
    from ..recipe import Sampling
    from .classify import Classifier
    from .turns import Turn

FEWEST_REAL = 500
"""With fewer real images a Fréchet distance says more about them than about the model."""
FEWEST_DRAWN = 2 * FEATURES
"""With fewer images the covariance of the features is hardly known."""
MOST_REAL = 20_000
"""Real images that the Fréchet distance refers to, at most."""


@dataclass(frozen=True)
class Distance:
    """Fréchet distances to `reference` training images: of `count` drawn ones, and of as many held-out real ones."""

    drawn: float
    held_out: float
    count: int
    reference: int


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a model; what could not be is None, and `notes` say why.

    agreement: of samples with their condition; real_agreement: of held-out real images with their class, which is
    how well the classifier itself does; copies: None where no image is held out; seconds: spent in drawing.
    """

    model: dict[str, Any]
    data: dict[str, Any]
    sampling: dict[str, Any]
    count: int
    seconds: float
    agreement: Agreement | None
    real_agreement: Agreement | None
    distance: Distance | None
    copies: Copies | None = field(compare=False)
    pixels: PixelStatistics
    real_pixels: PixelStatistics
    notes: tuple[str, ...]
    evidence: Evidence = field(compare=False, repr=False)

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON knows them; the images are left out."""
        return {
            "version": 1,
            "model": self.model,
            "data": self.data,
            "sampling": self.sampling,
            "count": self.count,
            "seconds": round(self.seconds, 2),
            "agreement": {
                "drawn": _agreement_dict(self.agreement),
                "held_out": _agreement_dict(self.real_agreement),
            },
            "frechet_distance": asdict(self.distance) if self.distance else None,
            "copies": _copies_dict(self.copies),
            "pixels": {"drawn": asdict(self.pixels), "real": asdict(self.real_pixels)},
            "notes": list(self.notes),
        }


def evaluate(
    model: Drawer, count: int = 1000, data: Dataset | None = None, *, epochs: int | None = None, **sampling: Any
) -> Evaluation:
    """Draws `count` images, the classes in turn, and measures them beside held-out real ones.

    data: a decoded dataset, by default that of the model's own recipe; epochs: the classifier's passes over it;
    sampling: any of the recipe's sampling settings. Raises WorkbenchErrors where data or settings cannot be used.
    """
    settings = model.recipe.with_values({f"sampling.{key}": value for key, value in sampling.items()}).sampling
    data = data or finish(reading(model.recipe))[0]
    return finish(evaluating(model, data, count, settings, epochs=epochs))


def evaluating(
    model: Drawer,
    data: Dataset,
    count: int,
    settings: Sampling,
    *,
    epochs: int | None = None,
    classifier: Classifier | None = None,
) -> Generator[Turn, None, Evaluation]:
    """As `evaluate`, in short turns and in memory that grows only with a few hundred bytes for each sample.

    classifier: one that was trained on `data` before; without it the kept one of these images is taken, or one is
    trained here, where the data has classes.
    """
    if count < 1:
        raise RequestError(f"{count} images cannot be judged", field="--count", fix="Give at least 1")
    identity = model.identity(settings.ema)  # first, since it may refuse
    notes: list[str] = []
    if not len(data.held_out):
        notes.append("No image is held out (data.validation is 0): nothing real to compare copies and agreement with.")
    settings = settings.model_copy(update={"size": None})  # that of the real images
    train = StoredImages(data, data.train)
    held_out = StoredImages(data, data.held_out[: max(count, 1000)])
    conditions = _shared_conditions(model, data)

    if classifier is None:
        classifier = yield from _classifier(data, epochs, model.device, notes)
    samples = yield from draw_samples(model, conditions, count, settings, classifier, train)
    real = None
    if classifier is not None and len(held_out):
        real = yield from judge_in_turns(classifier, held_out, "Judging held-out images")

    agreed = _agreement(samples.judgement, _wanted(samples.labels, model, data), data.classes)
    if samples.judgement and agreed is None:
        notes.append("No agreement: the model is asked for no class that the data knows.")
    distance = None
    if classifier is not None and samples.judgement and real:
        distance = yield from _distance(classifier, samples.judgement, real, data, notes)
    copied = None
    if len(held_out):
        baseline, _ = yield from nearest_in_turns(held_out, train)
        copied = Copies(samples.distances, baseline, samples.nearest)
    return Evaluation(
        {**identity, "ema": samples.recipe["ema"], "trained": model.facts().trained},
        data.manifest(),
        samples.settings.model_dump(mode="json", exclude_none=True),
        count,
        samples.seconds,
        agreed,
        _agreement(real, data.labels[held_out.which], data.classes),
        distance,
        copied,
        samples.pixels,
        pixel_statistics(held_out if len(held_out) else StoredImages(data, data.train[:1000])),
        tuple(notes),
        samples.evidence(data),
    )


# --- parts ----------------------------------------------------------------------------------------


def _classifier(
    data: Dataset, epochs: int | None, device: torch.device, notes: list[str]
) -> Generator[Turn, None, Classifier | None]:
    """A classifier of the classes, the same for whatever model is judged; None where there are no two classes."""
    labels = data.labels[data.train]
    if (np.unique(labels) >= 0).sum() < 2:
        notes.append(
            "No agreement and no Fréchet distance: the data has no two classes to train a classifier on. Features of "
            "an untrained network, or raw pixels, would give a distance that does not follow what an eye sees."
        )
        return None
    return (yield from classifier_of(data, data.train[labels >= 0], device, epochs=epochs))


def _agreement(judged: Judgement | None, wanted: np.ndarray, names: tuple[str, ...]) -> Agreement | None:
    """Of those images that a class was wanted of; None where there are none. wanted: [n], -1 where none was."""
    known = wanted >= 0
    return agreement(wanted[known], judged.answers[known], names) if judged and known.any() else None


def _distance(
    classifier: Classifier, drawn: Judgement, real: Judgement, data: Dataset, notes: list[str]
) -> Generator[Turn, None, Distance | None]:
    """Both sets against the training images, with as many images of each; None where they are too few."""
    images, each = len(data.train) + len(data.held_out), min(len(drawn.answers), len(real.answers))
    if images < FEWEST_REAL:
        notes.append(f"No Fréchet distance: {images:,} real images are too few for it; {FEWEST_REAL} are needed.")
        return None
    if each < FEWEST_DRAWN:
        notes.append(
            f"No Fréchet distance: {each:,} drawn and held-out images are too few for {FEATURES} features; "
            f"{FEWEST_DRAWN} of each are needed."
        )
        return None
    train = StoredImages(data, data.train[:MOST_REAL])
    reference = fitted((yield from judge_in_turns(classifier, train, "Judging training images")).features)
    distances = (frechet_distance(fitted(judged.features[:each]), reference) for judged in (drawn, real))
    return Distance(*distances, count=each, reference=len(train))


def _shared_conditions(model: Drawer, data: Dataset) -> tuple[str, ...]:
    """What is asked for in turn: the model's classes that the data knows, or all that it can be asked for."""
    choices = model.asked.choices
    shared = tuple(name for name in choices if name in data.classes)
    return shared or choices


def _wanted(labels: np.ndarray, model: Drawer, data: Dataset) -> np.ndarray:
    """The samples' classes by the data's own numbers; -1 where there is none. labels: [n] by the model's."""
    numbers = {name: number for number, name in enumerate(data.classes)}
    table = [numbers.get(name, -1) for name in model.asked.facts.classes]
    return np.asarray([table[label] if label >= 0 else -1 for label in labels], np.int64)


# --- JSON -----------------------------------------------------------------------------------------


def _agreement_dict(found: Agreement | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "accuracy": found.accuracy.value,
        "interval": list(found.accuracy.interval),
        "classes": [asdict(scores) for scores in found.classes],
        "means": [asdict(found.macro), asdict(found.weighted)],
        "confusion": [list(row) for row in found.confusion],
    }


def _copies_dict(found: Copies | None) -> dict[str, Any] | None:
    if found is None:
        return None
    marks = [
        {"held_out": mark, "drawn": found.near(mark), "standard_error": found.standard_error(mark)} for mark in MARKS
    ]
    return {"nearer_than": marks, "median_ratio": found.ratio if np.isfinite(found.ratio) else None}
