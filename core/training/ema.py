"""Averages of the weights over training, with a power-function profile (Karras et al. 2024, arXiv 2312.02696).

The profile p(t; T) = (g+1) t^g / T^(g+1) keeps its shape while training goes on; its width relative to
training, `length`, is what is named (Eq. 1-3, 122-126 there give g and the update).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


def exponent(length: float) -> float:
    """g for a relative width sigma_rel = sqrt((g+1) / ((g+2)² (g+3))): the largest real root of
    g³ + 7g² + (16 - length⁻²) g + (12 - length⁻²). Raises ValueError unless 0 < length < 0.289.
    """
    if not 0 < length < 0.2886:
        raise ValueError(f"an EMA length of {length:g} is outside (0, 0.289)")
    inverse = length**-2
    roots = np.roots([1, 7, 16 - inverse, 12 - inverse])
    return float(roots[np.isreal(roots)].real.max())


def decay(seen: int, step: int, length: float) -> float:
    """beta = (1 - step/seen)^(g+1), where `seen` counts images after the step of `step` images; 0 at the first."""
    return (1 - step / seen) ** (exponent(length) + 1)


@torch.no_grad()
def update(average: Mapping[str, Tensor], weights: Mapping[str, Tensor], beta: float) -> None:
    """average <- beta average + (1 - beta) weights, in place."""
    for name, tensor in average.items():
        tensor.lerp_(weights[name], 1 - beta)


def name_of(length: float) -> str:
    """How an EMA of this length is called in states and files: 0.1 → "0.100"."""
    return f"{length:.3f}"
