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


class LayerNorm(nn.Module):
    """Normalises each vector over its width (Ba et al. 2016). x: [... width], same out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.bias = nn.Parameter(torch.empty(width))

    def reset(self, _generator: torch.Generator) -> None:
        """Starts as the plain normalisation."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias)


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


def frequencies(count: int, longest: float, shortest: float) -> Tensor:
    """[count] angular frequencies, spaced geometrically: of periods from `longest` down to `shortest`."""
    share = torch.arange(count, dtype=torch.float32) / max(1, count - 1)
    return 2 * math.pi / longest * (longest / shortest) ** share


def waves(values: Tensor, frequencies: Tensor) -> Tensor:
    """Numbers as vectors: cos and sin of each frequency, scaled by sqrt(2) to unit mean square. [n], [k] -> [n 2k]."""
    angle = values.to(frequencies.dtype)[:, None] * frequencies
    return math.sqrt(2.0) * torch.cat([angle.cos(), angle.sin()], dim=1)


class NoiseEmbedding(nn.Module):
    """The noise level as a vector of waves. noise: [b] = ln(sigma) / 4 -> [b width], for an even width.

    Periods from 16 (longer than the whole range of ln(sigma) / 4) down to 1/4 (one unit of ln sigma).
    """

    frequencies: Tensor

    def __init__(self, width: int, longest: float = 16.0, shortest: float = 0.25) -> None:
        super().__init__()
        self.register_buffer("frequencies", frequencies(width // 2, longest, shortest), persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        return waves(noise, self.frequencies)


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


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Repeats the last row and column until height and width divide by `multiple`. x: [b c h w]."""
    bottom, right = (-x.shape[-2] % multiple, -x.shape[-1] % multiple)
    if bottom == 0 and right == 0:
        return x
    return F.pad(x, (0, right, 0, bottom), mode="replicate")


def with_coordinates(x: Tensor) -> Tensor:
    """Two more channels: how far down and how far right each place is, from -1 to 1. x: [b c h w] -> [b c+2 h w].

    Liu et al. 2018 (arXiv 1807.03247).
    """
    b, _, h, w = x.shape
    down = torch.linspace(-1.0, 1.0, h, dtype=x.dtype, device=x.device)[:, None].expand(b, 1, h, w)
    right = torch.linspace(-1.0, 1.0, w, dtype=x.dtype, device=x.device).expand(b, 1, h, w)
    return torch.cat([x, down, right], dim=1)
