"""The contract of datasets that are read in a row."""

from __future__ import annotations

import json
from itertools import islice
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..data.opening import Opened
from ..data.rows import Row, row_of_example
from ..data.source import FIELDS, Example
from ..errors import DataError
from ..recipe import Recipe
from .elsewhere import elsewhere, example_digest

if TYPE_CHECKING:
    from pathlib import Path

    from ..data.source import Position, Stream


class StreamContract:
    """A dataset plugin's `Stream`.

    A subclass gives `make_stream(folder)`: a new stream each time, equal for the same folder. Its module can be
    imported by name.
    """

    looked_at: ClassVar[int] = 12
    """Examples that are read, the first ones."""

    def make_stream(self, folder: Path) -> Stream:
        raise NotImplementedError

    def _first(self, folder: Path, position: Position = None) -> list[tuple[Position, Example | DataError]]:
        return list(islice(self.make_stream(folder).examples(position), self.looked_at))

    def test_it_has_examples(self, tmp_path: Path) -> None:
        first = self._first(tmp_path)
        assert first, "the stream is empty"
        for position, example in first:
            told = f"it yields {type(example).__name__}; yield (position, Example)"
            assert isinstance(example, Example | DataError), told
            assert isinstance(position, str | int), f"the position {position!r} is neither text nor a number"
        assert len({position for position, _ in first}) == len(first), "two examples have the same position"

    def test_it_tells_of_itself(self, tmp_path: Path) -> None:
        """What is asked of it before any example is read."""
        stream = self.make_stream(tmp_path)
        opened = Opened.of(stream, stream.settings)
        json.dumps(opened.as_dict())
        assert set(opened.facts.fields) <= set(FIELDS), f"fields are some of {', '.join(FIELDS)}"
        assert self.make_stream(tmp_path).fingerprint() == opened.fingerprint, "the fingerprint does not keep still"

    def test_it_goes_on_from_every_position(self, tmp_path: Path) -> None:
        """With the same examples, in a stream made anew."""
        first = self._first(tmp_path)
        digests = [example_digest(example) for _, example in first]
        for at in range(len(first)):
            position = first[at - 1][0] if at else None
            rest = [example_digest(example) for _, example in self._first(tmp_path, position)]
            assert rest[: len(first) - at] == digests[at:], (
                f"from position {position!r} it does not go on with what came after it"
            )

    def test_same_bytes_in_another_process(self, tmp_path: Path) -> None:
        stream = self.make_stream(tmp_path)
        told = elsewhere(stream, range(len(self._first(tmp_path))))
        assert told["digests"] == [example_digest(example) for _, example in self._first(tmp_path)], (
            "examples are others in another process"
        )

    def test_examples_are_images_or_say_why_not(self, tmp_path: Path) -> None:
        stream, usable = self.make_stream(tmp_path), 0
        settings = stream.settings.model_copy(update={"size": (12, 20), "channels": 3})
        for _, example in self._first(tmp_path):
            row = row_of_example(example, "it", len(stream.classes), settings, None)
            if isinstance(row, Row):
                assert (row.pixels.shape, row.pixels.dtype) == ((3, 12, 20), np.dtype(np.uint8))
                usable += 1
            else:
                assert row.reason
        assert usable, "not one of the first examples can be used"

    def test_it_introduces_itself(self, tmp_path: Path) -> None:
        """What the catalogue and the forms show; its suggested settings are a recipe's."""
        kind = type(self.make_stream(tmp_path))
        assert kind.title, "give it a `title`"
        assert kind.summary, "give it a `summary`"
        json.dumps(kind.Options.model_json_schema())
        Recipe.of({"data": dict(kind.defaults)})
