"""Averages with a power-function profile (Karras et al. 2024, arXiv 2312.02696)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from imagen_workbench.core.recipe import Training
from imagen_workbench.core.training import ema

# METHODS.md, B2: relative width → exponent
TABLE = [(0.05, 16.97), (0.10, 6.94), (0.15, 3.56), (0.20, 1.83), (0.25, 0.72)]


@pytest.mark.parametrize(("length", "g"), TABLE)
def test_exponents_are_those_of_the_paper(length: float, g: float) -> None:
    assert ema.exponent(length) == pytest.approx(g, abs=0.006)


@given(st.floats(0.01, 0.2885))
def test_exponent_inverts_the_width(length: float) -> None:
    """sigma_rel = sqrt((g+1) / ((g+2)² (g+3))), the spread of the profile relative to its end."""
    g = ema.exponent(length)
    assert math.sqrt((g + 1) / ((g + 2) ** 2 * (g + 3))) == pytest.approx(length, rel=1e-9)


@pytest.mark.parametrize("length", [0.05, 0.1, 0.2])
def test_the_width_is_that_of_the_profile(length: float) -> None:
    """p(t) = (g+1) t^g on [0, 1], its standard deviation by integration."""
    g = ema.exponent(length)
    t = (np.arange(400_000) + 0.5) / 400_000
    p = (g + 1) * t**g
    mean = (p * t).mean()
    assert math.sqrt((p * (t - mean) ** 2).mean()) == pytest.approx(length, rel=1e-6)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.2887, 1.0, math.nan])
def test_widths_that_no_profile_has_are_refused(length: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        ema.exponent(length)


def test_every_length_that_a_recipe_may_ask_for_has_an_exponent() -> None:
    limits = Training.model_json_schema()["properties"]["ema"]
    for length in (limits["minimum"], limits["maximum"]):
        assert ema.exponent(float(ema.name_of(length))) > 0


def test_the_first_average_is_the_weights() -> None:
    assert ema.decay(16, 16, 0.1) == 0
    average, weights = {"w": torch.full((3,), 9.0)}, {"w": torch.tensor([0.1, 0.2, 0.3])}
    ema.update(average, weights, ema.decay(16, 16, 0.1))
    assert torch.equal(average["w"], weights["w"])


@pytest.mark.parametrize("length", [0.05, 0.1, 0.25])
def test_updating_step_by_step_is_the_weighted_average(length: float) -> None:
    """The weight of step i, after T steps, is (i^(g+1) - (i-1)^(g+1)) / T^(g+1): the profile's integral over it."""
    steps, batch = 200, 16
    values = torch.randn(steps, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    average = {"w": torch.full((5,), 1e9, dtype=torch.float64)}
    for i in range(1, steps + 1):
        ema.update(average, {"w": values[i - 1]}, ema.decay(i * batch, batch, length))
    power = ema.exponent(length) + 1
    ends = (torch.arange(steps + 1, dtype=torch.float64) / steps) ** power
    assert torch.allclose(average["w"], (ends.diff()[:, None] * values).sum(0), atol=1e-12)


def test_a_constant_stays_what_it_is() -> None:
    average = {"w": torch.full((2,), 0.3, dtype=torch.float64)}
    for i in range(1, 50):
        ema.update(average, {"w": torch.full((2,), 0.3, dtype=torch.float64)}, ema.decay(i, 1, 0.1))
    assert torch.allclose(average["w"], torch.full((2,), 0.3, dtype=torch.float64))


def test_the_profile_keeps_its_shape() -> None:
    """The same training, measured in finer steps: the average is the same to the order of a step."""

    def averaged(count: int) -> float:
        average = {"w": torch.zeros(1, dtype=torch.float64)}
        for i in range(1, count + 1):
            ema.update(average, {"w": torch.tensor([i / count], dtype=torch.float64)}, ema.decay(i, 1, 0.1))
        return float(average["w"])

    g = ema.exponent(0.1)
    assert averaged(4000) == pytest.approx((g + 1) / (g + 2), abs=1e-3)
    assert averaged(1000) == pytest.approx(averaged(4000), abs=1e-3)


def test_updating_leaves_weights_and_gradients_alone() -> None:
    weights = {"w": torch.nn.Parameter(torch.ones(2))}
    average = {"w": torch.zeros(2)}
    ema.update(average, weights, 0.5)
    assert torch.equal(weights["w"].detach(), torch.ones(2))
    assert not average["w"].requires_grad
    assert torch.is_grad_enabled()
