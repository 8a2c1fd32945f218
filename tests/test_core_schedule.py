"""Noise levels, training noise, and the preconditioning: closed forms against closed forms."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imagen_workbench.core.errors import RecipeError
from imagen_workbench.core.precondition import edm, edm_coefficients, per_image
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.schedule import edm_weight, karras, lognormal, stratified

# --- the grid -------------------------------------------------------------------------------------


@given(n=st.integers(1, 300), lo=st.floats(1e-4, 1.0), factor=st.floats(1.5, 1e5), rho=st.floats(1.0, 20.0))
def test_karras_goes_from_top_to_bottom_to_zero(n: int, lo: float, factor: float, rho: float) -> None:
    hi = lo * factor
    levels = karras(n, lo, hi, rho)
    assert levels.shape == (n + 1,)
    assert levels.dtype == torch.float64
    assert levels[0] == hi
    assert levels[-1] == 0
    assert n == 1 or float(levels[-2]) == pytest.approx(lo, rel=1e-9)
    assert (levels[1:] < levels[:-1]).all()


def test_karras_is_even_in_the_rho_th_root() -> None:
    """Eq. 5 of Karras et al. 2022."""
    steps = karras(18, 0.002, 80.0, 7.0)[:-1] ** (1 / 7)
    assert torch.allclose(steps.diff(), steps.diff().mean().expand(17), atol=1e-12)


def test_karras_with_rho_1_is_linear() -> None:
    assert torch.allclose(karras(5, 1.0, 5.0, 1.0), torch.tensor([5.0, 4, 3, 2, 1, 0], dtype=torch.float64))


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ((0, 0.002, 80.0), "sampling.steps"),
        ((10, 80.0, 0.002), "sampling.sigma_min"),
        ((10, 1.0, 1.0), "sampling.sigma_min"),
        ((10, 0.0, 80.0), "sampling.sigma_min"),
        ((10, math.nan, 80.0), "sampling.sigma_min"),
        ((10, 0.002, 80.0, 0.0), "sampling.rho"),
        ((10, 0.002, 80.0, math.nan), "sampling.rho"),
    ],
)
def test_karras_names_the_field_that_is_wrong(arguments: tuple[float, ...], field: str) -> None:
    with pytest.raises(RecipeError) as caught:
        karras(*arguments)  # type: ignore[arg-type]
    assert caught.value.field == field
    assert caught.value.fix


# --- training noise -------------------------------------------------------------------------------


@given(n=st.integers(1, 500), seed=st.integers(0, 1000))
def test_stratified_has_one_number_in_every_stratum(n: int, seed: int) -> None:
    u = stratified(n, generator(seed, "test"))
    assert sorted((u * n).floor().long().tolist()) == list(range(n))
    assert (u > 0).all()
    assert (u < 1).all()


def test_stratified_comes_in_random_order() -> None:
    """Or the first half of every batch would have all the low noise."""
    means = [float(stratified(64, generator(seed, "test"))[:32].mean()) for seed in range(200)]
    assert statistics.mean(means) == pytest.approx(0.5, abs=0.02)
    assert statistics.stdev(means) > 0.02


def test_lognormal_quantiles() -> None:
    """ln sigma at u is mean + std × the normal quantile of u."""
    u = np.linspace(0.001, 0.999, 97)
    normal = statistics.NormalDist(-1.2, 1.2)
    sigma = lognormal(torch.from_numpy(u), -1.2, 1.2)
    assert sigma.log().tolist() == pytest.approx([normal.inv_cdf(float(each)) for each in u], abs=1e-9)
    assert float(lognormal(torch.tensor(0.5, dtype=torch.float64), -1.2, 1.2)) == pytest.approx(math.exp(-1.2))


def test_lognormal_stays_finite_at_the_ends_of_a_stratified_draw() -> None:
    ends = torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)
    assert torch.isfinite(lognormal(ends, -1.2, 1.2).log()).all()


def test_edm_weight_is_one_over_c_out_squared() -> None:
    sigma = torch.logspace(-4, 4, 50, dtype=torch.float64)
    for sigma_data in (0.3, 0.5, 1.0):
        out = edm_coefficients(sigma, sigma_data)[1]
        assert torch.allclose(edm_weight(sigma, sigma_data), out**-2, rtol=1e-12)


# --- preconditioning ------------------------------------------------------------------------------

LEVELS = torch.logspace(-3, 3, 20, dtype=torch.float64)


@pytest.mark.parametrize("sigma_data", [0.3, 0.5, 1.0])
def test_the_right_prediction_gives_the_clean_image(sigma_data: float) -> None:
    """F* = (x0 - c_skip x) / c_out, and then D = x0 at every level."""
    x0 = sigma_data * torch.randn(20, 3, 4, 4, generator=generator(0, "x0"), dtype=torch.float64)
    x = x0 + per_image(LEVELS, x0) * torch.randn(x0.shape, generator=generator(0, "n"), dtype=torch.float64)
    skip, out, scale, noise = (per_image(each, x) for each in edm_coefficients(LEVELS, sigma_data))

    def network(scaled: Tensor, told: Tensor, vector: Tensor | None) -> Tensor:
        assert torch.equal(scaled, scale * x)
        assert torch.equal(told, LEVELS.log() / 4)
        assert told.shape == (20,)
        assert vector is None
        return (x0 - skip * x) / out

    assert torch.allclose(edm(network, sigma_data, x, LEVELS, None), x0, atol=1e-10)
    assert noise.shape == (20, 1, 1, 1)


@pytest.mark.parametrize("sigma_data", [0.3, 0.5, 1.0])
def test_the_network_sees_and_predicts_unit_variance(sigma_data: float) -> None:
    """Var[c_in x] = Var[F*] = 1 and they are uncorrelated with nothing but signs: exactly, from the coefficients."""
    skip, out, scale, _ = edm_coefficients(LEVELS, sigma_data)
    assert torch.allclose(scale**2 * (sigma_data**2 + LEVELS**2), torch.ones(20, dtype=torch.float64))
    # F* = ((1 - c_skip) x0 - c_skip sigma n) / c_out
    variance = ((1 - skip) ** 2 * sigma_data**2 + (skip * LEVELS) ** 2) / out**2
    assert torch.allclose(variance, torch.ones(20, dtype=torch.float64))


def test_unit_variance_by_drawing() -> None:
    x0 = 0.5 * torch.randn(1_000_000, generator=generator(0, "x0"), dtype=torch.float64)
    n = torch.randn(1_000_000, generator=generator(0, "n"), dtype=torch.float64)
    for sigma in (0.01, 0.5, 20.0):
        x = x0 + sigma * n
        skip, out, scale, _ = edm_coefficients(torch.tensor(sigma, dtype=torch.float64), 0.5)
        assert float((scale * x).var()) == pytest.approx(1, rel=0.01)
        assert float(((x0 - skip * x) / out).var()) == pytest.approx(1, rel=0.01)


def test_the_noisy_image_is_returned_where_there_is_no_noise() -> None:
    """D → x as sigma → 0, whatever the network says; in float32 as well."""
    x = torch.randn(2, 1, 4, 4, generator=generator(0, "x"))

    def network(scaled: Tensor, noise: Tensor, vector: Tensor | None) -> Tensor:
        return torch.full_like(scaled, 3.0)

    for sigma in (1e-3, 1e-5, 1e-8):
        x0 = edm(network, 0.5, x, torch.tensor(sigma), None)
        assert torch.isfinite(x0).all()
        assert float((x0 - x).abs().max()) <= 3.1 * sigma + 1e-5 * sigma / 0.5 + 5e-7


def test_pure_noise_is_forgotten_at_the_top() -> None:
    """c_skip → 0 and c_out → sigma_data."""
    skip, out, _, _ = edm_coefficients(torch.tensor(1e6, dtype=torch.float64), 0.5)
    assert float(skip) == pytest.approx(0, abs=1e-12)
    assert float(out) == pytest.approx(0.5)


def test_the_sum_is_made_in_the_number_format_of_x() -> None:
    x = torch.ones(2, 1, 2, 2)
    x0 = edm(lambda scaled, _noise, _vector: scaled.bfloat16(), 0.5, x, torch.tensor([1.0, 2.0]), None)
    assert x0.dtype == torch.float32
    assert edm(lambda scaled, _n, _v: scaled, 0.5, x.double(), torch.tensor(1.0), None).dtype == torch.float64
