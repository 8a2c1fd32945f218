"""What a dataset is: the interface that dataset plugins implement."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from PIL import Image

    from ..recipe import Data


@dataclass(frozen=True)
class Example:
    """One record. image: a PIL image, an array [h w] or [h w c] (uint8, uint16, or float in [0, 1]), or a file's path.

    Grey, colour and transparency become each other; other counts of channels must be the recipe's. A file is a
    picture, an .npy, or an .npz of one array. label: the class's index in `Source.classes`, or None; name: what a
    person would look for.
    """

    image: Image.Image | np.ndarray | Path
    label: int | None = None
    name: str = ""
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Facts:
    """What a conditioning scheme knows of the dataset."""

    classes: tuple[str, ...] = ()


class SourceOptions(BaseModel):
    """For sources without settings of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(ABC):
    """A dataset; a plugin subclasses it. Nothing happens at import, and `__init__` only looks, it does not read all.

    Same i, same example, in any process. An example that cannot be read may raise: it is set aside by name,
    with the reason, and never ends a run.
    """

    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    needs_path: ClassVar[bool] = False
    """Whether it reads from a place the person names (`data.path`)."""
    defaults: ClassVar[dict[str, Any]] = {}
    """Recipe settings that suit it: `{"size": (28, 28), "channels": 1}`."""
    Options: ClassVar[type[BaseModel]] = SourceOptions

    def __init__(self, settings: Data, options: BaseModel) -> None:
        self.settings = settings
        self.options = options

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes that labels point into; empty where there are none."""
        return ()

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Example: ...

    def name_of(self, index: int) -> str:
        """What a person would look for if example `index` cannot be read."""
        return f"No. {index}"

    def fingerprint(self) -> str:
        """Changes when the data changes; empty: this source is not cached between runs."""
        return ""
