"""The contract classes. Each names in its docstring what a subclass must give, and what its kind promises.

They follow data whose answer is known: for images N(mu, s²), D = (s² x + sigma² mu) / (s² + sigma²), and x - mu
grows as sqrt(s² + sigma²) along the probability-flow ODE (Karras et al. 2022, arXiv 2206.00364).
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..conditioning import Condition
from ..data.decode import to_pixels
from ..data.source import Example
from ..denoisers.layers import initialise
from ..errors import DataError, RequestError, WorkbenchError
from ..randomness import ImageNoise, generator
from ..recipe import Recipe
from ..schedule import karras
from .elsewhere import example_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..conditioning import ConditioningScheme
    from ..data.source import Source
    from ..precondition import Denoiser
    from ..sampling.samplers import Step


# --- data whose answer is known -------------------------------------------------------------------


class Gaussian:
    """D for data N(mean, spread²), independent along the last axis, in closed form.

    mean, spread: [d] or numbers. `calls` counts what it was asked.
    """

    def __init__(self, mean: Tensor | float, spread: Tensor | float) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.variance = torch.as_tensor(spread, dtype=torch.float64) ** 2
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:  # noqa: ARG002
        self.calls += 1
        noise = (sigma.reshape(-1, *[1] * (x.ndim - 1)) if sigma.ndim else sigma).to(x.dtype) ** 2
        mean, variance = self.mean.to(x.dtype), self.variance.to(x.dtype)
        return (variance * x + noise * mean) / (variance + noise)

    def carried(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the ODE takes x from level sigma to sigma_end."""
        grown = ((self.variance + sigma_end**2) / (self.variance + sigma**2)).sqrt()
        return self.mean + grown * (x - self.mean)


def last(steps: Iterator[Step]) -> Tensor:
    """x where a sampler ends."""
    *_, end = steps
    return end.x


def order_of(sampler: Callable[..., Iterator[Step]], counts: tuple[int, ...] = (64, 128, 256)) -> float:
    """How fast a sampler's error falls with its steps: the slope of ln error over -ln steps.

    From sigma 20 to 0.05 and never to 0, in float64, on a Gaussian with three spreads.
    """
    data = Gaussian(torch.tensor([0.3, -0.5, 0.1]), torch.tensor([0.2, 0.5, 1.0]))
    start = torch.randn(16, 3, generator=generator(0, "order"), dtype=torch.float64) * 20
    answer = data.carried(start, 20.0, 0.05)
    errors = []
    for count in counts:
        levels = karras(count + 1, 0.05, 20.0)[:-1]
        errors.append(float((last(sampler(data, start, levels)) - answer).square().mean().sqrt()))
    slope, _ = np.polyfit(-np.log(counts), np.log(errors), 1)
    return float(slope)


# --- the contracts --------------------------------------------------------------------------------


