"""Guidance on Gaussians, where it is known what it does."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from imagen_workbench.core.conditioning import Composition, Condition, composed_texts
from imagen_workbench.core.errors import RequestError
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Sampling
from imagen_workbench.core.sampling import density, guidance
from imagen_workbench.core.sampling.density import DensityGuided
from imagen_workbench.core.sampling.guidance import ClassifierFree, Guidance, Thresholded, conditioned
from imagen_workbench.core.sampling.path import draw_path, levels_of
from imagen_workbench.core.sampling.samplers import heun
from imagen_workbench.core.schedule import karras
from imagen_workbench.core.testing import GuidanceContract
from imagen_workbench.core.testing.denoising import Gaussian
from imagen_workbench.core.testing.guidance import ToldGaussian, told
from imagen_workbench.core.testing.sampling import last

LEVELS = karras(400, 0.002, 80.0)


class TestClassifierFree(GuidanceContract):
    def make_guidance(self) -> Guidance:
        return ClassifierFree(3.0)

    def make_neutral(self) -> Guidance:
        return ClassifierFree(1.0)


class TestClassifierFreeOnAnInterval(GuidanceContract):
    """Of which no level of the contract's is left out where it acts, and none is in it where it is neutral."""

    def make_guidance(self) -> Guidance:
        return ClassifierFree(3.0, 0.01, 0.5)

    def make_neutral(self) -> Guidance:
        return ClassifierFree(3.0, 200.0, 300.0)


class TestStaticThreshold(GuidanceContract):
    def make_guidance(self) -> Guidance:
        return Thresholded("static")

    make_neutral = make_guidance


class TestDynamicThreshold(GuidanceContract):
    def make_guidance(self) -> Guidance:
        return Thresholded("dynamic", 0.9)

    make_neutral = make_guidance


class TestDensityGuided(GuidanceContract):
    def make_guidance(self) -> Guidance:
        return DensityGuided(0.6)

    def make_neutral(self) -> Guidance:
        return DensityGuided(0.5)


def test_every_guidance_is_under_contract() -> None:
    """All that can be bound, in the rooms that make guidance."""
    bound = {
        each
        for room in (guidance, density)
        for each in vars(room).values()
        if isinstance(each, type) and "bind" in vars(each) and each is not Guidance
    }
    assert bound == {type(each().make_guidance()) for each in GuidanceContract.__subclasses__()}


def start(count: int, sigma: float = 80.0) -> Tensor:
    return sigma * torch.randn(count, generator=generator(0, "start"), dtype=torch.float64)


# --- identities -----------------------------------------------------------------------------------


def test_w_1_is_no_guidance_and_one_call() -> None:
    denoise, cond, x = ToldGaussian(), told(0.7, 0.4, 5, (0.1, 0.9)), start(5)
    sigma = torch.full((5,), 2.0, dtype=torch.float64)
    guided = ClassifierFree(1.0).bind(denoise, LEVELS)(x, sigma, cond)
    assert denoise.batches == [5]
    assert torch.equal(guided, denoise(x, sigma, cond))


def test_w_0_is_the_null_and_one_call() -> None:
    denoise, cond, x = ToldGaussian(), told(0.7, 0.4, 5, (0.1, 0.9)), start(5)
    sigma = torch.full((5,), 2.0, dtype=torch.float64)
    guided = ClassifierFree(0.0).bind(denoise, LEVELS)(x, sigma, cond)
    assert denoise.batches == [5]
    assert torch.equal(guided, denoise(x, sigma, cond.without()))


@pytest.mark.parametrize("w", [-0.5, 0.5, 1.5, 7.0])
def test_any_other_w_is_on_the_line_through_both(w: float) -> None:
    denoise, cond, x = ToldGaussian(), told(0.7, 0.4, 5, (0.1, 0.9)), start(5)
    sigma = torch.full((5,), 2.0, dtype=torch.float64)
    guided = ClassifierFree(w).bind(denoise, LEVELS)(x, sigma, cond)
    assert denoise.batches == [10], "both are asked in one call"
    null, with_it = denoise(x, sigma, cond.without()), denoise(x, sigma, cond)
    assert torch.allclose(guided, null + w * (with_it - null), atol=1e-12)


