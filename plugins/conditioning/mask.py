"""A picture with a hole in it: the model learns to fill it in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from imagen_workbench.core import (
    Condition,
    ConditionField,
    ConditioningScheme,
    RequestError,
    keyed_texts,
)

from .pictures import FIRST, carried, examples_in_turn, read_picture

if TYPE_CHECKING:
    from imagen_workbench.core import Example, Tensors

MIDDLE = "0.25,0.25,0.75,0.75"
"""The hole that is taken unless another is said."""


class MaskOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    whole: float = Field(
        0.1, ge=0, le=1, title="All hidden", description="Share of training images of which nothing is shown."
    )
    smallest: float = Field(0.1, gt=0, le=1, title="Smallest hole", description="Its side, as a share of the image's.")
    largest: float = Field(0.8, gt=0, le=1, title="Largest hole", description="Its side, as a share of the image's.")


class Mask(ConditioningScheme):
    """What is known of the image, and where nothing is (Saharia et al. 2022, Palette, arXiv 2111.05826, Sec. 3).

    Written "picture.png;hole=mask.png" (white where it is to be filled in), or "hole=0.25,0.25,0.75,0.75": left, top,
    right and bottom as shares of the image. While training, holes are boxes at random.
    """

    title = "Inpainting"
    summary = "A picture with a hole, which the model learns to fill in."
    key = "known"
    droppable = False
    takes_pictures = True
    Options = MaskOptions
    options: MaskOptions

    @property
    def image_channels(self) -> int:
        return self.facts.channels + 1

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return (
            ConditionField("known", "Picture", "image", "What is kept around the hole.", default=FIRST),
            ConditionField(
                "hole", "Hole", "text", "Left, top, right, bottom from 0 to 1, or a picture that is white in it.",
                default=MIDDLE,
            ),
        )  # fmt: skip

    def prepare(self, example: Example) -> np.ndarray:  # noqa: ARG002 - made of the image as it is shown
        return np.zeros(0, np.float32)

    def parse(self, text: str) -> np.ndarray:
        """[c+1 h w] float32: the picture with zeros in the hole, and 1 in the hole, 0 outside."""
        given = keyed_texts(text, ("known", "hole"))
        hole = self._hole(given.get("hole", MIDDLE))
        return np.concatenate([self._picture(given.get("known", "")) * (1 - hole), hole[None]])

    def nothing(self) -> np.ndarray:
        return np.zeros((self.facts.channels + 1, *self.facts.size), np.float32)

    def for_training(self, prepared: Tensors, x0: Tensor, generator: torch.Generator) -> Tensors:  # noqa: ARG002
        chance = torch.rand(5, len(x0), generator=generator)
        settings, (height, width) = self.options, x0.shape[2:]
        low, span = min(settings.smallest, settings.largest), abs(settings.largest - settings.smallest)
        tall, wide = low + span * chance[0], low + span * chance[1]
        top, left = (1 - tall) * chance[2], (1 - wide) * chance[3]
        hole = _box(left, top, left + wide, top + tall, height, width)
        hole[chance[4] < settings.whole] = 1
        return torch.cat([x0 * (1 - hole), hole], 1)

    def encoder(self) -> nn.Module:
        return MaskEncoder()

    def in_turn(self, count: int) -> list[str]:
        return [f"known={example};hole={MIDDLE}" for example in examples_in_turn(self.facts, count)]

    def _picture(self, text: str) -> np.ndarray:
        whole = carried(text, self.facts)
        return self._read(text, self.facts.channels) if whole is None else whole

    def _hole(self, text: str) -> np.ndarray:
        """[h w] float32, 1 where it is to be filled in."""
        height, width = self.facts.size
        parts = text.split(",")
        try:
            box = torch.tensor([[float(part)] for part in parts])
        except ValueError:
            return (self._read(text, 1)[0] > 0).astype(np.float32)
        if len(parts) != 4 or not (box >= 0).all() or not (box <= 1).all() or box[0] >= box[2] or box[1] >= box[3]:
            raise RequestError(f"{text!r} is no box", field="hole", fix="Write left,top,right,bottom from 0 to 1")
        return _box(box[0], box[1], box[2], box[3], height, width)[0, 0].numpy()

    def _read(self, text: str, channels: int) -> np.ndarray:
        return read_picture(text, self.facts.size, channels, field="known", fix="Name a picture")


def _box(left: Tensor, top: Tensor, right: Tensor, bottom: Tensor, height: int, width: int) -> Tensor:
    """[b 1 h w], 1 in the pixels whose middle lies in the box; edges [b] as shares of the image."""
    y = (torch.arange(height) + 0.5)[None, :, None] / height
    x = (torch.arange(width) + 0.5)[None, None, :] / width
    edges: list[Any] = [edge[:, None, None] for edge in (left, top, right, bottom)]
    inside = (x >= edges[0]) & (x < edges[2]) & (y >= edges[1]) & (y < edges[3])
    return cast("Tensor", inside)[:, None].float()


class MaskEncoder(nn.Module):
    """[b c+1 h w] → Condition with it as an image; without weights, and without a null."""

    def forward(self, prepared: Tensor) -> Condition:
        return Condition(image=prepared)
