"""An evaluation as a page: figures beside those of real images, mistakes, and samples that come near a training one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...core.evaluation.copies import MARKS
from ...core.runs.picture import png_bytes
from .page import Figure, Part, page
from .pictures import captioned_grid, labelled_grid
from .plots import confusion_png, distances_png
from .run_report import copies_words

if TYPE_CHECKING:
    from ...core.evaluation.agreement import Agreement, Scores, Share
    from ...core.evaluation.evaluate import Evaluation
    from ...core.evaluation.pixels import PixelStatistics

SHOWN_PIXELS = 56
"""Images are enlarged by a whole factor to about this height."""


def evaluation_page(found: Evaluation) -> str:
    """The whole page as HTML text."""
    settings = found.sampling
    drawn = (
        f"{found.count:,} images, sampler {settings['sampler']}, {settings['steps']} steps, "
        f"guidance {settings['guidance']:g}, seed {settings['seed']}, EMA {found.model['ema']:g}"
    )
    parts = [Part("Figures", drawn, table=(("", "drawn", "held-out real"), *summary(found)))]
    if found.notes:
        parts.append(Part("Not measured", " ".join(found.notes)))
    parts += _agreement_parts(found)
    parts.append(_samples_part(found))
    if found.copies is not None:
        parts.append(_copies_part(found))
    subtitle = f"{found.model['reference']} · step {found.model['step']:,} · weights {found.model['hash'][:12]}"
    return page(f"Evaluation of {found.model['name']}", subtitle, parts)


def summary(found: Evaluation) -> list[tuple[str, str, str]]:
    """(measure, of the drawn images, of held-out real ones), as words; empty where there is nothing to tell."""
    rows: list[tuple[str, str, str]] = []
    if found.agreement or found.real_agreement:
        rows.append(("agreement with the class", _accuracy(found.agreement), _accuracy(found.real_agreement)))
        rows.append(("F1, mean over classes", _macro_f1(found.agreement), _macro_f1(found.real_agreement)))
    if found.distance:
        name = f"Fréchet distance, {found.distance.count:,} images"
        rows.append((name, f"{found.distance.drawn:.2f}", f"{found.distance.held_out:.2f}"))
    if found.copies is not None:
        for mark in MARKS:
            error = 2 * found.copies.standard_error(mark)
            rows.append(
                (
                    f"nearer to training than {mark:.0%} of held-out",
                    f"{found.copies.near(mark):.1%}",
                    f"{mark:.0%} ± {error:.1%}",
                )
            )
        rows.append(("median distance to training, relative", f"{found.copies.ratio:.2f}", "1"))
    rows.append(("mean of pixels in [-1, 1]", _means(found.pixels), _means(found.real_pixels)))
    rows.append(("spread of pixels", _listed(found.pixels.spread), _listed(found.real_pixels.spread)))
    rows.append(("darkest or brightest pixels", f"{found.pixels.saturated:.1%}", f"{found.real_pixels.saturated:.1%}"))
    return rows


def share_words(share: Share) -> str:
    """ "98.6 % (97.1 to 99.3 %)": with its interval of 95 %."""
    low, high = share.interval
    return f"{100 * share.value:.1f} % ({100 * low:.1f} to {100 * high:.1f} %)"


def _accuracy(found: Agreement | None) -> str:
    return share_words(found.accuracy) if found else ""


def _macro_f1(found: Agreement | None) -> str:
    return f"{found.macro.f1:.3f}" if found else ""


def _means(pixels: PixelStatistics) -> str:
    return ", ".join(f"{mean:.3f} ± {2 * error:.3f}" for mean, error in zip(pixels.mean, pixels.error, strict=True))


def _listed(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.3f}" for value in values)


def _agreement_parts(found: Evaluation) -> list[Part]:
    if found.agreement is None:
        return []
    real = {scores.name: scores for scores in _rows(found.real_agreement)} if found.real_agreement else {}
    table = [("class", "precision", "recall", "F1", "support", "F1 of real images")]
    for scores in _rows(found.agreement):
        numbers = (f"{scores.precision:.3f}", f"{scores.recall:.3f}", f"{scores.f1:.3f}", f"{scores.support:,}")
        table.append((scores.name, *numbers, f"{real[scores.name].f1:.3f}" if scores.name in real else ""))
    names = [scores.name for scores in found.agreement.classes]
    words = (
        "A classifier that was trained on the training images alone says what it takes each drawn image for. "
        "What it gets wrong among held-out real images is its own share of the mistakes."
    )
    confusion = Figure(
        confusion_png(found.agreement.confusion, names), "Wanted classes against the classifier's answers"
    )
    return [Part("Agreement, class by class", words, (confusion,), table=tuple(table))]


def _rows(found: Agreement) -> tuple[Scores, ...]:
    return (*found.classes, found.macro, found.weighted)


def _samples_part(found: Evaluation) -> Part:
    evidence = found.evidence
    wrong = [False] * len(evidence.indices)
    captions = list(evidence.conditions)
    if evidence.answers:
        judged = list(zip(evidence.conditions, evidence.answers, strict=True))
        wrong = [bool(wanted) and wanted != answer for wanted, answer in judged]
        captions = [
            f"{wanted} → {answer}" if bad else answer for (wanted, answer), bad in zip(judged, wrong, strict=True)
        ]
    pixels = captioned_grid(evidence.images, captions, wrong, scale=_scale(evidence.images))
    carried = evidence.recipe | {"indices": list(evidence.indices), "conditions": list(evidence.conditions)}
    words = "Each with what the classifier takes it for; where that is not what was wanted, both." * bool(captions[0])
    return Part("Samples", words, (Figure(png_bytes(pixels, carried), "Drawn images with the classifier's answers"),))


def _copies_part(found: Evaluation) -> Part:
    assert found.copies is not None
    evidence = found.evidence
    pairs = labelled_grid(
        np.concatenate([evidence.suspicious, evidence.nearest]),
        ("drawn", "nearest"),
        len(evidence.nearest),
        _scale(evidence.nearest),
    )
    carried = evidence.recipe | {
        "indices": list(evidence.suspicious_indices),
        "conditions": list(evidence.suspicious_conditions),
    }
    return Part(
        "Copying or learning",
        copies_words(found.copies),
        (
            Figure(
                distances_png(found.copies.generated, found.copies.held_out), "Distances to the nearest training image"
            ),
            Figure(
                png_bytes(pairs, carried),
                "The most suspicious samples and their nearest training images",
                "The samples that come nearest to a training image, over that image.",
            ),
        ),
    )


def _scale(images: np.ndarray) -> int:
    return max(1, round(SHOWN_PIXELS / images.shape[1]))
