"""Contracts of what plugins bring: datasets and conditioning schemes."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import nn

from ..conditioning import Condition
from ..data.decode import to_pixels
from ..data.source import Example
from ..denoisers.layers import initialise
from ..errors import DataError, RequestError, WorkbenchError
from ..randomness import generator
from ..recipe import Recipe
from .elsewhere import example_digest

if TYPE_CHECKING:
    from pathlib import Path

    from ..conditioning import ConditioningScheme
    from ..data.source import Source


class DatasetContract:
    """A dataset plugin's `Source`.

    A subclass gives `make_source(folder)`: a new source each time, equal for the same folder (an empty one at
    first, for data that the test writes itself). Its module can be imported by name.
    """

    looked_at: ClassVar[int] = 24
    """Examples that are read, spread over the dataset."""

    def make_source(self, folder: Path) -> Source:
        raise NotImplementedError

    def _indices(self, source: Source) -> list[int]:
        return sorted({int(at) for at in np.linspace(0, len(source) - 1, min(self.looked_at, len(source)))})

    def test_it_has_examples(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path)
        assert len(source) > 0
        assert len(source) == len(self.make_source(tmp_path))
        assert all(isinstance(source[index], Example) for index in self._indices(source))

    def test_same_index_same_bytes(self, tmp_path: Path) -> None:
        """In any order, from a source made anew."""
        first, second = self.make_source(tmp_path), self.make_source(tmp_path)
        indices = self._indices(first)
        forwards = [example_digest(first[index]) for index in indices]
        backwards = [example_digest(second[index]) for index in reversed(indices)]
        assert forwards == backwards[::-1]

    def test_same_bytes_in_another_process(self, tmp_path: Path) -> None:
        """Nothing may hang on the order of a set, on the clock, or on what was read before."""
        source = self.make_source(tmp_path)
        indices = self._indices(source)[:6]
        asked = {
            "module": type(source).__module__,
            "name": type(source).__qualname__,
            "settings": source.settings.model_dump(mode="json"),
            "options": source.options.model_dump(mode="json"),
            "indices": indices,
        }
        command = "from imagen_workbench.core.testing.elsewhere import main; main()"
        answer = subprocess.run(  # noqa: S603 - this very interpreter
            [sys.executable, "-c", command], input=json.dumps(asked), capture_output=True, text=True, check=False
        )
        assert answer.returncode == 0, answer.stderr
        told = json.loads(answer.stdout)
        assert told["digests"] == [example_digest(source[index]) for index in indices]
        assert told["fingerprint"] == source.fingerprint()

    def test_examples_are_images_or_say_why_not(self, tmp_path: Path) -> None:
        """To grey and to colour, of 8 and 16 bits, cut, padded and stretched; at least one can be used."""
        source, usable = self.make_source(tmp_path), 0
        for index in self._indices(source):
            for channels, depth, fit in ((1, 8, "crop"), (3, 8, "pad"), (4, 8, "stretch"), (3, 16, "crop")):
                update = {"channels": channels, "depth": depth, "fit": fit, "size": (12, 20)}
                try:
                    pixels = to_pixels(source[index].image, source.settings.model_copy(update=update))
                except WorkbenchError as error:
                    assert error.what, "an example that cannot be used says why"
                else:
                    assert pixels.shape == (channels, 12, 20)
                    assert pixels.dtype == (np.uint8 if depth == 8 else np.uint16)
                    usable += 1
        assert usable, "not one example can be used"

    def test_labels_point_into_the_classes(self, tmp_path: Path) -> None:
        source = self.make_source(tmp_path)
        assert len(set(source.classes)) == len(source.classes)
        for index in self._indices(source):
            label = source[index].label
            assert label is None or 0 <= label < len(source.classes)

    def test_examples_have_names(self, tmp_path: Path) -> None:
        """Names by which a person finds what was set aside, also where an example cannot be read."""
        source = self.make_source(tmp_path)
        names = [source.name_of(index) for index in self._indices(source)]
        assert all(names)
        assert all(name.isprintable() for name in names), "escape control characters and what is no text"
        assert len(set(names)) == len(names)

    def test_the_fingerprint_keeps_still(self, tmp_path: Path) -> None:
        assert self.make_source(tmp_path).fingerprint() == self.make_source(tmp_path).fingerprint()

    def test_it_introduces_itself(self, tmp_path: Path) -> None:
        """What the catalogue and the forms show; its suggested settings are a recipe's."""
        kind = type(self.make_source(tmp_path))
        assert kind.title
        assert kind.summary
        json.dumps(kind.Options.model_json_schema())
        Recipe.of({"data": dict(kind.defaults)})


