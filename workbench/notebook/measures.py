"""Held-out loss by noise level and the four figures, as small pieces of HTML."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

import ipywidgets

if TYPE_CHECKING:
    from collections.abc import Sequence

FIGURES = {
    "images_per_second": "images/s",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
    "loss": "loss",
}
LOSS_HELP = "Of the newest step; 1 is a network that knows nothing."


class Bands(ipywidgets.HTML):
    """Held-out loss by noise level, as bars in steps of one hue."""

    def __init__(self) -> None:
        super().__init__()
        self.add_class("iw-bands")
        self.show(())

    def show(self, bands: Sequence[tuple[str, float]]) -> None:
        """bands: (noise levels, loss) from low noise to high."""
        if not bands:
            self.value = '<div class="iw-none">After the first measurement.</div>'
            return
        most = max((value for _, value in bands if math.isfinite(value)), default=1.0) or 1.0
        self.value = "".join(
            f'<div class="iw-band"><span>{escape(name)}</span><span><i style="width:{_length(value, most):.1f}%;'
            f'opacity:{1 - 0.55 * at / max(1, len(bands) - 1):.2f}"></i>{value:.2f}</span></div>'
            for at, (name, value) in enumerate(bands)
        )


class Figures(ipywidgets.HTML):
    """Four numbers, large, each over what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.add_class("iw-figures")

    def show(self, figures: Sequence[tuple[str, str]]) -> None:
        """figures: (name, text)."""
        self.value = "".join(
            f'<div class="iw-figure" title="{LOSS_HELP if name == "loss" else ""}"><b>{escape(text)}</b>'
            f"<span>{FIGURES[name]}</span></div>"
            for name, text in figures
        )


def _length(value: float, most: float) -> float:
    """Per cent of the place for bars; its number needs room behind it."""
    return 72 * value / most if math.isfinite(value) else 0
