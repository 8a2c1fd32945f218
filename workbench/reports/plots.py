"""Plots for reports. matplotlib comes in when the first one is made, without pyplot's global state."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from ..presenters.curves import Curves

INK, QUIET, LINE, PAPER = "#1d1f23", "#63676f", "#dcdde0", "#fbfbfc"
BLUE, ORANGE, GREEN = "#0072b2", "#b86a00", "#009e73"


def loss_png(curves: Curves) -> bytes:
    """The loss over training: each step, smoothed, held out; logarithmic."""
    figure, axes = _figure(7.2, 3.2)
    axes.plot(curves.steps, curves.loss, color=LINE, linewidth=0.8, label="each step")
    axes.plot(curves.steps, curves.smoothed, color=BLUE, linewidth=1.6, label="smoothed")
    if len(curves.held):
        axes.plot(curves.held_steps, curves.held, color=ORANGE, linewidth=1.6, label="held out")
    axes.set_yscale("log")
    axes.set_xlabel("step")
    axes.set_ylabel("loss")
    for axis in (axes.yaxis.set_major_formatter, axes.yaxis.set_minor_formatter):
        axis(lambda value, _position: f"{value:g}")
    return _png(figure, axes)


def distances_png(generated: np.ndarray, held_out: np.ndarray) -> bytes:
    """How near generated and held-out images come to a training image."""
    import numpy

    figure, axes = _figure(7.2, 2.6)
    edges = numpy.linspace(0, max(generated.max(), held_out.max()) * 1.02, 40)
    axes.hist(held_out, edges, density=True, histtype="step", color=ORANGE, linewidth=1.6, label="held-out images")
    axes.hist(generated, edges, density=True, histtype="step", color=BLUE, linewidth=1.6, label="drawn images")
    axes.set_xlabel("distance to the nearest training image (RMS per pixel)")
    axes.set_yticks([])
    return _png(figure, axes)


def _figure(width: float, height: float):
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


def _png(figure, axes) -> bytes:
    axes.legend(frameon=False, fontsize=8, labelcolor=INK, ncols=3, loc="upper right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()
