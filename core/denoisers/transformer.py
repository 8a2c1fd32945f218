"""A patch transformer: the network inside a denoiser of images, without convolutions.

After DiT (Peebles & Xie 2022, arXiv 2212.09748): patches are tokens, and the noise level and the condition
modulate every block, whose gates start at zero. With normalised queries and keys, and gated MLPs (Shazeer 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .attention import Attention, Text, shared_evenly
from .conditioned import ConditionedNetwork, Inputs, check_width
from .layers import Dropout, Linear, frequencies, pad_to_multiple, waves

if TYPE_CHECKING:
    from ..conditioning import Condition
    from ..recipe import Network


class GatedMLP(nn.Module):
    """SwiGLU: down(silu(a) b), a and b being the halves of up(x). x: [... width], same out.

    With 8/3 as many hidden channels it has the parameters of a plain MLP with 4 (Shazeer 2020, arXiv 2002.05202).
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = 16 * -(-8 * width // 48)  # a whole number of the processor's vectors
        self.up = Linear(width, 2 * hidden, bias=False)
        self.dropout = Dropout(dropout)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.up(x).chunk(2, dim=-1)
        return self.down(self.dropout(F.silu(a) * b))


class TransformerBlock(nn.Module):
    """x + gate attention(modulated norm(x)), then the same with an MLP (adaLN-Zero; Peebles & Xie 2022, Sec. 3.2).

    x: [b n width], embedding: [b e], same out. Gains, shifts and gates follow from the embedding and start as zero:
    a new block changes nothing.
    """

    def __init__(self, width: int, embedding: int, text_width: int, dropout: float) -> None:
        super().__init__()
        self.modulate = Linear(embedding, 6 * width, gain=0.0)
        self.attention = Attention(width, text_width)
        self.mlp = GatedMLP(width, dropout)

    def forward(self, x: Tensor, embedding: Tensor, text: Text | None) -> Tensor:
        gain1, shift1, gate1, gain2, shift2, gate2 = self.modulate(embedding)[:, None].chunk(6, dim=-1)
        x = torch.addcmul(x, gate1, self.attention(modulated(x, gain1, shift1), text))
        return torch.addcmul(x, gate2, self.mlp(modulated(x, gain2, shift2)))


def modulated(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """(1 + gain) norm(x) + shift, each token normalised over its width. x: [b n c]; gain, shift: [b 1 c]."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:]), 1.0 + gain)


class PatchTransformer(ConditionedNetwork):
    """F(c_in x; c_noise, condition): the raw network of a preconditioned denoiser.

    Patches are `settings.stem` pixels wide. Images have any (height, width): those that do not divide by the patch are
    padded inside and cropped again. The output starts as zero; call `initialise(network, generator)` before use.
    Raises RecipeError where the width cannot be shared among heads and waves.
    """

    def __init__(self, inputs: Inputs, settings: Network) -> None:
        width = settings.width
        check_width(
            width,
            lambda width: width % 4 == 0 and shared_evenly(width),
            "cannot be shared among the attention's heads, about 32 channels each, and the positions' four waves",
        )
        super().__init__(inputs, width, width)
        self.width, self.patch = width, settings.stem
        self.stem = Linear((inputs.channels + inputs.image) * self.patch**2, width)
        self.blocks = nn.ModuleList(
            TransformerBlock(width, width, inputs.tokens, settings.dropout) for _ in range(settings.depth)
        )
        self.modulate = Linear(width, 2 * width, gain=0.0)
        self.out = Linear(width, inputs.channels * self.patch**2, gain=0.0)

    def forward(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
        """x: [b c h w], scaled by c_in; noise: [b], the level's label -> prediction [b c h w]."""
        text = self.read_text(cond, noise.dtype)
        embedding = self.embed(noise, cond, text)

        height, width = x.shape[-2:]
        patches = F.pixel_unshuffle(pad_to_multiple(self.with_image(x, cond), self.patch), self.patch)
        grid = patches.shape[2:]
        tokens = self.stem(patches.flatten(2).transpose(1, 2))  # [b n width], n = grid's rows x columns
        tokens = tokens + positions(grid[0], grid[1], self.width).to(tokens)
        for block in self.blocks:
            tokens = block(tokens, embedding, text)

        gain, shift = self.modulate(embedding)[:, None].chunk(2, dim=-1)
        patches = self.out(modulated(tokens, gain, shift)).transpose(1, 2).unflatten(2, grid)
        return F.pixel_shuffle(patches, self.patch)[..., :height, :width]


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Where each patch lies, as waves over its distance from the middle, down and across. [rows·columns width].

    Distances are in patches, with periods from 4 to 256 of them: no size is built in, and a larger image
    continues a smaller one on all sides.
    """
    periods = frequencies(width // 4, 256.0, 4.0)
    down = waves(torch.arange(rows) - (rows - 1) / 2, periods)
    across = waves(torch.arange(columns) - (columns - 1) / 2, periods)
    return torch.cat([down.repeat_interleave(columns, 0), across.repeat(rows, 1)], dim=1)
