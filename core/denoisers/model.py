"""A trainable model: the network and the conditioning scheme's encoder, as one denoiser."""

from __future__ import annotations

import contextlib
import copy
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..data.augment import AUGMENTATION_LABELS
from ..errors import ModelError, RecipeError
from ..precondition import Preconditioning
from ..randomness import generator
from .conditioned import Inputs
from .layers import initialise
from .transformer import PatchTransformer
from .unet import UNet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..conditioning import Condition, ConditioningScheme, Tensors
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
        self.scheme = scheme
        self.encode: nn.Module = scheme.encoder()
        self.network: nn.Module = make_network(recipe, scheme)
        self._compiled: Callable[..., Tensor] | None = None

    def forward(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        """x: [b c h w]; sigma: [b] or []; returns x̂_0 [b c h w]."""
        network = self._compiled if self._compiled is not None and self.training else self.network
        with self._number_format(x.device):
            return self.preconditioning.denoise(network, x, sigma, cond)

    def compile_for_training(self) -> None:
        """From the next training pass on, the network runs as torch.compile makes it; drawing goes on as before.

        The tensors keep their names. Raises RecipeError where there is no C++ compiler.
        """
        require_compiler()
        self._compiled = torch.compile(self.network.forward)

    def _number_format(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        # drawing keeps every digit: a short format would show as specks
        if self.autocast is None or not self.training:
            return contextlib.nullcontext()
        return torch.autocast(device.type, self.autocast)


def make_network(recipe: Recipe, scheme: ConditioningScheme) -> nn.Module:
    """The recipe's network, its parameters empty. Raises RecipeError where the settings do not go together."""
    inputs = Inputs(
        recipe.data.channels,
        vector=scheme.vector_width,
        tokens=scheme.token_width,
        image=scheme.image_channels,
        augmentation=AUGMENTATION_LABELS if recipe.data.augment > 0 else 0,
    )
    network = {"unet": UNet, "transformer": PatchTransformer}[recipe.model.network]
    return network(inputs, recipe.model)


def require_compiler() -> None:
    """Raises RecipeError where torch.compile would not find its C++ compiler."""
    usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
    compiler = os.environ.get("CXX", usual)
    if shutil.which(compiler) is None:
        raise RecipeError(
            f"compiling needs the C++ compiler {compiler}, which is not on this machine",
            field="training.compile",
            fix="Install it, or set training.compile to false",
        )


class Weighted:
    """A model's denoiser with other weights in it (an EMA's), as they are and as they become: they are not copied.

    tensors: the model's parameters by name. The model beside it trains on undisturbed.
    """

    def __init__(self, model: DenoisingModel, tensors: Mapping[str, Tensor]) -> None:
        shared = {id(own): nn.Parameter(tensors[name], requires_grad=False) for name, own in model.named_parameters()}
        kept: dict[int, Any] = {id(model.scheme): model.scheme, **shared}
        self._module = copy.deepcopy(model, kept).eval()

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        return self._module(x, sigma, cond)

    def encoder(self, prepared: Tensors) -> Condition:
        """Prepared conditions [b …] → Condition, by the encoder with these weights."""
        return self._module.encode(prepared)


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
