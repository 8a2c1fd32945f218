"""Guidance: from a denoiser to a denoiser, bound anew for each draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..conditioning import Condition

if TYPE_CHECKING:
    from ..precondition import Denoiser


@dataclass(frozen=True)
class ClassifierFree:
    """D_w = D_null + w (D_cond - D_null) (Ho & Salimans 2022, arXiv 2207.12598).

    weight: w; 1 is no guidance, 0 is unconditional; with either, the network is asked once.
    """

    weight: float = 1.0

    def bind(self, denoise: Denoiser, sigmas: Tensor) -> Denoiser:  # noqa: ARG002 - others need the levels
        """The guided denoiser for one draw on the levels `sigmas`."""
        w = self.weight

        def guided(x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
            if w == 1 or cond is None or cond.null is None:
                return denoise(x, sigma, cond)
            if w == 0:
                return denoise(x, sigma, cond.without())
            both = Condition.join(cond, cond.without())
            levels = sigma.expand(len(x))
            with_it, without = denoise(torch.cat([x, x]), torch.cat([levels, levels]), both).chunk(2)
            return without + w * (with_it - without)

        return guided


def conditioned(denoise: Denoiser, cond: Condition | None) -> Denoiser:
    """The denoiser with its condition given, as samplers take it."""

    given_cond = cond

    def given(x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        return denoise(x, sigma, given_cond if cond is None else cond)

    return given
