"""Attention over the places of an image, and over the words that are said about it."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .layers import GroupNorm, Linear

HEAD_WIDTH = 32


class Text(NamedTuple):
    """What the networks attend to beside the image: normalised tokens [b t n], and mask [b t], true where one is."""

    tokens: Tensor
    mask: Tensor

    def mean(self) -> Tensor:
        """[b n] over the tokens that are there; 0 where there are none."""
        there = self.mask[..., None].to(self.tokens.dtype)
        return (self.tokens * there).sum(1) / there.sum(1).clamp(min=1.0)


def heads_of(width: int) -> int:
    """How many heads share `width` channels: each has about 32."""
    return max(1, width // HEAD_WIDTH)


def shared_evenly(width: int) -> bool:
    """Whether the heads get the same number of channels each."""
    return width % heads_of(width) == 0


class Attention(nn.Module):
    """Every token looks at every token, and at the text's. x: [b n c], same out.

    Queries and keys are normalised to unit mean square (Henry et al. 2020; Karras et al. 2024), so logits cannot grow
    without bound. The text's keys and values are put beside the image's (Imagen: Saharia et al. 2022, App. D.3.1), so
    that without any words the image's own remain. text_width: n of the text's tokens, 0 for none.
    """

    def __init__(self, width: int, text_width: int = 0, *, gain: float = 1.0) -> None:
        super().__init__()
        self.heads = heads_of(width)
        self.qkv = Linear(width, 3 * width, bias=False)
        self.text = Linear(text_width, 2 * width, bias=False) if text_width else None
        self.out = Linear(width, width, gain=gain)

    def forward(self, x: Tensor, text: Text | None = None) -> Tensor:
        q, k, v = self._by_head(self.qkv(x), 3)
        mask = None
        if self.text is not None and text is not None:
            text_k, text_v = self._by_head(self.text(text.tokens), 2)
            k, v = torch.cat([k, text_k], dim=2), torch.cat([v, text_v], dim=2)
            own = text.mask.new_ones(x.shape[:2])
            mask = torch.cat([own, text.mask], dim=1)[:, None, None]  # [b 1 1 n+t]
        q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        return self.out(attend(q, k, v, mask).transpose(1, 2).flatten(2))

    def _by_head(self, projected: Tensor, parts: int) -> Tensor:
        """[b n parts·c] -> [parts b heads n c/heads]."""
        return projected.unflatten(2, (parts, self.heads, -1)).permute(2, 0, 3, 1, 4)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """softmax(q kᵀ / sqrt(c)) v. q: [b heads n c]; k, v: [b heads m c]; mask: [b 1 1 m] -> [b heads n c]."""
    # on a processor, the gradient of attention in bfloat16 takes many times longer than in float32
    short = q.device.type == "cpu" and q.dtype == torch.bfloat16
    whole = torch.autocast("cpu", enabled=False) if short else contextlib.nullcontext()
    if short:
        q, k, v = q.float(), k.float(), v.float()
    with whole:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask)


class ImageAttention(Attention):
    """Attention between the pixels of a feature map; the result is added. x: [b c h w], same out.

    The output projection starts as zero: a new one changes nothing.
    """

    def __init__(self, channels: int, text_width: int = 0) -> None:
        super().__init__(channels, text_width, gain=0.0)
        self.norm = GroupNorm(channels)

    def forward(self, x: Tensor, text: Text | None = None) -> Tensor:
        tokens = self.norm(x).flatten(2).transpose(1, 2)  # [b n c], n = h w
        return x + super().forward(tokens, text).transpose(1, 2).unflatten(2, x.shape[2:])