def test_a_guided_denoiser_is_a_denoiser() -> None:
    """One level for all images goes, too; and guidances nest."""
    denoise, cond, x = ToldGaussian(), told(0.7, 0.4, 5, (0.1, 0.9)), start(5)
    guided = ClassifierFree(2.0).bind(denoise, LEVELS)
    one, each = torch.tensor(2.0, dtype=torch.float64), torch.full((5,), 2.0, dtype=torch.float64)
    assert torch.equal(guided(x, one, cond), guided(x, each, cond))
    nested = ClassifierFree(1.0).bind(guided, LEVELS)
    assert torch.equal(nested(x, each, cond), guided(x, each, cond))


def test_without_a_null_there_is_nothing_to_guide_away_from() -> None:
    denoise, cond, x = ToldGaussian(), told(0.7, 0.4, 5), start(5)
    sigma = torch.full((5,), 2.0, dtype=torch.float64)
    assert torch.equal(ClassifierFree(3.0).bind(denoise, LEVELS)(x, sigma, cond), denoise(x, sigma, cond))
    with pytest.raises(RequestError) as caught:
        cond.without()
    assert caught.value.fix


# --- what comes out -------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [0.0, 0.5, 1.0, 1.5, 3.0])
def test_equal_spreads_shift_the_mean_and_nothing_else(w: float) -> None:
    """N(mu_u + w (mu_c - mu_u), S), exactly, through the ODE."""
    mean_c, mean_u, spread = 0.6, -0.2, 0.3
    x = start(64)
    guided = ClassifierFree(w).bind(ToldGaussian(), LEVELS)
    end = last(heun(conditioned(guided, told(mean_c, spread, 64, (mean_u, spread))), x, LEVELS))
    mean = mean_u + w * (mean_c - mean_u)
    answer = mean + (x - mean) * spread / math.sqrt(spread**2 + 80.0**2)
    assert torch.allclose(end, answer, atol=1e-3)


@pytest.mark.parametrize("w", [0.5, 1.0, 1.5, 2.5])
def test_unequal_spreads_give_their_weighted_geometric_mean(w: float) -> None:
    """tau_c^w tau_u^(1-w): narrower than either for w > 1, and not the product's spread."""
    tau_c, tau_u = 0.3, 0.8
    x = start(64)
    guided = ClassifierFree(w).bind(ToldGaussian(), LEVELS)
    end = last(heun(conditioned(guided, told(0.0, tau_c, 64, (0.0, tau_u))), x, LEVELS))
    from_top = (tau_c**2 + 80.0**2) ** (w / 2) * (tau_u**2 + 80.0**2) ** ((1 - w) / 2)
    assert torch.allclose(end / x, torch.full_like(x, tau_c**w * tau_u ** (1 - w) / from_top), rtol=2e-3)
    product = (w / tau_c**2 + (1 - w) / tau_u**2) ** -0.5
    assert w == 1.0 or abs(tau_c**w * tau_u ** (1 - w) / product - 1) > 0.01


def test_each_image_has_its_own_condition() -> None:
    """Stacking both halves in one call mixes nothing up."""
    pairs = torch.tensor([[0.5, 0.3], [-0.7, 0.5], [0.0, 0.9]], dtype=torch.float64)
    nulls = torch.tensor([[0.0, 1.0]], dtype=torch.float64).expand(3, 2)
    cond, x = Condition(pairs, Condition(nulls)), start(3)
    guided = ClassifierFree(2.0).bind(ToldGaussian(), LEVELS)
    together = last(heun(conditioned(guided, cond), x, LEVELS))
    for k in range(3):
        part = slice(k, k + 1)
        assert torch.equal(last(heun(conditioned(guided, cond[part]), x[part], LEVELS)), together[part])


