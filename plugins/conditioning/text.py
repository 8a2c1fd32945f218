"""Captions: read by a small text encoder that is trained along with the network, and needs no download."""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from imagen_workbench.core import Condition, ConditionField, ConditioningScheme, DataError

if TYPE_CHECKING:
    from typing import Self

    from imagen_workbench.core import Example

WORD = re.compile(r"[^\W_]+|[^\w\s]")
HEAD = 32
"""Width of an attention head."""


class TextOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    words: int = Field(24, ge=1, le=512, title="Longest caption", description="In words; what follows is cut off.")
    vocabulary: int = Field(
        4096, ge=16, le=1_000_000, title="Vocabulary", description="Rows that words are spread over by their hash."
    )
    width: int = Field(128, ge=32, le=1024, multiple_of=32, title="Text width", description="Numbers for each word.")
    layers: int = Field(2, ge=0, le=12, title="Text layers", description="Passes of attention over the caption.")

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.words * self.width > 65_536:
            raise ValueError("words times width is above 65,536; lower one of them")
        return self


class Text(ConditioningScheme):
    """What an image shows, in words. Words are looked up by a hash (Weinberger et al. 2009, arXiv 0902.2206)."""

    title = "Text"
    summary = "Captions, read by a small encoder that learns along; needs a dataset with captions."
    key = "text"
    needs = reads = ("caption",)
    Options = TextOptions
    options: TextOptions

    @property
    def token_width(self) -> int:
        return self.options.width

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return (ConditionField("text", "Text", "text", "What the images should show."),)

    def prepare(self, example: Example) -> np.ndarray:
        if example.caption is None or not example.caption.strip():
            raise DataError("has no caption")
        return self.parse(example.caption)

    def parse(self, text: str) -> np.ndarray:
        """[words] int32: a row of the table for each word, 0 where there is none."""
        words = WORD.findall(text.casefold())[: self.options.words]
        ids = np.zeros(self.options.words, np.int32)
        ids[: len(words)] = [1 + zlib.crc32(word.encode()) % (self.options.vocabulary - 1) for word in words]
        return ids

    def encoder(self) -> nn.Module:
        return TextEncoder(self.options)

    def in_turn(self, count: int) -> list[str]:
        captions = self.facts.captions
        return [captions[k % len(captions)] for k in range(count)] if captions else [""] * count


class TextEncoder(nn.Module):
    """Rows of the table [b t] → Condition with tokens [b t width] and their mask.

    The null is one learned token, which also stands for an empty caption.
    """

    def __init__(self, options: TextOptions) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(options.vocabulary, options.width))
        self.places = nn.Parameter(torch.empty(options.words, options.width))
        self.null = nn.Parameter(torch.empty(options.width))
        self.layers = nn.ModuleList(Layer(options.width) for _ in range(options.layers))

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for part in (self.table, self.places, self.null):
                part.copy_(torch.randn(part.shape, generator=generator))

    def forward(self, ids: Tensor) -> Condition:
        said = ids > 0
        x = self.table[ids.long()] + self.places
        # a caption of no words attends to itself, which is replaced below
        seen = said.clone()
        seen[:, 0] = True
        for layer in self.layers:
            x = layer(x, seen)
        silent = ~said.any(1)
        first = torch.zeros_like(said)
        first[:, 0] = True
        null = torch.where(first[..., None], self.null, x.new_zeros(()))
        tokens = torch.where(silent[:, None, None], null, x * said[..., None])
        mask = torch.where(silent[:, None], first, said)
        return Condition(tokens=tokens, mask=mask, null=Condition(tokens=null, mask=first))


class Layer(nn.Module):
    """Attention over the words and a layer for each word (pre-norm)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._heads = width // HEAD
        self.qkv = nn.Parameter(torch.empty(3 * width, width))
        self.out = nn.Parameter(torch.empty(width, width))
        self.rise = nn.Parameter(torch.empty(4 * width, width))
        self.fall = nn.Parameter(torch.empty(width, 4 * width))

    def reset(self, generator: torch.Generator) -> None:
        with torch.no_grad():
            for part in (self.qkv, self.rise):
                part.copy_(torch.randn(part.shape, generator=generator) * part.shape[1] ** -0.5)
            self.out.zero_()
            self.fall.zero_()

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """x: [b t width]; seen: [b t], the words that can be attended to."""
        b, t, width = x.shape
        q, k, v = F.linear(F.layer_norm(x, (width,)), self.qkv).reshape(b, t, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=seen[:, None, None, :])
        x = x + F.linear(mixed.transpose(1, 2).reshape(b, t, width), self.out)
        return x + F.linear(F.gelu(F.linear(F.layer_norm(x, (width,)), self.rise)), self.fall)
