"""Noise levels: families, grids, training distributions and weights, closed forms against closed forms."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.stats
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from imagen_workbench.core.errors import RecipeError
from imagen_workbench.core.precondition import Preconditioning
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Network, Sampling
from imagen_workbench.core.sampling.path import levels_of
from imagen_workbench.core.schedule import (
    Cosine,
    Flow,
    VariancePreservingLinear,
    edm_weight,
    even_in_time,
    even_in_work,
    exponential,
    family,
    karras,
    log_uniform,
    lognormal,
    min_snr_weight,
    own_levels,
    simple_weight,
    soft_min_snr_weight,
    stratified,
    uniform_in_time,
)
from imagen_workbench.core.testing import GridContract, ScheduleContract

if TYPE_CHECKING:
    from collections.abc import Callable

SIGMAS = torch.logspace(-3, 3, 40, dtype=torch.float64)

# --- the contracts --------------------------------------------------------------------------------


class TestVariancePreservingLinear(ScheduleContract):
    def make_schedule(self) -> VariancePreservingLinear:
        return VariancePreservingLinear()


class TestCosine(ScheduleContract):
    def make_schedule(self) -> Cosine:
        return Cosine()


class TestShiftedCosine(ScheduleContract):
    def make_schedule(self) -> Cosine:
        return Cosine(0.5)


class TestFlow(ScheduleContract):
    def make_schedule(self) -> Flow:
        return Flow()


class TestShiftedFlow(ScheduleContract):
    def make_schedule(self) -> Flow:
        return Flow(3.0)


class TestKarras(GridContract):
    def make_levels(self, n: int, lo: float, hi: float) -> Tensor:
        return karras(n, lo, hi)


class TestExponential(GridContract):
    def make_levels(self, n: int, lo: float, hi: float) -> Tensor:
        return exponential(n, lo, hi)


class TestEvenInCosineTime(GridContract):
    def make_levels(self, n: int, lo: float, hi: float) -> Tensor:
        return even_in_time(n, lo, hi, Cosine(2.0))


class TestEvenInFlowTime(GridContract):
    def make_levels(self, n: int, lo: float, hi: float) -> Tensor:
        return even_in_time(n, lo, hi, Flow(0.3))


class TestEvenInWork(GridContract):
    """With all the work in one of nine stretches."""

    def make_levels(self, n: int, lo: float, hi: float) -> Tensor:
        work = torch.zeros(9)
        work[4] = 1
        return even_in_work(n, exponential(10, lo, hi)[:-1], work)


def test_every_family_and_grid_of_the_recipe_is_under_contract() -> None:
    offered = set(Network.model_json_schema()["properties"]["schedule"]["enum"]) - {"edm"}  # which is no family
    assert {type(family(name)) for name in offered} == {type(each().make_schedule()) for each in FAMILIES}
    grids = set(Sampling.model_json_schema()["properties"]["grid"]["enum"])
    assert grids == {"karras", "exponential", "cosine", "flow", "measured"}
    for name in grids - {"measured"}:  # which are even_in_work, of what is measured: see test_core_samplers
        chosen = Sampling.model_validate({"grid": name, "steps": 9, "sigma_min": 0.01, "sigma_max": 50, "shift": 2})
        assert torch.equal(levels_of(chosen), GRIDS[name](9, 0.01, 50.0))


FAMILIES: list[type[Any]] = [TestVariancePreservingLinear, TestCosine, TestFlow]
GRIDS: dict[str, Callable[[int, float, float], Tensor]] = {
    "karras": karras,
    "exponential": exponential,
    "cosine": lambda n, lo, hi: even_in_time(n, lo, hi, Cosine(2.0)),
    "flow": lambda n, lo, hi: even_in_time(n, lo, hi, Flow(2.0)),
}


def test_a_family_nobody_knows_is_refused_at_its_field() -> None:
    with pytest.raises(RecipeError) as caught:
        family("edm2")
    assert caught.value.field == "model.schedule"
    assert caught.value.fix


# --- families -------------------------------------------------------------------------------------


def test_the_linear_family_is_the_limit_of_ddpm_s_table() -> None:
    """beta from 0.1 / T to 20 / T in T levels: ten times the levels, a tenth of the difference."""
    errors = []
    for count in (1000, 10_000):
        table = DDPMScheduler(num_train_timesteps=count, beta_start=0.1 / count, beta_end=20 / count)
        alphas = (1 - table.betas.double()).cumprod(0)
        times = torch.arange(1, count + 1, dtype=torch.float64) / count
        ours = VariancePreservingLinear().sigma(times)
        theirs = ((1 - alphas) / alphas).sqrt()
        errors.append(float((ours / theirs - 1).abs().max()))
    assert errors[0] < 0.05
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.15)


def test_the_cosine_family_is_ddpm_s_table_but_for_its_offset() -> None:
    """alpha_bar(t) = f(t) / f(0) with f(t) = cos²((t + 0.008) / 1.008 π / 2), up to where betas are capped."""
    table = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    alphas = (1 - table.betas.double()).cumprod(0)[:-1]
    u = (torch.arange(1, 1000, dtype=torch.float64) / 1000 + 0.008) / 1.008
    at_start = 1 / (1 + Cosine().sigma(torch.tensor(0.008 / 1.008, dtype=torch.float64)) ** 2)
    ours = at_start * (1 + Cosine().sigma(u) ** 2)
    assert torch.allclose(ours, 1 / alphas, rtol=2e-3)
    assert torch.allclose(ours[:900], 1 / alphas[:900], rtol=1e-5)


def test_a_cosine_shift_moves_the_log_snr() -> None:
    """lambda + 2 ln(ref / res): half the signal in each direction for twice the size (Hoogeboom et al. 2023, Eq. 7)."""
    t = torch.linspace(0.01, 0.99, 50, dtype=torch.float64)
    moved = -2 * Cosine(128 / 64).sigma(t).log() + 2 * Cosine().sigma(t).log()
    assert torch.allclose(moved, torch.full_like(t, 2 * math.log(64 / 128)), atol=1e-12)


@given(t=st.floats(1e-4, 1 - 1e-4), m=st.floats(0.05, 20))
def test_a_flow_shift_is_a_warp_of_its_time(t: float, m: float) -> None:
    """t' = m t / (1 + (m - 1) t) (Esser et al. 2024, Eq. 23)."""
    warped = torch.tensor(m * t / (1 + (m - 1) * t), dtype=torch.float64)
    shifted = Flow(m).sigma(torch.tensor(t, dtype=torch.float64))
    assert float(shifted) == pytest.approx(float(Flow().sigma(warped)), rel=1e-9)


