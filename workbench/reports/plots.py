"""Plots for reports. matplotlib comes in when the first one is made, without pyplot's global state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from ..presenters.curves import Curves

INK, QUIET, LINE, PAPER = "#1d1f23", "#63676f", "#dcdde0", "#fbfbfc"
BLUE, ORANGE, GREEN = "#0072b2", "#b86a00", "#009e73"


def loss_png(curves: Curves) -> bytes:
    """The loss over training: each step, smoothed, held out; logarithmic."""
    figure, axes = new_figure(7.2, 3.2)
    axes.plot(curves.steps, curves.loss, color=LINE, linewidth=0.8, label="each step")
    axes.plot(curves.steps, curves.smoothed, color=BLUE, linewidth=1.6, label="smoothed")
    if len(curves.held):
        axes.plot(curves.held_steps, curves.held, color=ORANGE, linewidth=1.6, label="held out")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis(lambda value, _position: f"{value:g}")
    return png_with_legend(figure, axes)


def distances_png(generated: np.ndarray, held_out: np.ndarray) -> bytes:
    """How near generated and held-out images come to a training image."""
    import numpy

    figure, axes = new_figure(7.2, 2.6)
    edges = numpy.linspace(0, max(generated.max(), held_out.max()) * 1.02, 40)
    axes.hist(held_out, edges, density=True, histtype="step", color=ORANGE, linewidth=1.6, label="held-out images")
    axes.hist(generated, edges, density=True, histtype="step", color=BLUE, linewidth=1.6, label="drawn images")
    axes.set_xlabel("distance to the nearest training image (RMS per pixel)")
    axes.set_yticks([])
    return png_with_legend(figure, axes)


def confusion_png(counts: Sequence[Sequence[int]], names: Sequence[str], most_named: int = 40) -> bytes:
    """counts: [wanted][taken for]; each row shaded by its shares. Names stand at the axes where they find room."""
    import numpy

    table = numpy.asarray(counts, float)
    shares = table / numpy.maximum(table.sum(axis=1, keepdims=True), 1)
    side = min(7.2, 1.2 + 0.3 * len(names))
    figure, axes = new_figure(side, side)
    axes.grid(visible=False)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if len(names) <= most_named:
        axes.set_xticks(range(len(names)), names, rotation=90 if max(map(len, names)) > 3 else 0)
        axes.set_yticks(range(len(names)), names)
        for (row, column), count in numpy.ndenumerate(table):
            if count and len(names) <= 20:
                colour = PAPER if shares[row, column] > 0.5 else INK
                axes.text(column, row, f"{count:g}", ha="center", va="center", fontsize=7, color=colour)
    axes.set_xlabel("taken for")
    axes.set_ylabel("wanted")
    axes.yaxis.label.set(color=QUIET, size=9)
    return _saved(figure)


def new_figure(width: float, height: float):
    """(figure, axes) in inches, in the reports' look."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=144, facecolor=PAPER, layout="constrained")
    axes = figure.add_subplot(facecolor=PAPER)
    axes.tick_params(colors=QUIET, labelsize=8, length=0)
    axes.xaxis.label.set(color=QUIET, size=9)
    axes.yaxis.label.set(color=QUIET, size=9)
    for side in axes.spines.values():
        side.set_visible(False)
    axes.grid(axis="y", color=LINE, linewidth=0.8)
    axes.set_axisbelow(True)
    return figure, axes


def png_with_legend(figure, axes) -> bytes:
    """The finished picture, with a legend of what has a label."""
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=3, loc="upper right")
    return _saved(figure)


def _saved(figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
