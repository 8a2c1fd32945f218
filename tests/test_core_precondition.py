"""From predictions to D: every prediction made of one image and one noise gives the same clean image."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import pytest
import torch
from torch import Tensor

from imagen_workbench.core.precondition import Preconditioning, Prediction, per_image
from imagen_workbench.core.randomness import generator
from imagen_workbench.core.recipe import Network
from imagen_workbench.core.schedule import Cosine, Flow, VariancePreservingLinear

if TYPE_CHECKING:
    from imagen_workbench.core.conditioning import Condition

PREDICTIONS: tuple[Prediction, ...] = get_args(Prediction)
SCHEDULES = ("edm", "vp-linear", "cosine", "flow")
LEVELS = torch.logspace(-3, 3, 20, dtype=torch.float64)


def noisy(sigma_data: float) -> tuple[Tensor, Tensor, Tensor]:
    """(x0, n, x = x0 + sigma n), one image for each level."""
    x0 = sigma_data * torch.randn(20, 3, 4, 4, generator=generator(0, "x0"), dtype=torch.float64)
    n = torch.randn(x0.shape, generator=generator(0, "n"), dtype=torch.float64)
    return x0, n, x0 + per_image(LEVELS, x0) * n


def as_published(prediction: Prediction, x0: Tensor, n: Tensor, sigma: Tensor, sigma_data: float) -> Tensor:
    """What a perfect network gives, by each paper's own definition in its own frame."""
    match prediction:
        case "eps":
            return n
        case "x0":
            return x0
        case "velocity":  # z = (1 - t) x0 + t n moves with n - x0
            return n - x0
        case "v":  # of z = alpha x0 + beta n with alpha² + beta² = 1
            angle = torch.atan(sigma)
            return torch.cos(angle) * n - torch.sin(angle) * x0
        case "F":  # Karras et al. 2022, Eq. 8
            total = sigma**2 + sigma_data**2
            skip, out = sigma_data**2 / total, sigma * sigma_data / total.sqrt()
            return (x0 - skip * (x0 + sigma * n)) / out


def test_the_recipe_offers_what_is_known_here() -> None:
    fields = Network.model_json_schema()["properties"]
    assert set(fields["prediction"]["enum"]) == set(PREDICTIONS)
    assert set(fields["schedule"]["enum"]) == set(SCHEDULES)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("sigma_data", [0.3, 0.5, 1.0])
