"""The optimizer, its learning rate over training, and its state as named tensors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import ModelError
from .muon import Muon, groups_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from ..recipe import Training


def make_optimizer(model: nn.Module, settings: Training) -> torch.optim.Optimizer:
    """Muon, or AdamW with betas (0.9, 0.99), which suit the changing gradients of denoising better than 0.999."""
    if settings.optimizer == "muon":
        return Muon(groups_of(model, settings.matrix_rate), settings.learning_rate, settings.weight_decay)
    return torch.optim.AdamW(
        model.parameters(), lr=settings.learning_rate, betas=(0.9, 0.99), eps=1e-8, weight_decay=settings.weight_decay
    )


def learning_rate(settings: Training, step: int, steps: int) -> float:
    """Of the step with this index: rises over `warmup`, stands, falls to 0 over `decay` (shares of `steps`)."""
    rising = (step + 1) / max(1.0, settings.warmup * steps)
    falling = (steps - step) / max(1.0, settings.decay * steps)
    return settings.learning_rate * min(1.0, rising, falling)


def state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state as `parameter/quantity` → tensor."""
    return {
        f"{name}/{quantity}": torch.as_tensor(value)
        for name, parameter in model.named_parameters()
        for quantity, value in optimizer.state.get(parameter, {}).items()
    }


def load_state_tensors(optimizer: torch.optim.Optimizer, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """The other way. Raises ModelError where a tensor belongs to no parameter."""
    parameters = dict(model.named_parameters())
    for key, tensor in tensors.items():
        name, _, quantity = key.rpartition("/")
        if name not in parameters:
            raise ModelError("belongs to no parameter of the network", tensor=key)
        place = parameters[name].device if quantity != "step" else torch.device("cpu")
        optimizer.state[parameters[name]][quantity] = tensor.clone().to(place)
