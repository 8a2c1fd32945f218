"""A small picture of what is to be drawn: for super-resolution, as in Imagen's cascade."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, cast

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
    RequestError,
    keyed_texts,
)

from .octaves import WIDTH, octaves
from .pictures import FIRST, carried, examples_in_turn, read_picture

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagen_workbench.core import Example, Facts, Tensors

LEVELS = 1 + WIDTH
"""How many numbers tell the network of the picture's noise."""


class LowResolutionOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    factor: Literal[2, 4, 8] = Field(2, title="Factor", description="How many times larger the drawn image is.")
    noise: float = Field(
        0.5,
        ge=0,
        lt=1,
        title="Most noise",
        description="While training, up to this share of the small picture is noise, and the network is told how much.",
    )


class LowResolution(ConditioningScheme):
    """The image in small, with noise of a level that the network knows (Saharia et al. 2022, Sec. 2.4, Alg. 1).

    Written "picture.png" or "picture.png;noise=0.2". The level a in [0, 1) is that of a variance-preserving mix,
    sqrt(1 - a²) low + a n: a cascade's stage learns to forgive the faults of the stage before it.
    """

    title = "Low resolution"
    summary = "A smaller picture of the same, with some noise: makes a super-resolution stage."
    key = "low"
    droppable = False
    takes_pictures = True
    Options = LowResolutionOptions
    options: LowResolutionOptions

    def __init__(self, options: BaseModel, facts: Facts) -> None:
        super().__init__(options, facts)
        factor, (height, width) = self.options.factor, facts.size
        if height % factor or width % factor:
            raise DataError(
                f"{height} × {width} px cannot be divided by {factor}",
                field="conditioning.options.factor",
                fix="Choose a size of the data that can",
            )

    @property
    def small(self) -> tuple[int, int]:
        """(height, width) of the small picture."""
        return self.facts.size[0] // self.options.factor, self.facts.size[1] // self.options.factor

    @property
    def vector_width(self) -> int:
        return LEVELS

    @property
    def image_channels(self) -> int:
        return self.facts.channels

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return (
            ConditionField("low", "Picture", "image", "What is to be drawn larger.", default=FIRST),
            ConditionField(
                "noise", "Noise", "number", "More lets it change more.", high=self.options.noise, default="0"
            ),
        )

    def prepare(self, example: Example) -> np.ndarray:  # noqa: ARG002 - made of the image as it is shown
        return np.zeros(0, np.float32)

    def parse(self, text: str) -> np.ndarray:
        """A record of the small picture [c h w] in [-1, 1], and the level of its noise."""
        given = keyed_texts(text, ("low", "noise"))
        record = np.zeros((), self._layout())
        record["image"] = self._picture(given.get("low", ""))
        record["level"] = self._level(given.get("noise", "0"))
        return record

    def nothing(self) -> np.ndarray:
        return np.zeros((), self._layout())

    def picture_key(self) -> str:
        return self.key

    def of_pictures(self, pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        records = np.zeros(len(pictures), self._layout())
        small = F.interpolate(torch.from_numpy(np.ascontiguousarray(pictures, np.float32)), self.small, mode="area")
        records["image"] = small.numpy()
        records["level"] = [self._level(keyed_texts(text, ("low", "noise")).get("noise", "0")) for text in texts]
        return records

    def for_training(self, prepared: Tensors, x0: Tensor, generator: torch.Generator) -> Tensors:  # noqa: ARG002
        small = F.interpolate(x0, self.small, mode="area")
        level = torch.rand(len(x0), generator=generator) * self.options.noise
        return {"image": noised(small, level, torch.randn(small.shape, generator=generator)), "level": level}

    def for_drawing(self, prepared: Tensors, noise: Callable[[tuple[int, ...]], Tensor]) -> Tensors:
        record = cast("dict[str, Tensor]", prepared)
        image, level = record["image"], record["level"]
        return {"image": noised(image, level, noise(tuple(image.shape[1:]))), "level": level}

    def encoder(self) -> nn.Module:
        return LowResolutionEncoder(self.facts.size)

    def in_turn(self, count: int) -> list[str]:
        return examples_in_turn(self.facts, count)

    def _layout(self) -> np.dtype[Any]:
        return np.dtype([("image", np.float32, (self.facts.channels, *self.small)), ("level", np.float32)])

    def _picture(self, text: str) -> np.ndarray:
        whole = carried(text, self.facts)
        if whole is not None:
            return F.interpolate(torch.from_numpy(whole[None]), self.small, mode="area")[0].numpy()
        fix = "Name a picture that is to be drawn larger"
        return read_picture(text, self.small, self.facts.channels, field="low", fix=fix)

    def _level(self, text: str) -> float:
        try:
            level = float(text)
        except ValueError:
            level = math.nan
        if not 0 <= level <= self.options.noise:
            raise RequestError(f"a noise of {text}", field="noise", fix=f"Give 0 to {self.options.noise:g}")
        return level


def noised(image: Tensor, level: Tensor, noise: Tensor) -> Tensor:
    """[b c h w] with the share `level` [b] of noise: sqrt(1 - a²) x + a n."""
    a = level[:, None, None, None]
    return (1 - a**2).sqrt() * image + a * noise


class LowResolutionEncoder(nn.Module):
    """{image: [b c h w], level: [b]} → Condition with the picture brought to full size, and its level as a vector.

    It has no weights and no null of its own: guidance leaves the picture in place.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self._size = size

    def forward(self, prepared: dict[str, Tensor]) -> Condition:
        image = F.interpolate(prepared["image"], self._size, mode="bicubic", align_corners=False)
        level = prepared["level"]
        vector = torch.cat([torch.ones_like(level)[:, None], octaves(level)], 1)
        return Condition(vector, image=image)
