"""Guidance: from a denoiser to a denoiser, bound anew for each draw. They nest."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

import torch
from torch import Tensor

from ..conditioning import Composition, Condition
from ..precondition import per_image

if TYPE_CHECKING:
    from ..precondition import Denoiser

Given = Condition | Composition | None


class Guided(Protocol):
    """D(x; sigma, cond), where cond may be a composition."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Given = None) -> Tensor: ...


class Guidance(Protocol):
    """A frozen setting. What is bound belongs to one draw on the levels `sigmas`."""

    def bind(self, denoise: Guided, sigmas: Tensor) -> Guided: ...


@dataclass(frozen=True)
class ClassifierFree:
    """D_w = D_null + w (D_cond - D_null) (Ho & Salimans 2022, arXiv 2207.12598).

    weight: w; 1 is no guidance, 0 is unconditional; with either, the network is asked once.
    Several conditions: D_null + w sum_k a_k (D_k - D_null) (Liu et al. 2022, arXiv 2206.01714, Eq. 11).
    above, up_to: w acts where above < sigma <= up_to, and is 1 elsewhere (Kynkäänniemi et al. 2024, arXiv 2404.07724).
    """

    weight: float = 1.0
    above: float = 0.0
    up_to: float = math.inf

    def bind(self, denoise: Denoiser, sigmas: Tensor) -> Guided:  # noqa: ARG002 - others need the levels
        """The guided denoiser for one draw on the levels `sigmas`."""

        def guided(x: Tensor, sigma: Tensor, cond: Given = None) -> Tensor:
            if isinstance(cond, Composition):
                return self._composed(denoise, x, sigma, cond)
            w = self._weight_at(sigma)
            if w == 1 or cond is None or cond.null is None:
                return denoise(x, sigma, cond)
            if w == 0:
                return denoise(x, sigma, cond.without())
            with_it, without = _together(denoise, x, sigma, [cond, cond.without()])
            return without + w * (with_it - without)

        return guided

    def _composed(self, denoise: Denoiser, x: Tensor, sigma: Tensor, cond: Composition) -> Tensor:
        w, weights = self._weight_at(sigma), cond.weights.to(x.dtype)
        if w == 0:
            return denoise(x, sigma, cond.without())
        *each, without = _together(denoise, x, sigma, [*cond.terms, cond.without()])
        moved = sum(per_image(a, x) * (term - without) for a, term in zip(weights, each, strict=True))
        return without + w * moved

    def _weight_at(self, sigma: Tensor) -> float:
        # compared in sigma's own number format, so that a level given as an edge is at the edge
        level = sigma.reshape(-1)[0]
        return self.weight if level > self.above and level <= self.up_to else 1.0


def _together(denoise: Denoiser, x: Tensor, sigma: Tensor, conditions: list[Condition]) -> tuple[Tensor, ...]:
    """One pass through the network for several conditions of the same x."""
    levels, n = sigma.expand(len(x)), len(conditions)
    return denoise(torch.cat([x] * n), torch.cat([levels] * n), Condition.join(conditions)).chunk(n)


@dataclass(frozen=True)
class Thresholded:
    """x̂_0 kept in the range of images (Saharia et al. 2022, arXiv 2205.11487, Sec. 2.3).

    static: cut off at ±1; dynamic: cut off at ±max(1, the percentile of |x̂_0| in that image), then scaled back by it.
    """

    kind: Literal["static", "dynamic"]
    percentile: float = 0.995

    def bind(self, denoise: Guided, sigmas: Tensor) -> Guided:  # noqa: ARG002 - others need the levels
        def thresholded(x: Tensor, sigma: Tensor, cond: Given = None) -> Tensor:
            x0 = denoise(x, sigma, cond)
            if self.kind == "static":
                return x0.clamp(-1, 1)
            size = torch.quantile(x0.abs().reshape(len(x0), -1), self.percentile, dim=1).clamp(min=1)
            limit = per_image(size, x0)
            return x0.clamp(-limit, limit) / limit

        return thresholded


def conditioned(denoise: Guided, cond: Given) -> Denoiser:
    """The denoiser with its condition given, as samplers take it."""

    given_cond = cond

    def given(x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        return denoise(x, sigma, given_cond if cond is None else cond)

    return given
