"""What a conditioning scheme is: the interface that conditioning plugins implement.

A scheme has two halves. `prepare` turns an example into numbers on the CPU, is pure, and is cached;
`encoder` is a module that is trained and saved with the model and turns them into a `Condition`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict

from ..data.source import FIELDS, INTERFACE
from ..errors import RequestError
from ..events import ConditionField

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import torch
    from torch import Tensor, nn

    from ..data.source import Example, Facts
    from .tensors import Tensors


class NoOptions(BaseModel):
    """For plugins without settings of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ConditioningScheme(ABC):
    """What a model is told about each image; a plugin subclasses it.

    options: an instance of `Options`; facts: what is known of the dataset (its classes, …). Both are saved
    with the model, and make the same scheme again.

    What `prepare` and `parse` give is an array of one shape and type for all images, or a record of a structured type
    ([("ids", "i4", (32,)), ("level", "f4")]), which reaches the encoder as a dictionary of tensors.
    """

    interface: ClassVar[int] = INTERFACE
    """Which version of this interface it is written for."""
    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    key: ClassVar[str] = ""
    """What it is called beside other schemes, as in "class=7;text=a red square"."""
    needs: ClassVar[tuple[str, ...]] = ()
    """Fields that a source must have (see `Source.fields`)."""
    reads: ClassVar[tuple[str, ...]] = FIELDS
    """Fields of an example that `prepare` looks at."""
    droppable: ClassVar[bool] = True
    """Whether the network also learns to do without. Where not, guidance leaves this part as it is."""
    takes_pictures: ClassVar[bool] = False
    """Whether conditions are made from pictures: the model then carries a few of its data (`Facts.pictures`)."""
    Options: ClassVar[type[BaseModel]] = NoOptions

    def __init__(self, options: BaseModel, facts: Facts) -> None:
        self.options = options
        self.facts = facts

    @property
    def vector_width(self) -> int:
        """n of `Condition.vector`; 0 where the scheme gives none."""
        return 0

    @property
    def token_width(self) -> int:
        """n of `Condition.tokens`; 0 where the scheme gives none."""
        return 0

    @property
    def image_channels(self) -> int:
        """c of `Condition.image`; 0 where the scheme gives none."""
        return 0

    @property
    def memory(self) -> int:
        """Bytes that a process holds in which it prepares: those of a frozen encoder. 0: next to nothing.

        Where there are some, examples are prepared in loader processes only, in no more than the machine has room
        for, and the first ones in each may take as long as opening a dataset.
        """
        return 0

    @property
    def choices(self) -> tuple[str, ...]:
        """The texts that can be asked for, where they can be listed."""
        return ()

    @property
    def form(self) -> tuple[ConditionField, ...]:
        """What a person is asked for: by default one of the choices; nothing where there are none."""
        if not self.choices:
            return ()
        return (ConditionField(self.key, self.title, "choice", choices=self.choices),)

    @property
    def is_conditional(self) -> bool:
        """Whether guidance has something to follow."""
        return self.droppable and bool(self.vector_width or self.token_width or self.image_channels)

    @abstractmethod
    def prepare(self, example: Example) -> np.ndarray:
        """An example → numbers of a fixed shape and type. Pure. Raises DataError where it lacks what is needed."""

    @abstractmethod
    def parse(self, text: str) -> np.ndarray:
        """What a person wrote ("7") → as `prepare`. Raises RequestError saying what can be written."""

    def picture_key(self) -> str | None:
        """The key of the part that pictures of another model can be given to; None where there is none."""
        return None

    def of_pictures(self, pictures: np.ndarray, texts: Sequence[str]) -> np.ndarray:  # noqa: ARG002
        """As `parse` of each text, [n …], where the picture of each condition is given.

        pictures: [n c h w] float32 in [-1, 1], of any size. Raises RequestError where the scheme takes none.
        """
        raise RequestError(f"{self.title or self.key} takes no picture", fix="Use the scheme low-resolution")

    @abstractmethod
    def encoder(self) -> nn.Module:
        """A module: prepared numbers [b …] (a dictionary of them for a structured type) → Condition with its null.

        Its parameters may be empty: `initialise` in core.denoisers fills what has a `reset(generator)`.
        """

    def nothing(self) -> np.ndarray:
        """As `prepare`, where nothing is said: its values do not count, only its shape and type."""
        return np.zeros_like(self.parse(self.in_turn(1)[0]))

    def for_training(self, prepared: Tensors, x0: Tensor, generator: torch.Generator) -> Tensors:  # noqa: ARG002
        """What the encoder gets while training, where that hangs on the image as it is shown, or on chance.

        prepared: of b images, on the CPU; x0: [b c h w] in [-1, 1], after its augmentation. All chance comes from
        `generator`, a CPU one. It may make of them what `parse` gives, where `prepare` has less to say.
        """
        return prepared

    def for_drawing(self, prepared: Tensors, noise: Callable[[tuple[int, ...]], Tensor]) -> Tensors:  # noqa: ARG002
        """The same while drawing, from what `parse` gave.

        noise(shape): standard normal [b *shape], that of image k a function of the draw's seed and k alone.
        """
        return prepared

    def fingerprint(self) -> str:
        """Changes when `prepare` would give other numbers for the same options: the hash of a frozen encoder.

        Kept in the model's `Facts.frozen`, by which a scheme knows whether it still has that encoder.
        """
        return ""

    def carried_over(self, name: str, tensor: Tensor, own: Tensor, before: Facts) -> Tensor:  # noqa: ARG002
        """A base model's encoder tensor, fitted to this scheme's encoder when fine-tuning begins.

        name: the tensor's, in the encoder; own: what it replaces; before: the base's facts. One of another shape than
        `own` is refused with its name.
        """
        return tensor

    def label(self, prepared: np.ndarray) -> int:  # noqa: ARG002
        """A class number for tables and arrays, or -1."""
        return -1

    def describe(self, prepared: np.ndarray) -> str:  # noqa: ARG002
        """The condition in words."""
        return ""

    def in_turn(self, count: int) -> list[str]:
        """`count` texts when none are asked for: the choices, one after the other."""
        return [self.choices[k % len(self.choices)] for k in range(count)] if self.choices else [""] * count
