"""Contracts of what denoises: samplers and denoisers, on data whose answer is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from ..randomness import ImageNoise, generator
from ..schedule import karras

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ..conditioning import Condition
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
