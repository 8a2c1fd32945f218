"""Several conditioning schemes at once: text and class and a low-resolution image."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..condition_text import keyed_text, keyed_texts
from ..errors import RecipeError, RequestError
from .condition import Condition
from .scheme import ConditioningScheme, NoOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ..data.source import Example, Facts
    from ..events import ConditionField
    from .tensors import Tensors

ALONE = 0.1
"""Share of training images that go without one of several parts, beside those that go without any."""
ABSENT = "absent"


class Together(ConditioningScheme):
    """The parts' vectors side by side, and their images; one of them may give tokens.

    A condition is written "class=3;text=a red square"; a part that is not named is not said. Some training images go
    without single parts, so that each can be left out when drawing.
    """

    title = "Together"
    summary = "Several schemes at once."

    def __init__(self, parts: Mapping[str, ConditioningScheme], facts: Facts) -> None:
        """parts: by key. Raises RecipeError where two of them give tokens."""
        super().__init__(NoOptions(), facts)
        self.parts = dict(parts)
        with_tokens = [key for key, part in self.parts.items() if part.token_width]
        if len(with_tokens) > 1:
            raise RecipeError(
                f"{' and '.join(with_tokens)} both give tokens", field="conditioning.scheme", fix="Keep one of them"
            )

    @property
    def vector_width(self) -> int:
        return sum(part.vector_width for part in self.parts.values())

    @property
    def token_width(self) -> int:
        return sum(part.token_width for part in self.parts.values())

    @property
    def image_channels(self) -> int:
        return sum(part.image_channels for part in self.parts.values())

    @property
    def memory(self) -> int:
        return sum(part.memory for part in self.parts.values())

    @property
    def form(self) -> tuple[ConditionField, ...]:
        return tuple(
            replace(field, key=key if field.key in ("", part.key) else f"{key}.{field.key}")
            for key, part in self.parts.items()
            for field in part.form
        )

    @property
    def is_conditional(self) -> bool:
        return any(part.is_conditional for part in self.parts.values())

    def prepare(self, example: Example) -> np.ndarray:
        return self._record({key: part.prepare(example) for key, part in self.parts.items()})

    def parse(self, text: str) -> np.ndarray:
        values = self._values(text)
        for key, part in self.parts.items():
            if key not in values and not part.droppable:
                raise RequestError(f"{key} is not said in {text!r}", fix=f"This model needs it: {key}=…")
        return self._record({key: self.parts[key].parse(value) for key, value in values.items()})

    def picture_key(self) -> str | None:
        return next((key for key, part in self.parts.items() if part.picture_key() is not None), None)

    def of_pictures(self, pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:
        key = self.picture_key()
        if key is None:
            raise RequestError("none of the schemes takes a picture", fix="Use the scheme low-resolution")
        values = [self._values(text) for text in texts]
        shown = self.parts[key].of_pictures(pictures, [each.pop(key, "") for each in values])
        return np.stack(
            [
                self._record({key: picture, **{name: self.parts[name].parse(text) for name, text in each.items()}})
                for picture, each in zip(shown, values, strict=True)
            ]
        )

    def _values(self, text: str) -> dict[str, str]:
        """The text of each part that is said; "low=a.png;low.noise=0.2" are two values of one part."""
        inner = {f"{key}.{each.key}": (key, each.key) for key, part in self.parts.items() for each in part.form}
        found: dict[str, str] = {}
        for written, value in keyed_texts(text, (*self.parts, *inner)).items():
            key, name = inner.get(written, (written, ""))
            said = f"{name}={value}" if name else value
            found[key] = f"{found[key]};{said}" if key in found else said
        return found

    def nothing(self) -> np.ndarray:
        return self._record({})

    def encoder(self) -> nn.Module:
        return TogetherEncoder(self.parts)

    def for_training(self, prepared: Tensors, x0: Tensor, generator: torch.Generator) -> Tensors:
        record = cast("dict[str, Any]", prepared)
        shown = {key: part.for_training(record[key], x0, generator) for key, part in self.parts.items()}
        droppable = torch.tensor([part.droppable for part in self.parts.values()])
        absent = torch.rand(len(x0), len(self.parts), generator=generator) < ALONE
        return {**shown, ABSENT: absent & droppable}

    def for_drawing(self, prepared: Tensors, noise: Callable[[tuple[int, ...]], Tensor]) -> Tensors:
        record = cast("dict[str, Any]", prepared)
        return {**record, **{key: part.for_drawing(record[key], noise) for key, part in self.parts.items()}}

    def fingerprint(self) -> str:
        return "|".join(part.fingerprint() for part in self.parts.values())

    def carried_over(self, name: str, tensor: Tensor, own: Tensor, before: Facts) -> Tensor:
        _, key, inner = name.split(".", 2)
        return self.parts[key].carried_over(inner, tensor, own, before)

    def label(self, prepared: np.ndarray) -> int:
        there = (part.label(prepared[key]) for key, part in self._said(prepared))
        return next((label for label in there if label >= 0), -1)

    def describe(self, prepared: np.ndarray) -> str:
        return keyed_text({key: part.describe(prepared[key]) for key, part in self._said(prepared)})

    def in_turn(self, count: int) -> list[str]:
        columns = {key: part.in_turn(count) for key, part in self.parts.items()}
        return [keyed_text({key: texts[k] for key, texts in columns.items()}) for k in range(count)]

    def _said(self, prepared: np.ndarray) -> list[tuple[str, ConditioningScheme]]:
        return [item for item, absent in zip(self.parts.items(), prepared[ABSENT], strict=True) if not absent]

    def _record(self, said: Mapping[str, np.ndarray]) -> np.ndarray:
        """One record of all parts; those that are not said are marked absent."""
        values = {key: np.asarray(said[key] if key in said else part.nothing()) for key, part in self.parts.items()}
        layout = [(key, value.dtype, value.shape) for key, value in values.items()]
        record = np.zeros((), np.dtype([*layout, (ABSENT, np.bool_, (len(self.parts),))]))
        for at, (key, value) in enumerate(values.items()):
            record[key] = value
            record[ABSENT][at] = key not in said
        return record


class TogetherEncoder(nn.Module):
    """A dictionary of the parts' prepared numbers, with `absent` [b parts] → one Condition."""

    def __init__(self, parts: Mapping[str, ConditioningScheme]) -> None:
        super().__init__()
        self.parts = nn.ModuleDict({key: part.encoder() for key, part in parts.items()})
        self._droppable = [part.droppable for part in parts.values()]

    def forward(self, prepared: Mapping[str, Any]) -> Condition:
        told: list[Condition] = []
        null: list[Condition] = []
        for at, (key, encoder) in enumerate(self.parts.items()):
            cond: Condition = encoder(prepared[key])
            without = cond.null if self._droppable[at] and cond.null is not None else replace(cond, null=None)
            told.append(cond if cond.null is None else cond.drop(prepared[ABSENT][:, at]))
            null.append(without)
        return replace(_joined(told), null=_joined(null))


def _joined(parts: list[Condition]) -> Condition:
    """One condition of all: vectors and images side by side, tokens of the one that has them."""
    vectors = [part.vector for part in parts if part.vector is not None]
    images = [part.image for part in parts if part.image is not None]
    texts = next((part for part in parts if part.tokens is not None), Condition())
    return Condition(
        vector=torch.cat(vectors, 1) if vectors else None,
        tokens=texts.tokens,
        mask=texts.mask,
        image=_stacked(images) if images else None,
    )


def _stacked(images: list[Tensor]) -> Tensor:
    """Images as channels of one, brought to the largest size among them."""
    size = max(tuple(image.shape[2:]) for image in images)
    grown = [
        image if tuple(image.shape[2:]) == size else nn.functional.interpolate(image, size, mode="bilinear")
        for image in images
    ]
    return torch.cat(grown, 1)
