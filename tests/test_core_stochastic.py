"""Samplers that stir in noise: their variance to the last digit, their limits, and an independent implementation.

For Gaussian data D is linear, and so is a sampler in its start and in each of its noises. One image is given the start
alone, and one each of the noises; what they end as are the coefficients, whose squares sum to the variance.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, DPMSolverMultistepScheduler, EulerAncestralDiscreteScheduler
from diffusers_loop import stepped, stepped_in_its_frame
from torch import Tensor

from imagen_workbench.core.randomness import ImageNoise, generator
from imagen_workbench.core.sampling.samplers import Step, dpmpp_2m, euler
from imagen_workbench.core.sampling.stochastic import ddpm, dpmpp_2m_sde, langevin, predictor_corrector
from imagen_workbench.core.schedule import exponential, karras
from imagen_workbench.core.testing.denoising import Gaussian, Mixture
from imagen_workbench.core.testing.sampling import last

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Sampled = Callable[..., Iterator[Step]]

MODES = Mixture([0.2, 0.5, 0.3], torch.tensor([[0.8, 0.0], [-0.6, 0.5], [-0.3, -0.8]]), [0.05, 0.1, 0.02])


def start_at(sigma: float) -> Tensor:
    return sigma * torch.randn(16, 2, generator=generator(4, "oracle"), dtype=torch.float64)


def coefficients(sampler: Sampled, spread: float, levels: Tensor, noises: int) -> Tensor:
    """[1 + noises]: what the start and each noise count for in the end, for data N(0, spread²)."""
    units = torch.eye(1 + noises, dtype=torch.float64)
    fresh = iter(units[1:])
    end = last(sampler(Gaussian(0.0, spread), units[0], levels, lambda _: next(fresh)))
    assert next(fresh, None) is None, "there were fewer noises"
    return end


def variance(sampler: Sampled, spread: float, levels: Tensor, noises: int) -> float:
    """Of the end, from a start that has the right one."""
    each = coefficients(sampler, spread, levels, noises).square()
    return float(each[0] * (spread**2 + levels[0] ** 2) + each[1:].sum())


# --- the reverse SDE ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sampler", "order"),
    [
        (ddpm, 1),
        (partial(ddpm, eta=0.5), 1),
        (dpmpp_2m_sde, 2),
        (partial(dpmpp_2m_sde, eta=0.5), 2),
    ],
)
def test_the_error_of_the_variance_falls_with_its_order(sampler: Sampled, order: int) -> None:
    counts, spread = (64, 128, 256), 0.5
    errors = [abs(variance(sampler, spread, karras(n + 1, 0.05, 20.0)[:-1], n) - (spread**2 + 0.05**2)) for n in counts]
    slope, _ = np.polyfit(-np.log(counts), np.log(errors), 1)
    assert slope == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize("sampler", [ddpm, partial(ddpm, eta=0.3), dpmpp_2m_sde, partial(dpmpp_2m_sde, eta=0.3)])
def test_the_mean_stays_where_it_is(sampler: Sampled) -> None:
    """D of the mean is the mean, so that without noise nothing moves."""
    start = torch.full((1, 1), 0.7, dtype=torch.float64)
    end = last(sampler(Gaussian(0.7, 0.5), start, karras(30, 0.002, 80.0), torch.zeros_like))
    assert float(end) == pytest.approx(0.7, abs=1e-12)


def test_a_ddpm_step_is_the_posterior() -> None:
    """N(r² x + (1 - r²) D, sigma'² (1 - r²)), of which D is the mean of the clean images."""
    s, s_next, x0 = 2.0, 0.7, 0.4
    r2 = (s_next / s) ** 2

    def denoise(x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        return torch.full_like(x, x0)

    x, n = torch.tensor([1.5, 1.5], dtype=torch.float64), torch.tensor([0.0, 1.0], dtype=torch.float64)
    end = last(ddpm(denoise, x, torch.tensor([s, s_next], dtype=torch.float64), lambda _: n))
    expected = r2 * 1.5 + (1 - r2) * x0
    assert end.tolist() == pytest.approx([expected, expected + s_next * math.sqrt(1 - r2)], abs=1e-12)


def test_without_fresh_noise_ddpm_is_euler() -> None:
    levels = karras(12, 0.002, 80.0)
    assert torch.equal(last(ddpm(MODES, start_at(80.0), levels, eta=0.0)), last(euler(MODES, start_at(80.0), levels)))


def test_without_fresh_noise_sde_2m_is_2m() -> None:
    levels, start = karras(12, 0.002, 80.0), start_at(80.0)
    ours = last(dpmpp_2m_sde(MODES, start, levels, eta=0.0))
    assert torch.allclose(ours, last(dpmpp_2m(MODES, start, levels)), atol=1e-12)


# --- Langevin -------------------------------------------------------------------------------------


@pytest.mark.parametrize("snr", [0.1, 0.16, 0.5])
@pytest.mark.parametrize(("spread", "sigma"), [(0.5, 0.5), (0.2, 3.0), (1.0, 0.8)])
def test_langevin_at_one_level_settles_at_its_known_variance(snr: float, spread: float, sigma: float) -> None:
    """x <- x - eps x / v + sqrt(2 eps) n has the variance v / (1 - eps / (2 v)), where p_sigma has v = s² + sigma²."""
    v, eps = spread**2 + sigma**2, 2 * snr**2 * sigma**2
    steps = math.ceil(12 / -math.log(abs(1 - eps / v)))  # what it started from counts e^-24
    found = variance(
        partial(langevin, corrections=steps, snr=snr),
        spread,
        torch.tensor([sigma, 0.9 * sigma], dtype=torch.float64),
        steps,
    )
    assert found == pytest.approx(v / (1 - eps / (2 * v)), rel=1e-8)


def test_annealed_langevin_nears_the_data_with_more_corrections() -> None:
    levels, spread = exponential(30, 0.002, 10.0), 0.5
    excess = [
        variance(partial(langevin, corrections=k, snr=0.2), spread, levels, 30 * k) / spread**2 - 1
        for k in (20, 40, 80, 160)
    ]
    assert all(more < 0.6 * fewer for fewer, more in pairwise(excess))
    assert 0 < excess[-1] < 0.03


def test_predictor_corrector_has_the_right_spread_at_every_level() -> None:
    """8,192 values at each: to the bias of its Langevin steps, snr², and four standard errors."""
    spread, levels, noise = 0.5, karras(100, 0.002, 80.0), ImageNoise(1, tuple(range(16)))
    start = torch.randn(16, 512, generator=generator(3, "start"), dtype=torch.float64) * math.hypot(80, spread)
    steps = predictor_corrector(Gaussian(0.0, spread), start, levels, lambda like: noise((512,), like))
    for step in steps:
        if step.sigma > 0:
            found = float(step.x.square().mean().sqrt()) / math.hypot(spread, step.sigma)
            assert abs(found - 1) < 0.16**2 + 4 / math.sqrt(2 * step.x.numel())


def test_corrections_mend_what_large_steps_of_the_predictor_miss() -> None:
    """DDPM in 20 levels draws too little spread; a correction a level brings most of it back."""
    spread, levels = 0.5, karras(20, 0.002, 80.0)
    noise = ImageNoise(1, tuple(range(16)))
    start = torch.randn(16, 512, generator=generator(3, "start"), dtype=torch.float64) * 80
    missing = 1 - math.sqrt(variance(ddpm, spread, levels, 19)) / spread
    end = last(predictor_corrector(Gaussian(0.0, spread), start, levels, lambda like: noise((512,), like)))
    assert missing > 0.2
    assert abs(1 - float(end.square().mean().sqrt()) / spread) < missing / 2


def test_a_correction_is_as_long_for_each_image_as_its_own_score_says() -> None:
    """eps = 2 (snr |n| / |s|)² (Song et al. 2021, Alg. 4), image by image."""
    sigma, spread = 0.5, 0.3
    x = torch.tensor([[1.0, 2.0], [-3.0, 0.5]], dtype=torch.float64)
    n = torch.tensor([[0.3, -0.4], [2.0, 1.0]], dtype=torch.float64)
    noises = iter([torch.zeros_like(x), n])
    levels = torch.tensor([sigma * (1 + 1e-12), sigma], dtype=torch.float64)  # the predictor all but stays
    end = last(predictor_corrector(Gaussian(0.0, spread), x, levels, lambda _: next(noises), snr=0.2))
    score = -x / (spread**2 + sigma**2)
    eps = 2 * (0.2 * n.norm(dim=1, keepdim=True) / score.norm(dim=1, keepdim=True)) ** 2
    assert torch.allclose(end, x + eps * score + (2 * eps).sqrt() * n, atol=1e-9)


# --- an independent implementation ----------------------------------------------------------------


def drawn(count: int) -> list[Tensor]:
    random = generator(6, "oracle")
    return [torch.randn(16, 2, generator=random, dtype=torch.float64) for _ in range(count)]


# numpy's word to diffusers about its own arrays
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("data", [Gaussian(0.2, 0.4), MODES], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("steps", [10, 25])
def test_sde_2m_agrees_with_diffusers_sde_dpm_solver(steps: int, data: Any) -> None:
    scheduler = DPMSolverMultistepScheduler(
        beta_schedule="linear",
        use_karras_sigmas=True,
        algorithm_type="sde-dpmsolver++",
        solver_order=2,
        solver_type="midpoint",
    )
    scheduler.set_timesteps(steps)
    scheduler.sigmas = scheduler.sigmas.double()
    levels, noises = scheduler.sigmas, drawn(steps)
    x, fresh = start_at(float(levels[0])), iter(noises)
    theirs = stepped_in_its_frame(scheduler, data, x, levels, variance_noise=iter(noises))
    # what it adds is in the frame z = x / sqrt(1 + sigma²), of the same noise
    assert torch.allclose(last(dpmpp_2m_sde(data, x, levels, lambda _: next(fresh))), theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ddpm_agrees_with_diffusers_ddim_with_eta(eta: float) -> None:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    alphas, noises = scheduler.alphas_cumprod[scheduler.timesteps], drawn(20)
    levels = torch.cat([((1 - alphas) / alphas).sqrt(), alphas.new_zeros(1)])
    x, fresh = start_at(float(levels[0])), iter(noises)
    theirs = stepped_in_its_frame(scheduler, MODES, x, levels, variance_noise=iter(noises), eta=eta)
    assert torch.allclose(last(ddpm(MODES, x, levels, lambda _: next(fresh), eta=eta)), theirs, rtol=0, atol=1e-6)


def test_ddpm_agrees_with_diffusers_ddpm() -> None:
    """Down its own table of a thousand levels, a twentieth of them, with the noise that it draws itself."""
    scheduler = DDPMScheduler(beta_schedule="linear", clip_sample=False, variance_type="fixed_small")
    scheduler.set_timesteps(50)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    alphas, noises = scheduler.alphas_cumprod[scheduler.timesteps], drawn(50)
    levels = torch.cat([((1 - alphas) / alphas).sqrt(), alphas.new_zeros(1)])
    x, fresh = start_at(float(levels[0])), iter(noises)
    theirs = stepped_in_its_frame(scheduler, MODES, x, levels, generator=generator(6, "oracle"))
    assert torch.allclose(last(ddpm(MODES, x, levels, lambda _: next(fresh))), theirs, rtol=0, atol=1e-6)


# numpy's word to diffusers about its own arrays
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_ddpm_agrees_with_diffusers_euler_ancestral() -> None:
    scheduler = EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear", timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    levels, noises = scheduler.sigmas.double(), drawn(20)
    x, fresh = start_at(float(levels[0])), iter(noises)
    random = generator(6, "oracle")
    theirs = stepped(scheduler, MODES, x, lambda x, x0, sigma: (x - x0) / sigma, generator=random)
    assert torch.allclose(last(ddpm(MODES, x, levels, lambda _: next(fresh))), theirs, rtol=0, atol=1e-6)
