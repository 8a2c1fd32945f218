"""Muon for the matrices and convolutions inside a network, Adam for the rest; one optimizer, one state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, nn

OUTER = frozenset({"stem", "out", "noise", "vector", "modulate", "encode"})
"""Parts of a network whose matrices keep Adam: the first and last layer, embeddings, and modulation."""


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
            update = self._orthogonal_update if group["matrices"] else self._adam_update
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                if group["weight_decay"]:
                    parameter.mul_(1 - rate * group["weight_decay"])
                parameter.add_(update(parameter, parameter.grad, group), alpha=-rate)

    def _orthogonal_update(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> Tensor:
        state, beta = self.state[parameter], group["momentum"]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].lerp_(gradient, 1 - beta)
        update = orthogonal(gradient.lerp(momentum, beta).flatten(1))
        return update.mul_(0.2 * math.sqrt(max(update.shape))).view_as(parameter)

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


def orthogonal(matrix: Tensor, steps: int = 5) -> Tensor:
    """The nearest (semi-)orthogonal matrix, roughly: singular values end between 0.68 and 1.13. [r c] → [r c].

    A quintic Newton-Schulz iteration, X <- a X + (b A + c A²) X with A = X Xᵀ, on the flatter side.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = a * x + (b * square + c * (square @ square)) @ x
    return x.mT if tall else x


def groups_of(model: nn.Module, scale: float) -> list[dict[str, Any]]:
    """The matrices between the first and the last layer, at `scale` times the rate; and all the rest."""
    inside, rest = [], []
    for name, parameter in model.named_parameters():
        parts = name.split(".")
        outer = not OUTER.isdisjoint(parts[:-1]) and "attention" not in parts
        (rest if outer or parameter.ndim < 2 else inside).append(parameter)
    return [{"params": inside, "scale": scale, "matrices": True}, {"params": rest, "matrices": False}]
