"""What a dataset is: the interface that dataset plugins implement."""

from __future__ import annotations

import base64
import io
from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

from PIL import Image
from pydantic import BaseModel, ConfigDict

from ..errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy as np

    from ..recipe import Data


INTERFACE = 1
"""Version of what plugins are written for; it rises when an older plugin would no longer do."""
FIELDS = ("image", "label", "caption", "attributes", "low_resolution", "mask")
"""What a record may hold."""


@dataclass(frozen=True)
class Example:
    """One record. image: a PIL image, an array [h w] or [h w c] (uint8, uint16, or float in [0, 1]), or a file's path.

    Grey, colour and transparency become each other; other counts of channels must be the recipe's. A file is a
    picture, an .npy, or an .npz of one array. label: the class's index in `Source.classes`, or None; name: what a
    person would look for; caption: what the image shows, in words; attributes: values by the names in
    `Source.attributes`; low_resolution: the same image, smaller; mask: grey, white where the image is to be filled in.
    """

    image: Image.Image | np.ndarray | Path
    label: int | None = None
    name: str = ""
    caption: str | None = None
    attributes: Mapping[str, str | float] = field(default_factory=dict)
    low_resolution: Image.Image | np.ndarray | Path | None = None
    mask: Image.Image | np.ndarray | Path | None = None


@dataclass(frozen=True)
class Attribute:
    """What a number or one of a few words tells. choices: the words; without any, a number in [low, high]."""

    name: str
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0


@dataclass(frozen=True)
class Facts:
    """What a conditioning scheme knows of the dataset; saved with the model.

    fields: what its records hold (see `FIELDS`); captions: a few of them; pictures: a few of its images, as PNG files
    in base64, for schemes that are told by pictures; size: (height, width) and channels of the
    images as they are trained on; frozen: what the schemes' `fingerprint` was when the images were prepared. All but
    `classes` may be empty in models of before.
    """

    classes: tuple[str, ...] = ()
    attributes: tuple[Attribute, ...] = ()
    fields: tuple[str, ...] = ()
    captions: tuple[str, ...] = ()
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    pictures: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The reverse of `as_dict`; what is missing stays empty. Raises TypeError or ValueError where it is no such."""
        attributes = tuple(
            Attribute(str(each["name"]), tuple(map(str, each["choices"])), float(each["low"]), float(each["high"]))
            for each in values.get("attributes", ())
        )
        height, width = values.get("size", (0, 0))
        return cls(
            tuple(map(str, values.get("classes", ()))),
            attributes,
            tuple(map(str, values.get("fields", ()))),
            tuple(map(str, values.get("captions", ()))),
            (int(height), int(width)),
            int(values.get("channels", 0)),
            tuple(map(str, values.get("pictures", ()))),
            tuple(map(str, values.get("frozen", ()))),
        )

    def picture(self, index: int) -> np.ndarray:
        """Picture `index` as [c h w] float32 in [-1, 1]. Raises DataError where it is damaged."""
        from .decode import picture_array

        try:
            opened = Image.open(io.BytesIO(base64.b64decode(self.pictures[index])))
        except (OSError, ValueError) as error:
            raise DataError(f"picture {index + 1} of the model cannot be read: {error}") from error
        return picture_array(opened, self.size, self.channels)


@dataclass(frozen=True)
class Bringing:
    """How far it is, of something that a source brings here. what: such as "Downloading megabytes"; total: 0 where
    that is not known.
    """

    what: str
    done: int
    total: int = 0


class SourceOptions(BaseModel):
    """For sources without settings of their own."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Described(ABC):  # noqa: B024 - each kind has its own
    """What a dataset tells of itself, whether its examples are read by index (`Source`) or in a row (`Stream`).

    Nothing happens at import, and `__init__` only looks, it does not read all.
    """

    interface: ClassVar[int] = INTERFACE
    """Which version of this interface it is written for."""
    title: ClassVar[str] = ""
    summary: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    citation: ClassVar[str] = ""
    needs_path: ClassVar[bool] = False
    """Whether it reads from a place the person names (`data.path`)."""
    opens_slowly: ClassVar[bool] = False
    """Whether opening it may take long, with a download or a large library: a loader process then does it."""
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

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        """What `Example.attributes` tells of; empty where it tells nothing."""
        return ()

    @property
    def fields(self) -> tuple[str, ...]:
        """What its examples hold, of `FIELDS`. By default the image, and a label or attributes where they are named."""
        named = (("label", self.classes), ("attributes", self.attributes))
        return ("image", *(name for name, known in named if known))

    def bring(self) -> Iterator[Bringing]:
        """Brings here what is not here yet, as by a download, and tells how far it is.

        Asked first of all where it is opened in a loader process; a part of a mixture is not asked.
        """
        return iter(())

    def fingerprint(self) -> str:
        """Changes when the data changes; empty: this source is not cached between runs."""
        return ""


class Source(Described):
    """A dataset; a plugin subclasses it.

    Same i, same example, in any process. An example that cannot be read may raise: it is set aside by name,
    with the reason, and never ends a run.
    """

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Example: ...

    def name_of(self, index: int) -> str:
        """What a person would look for if example `index` cannot be read."""
        return f"No. {index}"


Position = str | int | None
"""A place in a stream, which JSON can hold; None is its beginning."""


class Stream(Described):
    """A dataset whose examples come one after another, as from an archive or over a network; a plugin subclasses it.

    Read once, by one process, and kept like a source; `data.most` says how much of it.
    """

    length: int | None = None
    """How many there are, where that is known."""

    @abstractmethod
    def examples(self, position: Position) -> Iterator[tuple[Position, Example | DataError]]:
        """(where to go on after it, example) from `position` on; always the same ones in the same order.

        What raises here ends the stream, after one more try from where it was. An example whose image cannot be
        decoded is set aside, and so is a DataError that is given in the place of one.
        """
