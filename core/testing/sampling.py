"""The contracts of samplers, on data whose answer is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from ..randomness import ImageNoise, generator
from ..schedule import karras
from .denoising import Gaussian

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from ..precondition import Denoiser
    from ..sampling.samplers import Step


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


class _EverySampler:
    """What samplers of both kinds promise."""

    sampler: ClassVar[Callable[..., Iterator[Step]]]

    mean: ClassVar[tuple[float, ...]] = (0.3, -0.5, 0.1)
    spread: ClassVar[tuple[float, ...]] = (0.2, 0.5, 1.0)

    def _data(self) -> Gaussian:
        return Gaussian(torch.tensor(self.mean), torch.tensor(self.spread))

    def _start(self, count: int = 8) -> Tensor:
        return torch.randn(count, 3, generator=generator(1, "start"), dtype=torch.float64) * 80

    def _steps(self, denoise: Denoiser, start: Tensor, levels: Tensor, seed: int = 3) -> Iterator[Step]:
        noise = ImageNoise(seed, tuple(range(len(start))))
        return self.sampler(denoise, start, levels, lambda like: noise(tuple(like.shape[1:]), like))

    def test_it_yields_after_every_network_call(self) -> None:
        """So that a draw can be cancelled, watched and interleaved between any two."""
        data, levels = self._data(), karras(6, 0.002, 80.0)
        for told, step in enumerate(self._steps(data, self._start(), levels), start=1):
            assert step.nfe == data.calls
            assert data.calls == told or (float(step.sigma) == 0.0 and data.calls == told - 1)

    def test_it_tells_its_levels_in_order(self) -> None:
        """Indices rise by one from 0 to n; the last step's x is its own x̂_0, at the last level."""
        levels = karras(6, 0.002, 80.0)
        steps = list(self._steps(self._data(), self._start(), levels))
        on_path = [step for step in steps if not step.trial]
        assert [step.index for step in on_path] == list(range(len(levels)))
        assert [step.sigma for step in on_path] == levels.tolist()
        assert torch.equal(steps[-1].x, steps[-1].x0)

    def test_what_it_tells_of_the_network_is_what_the_network_said(self) -> None:
        """x̂_0 = D(x; sigma), at every step but the last."""
        data = self._data()
        *steps, _ = self._steps(data, self._start(), karras(6, 0.002, 80.0))
        for step in steps:
            assert torch.equal(step.x0, data(step.x, step.x.new_full((len(step.x),), step.sigma)))

    def test_the_step_to_0_ends_at_the_clean_image(self) -> None:
        """No noise is left or added there, and one level is enough."""
        for n in (1, 2, 7):
            *_, before, end = self._steps(self._data(), self._start(), karras(n, 0.002, 80.0))
            assert torch.allclose(end.x, before.x0, atol=1e-12)

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
        steps = self._steps(self._data(), self._start(), karras(6, 0.002, 80.0))
        for _ in range(3):
            next(steps)
            assert torch.is_grad_enabled()
        steps.close()  # type: ignore[attr-defined]
        assert torch.is_grad_enabled()

    def test_no_graph_is_built(self) -> None:
        """A draw needs no gradients, and must not hold the memory for them."""
        weight = torch.ones((), dtype=torch.float64, requires_grad=True)
        data = self._data()

        def denoise(x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:  # noqa: ARG001
            return weight * data(x, sigma)

        steps = self._steps(denoise, self._start(), karras(3, 0.1, 80.0))
        assert not any(step.x.requires_grad or step.x0.requires_grad for step in steps)

    def test_what_it_is_given_stays_as_it_was(self) -> None:
        start, levels = self._start(), karras(4, 0.002, 80.0)
        kept = start.clone(), levels.clone()
        last(self._steps(self._data(), start, levels))
        assert torch.equal(start, kept[0])
        assert torch.equal(levels, kept[1])

    def test_any_shape_goes(self) -> None:
        """Points and images of as many values go the same way."""
        start, levels, data = self._start(4)[:, :1].expand(4, 4), karras(5, 0.002, 80.0), Gaussian(0.1, 0.5)

        def noise(like: Tensor) -> Tensor:
            return torch.full_like(like, 0.3)

        flat = last(self.sampler(data, start, levels, noise))
        image = last(self.sampler(data, start.reshape(4, 1, 2, 2), levels, noise))
        assert torch.allclose(image.reshape(4, 4), flat, atol=1e-12)
        assert last(self.sampler(data, start[:, 0], levels, noise)).shape == (4,)

    def test_the_number_format_stays(self) -> None:
        end = last(self._steps(self._data(), self._start().float(), karras(5, 0.002, 80.0)))
        assert end.dtype == torch.float32
        assert torch.isfinite(end).all()

    def test_global_randomness_is_left_alone(self) -> None:
        """torch's global generator is the person's."""
        before = torch.get_rng_state()
        last(self._steps(self._data(), self._start(), karras(4, 0.1, 80.0)))
        assert torch.equal(torch.get_rng_state(), before)


class SamplerContract(_EverySampler):
    """A deterministic sampler of the probability-flow ODE. Data N(mu, s²): the answer is known.

    A subclass gives `sampler` (as `staticmethod(heun)`) and `order`.
    """

    order: ClassVar[int] = 1

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

    def test_it_needs_no_noise_and_takes_none(self) -> None:
        data, start, levels = self._data(), self._start(), karras(6, 0.002, 80.0)
        assert torch.equal(last(self.sampler(data, start, levels)), last(self._steps(data, start, levels)))


class StochasticSamplerContract(_EverySampler):
    """A sampler that stirs in fresh noise on its way.

    A subclass gives `sampler`, with settings of its own by `functools.partial`; and `bias`, how far off the spread of
    its draws may be, as a share, on 64 levels.
    """

    bias: ClassVar[float] = 0.05

    def test_draws_have_the_mean_and_the_spread_of_the_data(self) -> None:
        """16,384 values: to within the sampler's bias and four standard errors."""
        mean, spread = 0.3, 0.5
        start = torch.randn(32, 512, generator=generator(2, "start"), dtype=torch.float64) * 80
        end = last(self._steps(Gaussian(mean, spread), start, karras(64, 0.002, 80.0)))
        found, error = float((end - mean).square().mean().sqrt()), 1 / math.sqrt(end.numel())
        assert abs(float(end.mean()) - mean) < 4 * spread * error
        assert abs(found / spread - 1) < self.bias + 4 * error / math.sqrt(2)

    def test_without_noise_it_says_so(self) -> None:
        try:
            last(self.sampler(self._data(), self._start(), karras(3, 0.1, 80.0)))
        except ValueError as error:
            assert "noise" in str(error)
        else:
            raise AssertionError("it drew without noise")

    def test_the_noise_decides(self) -> None:
        """The same start and the same noise draw the same; other noise draws other images."""
        start, levels = self._start(), karras(6, 0.1, 80.0)
        first, again, other = (last(self._steps(self._data(), start, levels, seed)) for seed in (3, 3, 4))
        assert torch.equal(first, again)
        assert not torch.isclose(first, other).any()
