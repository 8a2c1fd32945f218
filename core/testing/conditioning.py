"""The contract of conditioning schemes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..conditioning import Condition, each_tensor, tensors_of
from ..data.rows import checked_condition
from ..data.source import FIELDS
from ..denoisers.layers import initialise
from ..errors import DataError, RequestError, WorkbenchError
from ..randomness import ImageNoise, generator
from .fuzzed import options_at_limits

if TYPE_CHECKING:
    from pydantic import BaseModel

    from ..conditioning import ConditioningScheme, Tensors
    from ..data.source import Example


class ConditioningContract:
    """A conditioning scheme.

    A subclass gives `make_scheme`, `examples` (with at least two different conditions where the scheme has any),
    and `texts` that can be asked for, unless the scheme lists its choices.
    """

    def make_scheme(self) -> ConditioningScheme:
        raise NotImplementedError

    def with_options(self, options: BaseModel) -> ConditioningScheme:
        """The same scheme with other options."""
        scheme = self.make_scheme()
        return type(scheme)(options, scheme.facts)

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

    def _encoder(self, scheme: ConditioningScheme | None = None) -> nn.Module:
        encoder = (scheme or self.make_scheme()).encoder()
        initialise(encoder, generator(0, "contract"))
        return encoder

    def _prepared(self) -> np.ndarray:
        scheme = self.make_scheme()
        return np.stack([np.asarray(scheme.prepare(example)) for example in self.examples()])

    def _condition(self) -> Condition:
        return self._encoder()(self._shown(self.make_scheme(), self._prepared()))

    def _shown(self, scheme: ConditioningScheme, prepared: np.ndarray) -> Tensors:
        """What the encoder gets of it while training, on grey images."""
        return scheme.for_training(tensors_of(prepared), _grey(scheme, len(prepared)), generator(0, "contract"))

    # --- prepare and parse ------------------------------------------------------------------------

    def test_preparing_is_pure(self) -> None:
        """The same numbers each time, of one shape and type, so that they can be cached."""
        first, second = self.make_scheme(), self.make_scheme()
        prepared = [checked_condition(first.prepare(example)) for example in self.examples()]
        again = [checked_condition(second.prepare(example)) for example in reversed(self.examples())]
        kinds = {(each.shape, str(each.dtype)) for each in prepared}
        assert len(kinds) == 1, f"prepare gives arrays of different shapes or types: {kinds}"
        for each, other in zip(prepared, reversed(again), strict=True):
            assert each.tobytes() == other.tobytes(), "prepare gives other numbers for the same example"

    def test_preparing_looks_at_what_it_says(self) -> None:
        """`reads` and `needs` name fields of an example."""
        kind = type(self.make_scheme())
        assert set(kind.reads) <= set(FIELDS), f"`reads` names some of {', '.join(FIELDS)}"
        assert set(kind.needs) <= set(kind.reads), "`needs` names a field that `reads` does not"

    def test_an_example_without_it_is_refused(self) -> None:
        lacking = self.lacking()
        if lacking is None:
            return
        try:
            self.make_scheme().prepare(lacking)
        except DataError as error:
            assert error.what
        else:
            raise AssertionError("an example without what the scheme needs was taken; raise DataError")

    def test_texts_become_what_examples_become(self) -> None:
        """A person's words and a dataset's records meet in the same numbers, at the latest where the encoder gets them;
        so does what says nothing.
        """
        scheme, model = self.make_scheme(), self._prepared()
        trained = _kinds(self._shown(scheme, model))
        made = {f"parse({text!r})": np.asarray(scheme.parse(text)) for text in self.texts()}
        for what, asked in (*made.items(), ("nothing()", np.asarray(scheme.nothing()))):
            drawn = _kinds(scheme.for_drawing(tensors_of(asked[None]), ImageNoise(0, (0,), "contract")))
            assert (asked.shape, asked.dtype) == (model.shape[1:], model.dtype) or drawn == trained, (
                f"{what} gives {asked.dtype} {asked.shape}, prepare gives {model.dtype} {model.shape[1:]}"
            )

    def test_its_choices_can_be_asked_for(self) -> None:
        scheme = self.make_scheme()
        for choice in scheme.choices:
            assert scheme.describe(scheme.parse(choice)) == choice, f"describe does not say {choice!r} again"
        assert len(scheme.in_turn(5)) == 5, "in_turn(5) gives five texts"
        for text in scheme.in_turn(5):
            scheme.parse(text)

    def test_any_text_is_taken_or_refused(self) -> None:
        scheme = self.make_scheme()
        for text in ("", " ", "ü 漢 \x00", "-1", "nan", "9" * 400, "=", ";", "a=b=c", "1 AND 2"):
            try:
                checked_condition(scheme.parse(text))
            except RequestError as error:
                assert error.what, f"parse({text!r}) does not say what is wrong"

    def test_nonsense_is_refused_with_a_remedy(self) -> None:
        nonsense = self.nonsense()
        if nonsense is None:
            return
        try:
            self.make_scheme().parse(nonsense)
        except RequestError as error:
            assert error.what
            assert error.fix, "say what can be written: RequestError(…, fix=…)"
        else:
            raise AssertionError(f"{nonsense!r} was taken")

    # --- the encoder ------------------------------------------------------------------------------

    def test_the_encoder_gives_the_parts_it_promised(self) -> None:
        scheme, condition = self.make_scheme(), self._condition()
        assert isinstance(condition, Condition), "the encoder's forward returns a Condition"
        _check_parts(scheme, condition, len(self.examples()))

    def test_the_null_knows_nothing(self) -> None:
        """It is the same whatever the condition; where there is a condition that can be dropped there is a null."""
        scheme, condition = self.make_scheme(), self._condition()
        if not scheme.is_conditional:
            return
        assert condition.null is not None, "the encoder gives no null; or say `droppable = False`"
        _check_parts(scheme, condition.null, len(self.examples()))
        for name, part in condition.null.parts():
            assert all(torch.equal(row, part[0]) for row in part), f"the null's {name} depends on the condition"

    def test_different_conditions_are_told_apart(self) -> None:
        scheme, prepared = self.make_scheme(), self._prepared()
        if not scheme.is_conditional:
            return
        assert any(prepared[0].tobytes() != each.tobytes() for each in prepared), "give examples that differ"
        parts = dict(self._condition().parts())
        assert any(not torch.equal(row, part[0]) for part in parts.values() for row in part), (
            "the encoder gives the same for all examples"
        )

    def test_dropping_leaves_the_others(self) -> None:
        condition = self._condition()
        if condition.null is None:
            return
        where = torch.arange(len(self.examples())) % 2 == 0
        mixed, null = dict(condition.drop(where).parts()), dict(condition.null.parts())
        for name, part in condition.parts():
            if name in null:
                assert torch.equal(mixed[name][where], null[name][where])
            assert torch.equal(mixed[name][~where], part[~where])

    def test_a_part_is_the_part_of_the_whole(self) -> None:
        """Conditions are cut as batches are."""
        shown, encoder = self._shown(self.make_scheme(), self._prepared()), self._encoder()
        whole, part = encoder(shown)[1:], encoder(each_tensor(shown, lambda each: each[1:]))
        for left, right in ((whole, part), (whole.null, part.null)):
            if left is not None:
                _check_close(left, right, "a row depends on the others of its batch")

    def test_training_takes_chance_from_its_generator(self) -> None:
        """The same generator, the same numbers; torch's global one is the person's, and what came in is left alone."""
        scheme, prepared = self.make_scheme(), tensors_of(self._prepared())
        x0 = _grey(scheme, len(self.examples()))
        before, given = torch.get_rng_state(), each_tensor(prepared, Tensor.clone)
        first, second = (scheme.for_training(prepared, x0, generator(0, "contract")) for _ in range(2))
        assert torch.equal(torch.get_rng_state(), before), "for_training draws from torch's global generator"
        assert _equal(prepared, given), "for_training changes what it is given; make new tensors"
        assert _equal(first, second), "for_training gives other numbers for the same generator"
        condition = self._encoder()(first)
        _check_parts(scheme, condition, len(x0))

    def test_first_weights_come_from_the_generator(self) -> None:
        """The same each time, every one filled, and torch's global generator left alone."""
        before = torch.get_rng_state()
        first, second = self._encoder().state_dict(), self._encoder().state_dict()
        assert torch.equal(torch.get_rng_state(), before), "the weights come from torch's global generator"
        for name, tensor in first.items():
            assert torch.isfinite(tensor).all() and torch.equal(tensor, second[name]), (
                f"{name} was not filled, or not from the generator: give its module a reset(generator)"
            )

    # --- options and introduction -----------------------------------------------------------------

    def test_every_allowed_option_gives_a_scheme_or_says_why_not(self) -> None:
        """At the limits that the options' own schema names."""
        example = self.examples()[0]
        for options in options_at_limits(type(self.make_scheme()).Options):
            try:
                scheme = self.with_options(options)
                prepared = checked_condition(scheme.prepare(example))
            except WorkbenchError as error:
                assert error.what
                continue
            _check_parts(scheme, self._encoder(scheme)(self._shown(scheme, prepared[None])), 1)

    def test_the_form_can_be_shown(self) -> None:
        scheme = self.make_scheme()
        keys = [field.key for field in scheme.form]
        assert len(set(keys)) == len(keys), "two fields of the form have the same key"
        for field in scheme.form:
            assert field.kind != "choice" or field.choices, f"{field.key} is a choice of nothing"
            assert field.kind != "number" or field.low < field.high, f"{field.key}: low is not below high"

    def test_it_introduces_itself(self) -> None:
        """What the catalogue and the forms show."""
        kind = type(self.make_scheme())
        assert kind.title, "give it a `title`"
        assert kind.summary, "give it a `summary`"
        json.dumps(kind.Options.model_json_schema())