# --- on an interval -------------------------------------------------------------------------------


def test_the_full_interval_is_guidance_everywhere_and_an_empty_one_nowhere() -> None:
    cond, x = told(0.7, 0.4, 5, (0.1, 0.9)), start(5)
    for level in LEVELS[:-1:20].tolist():
        sigma = torch.full((5,), level, dtype=torch.float64)
        full, plain = (ClassifierFree(3.0, *edges) for edges in ((0.0, math.inf), ()))
        assert torch.equal(*(each.bind(ToldGaussian(), LEVELS)(x, sigma, cond) for each in (full, plain)))
        empty = ClassifierFree(3.0, level, level)
        assert torch.equal(empty.bind(ToldGaussian(), LEVELS)(x, sigma, cond), ToldGaussian()(x, sigma, cond))


@pytest.mark.parametrize("number_format", [torch.float32, torch.float64])
def test_the_upper_edge_is_inside_and_the_lower_one_is_not(number_format: torch.dtype) -> None:
    """0.3 in float32 is more than 0.3, and 0.7 less: an edge is compared in the level's own number format."""
    cond, x = told(0.7, 0.4, 5, (0.1, 0.9)), start(5).to(number_format)
    for edge in (0.3, 0.7, 1.61, 0.002):
        sigma = torch.full((5,), edge, dtype=number_format)
        plain, full = ToldGaussian()(x, sigma, cond), ClassifierFree(3.0).bind(ToldGaussian(), LEVELS)(x, sigma, cond)
        up_to, above = ClassifierFree(3.0, 0.0, edge), ClassifierFree(3.0, edge, 100.0)
        assert torch.equal(up_to.bind(ToldGaussian(), LEVELS)(x, sigma, cond), full)
        assert torch.equal(above.bind(ToldGaussian(), LEVELS)(x, sigma, cond), plain)


def test_outside_its_interval_guidance_costs_nothing() -> None:
    denoise, cond = ToldGaussian(), told(0.7, 0.4, 5, (0.1, 0.9))
    guided = ClassifierFree(3.0, 0.19, 1.61).bind(denoise, LEVELS)
    for level in (0.1, 1.0, 10.0):
        guided(start(5), torch.full((5,), level, dtype=torch.float64), cond)
    assert denoise.batches == [5, 10, 5]


# --- several conditions ---------------------------------------------------------------------------


def composed(*terms: tuple[float, float, float], count: int = 5) -> Composition:
    """(weight, mean, spread) each; without them N(0.1, 0.9²)."""
    weights = torch.tensor([weight for weight, _, _ in terms], dtype=torch.float64)[:, None].expand(-1, count)
    return Composition(tuple(told(mean, spread, count, (0.1, 0.9)) for _, mean, spread in terms), weights)


@pytest.mark.parametrize("w", [1.0, 2.5])
def test_one_term_is_classifier_free_guidance(w: float) -> None:
    x, sigma = start(5), torch.full((5,), 2.0, dtype=torch.float64)
    guided = ClassifierFree(w).bind(ToldGaussian(), LEVELS)
    one = guided(x, sigma, composed((1.0, 0.7, 0.4)))
    assert torch.allclose(one, guided(x, sigma, told(0.7, 0.4, 5, (0.1, 0.9))), atol=1e-12)
    weighted = ClassifierFree(1.0).bind(ToldGaussian(), LEVELS)(x, sigma, composed((w, 0.7, 0.4)))
    assert torch.allclose(weighted, one, atol=1e-12)


