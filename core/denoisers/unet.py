"""A small, efficient U-Net: the network inside a denoiser of images.

After Imagen's Efficient U-Net (Saharia et al. 2022, App. B.1): fewer positions (a pixel-unshuffle
stem), most blocks where the picture is smallest, skips scaled by 1/sqrt(2), going down before the
convolutions of a level and up after them.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import ImageAttention, Text, shared_evenly
from .conditioned import ConditionedNetwork, Inputs, check_width
from .layers import Conv2d, Downsample, GroupNorm, Linear, ResidualBlock, Upsample, pad_to_multiple, with_coordinates

if TYPE_CHECKING:
    from ..conditioning import Condition
    from ..recipe import Network


class Level(nn.Module):
    """Residual blocks of one size, then attention if wanted. x: [b c_in h w] -> [b c_out h w]."""

    def __init__(
        self, c_in: int, c_out: int, blocks: int, embedding: int, text_width: int, *, dropout: float, attention: bool
    ) -> None:
        super().__init__()
        widths = [c_in, *[c_out] * blocks]
        self.blocks = nn.ModuleList(ResidualBlock(a, b, embedding, dropout) for a, b in itertools.pairwise(widths))
        self.attention = ImageAttention(c_out, text_width) if attention else None

    def forward(self, x: Tensor, embedding: Tensor, text: Text | None) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return x if self.attention is None else self.attention(x, text)


class UNet(ConditionedNetwork):
    """F(c_in x; c_noise, condition): the raw network of a preconditioned denoiser.

    Levels count from the largest picture (0) to the smallest. Images have any (height, width): those that do not
    divide by stem * 2^(levels - 1) are padded inside and cropped again. The output starts as zero; call
    `initialise(network, generator)` before use. Raises RecipeError where the width cannot be shared among heads.
    """

    def __init__(self, inputs: Inputs, settings: Network) -> None:
        attending = [settings.multipliers[i] for i in settings.attention]
        check_width(
            settings.width,
            lambda width: width % 2 == 0 and all(shared_evenly(m * width) for m in attending),
            "cannot be shared among the attention's heads, about 32 channels each, and the noise level's two waves",
        )
        embedding = 4 * settings.width
        super().__init__(inputs, settings.width, embedding)
        widths = [settings.width * m for m in settings.multipliers]
        levels = len(widths)
        self.stem_factor = settings.stem
        self.multiple = self.stem_factor * 2 ** (levels - 1)
        area = self.stem_factor**2
        self.coordinates = settings.coordinates
        self.stem = Conv2d((inputs.channels + inputs.image) * area + 2 * settings.coordinates, widths[0])

        def level(c_in: int, i: int) -> Level:
            return Level(
                c_in, widths[i], settings.blocks[i], embedding, inputs.tokens,
                dropout=settings.dropout, attention=i in settings.attention,
            )  # fmt: skip

        self.down = nn.ModuleList(level(widths[i], i) for i in range(levels))  # the last one is the bottom
        self.shrink = nn.ModuleList(Downsample(widths[i - 1], widths[i]) for i in range(1, levels))
        self.grow = nn.ModuleList(Upsample(widths[i], widths[i - 1]) for i in range(1, levels))
        self.up = nn.ModuleList(level(2 * widths[i], i) for i in range(levels - 1))

        self.norm = GroupNorm(widths[0], affine=False)
        self.modulate = Linear(embedding, 2 * widths[0], gain=0.0)
        self.out = Conv2d(widths[0], inputs.channels * area, gain=0.0)

    def forward(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
        """x: [b c h w], scaled by c_in; noise: [b], the level's label -> prediction [b c h w]."""
        text = self.read_text(cond, noise.dtype)
        embedding = self.embed(noise, cond, text)

        height, width = x.shape[-2:]
        padded = pad_to_multiple(self.with_image(x, cond), self.multiple)
        h = F.pixel_unshuffle(padded, self.stem_factor)
        h = self.stem(with_coordinates(h) if self.coordinates else h)

        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i > 0:
                skips.append(h)
                h = self.shrink[i - 1](h)
            h = level(h, embedding, text)
        for i in reversed(range(len(self.up))):
            h = torch.cat([self.grow[i](h), skips.pop() / math.sqrt(2.0)], dim=1)
            h = self.up[i](h, embedding, text)

        gain, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm(h), 1.0 + gain)  # how loud to be depends on the noise level
        pixels = F.pixel_shuffle(self.out(F.silu(h)), self.stem_factor)
        return pixels[..., :height, :width]