# --- grids ----------------------------------------------------------------------------------------


@given(n=st.integers(1, 300), lo=st.floats(1e-4, 1.0), factor=st.floats(1.5, 1e5), rho=st.floats(1.0, 20.0))
def test_karras_goes_from_top_to_bottom_to_zero(n: int, lo: float, factor: float, rho: float) -> None:
    _falls(karras(n, lo, lo * factor, rho), n, lo, lo * factor)


@given(
    name=st.sampled_from(["exponential", "cosine", "flow"]),
    n=st.integers(1, 300),
    lo=st.floats(1e-4, 1.0),
    factor=st.floats(1.5, 1e5),
)
def test_every_grid_goes_from_top_to_bottom_to_zero(name: str, n: int, lo: float, factor: float) -> None:
    _falls(GRIDS[name](n, lo, lo * factor), n, lo, lo * factor)


def _falls(levels: Tensor, n: int, lo: float, hi: float) -> None:
    assert levels.shape == (n + 1,)
    assert levels[0] == hi
    assert levels[-1] == 0
    assert n == 1 or float(levels[-2]) == pytest.approx(lo, rel=1e-7)
    assert (levels.diff() < 0).all()


def test_karras_is_even_in_the_rho_th_root() -> None:
    """Eq. 5 of Karras et al. 2022."""
    steps = (karras(18, 0.002, 80.0, 7.0)[:-1] ** (1 / 7)).diff()
    assert torch.allclose(steps, steps.mean().expand(17), atol=1e-12)


def test_karras_with_rho_1_is_linear() -> None:
    assert torch.allclose(karras(5, 1.0, 5.0, 1.0), torch.tensor([5.0, 4, 3, 2, 1, 0], dtype=torch.float64))


@pytest.mark.parametrize("rho", [0.0, -1.0, math.nan])
def test_a_spacing_that_is_none_is_refused_at_its_field(rho: float) -> None:
    with pytest.raises(RecipeError) as caught:
        karras(10, 0.002, 80.0, rho)
    assert caught.value.field == "sampling.rho"
    assert caught.value.fix


def test_exponential_is_even_in_the_log_snr() -> None:
    steps = exponential(18, 0.002, 80.0)[:-1].log().diff()
    assert torch.allclose(steps, steps.mean().expand(17), atol=1e-12)


def test_a_person_s_own_levels_end_at_0() -> None:
    assert own_levels([3, 1.5, 0.2]).tolist() == [3, 1.5, 0.2, 0]


@given(
    n=st.integers(2, 100),
    work=st.lists(st.floats(0.0, 1e3), min_size=1, max_size=40).filter(lambda each: sum(each) > 1e-3),
)
def test_even_in_work_shares_out_equally(n: int, work: list[float]) -> None:
    """Every step has the same part of the work, taken as even within each stretch that was measured."""
    measured = torch.logspace(2, -3, len(work) + 1, dtype=torch.float64)
    levels = even_in_work(n, measured, torch.tensor(work, dtype=torch.float64))
    _falls(levels, n, 1e-3, 100.0)
    floor = 0.02 * float(np.mean(work))  # what every stretch has, however easy
    done = np.concatenate([[0], np.cumsum(np.array(work) + floor)])
    at = np.interp(-levels[:-1].log().numpy(), -measured.log().numpy(), done)
    assert np.diff(at) == pytest.approx(done[-1] / (n - 1), rel=1e-4)


