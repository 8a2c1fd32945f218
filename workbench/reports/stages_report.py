"""A cascade as a page: each stage fed with real images and with drawn ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ...core.runs.picture import png_bytes
from .page import Figure, Part, page
from .pictures import captioned_grid

if TYPE_CHECKING:
    from ...core.evaluation.stages import Fed, StageReport

COLUMNS = ("stage", "fed with", "colour drift", "drift, rms", "Fréchet distance", "agreement")
SHOWN_PIXELS = 64
"""Images are enlarged by a whole factor to about this height."""
READING = (
    "Drift is the mean colour of what was drawn minus that of what went in, by channel, in [-1, 1]. Where real images "
    "go in, what is lost is this stage's own; what is lost beyond that came from the stages before it."
)


def stages_page(name: str, reports: tuple[StageReport, ...]) -> str:
    """The whole page as HTML text."""
    parts = [Part("Figures", READING, table=(COLUMNS, *rows_of(reports)))]
    for report in reports:
        _, count, height, _, _ = report.images.shape
        words = [*["real, in small"] * count, *["from that"] * count, *["whole chain"] * count]
        scale = max(1, round(SHOWN_PIXELS / height))
        sheet = captioned_grid(np.concatenate(list(report.images)), words, [False] * len(words), count, scale)
        alt = "Above real images in small, below what the stage makes of them, and what the whole chain draws"
        parts.append(Part(f"Stage {report.name}", figures=(Figure(png_bytes(sheet, {}), alt, alt + "."),)))
    return page(f"Stages of {name}", f"{len(reports) + 1} stages", parts)


def rows_of(reports: tuple[StageReport, ...]) -> list[tuple[str, ...]]:
    """Two rows for each stage, in words."""
    return [
        (report.name, name, *_figures(fed))
        for report in reports
        for name, fed in (("real images", report.true), ("drawn ones", report.drawn))
    ]


def _figures(fed: Fed) -> tuple[str, ...]:
    return (
        " ".join(f"{value:+.3f}" for value in fed.drift),
        f"{fed.drift_rms:.3f}",
        "" if fed.distance is None else f"{fed.distance:.2f}",
        "" if fed.agreement is None else f"{100 * fed.agreement:.1f} %",
    )
