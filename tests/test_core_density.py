"""Explicit density: ln p against exact ones, and draws that are asked to be more or less likely."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor

from imagen_workbench.core.errors import RequestError
from imagen_workbench.core.generators import finish
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.sampling.density import DensityGuided, LogDensity, log_density
from imagen_workbench.core.sampling.guidance import Thresholded, conditioned
from imagen_workbench.core.sampling.limits import density_limits
from imagen_workbench.core.sampling.samplers import heun
from imagen_workbench.core.schedule import exponential, karras
from imagen_workbench.core.testing.denoising import Gaussian, Mixture
from imagen_workbench.core.testing.sampling import last

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from imagen_workbench.core.precondition import Denoiser


def normal(*shape: int, name: str = "x") -> Tensor:
    return torch.randn(*shape, generator=generator(0, name), dtype=torch.float64)


def mixture(d: int) -> tuple[Mixture, Tensor]:
    """Three modes about 0, and eight draws of them."""
    means = 0.5 * normal(3, d, name="means")
    means, spreads = means - means.mean(0), [0.2, 0.1, 0.4]
    drawn = torch.arange(8) % 3
    x = means[drawn] + torch.tensor(spreads, dtype=torch.float64)[drawn, None] * normal(8, d)
    return Mixture([1 / 3] * 3, means, spreads), x


class Correlated:
    """D for data N(0, A diag(variances) A^T) with A orthogonal: its Jacobian is not diagonal. x: [b …] of d values."""

    def __init__(self, d: int, dtype: torch.dtype = torch.float64) -> None:
        self.variances = torch.logspace(-2, 0, d, dtype=torch.float64)
        self.turn = torch.linalg.qr(normal(d, d, name="turn"))[0].to(dtype)
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        self.calls += 1
        kept = self.variances.to(x.dtype) / (self.variances.to(x.dtype) + sigma.reshape(-1, 1).to(x.dtype) ** 2)
        return ((x.reshape(len(x), -1) @ self.turn * kept) @ self.turn.T).reshape(x.shape)

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        total = self.variances + sigma**2
        along = x.reshape(len(x), -1).double() @ self.turn.double()
        return -(along.square() / total + (2 * math.pi * total).log()).sum(1) / 2


def signs(seed: int) -> Callable[[Tensor], Tensor]:
    random = generator(seed, "probe")
    return lambda like: (torch.randint(0, 2, like.shape, generator=random) * 2 - 1).to(like.dtype)


# --- exact traces ---------------------------------------------------------------------------------


@pytest.mark.parametrize("spread", [0.05, 0.5, 3.0])
@pytest.mark.parametrize("grid", [karras, exponential])
def test_the_density_of_a_gaussian_is_met(grid: Callable[[int, float, float], Tensor], spread: float) -> None:
    data, x = Gaussian(0.0, spread), spread * normal(6, 5)
    got = finish(log_density(data, x, grid(400, 0.002, 200.0)[:-1], 0.5))
    assert torch.allclose(got.nats, data.log_density(x, 0.002), atol=0.02)
    assert got.error.tolist() == [0] * 6


@pytest.mark.parametrize("d", [1, 2, 4, 8])
def test_the_density_of_a_mixture_is_met(d: int) -> None:
    data, x = mixture(d)
    got = finish(log_density(data, x, karras(400, 0.002, 80.0)[:-1], 0.5))
    assert torch.allclose(got.nats, data.log_density(x, 0.002), atol=0.02)
    exact = -data.log_density(x, 0.002) / (d * math.log(2)) + 7
    assert torch.allclose(got.bits_per_dim, exact, atol=0.01)


def test_the_error_falls_with_the_fourth_power_of_the_steps() -> None:
    data, x = mixture(4)

    def nats(steps: int) -> Tensor:
        return finish(log_density(data, x, exponential(steps + 1, 0.002, 400.0)[:-1], 0.5)).nats

    fine = nats(640)
    errors = [float((nats(steps) - fine).square().mean().sqrt()) for steps in (60, 120)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.4)


def test_every_image_has_its_own_density_whatever_its_shape_and_its_company() -> None:
    data, x = mixture(8)
    levels = karras(30, 0.002, 80.0)[:-1]
    together = finish(log_density(data, x, levels, 0.5)).nats
    alone = torch.cat([finish(log_density(data, x[k : k + 1], levels, 0.5)).nats for k in range(8)])
    shaped = finish(log_density(data, x.reshape(8, 2, 2, 2), levels, 0.5)).nats
    assert torch.allclose(alone, together, atol=1e-9)
    assert torch.allclose(shaped, together, atol=1e-9)


def test_float32_is_enough() -> None:
    data, x = mixture(8)
    got = finish(log_density(data, x.float(), karras(400, 0.002, 80.0)[:-1], 0.5))
    assert got.nats.dtype == torch.float64
    exact = -data.log_density(x, 0.002) / (8 * math.log(2)) + 7
    assert torch.allclose(got.bits_per_dim, exact, atol=0.01)


def test_bits_count_256_grey_levels() -> None:
    """Images even over [-1, 1] take all 8 bits: ln p = -d ln 2."""
    assert LogDensity(torch.tensor([-10 * math.log(2)]), torch.tensor([math.log(2)]), 10).bits_per_dim.tolist() == [8]
    assert LogDensity(torch.zeros(1), torch.tensor([math.log(2)]), 10).bits_error.tolist() == pytest.approx([0.1])


# --- estimated traces -----------------------------------------------------------------------------


def test_hutchinson_s_mean_is_the_trace() -> None:
    """One image a thousand times, each with a probe of its own: the mean within four standard errors."""
    data = Correlated(81)
    x = (data.turn @ (data.variances.sqrt() * normal(81))).reshape(1, 1, 9, 9).expand(1000, 1, 9, 9)
    nats = finish(log_density(data, x, exponential(150, 0.002, 80.0)[:-1], 0.5, signs(0))).nats
    error = float(nats.std()) / math.sqrt(1000)
    exact = float(data.log_density(x[:1], 0.002))
    assert 0.01 < error < 0.5
    assert abs(float(nats.mean()) - exact) < 4 * error + 0.02


def test_the_standard_error_says_how_far_off_it_is() -> None:
    """Sixteen probes for each of 500: what they say of their error is what they are off by."""
    data = Correlated(81)
    x = (data.turn @ (data.variances.sqrt() * normal(81)))[None].expand(500, 81)
    got = finish(log_density(data, x, exponential(20, 0.002, 80.0)[:-1], 0.5, signs(1), 16))
    assert float(got.error.square().mean()) == pytest.approx(float(got.nats.var()), rel=0.25)


def test_one_probe_cannot_tell_its_error() -> None:
    got = finish(log_density(Correlated(81), normal(2, 81), exponential(4, 0.002, 80.0)[:-1], 0.5, signs(0)))
    assert got.error.isnan().all()
    assert got.nats.isfinite().all()


def test_images_of_many_values_need_probes() -> None:
    with pytest.raises(ValueError, match="probes"):
        finish(log_density(Correlated(81), normal(2, 81), exponential(4, 0.002, 80.0)[:-1], 0.5))


def test_a_diagonal_jacobian_needs_one_probe() -> None:
    """Since v_i² = 1: independent axes are as good as exact."""
    data, x = Gaussian(0.0, torch.linspace(0.1, 1, 70)), 0.5 * normal(3, 70)
    got = finish(log_density(data, x, exponential(400, 0.002, 400.0)[:-1], 0.5, signs(0)))
    assert torch.allclose(got.nats, data.log_density(x, 0.002), atol=0.02 * 70 / 8)


def test_it_yields_after_every_pass_and_leaves_grad_mode_and_gradients_alone() -> None:
    weight = torch.ones((), dtype=torch.float64, requires_grad=True)
    data, x = Correlated(81), normal(2, 81).requires_grad_()

    def denoise(x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        return weight * data(x, sigma)

    passes = 0

    def counted() -> Generator[None, None, LogDensity]:
        nonlocal passes
        path = log_density(denoise, x, exponential(5, 0.1, 10.0)[:-1], 0.5, signs(0), 2)
        while True:
            try:
                yield next(path)
            except StopIteration as end:
                return end.value
            passes += 1
            assert data.calls == passes
            assert torch.is_grad_enabled()

    assert not finish(counted()).nats.requires_grad
    assert passes == 16, "four for each of four steps"
    assert weight.grad is None
    assert x.grad is None
    closed = log_density(denoise, x, exponential(5, 0.1, 10.0)[:-1], 0.5, signs(0))
    next(closed)
    closed.close()
    assert torch.is_grad_enabled()


# --- density guidance -----------------------------------------------------------------------------


def bound(data: Denoiser, quantile: float, levels: Tensor) -> Denoiser:
    return conditioned(DensityGuided(quantile).bind(lambda x, sigma, _cond=None: data(x, sigma), levels), None)


def trace(data: Mixture, x: Tensor, sigma: float) -> Tensor:
    """tr ∂D/∂x in closed form: of D = sum_k w_k m_k(x), with grad ln w_k = g_k - sum_j w_j g_j."""
    away, total, logits = data._parts(x, x.new_full((len(x),), sigma))
    w, kept = logits.softmax(1), data.variances / total
    guesses, pull = data.means + kept[..., None] * away, -away / total[..., None]
    centred = pull - (w[..., None] * pull).sum(1, keepdim=True)
    return x.shape[1] * (w * kept).sum(1) + (w * (guesses * centred).sum(2)).sum(1)


@pytest.mark.parametrize("quantile", [0.3, 0.6])
def test_the_density_changes_as_it_is_asked_to(quantile: float) -> None:
    """d ln p / d ln sigma = tr J - d - sqrt(2 d) Phi^-1(q), summed along the path, against ln p at its two ends."""
    d = 64
    means = 0.4 * normal(3, d, name="means")
    data = Mixture([0.5, 0.3, 0.2], means, [0.3, 0.5, 0.4])
    levels = exponential(2001, 0.8, 20.0)[:-1]
    x = math.hypot(20, 0.4) * normal(4, d)
    denoise = bound(data, quantile, torch.cat([levels, levels[-1:] / 2]))  # the lowest level would be plain
    path = [step for step in heun(denoise, x, levels) if not step.trial]
    rates = torch.stack([trace(data, step.x, step.sigma) for step in path])
    rates = rates - d - math.sqrt(2 * d) * NormalDist().inv_cdf(quantile)
    predicted = torch.trapezoid(rates, levels.log(), dim=0)
    actual = data.log_density(path[-1].x, 0.8) - data.log_density(x, 20.0)
    assert torch.allclose(predicted, actual, atol=1e-3)


def test_the_middle_quantile_is_no_guidance() -> None:
    data, levels, x = Gaussian(0.1, 0.5), karras(10, 0.002, 80.0), 80 * normal(4, 64)
    assert torch.equal(last(heun(bound(data, 0.5, levels), x, levels)), last(heun(data, x, levels)))


def test_more_quantile_is_more_density() -> None:
    data, levels, x = Gaussian(0.1, 0.5), karras(40, 0.002, 80.0), 80 * normal(16, 64)
    drawn = [data.log_density(last(heun(bound(data, q, levels), x, levels)), 0.0) for q in (0.4, 0.45, 0.5, 0.55, 0.6)]
    assert all((more > less).all() for less, more in pairwise(drawn))


@pytest.mark.parametrize("number_format", [torch.float32, torch.float64])
@pytest.mark.parametrize("lowest", [0.002, 0.3, 0.7, 1.0])
def test_the_step_from_the_lowest_level_is_plain(lowest: float, number_format: torch.dtype) -> None:
    """Also where the level is a little more, or less, in float32."""
    data, levels = Gaussian(0.1, 0.5), karras(10, lowest, 80.0)
    x = normal(4, 64).to(number_format)
    sigma = torch.full((4,), lowest, dtype=number_format)
    assert torch.equal(bound(data, 0.55, levels)(x, sigma), data(x, sigma))


def test_near_the_mode_d_stays_as_it_is() -> None:
    """Where |x - D|² is below a tenth of d sigma², the correction would explode."""
    data, levels = Gaussian(0.0, 0.5), karras(10, 0.002, 80.0)
    sigma = torch.full((2,), 1.0, dtype=torch.float64)
    x = torch.stack([torch.full((64,), 0.38), torch.full((64,), 0.41)]).double()  # |x - D| = 0.8 |x|: below and above
    guided, plain = bound(data, 0.6, levels)(x, sigma), data(x, sigma)
    assert torch.equal(guided[0], plain[0])
    assert not torch.allclose(guided[1], plain[1])
    assert torch.isfinite(bound(data, 0.6, levels)(torch.zeros_like(x), sigma)).all()


def test_a_quantile_beyond_the_limits_is_refused_with_the_limits() -> None:
    low, high = density_limits(64, 0.002, 80.0)
    assert 0.6 < high < 0.61, "METHODS: at 64 values 0.6 holds and 0.7 fails"
    assert low == 0.01, "away from the mode there is room"
    levels = karras(10, 0.002, 80.0)
    x, sigma = normal(2, 64), torch.full((2,), 5.0, dtype=torch.float64)
    for refused in (high + 0.01, low / 2):
        with pytest.raises(RequestError) as caught:
            bound(Gaussian(0.0, 0.5), refused, levels)(x, sigma)
        assert caught.value.field == "sampling.density"
        assert caught.value.fix
        assert f"{high:.2f}" in caught.value.fix
    assert torch.isfinite(last(heun(bound(Gaussian(0.0, 0.5), high - 0.001, levels), 80 * normal(4, 64), levels))).all()


def test_limits_widen_with_the_size_of_images_and_with_fewer_levels() -> None:
    highs = [density_limits(d, 0.002, 80.0)[1] for d in (1, 64, 784, 3072, 100_000)]
    assert highs == sorted(highs)
    assert 0.5 < highs[0] < highs[-1] == 0.99
    assert density_limits(64, 0.1, 10.0)[1] > density_limits(64, 0.002, 80.0)[1]
    # the change that it asks for is the gap to a Gaussian's mode
    pull = NormalDist().inv_cdf(density_limits(784, 0.002, 80.0)[1])
    assert math.sqrt(2 * 784) * pull * math.log(80 / 0.002) == pytest.approx(784 / 2)


def test_thresholds_and_density_nest() -> None:
    """D is kept in range first, and moved then: x + eta (clip(D) - x)."""
    data, levels = Gaussian(0.9, 0.6), karras(10, 0.002, 80.0)
    x, sigma = 0.9 + math.hypot(0.6, 0.5) * normal(4, 64), torch.full((4,), 0.5, dtype=torch.float64)

    def plain(x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        return data(x, sigma)

    nested = DensityGuided(0.6).bind(Thresholded("static").bind(plain, levels), levels)(x, sigma)
    kept = data(x, sigma).clamp(-1, 1)
    assert not torch.equal(kept, data(x, sigma))
    distance = (x - kept).square().sum(1, keepdim=True)
    eta = 1 + math.sqrt(2 * 64) * NormalDist().inv_cdf(0.6) * 0.25 / distance
    assert torch.allclose(nested, x + eta * (kept - x), atol=1e-12)