class ConditioningContract:
    """A conditioning scheme.

    A subclass gives `make_scheme`, `examples` (with at least two different conditions where the scheme has any),
    and `texts` that can be asked for, unless the scheme lists its choices.
    """

    def make_scheme(self) -> ConditioningScheme:
        raise NotImplementedError

    def examples(self) -> list[Example]:
        raise NotImplementedError

    def texts(self) -> tuple[str, ...]:
        return self.make_scheme().choices or ("",)

    def lacking(self) -> Example | None:
        """An example without what the scheme needs, where there can be one."""
        return None

    def nonsense(self) -> str | None:
        """A text that cannot be asked for, where there is one."""
        return None

    def _encoder(self) -> nn.Module:
        encoder = self.make_scheme().encoder()
        initialise(encoder, generator(0, "contract"))
        return encoder

    def _prepared(self) -> np.ndarray:
        scheme = self.make_scheme()
        return np.stack([scheme.prepare(example) for example in self.examples()])

    def test_preparing_is_pure(self) -> None:
        """The same numbers each time, of one shape and type, so that they can be cached."""
        first, second = self.make_scheme(), self.make_scheme()
        prepared = [np.asarray(first.prepare(example)) for example in self.examples()]
        again = [np.asarray(second.prepare(example)) for example in reversed(self.examples())]
        assert {(each.shape, each.dtype) for each in prepared} == {(prepared[0].shape, prepared[0].dtype)}
        for each, other in zip(prepared, reversed(again), strict=True):
            assert np.array_equal(each, other)

    def test_an_example_without_it_is_refused(self) -> None:
        lacking = self.lacking()
        if lacking is None:
            return
        try:
            self.make_scheme().prepare(lacking)
        except DataError as error:
            assert error.what
        else:
            raise AssertionError("it was taken")

    def test_texts_become_what_examples_become(self) -> None:
        """A person's words and a dataset's records meet in the same numbers."""
        scheme, model = self.make_scheme(), self._prepared()
        for text in self.texts():
            asked = np.asarray(scheme.parse(text))
            assert (asked.shape, asked.dtype) == (model.shape[1:], model.dtype)

    def test_its_choices_can_be_asked_for(self) -> None:
        scheme = self.make_scheme()
        for choice in scheme.choices:
            assert scheme.describe(scheme.parse(choice)) == choice
        assert len(scheme.in_turn(5)) == 5
        for text in scheme.in_turn(5):
            scheme.parse(text)

    def test_nonsense_is_refused_with_a_remedy(self) -> None:
        nonsense = self.nonsense()
        if nonsense is None:
            return
        try:
            self.make_scheme().parse(nonsense)
        except RequestError as error:
            assert error.what
            assert error.fix
        else:
            raise AssertionError(f"{nonsense!r} was taken")

    def test_the_encoder_gives_the_width_it_promised(self) -> None:
        scheme, prepared = self.make_scheme(), torch.from_numpy(self._prepared())
        condition = self._encoder()(prepared)
        assert isinstance(condition, Condition)
        if scheme.vector_width == 0:
            assert condition.vector is None
            return
        assert condition.vector is not None
        assert condition.vector.shape == (len(prepared), scheme.vector_width)
        assert torch.isfinite(condition.vector).all()

    def test_the_null_knows_nothing(self) -> None:
        """It is the same whatever the condition; where there is a condition there is a null."""
        scheme, prepared = self.make_scheme(), torch.from_numpy(self._prepared())
        if scheme.vector_width == 0:
            return
        null = self._encoder()(prepared).without()
        assert null.vector is not None
        assert null.vector.shape == (len(prepared), scheme.vector_width)
        assert all(torch.equal(row, null.vector[0]) for row in null.vector)

    def test_different_conditions_are_told_apart(self) -> None:
        scheme, prepared = self.make_scheme(), self._prepared()
        if scheme.vector_width == 0:
            return
        assert any(not np.array_equal(prepared[0], each) for each in prepared), "give examples that differ"
        vectors = self._encoder()(torch.from_numpy(prepared)).vector
        assert any(not torch.equal(vectors[0], each) for each in vectors)

    def test_dropping_leaves_the_others(self) -> None:
        prepared = torch.from_numpy(self._prepared())
        condition = self._encoder()(prepared)
        if condition.null is None:
            return
        where = torch.arange(len(prepared)) % 2 == 0
        mixed = condition.drop(where)
        assert torch.equal(mixed.vector[where], condition.null.vector[where])
        assert torch.equal(mixed.vector[~where], condition.vector[~where])
        assert mixed.null is condition.null

    def test_a_part_is_the_part_of_the_whole(self) -> None:
        """Conditions are cut as batches are."""
        prepared, encoder = torch.from_numpy(self._prepared()), self._encoder()
        whole, part = encoder(prepared)[1:], encoder(prepared[1:])
        if part.vector is not None:
            assert torch.allclose(whole.vector, part.vector, atol=1e-5)
            assert torch.allclose(whole.null.vector, part.null.vector, atol=1e-5)

    def test_first_weights_come_from_the_generator(self) -> None:
        """The same each time, every one filled, and torch's global generator left alone."""
        before = torch.get_rng_state()
        first, second = self._encoder().state_dict(), self._encoder().state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        for name, tensor in first.items():
            assert torch.isfinite(tensor).all(), f"{name} was not filled"
            assert torch.equal(tensor, second[name]), f"{name} differs from one time to the next"

    def test_it_introduces_itself(self) -> None:
        """What the catalogue and the forms show."""
        kind = type(self.make_scheme())
        assert kind.title
        assert kind.summary
        json.dumps(kind.Options.model_json_schema())