def test_composed_gaussians_are_a_sum_of_lines() -> None:
    """D_null + w sum_k a_k (D_k - D_null), asked in one call; a negative weight keeps away."""
    denoise, x, sigma = ToldGaussian(), start(5), torch.full((5,), 2.0, dtype=torch.float64)
    found = ClassifierFree(1.5).bind(denoise, LEVELS)(x, sigma, composed((1.0, 0.7, 0.4), (-0.5, -0.3, 0.6)))
    assert denoise.batches == [15]

    def line(mean: float, spread: float) -> Tensor:
        return (spread**2 * x + 4 * mean) / (spread**2 + 4)

    null = line(0.1, 0.9)
    assert torch.allclose(found, null + 1.5 * ((line(0.7, 0.4) - null) - 0.5 * (line(-0.3, 0.6) - null)), atol=1e-12)


def test_equal_spreads_compose_to_the_weighted_sum_of_their_means() -> None:
    """Through the ODE: mu_u + sum_k a_k (mu_k - mu_u)."""
    spread, terms = 0.3, ((1.0, 0.6), (0.5, -0.4), (-0.5, 0.2))
    conds = tuple(told(mean, spread, 64, (-0.2, spread)) for _, mean in terms)
    cond = Composition(conds, torch.tensor([[a] * 64 for a, _ in terms], dtype=torch.float64))
    x = start(64)
    end = last(heun(conditioned(ClassifierFree(1.0).bind(ToldGaussian(), LEVELS), cond), x, LEVELS))
    mean = -0.2 + sum(a * (each + 0.2) for a, each in terms)
    assert torch.allclose(end, mean + (x - mean) * spread / math.sqrt(spread**2 + 80.0**2), atol=1e-3)


def test_a_term_of_weight_0_changes_nothing() -> None:
    """As images with fewer terms than others have it."""
    x, sigma = start(5), torch.full((5,), 2.0, dtype=torch.float64)
    guided = ClassifierFree(2.0).bind(ToldGaussian(), LEVELS)
    padded = guided(x, sigma, composed((1.0, 0.7, 0.4), (0.0, -5.0, 0.1)))
    assert torch.equal(padded, guided(x, sigma, composed((1.0, 0.7, 0.4))))


def test_every_image_has_its_own_weights() -> None:
    x, sigma = start(2), torch.full((2,), 2.0, dtype=torch.float64)
    terms = composed((1.0, 0.7, 0.4), (1.0, -0.5, 0.2), count=2).terms
    mixed = Composition(terms, torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64))
    guided = ClassifierFree(2.0).bind(ToldGaussian(), LEVELS)
    found = guided(x, sigma, mixed)
    for k in range(2):
        part = slice(k, k + 1)
        assert torch.allclose(found[part], guided(x[part], sigma[part], terms[k][part]), atol=1e-12)
        assert torch.equal(found[part], guided(x[part], sigma[part], mixed[part]))


def test_w_0_is_the_null_of_a_composition_too() -> None:
    denoise, x, sigma = ToldGaussian(), start(5), torch.full((5,), 2.0, dtype=torch.float64)
    cond = composed((1.0, 0.7, 0.4), (-0.5, -0.3, 0.6))
    guided = ClassifierFree(0.0).bind(denoise, LEVELS)(x, sigma, cond)
    assert denoise.batches == [5]
    assert torch.equal(guided, denoise(x, sigma, cond.without()))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("3", [(1, "3")]),
        ("3 AND 5", [(1, "3"), (1, "5")]),
        ("3 AND 5:-0.5", [(1, "3"), (-0.5, "5")]),
        ("3:2 AND 5 : .25", [(2, "3"), (0.25, "5")]),
        ("a red: one:2 AND b", [(2, "a red: one"), (1, "b")]),
        ("salt AND pepper", [(1, "salt AND pepper")]),
        ("ratio 1:2 AND 3", [(1, "ratio 1:2"), (1, "3")]),
        ("3 and 5", [(1, "3 and 5")]),
        ("3:2", [(1, "3:2")]),
    ],
)
def test_terms_are_parted_by_and(text: str, terms: list[tuple[float, str]]) -> None:
    """But not where the whole is a choice of the scheme, or a part with a colon is."""
    assert composed_texts(text, ["3", "5", "salt AND pepper", "ratio 1:2"]) == terms


