"""Classifier-free guidance on Gaussians, where it is known what it does."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from imagen_workbench.core.conditioning import Condition
from imagen_workbench.core.errors import RequestError
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.sampling.guidance import ClassifierFree, conditioned
from imagen_workbench.core.sampling.samplers import heun
from imagen_workbench.core.schedule import karras
from imagen_workbench.core.testing.denoising import last

LEVELS = karras(400, 0.002, 80.0)


class ToldGaussian:
    """D for data N(m, s²) where the condition's vector is (m, s) itself. x: [b]."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        assert cond is not None
        assert cond.vector is not None
        self.batches.append(len(x))
        assert len(cond.vector) == len(x)
        mean, spread = cond.vector.unbind(1)
        return (spread**2 * x + sigma**2 * mean) / (spread**2 + sigma**2)


def told(mean: float, spread: float, count: int, null: tuple[float, float] | None = None) -> Condition:
    def rows(pair: tuple[float, float]) -> Tensor:
        return torch.tensor([pair], dtype=torch.float64).expand(count, 2)

    return Condition(rows((mean, spread)), null=None if null is None else Condition(rows(null)))


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
