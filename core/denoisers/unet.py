"""A small, efficient U-Net: the network inside a denoiser of images.

After Imagen's Efficient U-Net (Saharia et al. 2022, App. B.1): fewer positions (a pixel-unshuffle
stem), most blocks where the picture is smallest, skips scaled by 1/sqrt(2), going down before the
convolutions of a level and up after them.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import (
    Conv2d,
    Downsample,
    GroupNorm,
    Linear,
    NoiseEmbedding,
    ResidualBlock,
    SelfAttention,
    Upsample,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..conditioning import Condition


class UNetSettings(Protocol):
    """What a U-Net's recipe says. Levels count from the largest picture (0) to the smallest."""

    @property
    def width(self) -> int:
        """Channels at level 0."""
        ...

    @property
    def multipliers(self) -> Sequence[int]:
        """Channels of each level, in widths; its length is the number of levels."""
        ...

    @property
    def blocks(self) -> Sequence[int]:
        """Residual blocks of each level, on the way down and again on the way up."""
        ...

    @property
    def attention(self) -> Sequence[int]:
        """Levels that end with self-attention."""
        ...

    @property
    def dropout(self) -> float: ...

    @property
    def stem(self) -> int:
        """1, 2 or 4: so many pixels along each side become channels before level 0."""
        ...


class Level(nn.Module):
    """Residual blocks of one size, then attention if wanted. x: [b c_in h w] -> [b c_out h w]."""

    def __init__(self, c_in: int, c_out: int, blocks: int, embedding: int, *, dropout: float, attention: bool) -> None:
        super().__init__()
        widths = [c_in, *[c_out] * blocks]
        self.blocks = nn.ModuleList(ResidualBlock(a, b, embedding, dropout) for a, b in itertools.pairwise(widths))
        self.attention = SelfAttention(c_out) if attention else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x, embedding)
        return x if self.attention is None else self.attention(x)


class UNet(nn.Module):
    """F(c_in x; c_noise, condition): the raw network of a preconditioned denoiser.

    channels, size: of the images, any count and any (height, width); sizes that do not divide by
    stem * 2^(levels - 1) are padded inside and cropped again.
    vector_width: the width of the condition vector, 0 for none.
    The output starts as zero; call `initialise(network, generator)` before use.
    """

    def __init__(self, channels: int, size: tuple[int, int], vector_width: int, settings: UNetSettings) -> None:
        super().__init__()
        self.channels, self.size, self.vector_width = channels, tuple(size), vector_width
        self.stem_factor = settings.stem
        widths = [settings.width * m for m in settings.multipliers]
        levels = len(widths)
        if len(settings.blocks) != levels:
            raise ValueError(f"{levels} multipliers but {len(settings.blocks)} counts of blocks")
        self.multiple = self.stem_factor * 2 ** (levels - 1)
        embedding = 4 * settings.width
        pixels = channels * self.stem_factor**2

        self.noise = nn.Sequential(
            NoiseEmbedding(settings.width), Linear(settings.width, embedding), nn.SiLU(), Linear(embedding, embedding)
        )
        self.vector = Linear(vector_width, embedding, bias=False) if vector_width else None
        self.stem = Conv2d(pixels, widths[0])

        def level(c_in: int, i: int) -> Level:
            return Level(
                c_in, widths[i], settings.blocks[i], embedding,
                dropout=settings.dropout, attention=i in settings.attention,
            )  # fmt: skip

        self.down = nn.ModuleList(level(widths[i], i) for i in range(levels))  # the last one is the bottom
        self.shrink = nn.ModuleList(Downsample(widths[i - 1], widths[i]) for i in range(1, levels))
        self.grow = nn.ModuleList(Upsample(widths[i], widths[i - 1]) for i in range(1, levels))
        self.up = nn.ModuleList(level(2 * widths[i], i) for i in range(levels - 1))

        self.norm = GroupNorm(widths[0], affine=False)
        self.modulate = Linear(embedding, 2 * widths[0], gain=0.0)
        self.out = Conv2d(widths[0], pixels, gain=0.0)

    def forward(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
        """x: [b c h w], scaled by c_in; noise: [b], the level's label; cond.vector: [b n] -> prediction [b c h w]."""
        embedding = self.noise(noise)
        if self.vector is not None and cond is not None and cond.vector is not None:
            embedding = embedding + self.vector(cond.vector)
        embedding = F.silu(embedding)

        height, width = x.shape[-2:]
        h = self.stem(F.pixel_unshuffle(pad_to_multiple(x, self.multiple), self.stem_factor))

        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i > 0:
                skips.append(h)
                h = self.shrink[i - 1](h)
            h = level(h, embedding)
        for i in reversed(range(len(self.up))):
            h = torch.cat([self.grow[i](h), skips.pop() / math.sqrt(2.0)], dim=1)
            h = self.up[i](h, embedding)

        gain, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = torch.addcmul(shift, self.norm(h), 1.0 + gain)  # how loud to be depends on the noise level
        pixels = F.pixel_shuffle(self.out(F.silu(h)), self.stem_factor)
        return pixels[..., :height, :width]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column until height and width divide by `multiple`. x: [b c h w]."""
    bottom, right = (-x.shape[-2] % multiple, -x.shape[-1] % multiple)
    if bottom == 0 and right == 0:
        return x
    return F.pad(x, (0, right, 0, bottom), mode="replicate")
