"""The small parts that denoising networks are built of.

Parameters are made empty and filled by `initialise(module, generator)`: each layer here knows how it
starts (`reset`), and torch's global generator is never touched. Dropout draws from a generator, too.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Fills every parameter below `module`, in the order of its parts, from `generator` (a CPU one)."""
    for part in module.modules():
        reset = getattr(part, "reset", None)
        if callable(reset):
            reset(generator)


def set_dropout_generator(module: nn.Module, generator: torch.Generator | None) -> None:
    """Hands every `Dropout` below `module` the generator its next masks come from."""
    for part in module.modules():
        if isinstance(part, Dropout):
            part.generator = generator


def _fill_normal(weight: Tensor, std: float, generator: torch.Generator) -> None:
    """weight ~ N(0, std^2), drawn on the CPU, so that every device starts from the same numbers."""
    with torch.no_grad():
        weight.copy_(torch.empty(weight.shape).normal_(0.0, std, generator=generator))


class Linear(nn.Module):
    """y = W x + b; W ~ N(0, gain^2 / fan_in), b = 0. x: [... n_in] -> [... n_out]."""

    def __init__(self, n_in: int, n_out: int, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.empty(n_out, n_in))
        self.bias = nn.Parameter(torch.empty(n_out)) if bias else None

    def reset(self, generator: torch.Generator) -> None:
        """A gain of 0 makes the layer start as zero: then what it adds to is left as it was."""
        _fill_normal(self.weight, self.gain / math.sqrt(self.weight.shape[1]), generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Conv2d(nn.Module):
    """A convolution that keeps height and width (odd kernel, zeros around the border).

    x: [b c_in h w] -> [b c_out h w]; weights as in `Linear`, with fan_in = c_in * kernel^2.
    """

    def __init__(self, c_in: int, c_out: int, kernel: int = 3, *, bias: bool = True, gain: float = 1.0) -> None:
        super().__init__()
        self.gain = gain
        self.weight = nn.Parameter(torch.empty(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.empty(c_out)) if bias else None

    def reset(self, generator: torch.Generator) -> None:
        """As `Linear.reset`."""
        _fill_normal(self.weight, self.gain / math.sqrt(self.weight[0].numel()), generator)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, self.bias, padding=self.weight.shape[-1] // 2)


class GroupNorm(nn.Module):
    """Normalises groups of channels over their pixels (Wu & He 2018). x: [b c h w], same out.

    Groups hold at least 8 channels where there are so many, and there are 32 groups at most.
    """

    def __init__(self, channels: int, *, affine: bool = True) -> None:
        super().__init__()
        self.groups = math.gcd(channels, min(32, max(1, channels // 8)))
        self.weight = nn.Parameter(torch.empty(channels)) if affine else None
        self.bias = nn.Parameter(torch.empty(channels)) if affine else None

    def reset(self, _generator: torch.Generator) -> None:
        """Starts as the plain normalisation."""
        if self.weight is not None and self.bias is not None:
            nn.init.ones_(self.weight)
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups, self.weight, self.bias)


class Dropout(nn.Module):
    """Sets a share `p` of the values to zero in training, and scales up the rest by 1 / (1 - p).

    The mask is drawn from `generator`, set anew for each training step: see `set_dropout_generator`.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.generator: torch.Generator | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.p == 0.0:
            return x
        if self.generator is None:
            raise RuntimeError("dropout in training needs a generator: call set_dropout_generator first")
        mask = torch.empty_like(x).bernoulli_(1.0 - self.p, generator=self.generator)
        return x * mask.div_(1.0 - self.p)


class NoiseEmbedding(nn.Module):
    """The noise level as a vector of waves. noise: [b] = ln(sigma) / 4 -> [b width].

    cos and sin of fixed, geometrically spaced frequencies: periods from 16 (longer than the whole
    range of ln(sigma) / 4) down to 1/4 (one unit of ln sigma). Scaled by sqrt(2) to unit mean square.
    """

    frequencies: Tensor

    def __init__(self, width: int, longest: float = 16.0, shortest: float = 0.25) -> None:
        super().__init__()
        half = width // 2
        share = torch.arange(half, dtype=torch.float32) / max(1, half - 1)
        frequencies = 2 * math.pi / longest * (longest / shortest) ** share
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        angle = noise.float()[:, None] * self.frequencies
        return math.sqrt(2.0) * torch.cat([angle.cos(), angle.sin()], dim=1)


class SelfAttention(nn.Module):
    """Every pixel looks at every pixel; the result is added. x: [b c h w], same out.

    Queries and keys are normalised to unit mean square (cosine attention; Karras et al. 2024), so
    logits cannot grow without bound. The output projection starts as zero.
    """

    def __init__(self, channels: int, head_width: int = 32) -> None:
        super().__init__()
        self.heads = max(1, channels // head_width)
        if channels % self.heads:
            raise ValueError(f"{channels} channels cannot be shared among {self.heads} heads")
        self.norm = GroupNorm(channels)
        self.qkv = Linear(channels, 3 * channels, bias=False)
        self.out = Linear(channels, channels, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [b n c], n = h w
        q, k, v = self.qkv(tokens).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # [b heads n c]
        q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)  # [b n c]
        return x + self.out(mixed).transpose(1, 2).unflatten(2, x.shape[2:])


class ResidualBlock(nn.Module):
    """x + conv(silu(modulate(norm(conv(silu(norm(x))))))), modulated by what is wanted.

    x: [b c_in h w], embedding: [b e] -> [b c_out h w]. The embedding (noise level and condition) sets
    a gain 1 + s and a shift for every channel (Dhariwal & Nichol 2021; FiLM). The last convolution
    and the modulation start as zero: a new block is its shortcut.
    """

    def __init__(self, c_in: int, c_out: int, embedding: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm1 = GroupNorm(c_in)
        self.conv1 = Conv2d(c_in, c_out, bias=False)
        self.norm2 = GroupNorm(c_out, affine=False)
        self.modulate = Linear(embedding, 2 * c_out, gain=0.0)
        self.dropout = Dropout(dropout)
        self.conv2 = Conv2d(c_out, c_out, gain=0.0)
        self.shortcut = Conv2d(c_in, c_out, 1) if c_in != c_out else None

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        gain, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), 1.0 + gain)
        h = self.conv2(self.dropout(F.silu(h)))
        return h + (x if self.shortcut is None else self.shortcut(x))


class Downsample(nn.Module):
    """Half the height and width; nothing is thrown away before the weights choose.

    x: [b c_in h w] -> [b c_out h/2 w/2]: four pixels become channels, then a 1x1 convolution.
    """

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv2d(4 * c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pixel_unshuffle(x, 2))


class Upsample(nn.Module):
    """Twice the height and width. x: [b c_in h w] -> [b c_out 2h 2w]: a 1x1 convolution, then shuffle."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = Conv2d(c_in, 4 * c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.conv(x), 2)
