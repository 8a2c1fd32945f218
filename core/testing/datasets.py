"""The contract of datasets."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ..data.opening import Opened
from ..data.rows import Row, row_of
from ..data.source import FIELDS, Example
from ..errors import DataError, WorkbenchError
from ..recipe import Recipe
from .elsewhere import elsewhere, example_digest
from .fuzzed import options_at_limits

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..data.source import Source

SHARES = 3
"""Processes that a dataset is read in."""
DAMAGED = 200
"""Files of a dataset that are copied, to be damaged."""


class DatasetContract:
    """A dataset plugin's `Source`.

    A subclass gives `make_source(folder)`: a new source each time, equal for the same folder (an empty one at
    first, for data that the test writes itself). Its module can be imported by name.
    """

    looked_at: ClassVar[int] = 24
    """Examples that are read, spread over the dataset."""

    def make_source(self, folder: Path) -> Source:
        raise NotImplementedError

    def with_options(self, folder: Path, options: BaseModel) -> Source:
        """The same data with other options."""
        source = self.make_source(folder)
        return type(source)(source.settings, options)

    def _indices(self, source: Source) -> list[int]:
        return sorted({int(at) for at in np.linspace(0, len(source) - 1, min(self.looked_at, len(source)))})

    def test_it_has_examples(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path)
        assert len(source) > 0, "the dataset is empty: __len__ gives 0"
        assert len(source) == len(self.make_source(tmp_path)), "__len__ differs from one source to the next"
        for index in self._indices(source):
            example = source[index]
            assert isinstance(example, Example), f"source[{index}] gives {type(example).__name__}; return an Example"

    def test_it_tells_of_itself(self, tmp_path: Path) -> None:
        """What is asked of it before any example is read."""
        source = self.make_source(tmp_path)
        opened = Opened.of(source, source.settings)
        json.dumps(opened.as_dict())
        assert "image" in opened.facts.fields, 'fields holds "image", as every example does'
        assert set(opened.facts.fields) <= set(FIELDS), f"fields are some of {', '.join(FIELDS)}"
        names = [attribute.name for attribute in opened.facts.attributes]
        assert len(set(names)) == len(names), "two attributes have the same name"
        for attribute in opened.facts.attributes:
            assert attribute.choices or attribute.low < attribute.high, f"{attribute.name}: low is not below high"

    def test_same_index_same_bytes(self, tmp_path: Path) -> None:
        """In any order, from a source made anew."""
        first, second = self.make_source(tmp_path), self.make_source(tmp_path)
        indices = self._indices(first)
        forwards = [example_digest(first[index]) for index in indices]
        backwards = [example_digest(second[index]) for index in reversed(indices)]
        assert forwards == backwards[::-1], (
            "an example differs from one reading to the next; take chance from the index: np.random.default_rng(index)"
        )

    def test_same_bytes_in_other_processes(self, tmp_path: Path) -> None:
        """Each with a share of the examples: nothing may hang on the order of a set, on the clock, or on what was
        read before.
        """
        source = self.make_source(tmp_path)
        indices = self._indices(source)
        expected = {index: example_digest(source[index]) for index in indices}
        for share in range(min(SHARES, len(indices))):
            told = elsewhere(source, indices[share::SHARES][::-1])
            assert told["fingerprint"] == source.fingerprint(), "the fingerprint is another one in another process"
            for index, digest in zip(told["indices"], told["digests"], strict=True):
                assert digest == expected[index], (
                    f"example {index} is another one in another process; do not use hash(), the order of a set, or "
                    "files in the order in which the drive lists them"
                )

    def test_examples_are_images_or_say_why_not(self, tmp_path: Path) -> None:
        """To grey and to colour, of 8 and 16 bits, cut, padded and stretched; at least one can be used."""
        source, reasons = self.make_source(tmp_path), []
        for index in self._indices(source):
            for channels, depth, fit in ((1, 8, "crop"), (3, 8, "pad"), (4, 8, "stretch"), (3, 16, "crop")):
                update = {"channels": channels, "depth": depth, "fit": fit, "size": (12, 20)}
                row = row_of(source, index, source.settings.model_copy(update=update), None)
                if isinstance(row, Row):
                    assert row.pixels.shape == (channels, 12, 20)
                    assert row.pixels.dtype == (np.uint8 if depth == 8 else np.uint16)
                else:
                    assert row.reason, "an example that cannot be used says why"
                    reasons.append(f"{row.name}: {row.reason}")
        assert len(reasons) < 4 * len(self._indices(source)), f"not one example can be used; the first, {reasons[0]}"

    def test_other_pictures_are_readable(self, tmp_path: Path) -> None:
        """A low-resolution image or a mask, where examples have one."""
        from ..data.decode import to_pixels

        source = self.make_source(tmp_path)
        for index in self._indices(source):
            example = source[index]
            for name, picture in (("low_resolution", example.low_resolution), ("mask", example.mask)):
                assert picture is None or name in source.fields, f"examples have {name}, which `fields` does not say"
                if picture is not None:
                    to_pixels(picture, source.settings)

    def test_labels_point_into_the_classes(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path)
        classes = source.classes
        assert len(set(classes)) == len(classes), "two classes have the same name"
        for index in self._indices(source):
            label = source[index].label
            assert label is None or 0 <= label < len(classes), (
                f"example {index} has the label {label} of {len(classes)} classes; it is an index into them, or None"
            )

    def test_words_are_what_was_promised(self, tmp_path: Path) -> None:
        """Captions and attributes, where `fields` says that there are some."""
        source = self.make_source(tmp_path)
        known = {attribute.name: attribute for attribute in source.attributes}
        examples = [source[index] for index in self._indices(source)]
        for example in examples:
            assert example.caption is None or isinstance(example.caption, str)
            for name, value in example.attributes.items():
                assert name in known, f"{name} is told, but not among `attributes`"
                choices = known[name].choices
                told = value in choices if choices else known[name].low <= float(value) <= known[name].high
                assert told, f"{name} is {value!r}, which `attributes` does not allow"
        for field, told in (
            ("caption", any(example.caption for example in examples)),
            ("attributes", any(example.attributes for example in examples)),
        ):
            assert not told or field in source.fields, f"examples have {field}, which `fields` does not say"

    def test_examples_have_names(self, tmp_path: Path) -> None:
        """Names by which a person finds what was set aside, also where an example cannot be read."""
        source = self.make_source(tmp_path)
        names = [source.name_of(index) for index in self._indices(source)]
        assert all(names), "name_of gives an empty name"
        assert all(name.isprintable() for name in names), "escape control characters and what is no text"
        assert len(set(names)) == len(names), "two examples have the same name"

    def test_the_fingerprint_keeps_still(self, tmp_path: Path) -> None:
        first, second = self.make_source(tmp_path).fingerprint(), self.make_source(tmp_path).fingerprint()
        assert isinstance(first, str)
        assert first == second, "the fingerprint changes although the data has not"

    def test_every_allowed_option_gives_a_dataset_or_says_why_not(self, tmp_path: Path) -> None:
        """At the limits that the options' own schema names."""
        kind = type(self.make_source(tmp_path))
        for options in options_at_limits(kind.Options):
            try:
                source = self.with_options(tmp_path, options)
                Opened.of(source, source.settings)
                last = len(source) - 1
            except WorkbenchError as error:
                assert error.what
                continue
            for index in {0, last} if last >= 0 else ():
                row_of(source, index, source.settings, None)

    def test_damaged_files_are_no_reason_to_fail(self, tmp_path: Path) -> None:
        """Cut off, or emptied: opening says why not, or examples are set aside with a reason."""
        source = self.make_source(tmp_path)
        place = Path(source.settings.path) if source.settings.path else None
        if place is None or not place.exists():
            return
        for keep in (0.5, 0.0):
            copy = _damaged(place, tmp_path / f"damaged {keep}", keep)
            if copy is None:
                return
            try:
                other = type(source)(source.settings.model_copy(update={"path": str(copy)}), source.options)
                Opened.of(other, other.settings)
                indices = self._indices(other)
            except DataError as error:
                assert error.what
                continue
            for index in indices:
                row = row_of(other, index, other.settings, None)
                assert isinstance(row, Row) or row.reason

    def test_it_introduces_itself(self, tmp_path: Path) -> None:
        """What the catalogue and the forms show; its suggested settings are a recipe's."""
        kind = type(self.make_source(tmp_path))
        assert kind.title, "give it a `title`"
        assert kind.summary, "give it a `summary`"
        json.dumps(kind.Options.model_json_schema())
        Recipe.of({"data": dict(kind.defaults)})


def _damaged(place: Path, copy: Path, keep: float) -> Path | None:
    """A copy of a file or folder of which every second file has only its first part; None where it is too large."""
    if place.is_file():
        copy.mkdir()
        shutil.copyfile(place, copy / place.name)
        files, whole = [copy / place.name], copy / place.name
    else:
        found = [path for path in place.rglob("*") if path.is_file()]
        if len(found) > DAMAGED:
            return None
        shutil.copytree(place, copy)
        files, whole = sorted(path for path in copy.rglob("*") if path.is_file())[::2], copy
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content[: int(len(content) * keep)])
    return whole