@pytest.mark.parametrize("text", ["3:much AND 5", "3 AND 5:", "3 AND 5:nan", "3 AND 5:inf"])
def test_a_weight_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(RequestError, match="weight") as caught:
        composed_texts(text)
    assert caught.value.fix


# --- thresholds -----------------------------------------------------------------------------------


class Says:
    """D is always the same."""

    def __init__(self, x0: Tensor) -> None:
        self.x0 = x0

    def __call__(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        return self.x0


@pytest.mark.parametrize("kind", ["static", "dynamic"])
def test_what_is_in_range_stays(kind: Literal["static", "dynamic"]) -> None:
    x0 = torch.rand(3, 1, 8, 8, generator=generator(0, "x0")) * 2 - 1
    thresholded = Thresholded(kind).bind(Says(x0), LEVELS)(x0, torch.tensor(1.0))
    assert torch.equal(thresholded, x0)


def test_a_static_threshold_cuts_off_at_1() -> None:
    x0 = torch.tensor([[-3.0, -1.0, 0.2, 1.0, 1.5]])
    cut = Thresholded("static").bind(Says(x0), LEVELS)(x0, torch.tensor(1.0))
    assert torch.equal(cut, torch.tensor([[-1.0, -1.0, 0.2, 1.0, 1.0]]))


@pytest.mark.parametrize("percentile", [0.8, 0.95, 0.995, 1.0])
def test_a_dynamic_threshold_is_that_of_diffusers(percentile: float) -> None:
    """Which keeps its limit at 1 unless it is told otherwise."""
    spreads = torch.tensor([0.2, 1.0, 4.0]).reshape(3, 1, 1, 1)
    x0 = spreads * torch.randn(3, 2, 8, 8, generator=generator(0, "x0"))
    scheduler = DDIMScheduler(thresholding=True, dynamic_thresholding_ratio=percentile, sample_max_value=1e9)
    ours = Thresholded("dynamic", percentile).bind(Says(x0), LEVELS)(x0, torch.tensor(1.0))
    assert torch.allclose(ours, scheduler._threshold_sample(x0), atol=1e-6)
    assert float(ours.abs().max()) <= 1


# --- temperature ----------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.0, 0.5, 1.3])
def test_temperature_scales_what_differs_from_the_mean(temperature: float) -> None:
    """A Gaussian's x - mu by as much as the starting noise, but for the little of mu that is seen at the top."""
    data = Gaussian(0.3, 0.5)
    settings = Sampling.model_validate({"sampler": "heun", "steps": 100, "temperature": temperature, "guidance": 1})

    def drawn(settings: Sampling) -> Tensor:
        path = draw_path(data, None, (1, 4, 4), (0, 1), settings, levels_of(settings), torch.device("cpu"))
        return last(path)

    whole = drawn(settings.model_copy(update={"temperature": 1.0}))
    assert torch.allclose(drawn(settings) - 0.3, temperature * (whole - 0.3), atol=3e-3)


# --- conditions -----------------------------------------------------------------------------------


def test_dropping_takes_the_null_where_it_is_told() -> None:
    cond = told(0.7, 0.4, 4, (0.1, 0.9))
    dropped = cond.drop(torch.tensor([True, False, False, True]))
    assert dropped.vector is not None
    assert dropped.vector[:, 0].tolist() == [0.1, 0.7, 0.7, 0.1]
    assert dropped.null is cond.null


def test_joining_is_one_after_the_other() -> None:
    cond = told(0.7, 0.4, 2, (0.1, 0.9))
    joined = Condition.join([cond, cond.without()])
    assert joined.vector is not None
    assert joined.vector[:, 0].tolist() == [0.7, 0.7, 0.1, 0.1]
    assert Condition.join([Condition(), Condition()]).vector is None