def test_even_work_is_even_in_the_logarithm() -> None:
    measured = exponential(7, 0.01, 10.0)[:-1]
    assert torch.allclose(even_in_work(20, measured, torch.ones(6)), exponential(20, 0.01, 10.0), rtol=1e-9)
    assert torch.allclose(even_in_work(20, measured, torch.zeros(6)), exponential(20, 0.01, 10.0), rtol=1e-9)


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


QUANTILES = torch.linspace(0.001, 0.999, 97, dtype=torch.float64)


@pytest.mark.parametrize(("mean", "std"), [(-1.2, 1.2), (-0.8, 1.6), (0.0, 1.0)])
def test_lognormal_has_the_quantiles_of_a_lognormal(mean: float, std: float) -> None:
    expected = scipy.stats.lognorm(s=std, scale=math.exp(mean)).ppf(QUANTILES.numpy())
    assert lognormal(QUANTILES, mean, std).numpy() == pytest.approx(expected, rel=1e-9)


def test_lognormal_0_1_is_the_logit_normal_time_of_the_flow() -> None:
    """logit t = ln sigma where sigma = t / (1 - t)."""
    t = Flow().time(lognormal(QUANTILES, 0.0, 1.0)).numpy()
    assert scipy.special.logit(t) == pytest.approx(scipy.stats.norm.ppf(QUANTILES.numpy()), abs=1e-9)


def test_lognormal_stays_finite_at_the_ends_of_a_stratified_draw() -> None:
    ends = torch.tensor([1e-9, 1 - 1e-9], dtype=torch.float64)
    assert torch.isfinite(lognormal(ends, -1.2, 1.2).log()).all()


def test_log_uniform_has_the_quantiles_of_a_log_uniform() -> None:
    expected = scipy.stats.loguniform(0.002, 80.0).ppf(QUANTILES.numpy())
    assert log_uniform(QUANTILES, 0.002, 80.0).numpy() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("levels", "law"),
    [
        (Cosine(), scipy.stats.hypsecant()),  # sech(L) / π
        (Cosine(0.5), scipy.stats.hypsecant(loc=math.log(0.5))),
        (Flow(), scipy.stats.logistic()),  # e^L / (1 + e^L)²
        (Flow(3.0), scipy.stats.logistic(loc=math.log(3))),
    ],
)
def test_uniform_times_have_the_law_of_their_family(levels: Cosine | Flow, law: Any) -> None:
    """That of ln sigma, cut off at the lowest and highest level."""
    lo, hi = 0.002, 80.0
    found = uniform_in_time(QUANTILES, lo, hi, levels).log().numpy()
    first, last = law.cdf(math.log(lo)), law.cdf(math.log(hi))
    assert found == pytest.approx(law.ppf(first + QUANTILES.numpy() * (last - first)), abs=1e-9)


# --- weights --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_data", [0.3, 0.5, 1.0])
def test_edm_s_weight_makes_all_errors_of_f_count_alike(sigma_data: float) -> None:
    """W = w_F / c_out²."""
    assert torch.allclose(edm_weight(SIGMAS, sigma_data) * _out("F", sigma_data) ** 2, torch.ones_like(SIGMAS))


def test_the_simple_weight_makes_all_errors_of_the_noise_count_alike() -> None:
    """W = w_eps / sigma²."""
    assert torch.allclose(simple_weight(SIGMAS) * _out("eps") ** 2, torch.ones_like(SIGMAS))


@pytest.mark.parametrize("cap", [1.0, 5.0, 20.0])
def test_min_snr_is_what_its_paper_gives_for_each_prediction(cap: float) -> None:
    """w_x = min(SNR, γ), w_eps = min(SNR, γ) / SNR, w_v = min(SNR, γ) / (SNR + 1) (Hang et al. 2023, Sec. 3.4)."""
    snr = SIGMAS**-2
    least = snr.clamp(max=cap)
    for prediction, published in (("x0", least), ("eps", least / snr), ("v", least / (snr + 1))):
        assert torch.allclose(min_snr_weight(SIGMAS, cap) * _out(prediction) ** 2, published, rtol=1e-12)


def test_soft_min_snr_meets_min_snr_at_both_ends() -> None:
    """min(SNR, 1 / sigma_data²) with a round knee, half as high there."""
    data = 0.5
    ratio = soft_min_snr_weight(SIGMAS, data) / min_snr_weight(SIGMAS, data**-2)
    assert float(ratio[0]) == pytest.approx(1, abs=1e-4)
    assert float(ratio[-1]) == pytest.approx(1, abs=1e-4)
    assert float(soft_min_snr_weight(torch.tensor(data), data) / min_snr_weight(torch.tensor(data), data**-2)) == 0.5


def _out(prediction: Any, sigma_data: float = 0.5) -> Tensor:
    return Preconditioning(prediction, sigma_data=sigma_data).output(SIGMAS)[1]