class SamplerContract:
    """A deterministic sampler of the probability-flow ODE. Data N(mu, s²): the answer is known.

    A subclass gives `sampler` (as `staticmethod(heun)`) and `order`.
    """

    sampler: ClassVar[Callable[..., Iterator[Step]]]
    order: ClassVar[int] = 1

    mean: ClassVar[tuple[float, ...]] = (0.3, -0.5, 0.1)
    spread: ClassVar[tuple[float, ...]] = (0.2, 0.5, 1.0)

    def _data(self) -> Gaussian:
        return Gaussian(torch.tensor(self.mean), torch.tensor(self.spread))

    def _start(self, count: int = 8) -> Tensor:
        return torch.randn(count, 3, generator=generator(1, "start"), dtype=torch.float64) * 80

    def test_error_falls_with_its_order(self) -> None:
        """Twice the steps: 2^order less error."""
        slope = order_of(self.sampler)
        assert abs(slope - self.order) < 0.15, f"the error falls with order {slope:.2f}, not {self.order}"

    def test_it_ends_where_the_ode_does(self) -> None:
        """From 80 to 0, each axis is carried to its own spread."""
        data, start = self._data(), self._start()
        end = last(self.sampler(data, start, karras(400, 0.002, 80.0)))
        answer = data.carried(start, 80.0, 0.0)
        error = (end - answer).square().mean().sqrt() / (answer - data.mean).square().mean().sqrt()
        assert error < (3e-2 if self.order == 1 else 1e-3)

    def test_it_yields_after_every_network_call(self) -> None:
        """So that a draw can be cancelled, watched and interleaved between any two."""
        data, levels = self._data(), karras(6, 0.002, 80.0)
        for told, step in enumerate(self.sampler(data, self._start(), levels), start=1):
            assert step.nfe == data.calls
            assert data.calls == told or (float(step.sigma) == 0.0 and data.calls == told - 1)

    def test_it_tells_its_levels_in_order(self) -> None:
        """Indices rise by one from 0 to n; the last step's x is its own x̂_0, at the last level."""
        levels = karras(6, 0.002, 80.0)
        steps = list(self.sampler(self._data(), self._start(), levels))
        on_path = [step for step in steps if not step.trial]
        assert [step.index for step in on_path] == list(range(len(levels)))
        assert [step.sigma for step in on_path] == levels.tolist()
        assert torch.equal(steps[-1].x, steps[-1].x0)

    def test_batch_split_keeps_each_image(self) -> None:
        """Image k is the same whatever is drawn beside it."""
        data, levels = self._data(), karras(6, 0.002, 80.0)

        def drawn(indices: tuple[int, ...]) -> Tensor:
            noise = ImageNoise(3, indices)
            start = noise((3,)).double() * 80
            return last(self.sampler(data, start, levels, lambda like: noise((3,), like)))

        whole = drawn((0, 1, 2, 3, 4, 5))
        parts = torch.cat([drawn((0, 1, 2, 3)), drawn((4,)), drawn((5,))])
        assert torch.equal(whole, parts)

    def test_closing_midway_restores_grad_mode(self) -> None:
        """Grad mode belongs to a thread and never spans a yield."""
        steps = self.sampler(self._data(), self._start(), karras(6, 0.002, 80.0))
        for _ in range(3):
            next(steps)
            assert torch.is_grad_enabled()
        steps.close()  # type: ignore[attr-defined]
        assert torch.is_grad_enabled()

    def test_no_graph_is_built(self) -> None:
        """A draw needs no gradients, and must not hold the memory for them."""
        weight = torch.ones((), dtype=torch.float64, requires_grad=True)
        data = self._data()
        steps = self.sampler(lambda x, sigma, _cond=None: weight * data(x, sigma), self._start(), karras(3, 0.1, 80.0))
        assert not any(step.x.requires_grad or step.x0.requires_grad for step in steps)

    def test_what_it_is_given_stays_as_it_was(self) -> None:
        start, levels = self._start(), karras(4, 0.002, 80.0)
        kept = start.clone(), levels.clone()
        last(self.sampler(self._data(), start, levels))
        assert torch.equal(start, kept[0])
        assert torch.equal(levels, kept[1])

    def test_any_shape_goes(self) -> None:
        """Numbers, points in the plane and images go the same way."""
        start, levels = self._start(4)[:, :1], karras(5, 0.002, 80.0)
        data = Gaussian(0.1, 0.5)
        flat = last(self.sampler(data, start[:, 0], levels))
        image = last(self.sampler(data, start[:, :, None, None].expand(4, 1, 2, 2), levels))
        assert torch.equal(image[:, 0, 1, 1], flat)

    def test_global_randomness_is_left_alone(self) -> None:
        """torch's global generator is the person's."""
        before = torch.get_rng_state()
        noise = ImageNoise(0, tuple(range(8)))
        last(self.sampler(self._data(), self._start(), karras(4, 0.1, 80.0), lambda like: noise((3,), like)))
        assert torch.equal(torch.get_rng_state(), before)


