"""How a network hears: the noise level, and the parts of a condition. The same for every kind of network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import RecipeError
from .attention import Text
from .layers import LayerNorm, Linear, NoiseEmbedding

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..conditioning import Condition


@dataclass(frozen=True)
class Inputs:
    """What goes into a network: the images' channels, and the widths of a condition's parts, 0 where there is none.

    vector: n of [b n]; tokens: n of [b t n]; image: c of [b c h w]; augmentation: k of [b k].
    """

    channels: int
    vector: int = 0
    tokens: int = 0
    image: int = 0
    augmentation: int = 0


class ConditionedNetwork(nn.Module):
    """What all networks share: noise level and condition in, as an embedding, as text, and beside the image.

    Vector, augmentation labels and the text's mean are added to the noise level's embedding; tokens are attended to
    (both as in Imagen: Saharia et al. 2022, Sec. 2.5, App. D.3.1); an image is put beside the noisy one. Parts that
    are missing add nothing, and a missing image is zeros.
    """

    def __init__(self, inputs: Inputs, width: int, embedding: int) -> None:
        super().__init__()
        self.inputs = inputs
        self.noise = nn.Sequential(
            NoiseEmbedding(width), Linear(width, embedding), nn.SiLU(), Linear(embedding, embedding)
        )
        # without biases: zeros are "nothing was said", "nothing was changed"
        self.vector = Linear(inputs.vector, embedding, bias=False) if inputs.vector else None
        self.augmentation = Linear(inputs.augmentation, embedding, bias=False) if inputs.augmentation else None
        self.text = LayerNorm(inputs.tokens) if inputs.tokens else None
        self.pooled = Linear(inputs.tokens, embedding, bias=False) if inputs.tokens else None

    def read_text(self, cond: Condition | None, dtype: torch.dtype) -> Text | None:
        """The condition's tokens, normalised. A missing mask says that all of them are there."""
        if self.text is None or cond is None or cond.tokens is None:
            return None
        tokens = self.text(cond.tokens.to(dtype))
        there = tokens.new_ones(tokens.shape[:2], dtype=torch.bool) if cond.mask is None else cond.mask.bool()
        return Text(tokens, there)

    def embed(self, noise: Tensor, cond: Condition | None, text: Text | None) -> Tensor:
        """noise: [b] -> [b embedding], ready to modulate with."""
        embedding = self.noise(noise)
        if self.vector is not None and cond is not None and cond.vector is not None:
            embedding = embedding + self.vector(cond.vector.to(noise.dtype))
        if self.augmentation is not None and cond is not None and cond.augmentation is not None:
            embedding = embedding + self.augmentation(cond.augmentation.to(noise.dtype))
        if self.pooled is not None and text is not None:
            embedding = embedding + self.pooled(text.mean())
        return F.silu(embedding)

    def with_image(self, x: Tensor, cond: Condition | None) -> Tensor:
        """x: [b c h w] -> [b c+image h w], the condition's image brought to the size of x."""
        if not self.inputs.image:
            return x
        if cond is None or cond.image is None:
            return torch.cat([x, x.new_zeros(x.shape[0], self.inputs.image, *x.shape[2:])], dim=1)
        image = cond.image.to(x.dtype)
        if image.shape[2:] != x.shape[2:]:
            image = F.interpolate(image, x.shape[2:], mode="bilinear", antialias=True)
        return torch.cat([x, image], dim=1)


def check_width(width: int, fits: Callable[[int], bool], why: str) -> None:
    """Raises RecipeError naming the nearest widths that fit, unless this one does. why: what stands against it."""
    if fits(width):
        return
    below = next((other for other in range(width - 1, 7, -1) if fits(other)), None)
    above = next(other for other in range(width + 1, 2 * width + 64) if fits(other))
    raise RecipeError(
        f"a width of {width} {why}",
        field="model.width",
        fix=f"Choose {above}" if below is None else f"Choose {below} or {above}",
    )
