"""Muon for the matrices and convolutions inside a network, Adam for the rest; one optimizer, one state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

TOLD = frozenset({"encode", "noise", "vector", "augmentation", "pooled", "modulate"})
"""Parts that read noise level and condition; Adam suits them, as it does embeddings."""
OUTER = frozenset({"stem", "out"})
"""The first and the last layer, which keep Adam, too; an attention has an `out` of its own."""


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made nearly orthogonal before each step (Jordan et al. 2024, "Muon").

    m <- 0.95 m + 0.05 g;  u = 0.95 m + 0.05 g;  W <- W - lr scale 0.2 sqrt(max(rows, columns)) orthogonal(u).
    The factor gives a step the size that Adam's has (Liu et al. 2025, arXiv 2502.16982). A convolution is a matrix
    [out, in kernel²]. A group with `matrices` false takes AdamW's step instead. A group's rate is lr scale.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], lr: float, weight_decay: float = 0.0) -> None:
        defaults = {
            "lr": lr,
            "scale": 1.0,
            "matrices": True,
            "momentum": 0.95,
            "betas": (0.9, 0.99),
            "eps": 1e-8,
            "weight_decay": weight_decay,
        }
        super().__init__(list(groups), defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]  # noqa: ARG002
        for group in self.param_groups:
            rate = group["lr"] * group["scale"]
            moving = [(each, each.grad) for each in group["params"] if each.grad is not None]
            if group["weight_decay"]:
                for parameter, _ in moving:
                    parameter.mul_(1 - rate * group["weight_decay"])
            updates = (
                self._orthogonal_updates(moving, group) if group["matrices"] else self._adam_updates(moving, group)
            )
            for (parameter, _), update in zip(moving, updates, strict=True):
                parameter.add_(update.view_as(parameter), alpha=-rate)

    def _orthogonal_updates(self, moving: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> list[Tensor]:
        """Matrices of one shape are made orthogonal together."""
        updates = [self._momentum_update(*each, group["momentum"]).flatten(1) for each in moving]
        of_shape: dict[torch.Size, list[int]] = {}
        for k, update in enumerate(updates):
            of_shape.setdefault(update.shape, []).append(k)
        for shape, which in of_shape.items():
            made = orthogonal(torch.stack([updates[k] for k in which])).mul_(0.2 * math.sqrt(max(shape)))
            for k, update in zip(which, made, strict=True):
                updates[k] = update
        return updates

    def _momentum_update(self, parameter: Tensor, gradient: Tensor, beta: float) -> Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - beta)
        return gradient.lerp(momentum, beta)

    def _adam_updates(self, moving: list[tuple[Tensor, Tensor]], group: dict[str, Any]) -> list[Tensor]:
        return [self._adam_update(*each, group) for each in moving]

    def _adam_update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, (beta1, beta2) = self.state[parameter], group["betas"]
        if not state:
            state["step"] = torch.zeros(())
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        state["step"] += 1
        count = float(state["step"])
        state["mean"].lerp_(gradient, 1 - beta1)
        state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        spread = (state["square"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
        return state["mean"] / (1 - beta1**count) / spread


def orthogonal(matrices: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrices, roughly: singular values end between 0.68 and 1.13. [... r c] → same.

    A quintic Newton-Schulz iteration, X <- Q X with Q = a + b A + c A² and A = X Xᵀ, on the flatter side. All Q are
    polynomials of the first A and commute, so that the iteration runs on A alone, A <- Q A Q, and the product of all Q
    meets X once: for a matrix much longer than high a fraction of the work.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    square = x @ x.mT
    identity = torch.eye(square.shape[-1], dtype=x.dtype, device=x.device)
    product = factor = a * identity + b * square + c * (square @ square)
    for _ in range(steps - 1):
        square = factor @ square @ factor
        factor = a * identity + b * square + c * (square @ square)
        product = factor @ product
    x = product @ x
    return x.mT if tall else x


def groups_of(model: nn.Module, scale: float) -> list[dict[str, Any]]:
    """The matrices between the first and the last layer, at `scale` times the rate; and all the rest."""
    inside, rest = [], []
    for name, parameter in model.named_parameters():
        (inside if parameter.ndim >= 2 and is_inside(name) else rest).append(parameter)
    return [{"params": inside, "scale": scale, "matrices": True}, {"params": rest, "matrices": False}]


def is_inside(name: str) -> bool:
    """Whether a parameter belongs to the blocks of a network, and not to its first or last layer or what it is told."""
    parts = set(name.split(".")[:-1])
    return parts.isdisjoint(TOLD) and (parts.isdisjoint(OUTER) or "attention" in parts)
