"""Hugging Face datasets: a file or folder on this machine, or a name of the hub once that is allowed.

Their own scripts are never run: the library does not know them any more. Nothing goes over the network, and nobody is
told of anything, unless `download` is set.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from imagen_workbench.core import Attribute, DataError, Example, Source, Stream

from .columns import CAPTIONS, Columns
from .encoded import picture_of
from .hub import Place, library, reaching

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from PIL import Image

MOST_CLASSES = 10_000
BATCH = 10_000
"""Rows that are looked at together."""
DEFAULTS = {"size": [32, 32], "channels": 3, "validation": 0.1}


class StreamingOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    split: str = Field(
        "train", min_length=1, title="Split", description="Which of the dataset's splits, such as train[:10%]."
    )
    config: str = Field("", title="Configuration", description="Which of its configurations, where it has several.")
    image: str = Field("", title="Image column", description="Empty: the first that holds images.")
    label: str = Field("", title="Label column", description="Empty: the first that holds classes.")
    caption: str = Field("", title="Caption column", description="Empty: one called caption, text or prompt.")
    download: bool = Field(
        default=False, title="Download", description="Whether the hub may be asked, and data downloaded from there."
    )


class HuggingFaceOptions(StreamingOptions):
    attributes: tuple[str, ...] = Field(
        (), title="Attributes", description="Columns of numbers, or of few different words, that a model is told."
    )


class _Table:
    """What both kinds share: which columns hold what."""

    settings: Any
    options: Any

    @property
    @abstractmethod
    def _features(self) -> Mapping[str, Any]:
        """The kinds of its columns, by name."""

    @cached_property
    def _place(self) -> Place:
        return Place(self.settings.path)

    @cached_property
    def _image(self) -> str:
        found = self._column("image", lambda _, feature: _holds_pictures(feature))
        if not found:
            raise DataError("has no column of images", field="data.options.image", fix=f"Columns: {self._known}")
        return found

    @cached_property
    def _label(self) -> str:
        kind = library().ClassLabel
        return self._column("label", lambda _, feature: isinstance(feature, kind))

    @cached_property
    def _caption(self) -> str:
        return self._column(
            "caption", lambda name, feature: name in CAPTIONS and "string" in str(getattr(feature, "dtype", ""))
        )

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        return tuple(getattr(self._features.get(self._label), "names", ()))

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return self._attributes

    @cached_property
    def _attributes(self) -> tuple[Attribute, ...]:
        return ()

    @property
    def fields(self) -> tuple[str, ...]:
        told = (("label", self.classes), ("attributes", self.attributes), ("caption", self._caption))
        return ("image", *(name for name, there in told if there))

    @property
    def _known(self) -> str:
        return ", ".join(self._features)

    def _column(self, what: str, is_it: Any) -> str:
        """The column that the options name, else the first that is one; empty where there is none."""
        wanted = getattr(self.options, what)
        if wanted and wanted not in self._features:
            raise DataError(f"has no column {wanted!r}", field=f"data.options.{what}", fix=f"Columns: {self._known}")
        return wanted or next((name for name, feature in self._features.items() if is_it(name, feature)), "")

    @property
    def _used(self) -> list[str]:
        return list(dict.fromkeys(name for name in (self._image, self._label, self._caption) if name))

    def _undecoded(self, table: Any) -> Any:
        """With its pictures as they lie in the files: decoding them, and what becomes of damaged ones, is ours."""
        datasets = library()
        if isinstance(self._features.get(self._image), datasets.Image):
            return table.cast_column(self._image, datasets.Image(decode=False))
        return table

    def _example(self, row: Mapping[str, Any], name: str) -> Example:
        caption = row[self._caption] if self._caption else None
        if isinstance(caption, list):
            caption = next(iter(caption), None)  # of several, the first
        told = {each.name: value for each in self.attributes if (value := self._told(each, row)) is not None}
        picture = _picture(row[self._image], self._place)
        return Example(picture, self._label_of(row), name, " ".join(str(caption or "").split()) or None, told)

    def _label_of(self, row: Mapping[str, Any]) -> int | None:
        value = row[self._label] if self._label and self.classes else None
        return value if isinstance(value, int) and value >= 0 else None

    def _told(self, attribute: Attribute, row: Mapping[str, Any]) -> str | float | None:
        value = _named(self._features[attribute.name], row[attribute.name])
        return None if value in (None, "") else str(value) if attribute.choices else value


class HuggingFace(_Table, Source):
    """A dataset that lies on this machine, or is brought here first."""

    title = "Hugging Face dataset"
    summary = "A dataset of Hugging Face: files or a folder here (parquet, arrow, images, JSON), or hf://owner/name."
    needs_path = True
    opens_slowly = True
    defaults = DEFAULTS
    Options = HuggingFaceOptions

    @cached_property
    def _table(self) -> Any:
        options = self.options
        return self._place.opened(options.split, options.config, streaming=False, download=options.download)

    @property
    def _features(self) -> Mapping[str, Any]:
        return self._table.features

    @cached_property
    def _rows(self) -> Any:
        return self._undecoded(self._table.select_columns([*self._used, *self.options.attributes]))

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        return self._example(self._rows[index], self.name_of(index))

    def name_of(self, index: int) -> str:
        return f"row {index}"

    def fingerprint(self) -> str:
        told = str(getattr(self._table, "_fingerprint", ""))
        return f"{told} {self._place.fingerprint()}" if told else ""

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        """Those that the column names; else, where it is asked for by name, its different values."""
        if not self._label:
            return ()
        names = getattr(self._features[self._label], "names", None)
        return tuple(names) if names else tuple(str(value) for value in self._values)

    @cached_property
    def _values(self) -> dict[Any, int]:
        """The class of each value of a column without names."""
        values = [value for value in self._table.unique(self._label) if value is not None]
        if len(values) > MOST_CLASSES or not all(isinstance(value, str | int) for value in values):
            what = f"{self._label} has {len(values):,} different values, or values that name no class"
            raise DataError(what, field="data.options.label", fix="Name a column of classes")
        return {value: number for number, value in enumerate(sorted(values))}

    def _label_of(self, row: Mapping[str, Any]) -> int | None:
        if not self._label or getattr(self._features[self._label], "names", None):
            return super()._label_of(row)
        return self._values.get(row[self._label])

    @cached_property
    def _attributes(self) -> tuple[Attribute, ...]:
        names = self.options.attributes
        for name in names:
            if name not in self._features:
                raise DataError(
                    f"has no column {name!r}", field="data.options.attributes", fix=f"Columns: {self._known}"
                )
        columns = Columns(others=())
        if names:
            for batch in self._table.select_columns(list(names)).iter(BATCH):
                for values in zip(*(batch[name] for name in names), strict=True):
                    told = zip(names, values, strict=True)
                    columns.add({name: _named(self._features[name], value) for name, value in told})
        found = {attribute.name: attribute for attribute in columns.attributes()}
        for name in names:
            if name not in found:
                what = f"{name} is no attribute: neither different numbers nor few different words"
                raise DataError(what, field="data.options.attributes", fix="Leave it out")
        return tuple(found[name] for name in dict.fromkeys(names))


class HuggingFaceStreaming(_Table, Stream):
    """A dataset that is read in a row, as far as `data.most` says; of the hub, nothing but that is brought here."""

    title = "Hugging Face dataset, streamed"
    summary = "The first images of a dataset of Hugging Face, read in a row: a folder or file here, or hf://owner/name."
    needs_path = True
    opens_slowly = True
    defaults = {**DEFAULTS, "most": 10_000}  # noqa: RUF012
    Options = StreamingOptions

    def examples(self, position: str | int | None) -> Iterator[tuple[str, Example | DataError]]:
        """position: JSON of the library's own state, and how many came before it."""
        table = self._undecoded(self._opened().select_columns(self._used))
        done = 0
        if position is not None:
            told = json.loads(str(position))
            done = told["done"]
            table.load_state_dict(told["state"])
        rows = iter(table)
        try:
            while True:
                with reaching(allowed=self.options.download):
                    row = next(rows, None)
                if row is None:
                    return
                try:
                    example = self._example(row, f"row {done}")
                except DataError as error:
                    example = error
                done += 1
                yield json.dumps({"done": done, "state": table.state_dict()}), example
        finally:
            rows.close()

    def fingerprint(self) -> str:
        if self._place.path is None:
            return self._commit
        return self._place.fingerprint()

    @property
    def _features(self) -> Mapping[str, Any]:
        return self._known_features

    @cached_property
    def _known_features(self) -> Mapping[str, Any]:
        table = self._opened()
        if table.features is not None:
            return table.features
        with reaching(allowed=self.options.download):
            first = next(iter(table), None)
        return library().Dataset.from_list([first] if first else []).features

    @cached_property
    def _label(self) -> str:
        name = super()._label
        if name and not getattr(self._features[name], "names", None):
            what = f"which classes {name} has is only known once all is read"
            raise DataError(what, field="data.options.label", fix="Take the source hugging-face")
        return name

    @cached_property
    def _commit(self) -> str:
        return self._place.pin(download=self.options.download)

    def _opened(self) -> Any:
        options = self.options
        if self._place.path is None and options.download:
            _ = self._commit  # the same data, however often it is begun
        return self._place.opened(options.split, options.config, streaming=True, download=options.download)


def _holds_pictures(feature: Any) -> bool:
    """The library's images, or what they are without its note: bytes, alone or beside a path."""
    if isinstance(feature, dict):
        return "bytes" in feature
    return isinstance(feature, library().Image) or getattr(feature, "dtype", "") in ("binary", "large_binary")


def _named(feature: Any, value: Any) -> Any:
    """A class by its name, other values as they are."""
    names = getattr(feature, "names", None)
    return names[value] if names and isinstance(value, int) and 0 <= value < len(names) else value


def _picture(value: Any, place: Place) -> Image.Image | np.ndarray | Path:
    """From bytes, a path, both, or numbers. Raises DataError where it is none of them."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes | bytearray | memoryview):
        return picture_of(bytes(value))
    if isinstance(value, str):
        beside = place.path if place.path is None or place.path.is_dir() else place.path.parent
        return Path(value) if beside is None else beside / value
    if isinstance(value, list):
        try:
            return np.asarray(value, np.uint8)
        except (ValueError, TypeError, OverflowError) as error:
            raise DataError(f"its image is no array of pixels: {error}") from error
    if value is None:
        raise DataError("has no image")
    raise DataError(f"its image is {type(value).__name__}, neither bytes nor a path")