def _check_parts(scheme: ConditioningScheme, condition: Condition, count: int) -> None:
    """Widths as promised, everything finite, a mask that shows something of every image."""
    for name, part, axis, width in (
        ("vector", condition.vector, 1, scheme.vector_width),
        ("tokens", condition.tokens, 2, scheme.token_width),
        ("image", condition.image, 1, scheme.image_channels),
    ):
        if not width:
            assert part is None, f"the encoder gives {name}, whose width the scheme says is 0"
            continue
        assert part is not None, f"the encoder gives no {name}, which the scheme promises"
        assert part.ndim == {"vector": 2, "tokens": 3, "image": 4}[name], f"{name} has {part.ndim} axes"
        assert (part.shape[0], part.shape[axis]) == (count, width), (
            f"{name} is {tuple(part.shape)} for {count} images and a width of {width}"
        )
        assert torch.isfinite(part).all(), f"{name} is not finite"
    if condition.tokens is not None and condition.mask is not None:
        assert condition.mask.dtype == torch.bool, "the mask is no bool"
        assert condition.mask.shape == condition.tokens.shape[:2], "the mask has another shape than the tokens"
        assert condition.mask.any(1).all(), "an image has no token at all; attention over nothing is not a number"


def _check_close(left: Condition, right: Condition, what: str) -> None:
    others = dict(right.parts())
    for name, part in left.parts():
        assert torch.allclose(part.double(), others[name].double(), atol=1e-5), f"{name}: {what}"


def _grey(scheme: ConditioningScheme, count: int) -> Tensor:
    """Images as the scheme's dataset would have them."""
    size = scheme.facts.size if all(scheme.facts.size) else (8, 8)
    return torch.zeros(count, scheme.facts.channels or 1, *size)


def _kinds(tensors: Tensors) -> object:
    """Types and shapes, of one image."""
    if isinstance(tensors, Tensor):
        return tensors.dtype, tuple(tensors.shape[1:])
    return {name: _kinds(part) for name, part in tensors.items()}


def _equal(left: Tensors, right: Tensors) -> bool:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.equal(left.nan_to_num(), right.nan_to_num())
    assert isinstance(left, dict)
    assert isinstance(right, dict)
    return left.keys() == right.keys() and all(_equal(left[key], right[key]) for key in left)