class DenoiserContract:
    """D(x; sigma, cond) → x̂_0.

    A subclass gives `make_denoiser`, and `shape` of one image; where it takes conditions, `make_condition` too.
    """

    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    dtype: ClassVar[torch.dtype] = torch.float32
    tolerance: ClassVar[float] = 1e-4
    """How far an image may come out otherwise in another batch: sums are made in another order there."""

    def make_denoiser(self) -> Denoiser:
        raise NotImplementedError

    def make_condition(self, count: int) -> Condition | None:  # noqa: ARG002
        """Conditions for that many images, the same each time; None where it takes none."""
        return None

    def _noisy(self, sigma: Tensor) -> Tensor:
        noise = torch.randn(len(sigma), *self.shape, generator=generator(0, "contract"), dtype=self.dtype)
        return noise * sigma.reshape(-1, *[1] * len(self.shape))

    def _levels(self) -> Tensor:
        return torch.logspace(math.log10(0.002), math.log10(80), 6, dtype=self.dtype)

    def test_shape_and_type_stay(self) -> None:
        sigma = self._levels()
        x = self._noisy(sigma)
        with torch.no_grad():
            x0 = self.make_denoiser()(x, sigma, self.make_condition(len(x)))
        assert x0.shape == x.shape
        assert x0.dtype == x.dtype

    def test_finite_at_every_level(self) -> None:
        sigma = torch.logspace(-4, 4, 9, dtype=self.dtype)
        with torch.no_grad():
            x0 = self.make_denoiser()(self._noisy(sigma), sigma, self.make_condition(len(sigma)))
        assert torch.isfinite(x0).all()

    def test_one_level_for_all_is_the_same_as_each_its_own(self) -> None:
        """sigma: [b] or []."""
        sigma = torch.full((4,), 0.7, dtype=self.dtype)
        x, cond, denoise = self._noisy(sigma), self.make_condition(4), self.make_denoiser()
        with torch.no_grad():
            assert torch.equal(denoise(x, sigma, cond), denoise(x, sigma[0], cond))

    def test_images_do_not_see_each_other(self) -> None:
        sigma = self._levels()
        x, cond, denoise = self._noisy(sigma), self.make_condition(len(sigma)), self.make_denoiser()
        with torch.no_grad():
            together = denoise(x, sigma, cond)
            for k in range(len(x)):
                part = slice(k, k + 1)
                alone = denoise(x[part], sigma[part], cond[part] if cond else None)
                assert (alone - together[part]).abs().max() <= self.tolerance

    def test_asked_twice_it_says_the_same(self) -> None:
        """No hidden state, no chance: dropout is off, nothing is counted."""
        sigma = self._levels()
        x, cond, denoise = self._noisy(sigma), self.make_condition(len(sigma)), self.make_denoiser()
        kept, before = x.clone(), torch.get_rng_state()
        with torch.no_grad():
            assert torch.equal(denoise(x, sigma, cond), denoise(x, sigma, cond))
        assert torch.equal(x, kept), "x was changed in place"
        assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"

    def test_gradients_reach_x(self) -> None:
        """Guidance by gradients, likelihood and distillation need them."""
        sigma = self._levels()
        x = self._noisy(sigma).requires_grad_()
        self.make_denoiser()(x, sigma, self.make_condition(len(sigma))).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


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
        """To grey and to colour, cut, padded and stretched; at least one can be used."""
        source, usable = self.make_source(tmp_path), 0
        for index in self._indices(source):
            for channels, fit in ((1, "crop"), (3, "pad"), (4, "stretch")):
                settings = source.settings.model_copy(update={"channels": channels, "fit": fit, "size": (12, 20)})
                try:
                    pixels = to_pixels(source[index].image, settings)
                except WorkbenchError as error:
                    assert error.what, "an example that cannot be used says why"
                else:
                    assert pixels.shape == (channels, 12, 20)
                    assert pixels.dtype == np.uint8
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
