"""A trainable model: the network and the conditioning scheme's encoder, as one denoiser."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..errors import ModelError
from ..precondition import Preconditioning
from ..randomness import generator
from .layers import initialise
from .unet import UNet

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

    from ..conditioning import Condition, ConditioningScheme
    from ..recipe import Recipe


class DenoisingModel(nn.Module):
    """D(x; sigma, cond) over a recipe's network; `encode` turns prepared conditions into `Condition`s."""

    def __init__(self, recipe: Recipe, scheme: ConditioningScheme, autocast: torch.dtype | None = None) -> None:
        super().__init__()
        settings = recipe.model
        self.preconditioning = Preconditioning(
            settings.prediction, settings.schedule, settings.shift, settings.sigma_data
        )
        self.autocast = autocast
        self.encode: nn.Module = scheme.encoder()
        self.network: nn.Module = UNet(recipe.data.channels, recipe.data.size, scheme.vector_width, recipe.model)

    def forward(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        """x: [b c h w]; sigma: [b] or []; returns x̂_0 [b c h w]."""
        with self._number_format(x.device):
            return self.preconditioning.denoise(self.network, x, sigma, cond)

    def _number_format(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        # drawing keeps every digit: a short format would show as specks
        if self.autocast is None or not self.training:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.autocast)


class Weighted:
    """A model's denoiser with other weights in it (an EMA's), which are not copied.

    tensors: the model's parameters by name.
    """

    def __init__(self, model: DenoisingModel, tensors: Mapping[str, Tensor]) -> None:
        self._model = model
        self._tensors = dict(tensors)

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        was_training = self._model.training
        self._model.eval()
        try:
            return torch.func.functional_call(self._model, self._tensors, (x, sigma, cond))
        finally:
            self._model.train(was_training)

    def encoder(self, prepared: Tensor) -> Condition:
        """Prepared conditions [b …] → Condition, by the encoder with these weights."""
        own = {
            name.removeprefix("encode."): tensor for name, tensor in self._tensors.items() if name.startswith("encode.")
        }
        return torch.func.functional_call(self._model.encode, own, (prepared,))

    def encode(self, prepared: np.ndarray, device: torch.device) -> Condition:
        """As `encoder`, from an array, on the device."""
        return self.encoder(torch.from_numpy(prepared).to(device))


def build_model(recipe: Recipe, scheme: ConditioningScheme, autocast: torch.dtype | None = None) -> DenoisingModel:
    """A new model on the CPU, its first weights drawn from `training.seed`."""
    model = DenoisingModel(recipe, scheme, autocast)
    initialise(model, generator(recipe.training.seed, "weights"))
    return model


def load_weights(model: DenoisingModel, tensors: Mapping[str, Tensor], file: object = "") -> None:
    """Fills a model's parameters. Raises ModelError naming the first tensor that is missing, extra, or misshapen."""
    own = model.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in tensors:
            raise ModelError("is missing from the file", tensor=name, fix=f"{file} was made for another recipe")
        if name not in own:
            raise ModelError(
                "is unknown to the recipe's network", tensor=name, fix=f"{file} was made for another recipe"
            )
        if own[name].shape != tensors[name].shape:
            raise ModelError(
                f"has shape {tuple(tensors[name].shape)}, where the recipe's network has {tuple(own[name].shape)}",
                tensor=name,
                fix=f"{file} was made for another recipe",
            )
    model.load_state_dict(dict(tensors))