def test_the_right_prediction_gives_the_clean_image(prediction: Prediction, schedule: str, sigma_data: float) -> None:
    """Whatever the network sees of it; and `target` is that prediction."""
    x0, n, x = noisy(sigma_data)
    right = as_published(prediction, x0, n, per_image(LEVELS, x), sigma_data)
    way = Preconditioning(prediction, schedule, 1.0, sigma_data)

    def network(scaled: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
        assert scaled.shape == x.shape
        assert noise.shape == (20,)
        return right

    assert torch.allclose(way.denoise(network, x, LEVELS, None), x0, atol=1e-10)
    # the error of x - skip x0 is divided by c_out where noise is low, and multiplied by sigma where it is high
    assert torch.allclose(way.target(x, x0, LEVELS), right, atol=1e-10)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_float32_is_enough(prediction: Prediction) -> None:
    """To a hundred-thousandth of the larger of image and noise."""
    x0, _, x = (each.float() for each in noisy(0.5))
    sigma = LEVELS.float()
    way = Preconditioning(prediction)
    right = way.target(x, x0, sigma)
    found = way.denoise(lambda _scaled, _noise, _cond: right, x, sigma, None)
    assert ((found - x0).abs() <= 1e-5 * per_image(sigma.clamp(min=1), x)).all()


@pytest.mark.parametrize("prediction", ["F", "eps", "v", "velocity"])
def test_the_noisy_image_is_returned_where_there_is_no_noise(prediction: Prediction) -> None:
    """c_out → 0 and D → x as sigma → 0, whatever the network says; in float32 as well."""
    x = torch.randn(2, 1, 4, 4, generator=generator(0, "x"))

    def network(scaled: Tensor, noise: Tensor, cond: Condition | None) -> Tensor:
        return torch.full_like(scaled, 3.0)

    for schedule in SCHEDULES:
        for sigma in (1e-3, 1e-5, 1e-8):
            x0 = Preconditioning(prediction, schedule).denoise(network, x, torch.tensor(sigma), None)
            assert torch.isfinite(x0).all()
            assert float((x0 - x).abs().max()) <= (3.1 + float(x.abs().max())) * sigma + 5e-7


@pytest.mark.parametrize("prediction", ["F", "v", "velocity", "x0"])
def test_pure_noise_is_forgotten_at_the_top(prediction: Prediction) -> None:
    """c_skip → 0 and c_out stays finite, so that D is the network's alone; the noise itself cannot tell D there."""
    skip, out = Preconditioning(prediction).output(torch.tensor(1e9, dtype=torch.float64))
    assert float(skip) == pytest.approx(0, abs=1e-8)
    assert abs(float(out)) == pytest.approx(0.5 if prediction == "F" else 1)
    assert float(Preconditioning("eps").output(torch.tensor(1e9))[1]) == -1e9


# --- unit variance --------------------------------------------------------------------------------


@pytest.mark.parametrize("sigma_data", [0.3, 0.5, 1.0])
def test_the_network_sees_and_predicts_unit_variance(sigma_data: float) -> None:
    """Var[c_in x] = Var[F*] = 1 exactly, from the coefficients of x0 and n."""
    way = Preconditioning(sigma_data=sigma_data)
    (skip, out), (scale, _) = way.output(LEVELS), way.input(LEVELS)
    one = torch.ones(20, dtype=torch.float64)
    assert torch.allclose(scale**2 * (sigma_data**2 + LEVELS**2), one, rtol=1e-12)
    # F* = ((1 - c_skip) x0 - c_skip sigma n) / c_out
    assert torch.allclose(((1 - skip) ** 2 * sigma_data**2 + (skip * LEVELS) ** 2) / out**2, one, rtol=1e-9)


@pytest.mark.parametrize("schedule", ["vp-linear", "cosine"])
def test_variance_preserving_families_show_unit_variance_for_data_of_unit_variance(schedule: str) -> None:
    scale, _ = Preconditioning("v", schedule).input(LEVELS)
    assert torch.allclose(scale**2 * (1 + LEVELS**2), torch.ones(20, dtype=torch.float64), rtol=1e-12)


def test_unit_variance_by_drawing() -> None:
    x0 = 0.5 * torch.randn(1_000_000, generator=generator(0, "x0"), dtype=torch.float64)
    n = torch.randn(1_000_000, generator=generator(0, "n"), dtype=torch.float64)
    way = Preconditioning()
    for sigma in (0.01, 0.5, 20.0):
        level = torch.tensor([sigma], dtype=torch.float64)
        x = (x0 + sigma * n)[None]
        assert float((way.input(level)[0] * x).var()) == pytest.approx(1, rel=0.01)
        assert float(way.target(x, x0[None], level).var()) == pytest.approx(1, rel=0.01)


# --- identities -----------------------------------------------------------------------------------


def test_at_unit_spread_f_is_minus_v() -> None:
    f, v = Preconditioning("F", sigma_data=1.0), Preconditioning("v")
    x0, _, x = noisy(1.0)
    assert torch.allclose(f.target(x, x0, LEVELS), -v.target(x, x0, LEVELS), atol=1e-10)


@pytest.mark.parametrize(
    ("schedule", "family"), [("vp-linear", VariancePreservingLinear()), ("cosine", Cosine(2.0)), ("flow", Flow(2.0))]
)
def test_a_family_s_own_frame_and_time_are_what_the_network_sees(schedule: str, family: Flow) -> None:
    """z = alpha x, and 4 t - 2: as wide as EDM's ln(sigma) / 4."""
    levels = LEVELS[LEVELS < 100]
    scale, label = Preconditioning("v", schedule, 2.0).input(levels)
    assert torch.equal(scale, family.scale(levels))
    assert torch.allclose(family.sigma((label + 2) / 4), levels, rtol=1e-9)
    assert -2 < float(label[0]) < float(label[-1]) < 2


def test_edm_tells_a_quarter_of_the_logarithm() -> None:
    assert Preconditioning().input(torch.tensor([math.exp(-4), 1.0, math.e]))[1].tolist() == pytest.approx(
        [-1, 0, 0.25]
    )


def test_flow_sees_its_interpolation() -> None:
    """alpha x = (1 - t) x0 + t n at sigma = t / (1 - t), whatever the shift."""
    t = torch.linspace(0.01, 0.99, 20, dtype=torch.float64)
    x0, n, _ = noisy(0.5)
    for shift in (1.0, 3.0):
        sigma = t / (1 - t)
        scale, _ = Preconditioning("velocity", "flow", shift).input(sigma)
        shown = per_image(scale, x0) * (x0 + per_image(sigma, x0) * n)
        assert torch.allclose(shown, per_image(1 - t, x0) * x0 + per_image(t, x0) * n, atol=1e-12)


def test_the_sum_is_made_in_the_number_format_of_x() -> None:
    x, way = torch.ones(2, 1, 2, 2), Preconditioning()
    x0 = way.denoise(lambda scaled, _noise, _cond: scaled.bfloat16(), x, torch.tensor([1.0, 2.0]), None)
    assert x0.dtype == torch.float32
    assert way.denoise(lambda scaled, _n, _c: scaled, x.double(), torch.tensor(1.0), None).dtype == torch.float64
