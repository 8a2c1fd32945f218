"""Samplers against data whose answer is known, and against an independent implementation."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
import torch
from diffusers import (
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
)
from torch import Tensor

from imagen_workbench.core.precondition import Preconditioning
from imagen_workbench.core.randomness import ImageNoise, generator
from imagen_workbench.core.recipe import Sampling
from imagen_workbench.core.sampling.path import SAMPLERS, draw_path, levels_of
from imagen_workbench.core.sampling.samplers import Step, dpmpp_2m, euler, heun, unipc
from imagen_workbench.core.sampling.stochastic import ddpm, dpmpp_2m_sde, langevin, predictor_corrector
from imagen_workbench.core.schedule import karras
from imagen_workbench.core.testing import SamplerContract
from imagen_workbench.core.testing.denoising import Gaussian, last, order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class TestEuler(SamplerContract):
    sampler = staticmethod(euler)
    order = 1


class TestHeun(SamplerContract):
    sampler = staticmethod(heun)
    order = 2


class TestDpmpp2m(SamplerContract):
    sampler = staticmethod(dpmpp_2m)
    order = 2


class TestUniPC(SamplerContract):
    sampler = staticmethod(unipc)
    order = 3


def test_every_sampler_of_the_recipe_is_under_contract() -> None:
    under_contract = {euler, heun, dpmpp_2m, unipc, ddpm, dpmpp_2m_sde, langevin, predictor_corrector}
    assert under_contract == set(SAMPLERS.values())
    assert set(SAMPLERS) == set(Sampling.model_json_schema()["properties"]["sampler"]["enum"])


# --- convergence ----------------------------------------------------------------------------------

MEAN, SPREAD = torch.tensor([0.3, -0.5, 0.1]), torch.tensor([0.2, 0.5, 1.0])


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)])
def test_order_over_the_whole_range(sampler: Callable[..., Iterator[Step]], order: int) -> None:
    assert order_of(sampler, (16, 32, 64, 128, 256)) == pytest.approx(order, abs=0.25)
    assert order_of(sampler, (64, 128, 256)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("sampler", "ratio"), [(euler, 2.0), (heun, 4.0)])
def test_twice_the_steps_divide_the_largest_error(sampler: Callable[..., Iterator[Step]], ratio: float) -> None:
    data = Gaussian(MEAN, SPREAD)
    start = 20 * torch.randn(16, 3, generator=generator(0, "start"), dtype=torch.float64)
    answer = data.carried(start, 20.0, 0.05)
    coarse, fine = (
        float((last(sampler(data, start, karras(n + 1, 0.05, 20.0)[:-1])) - answer).abs().max()) for n in (64, 128)
    )
    assert coarse / fine == pytest.approx(ratio, rel=0.1)


def test_network_calls_are_what_the_methods_promise() -> None:
    start, levels = torch.zeros(1, 3, dtype=torch.float64), karras(18, 0.002, 80.0)
    for sampler, calls in ((euler, 18), (heun, 35), (dpmpp_2m, 18)):
        *_, end = sampler(Gaussian(MEAN, SPREAD), start, levels)
        assert end.nfe == calls


def test_euler_is_ddim_with_eta_0() -> None:
    """In the variance-preserving frame z = x / sqrt(1 + sigma²), DDIM's own formula (Song et al. 2021, Eq. 12)."""
    data, levels = Gaussian(MEAN, SPREAD), karras(12, 0.05, 20.0)[:-1]
    x = 20 * torch.randn(4, 3, generator=generator(2, "start"), dtype=torch.float64)
    z = x / math.sqrt(1 + 20.0**2)
    for s, s_next in zip(levels[:-1].tolist(), levels[1:].tolist(), strict=True):
        alpha_bar, alpha_bar_next = 1 / (1 + s**2), 1 / (1 + s_next**2)
        x0 = data(z / math.sqrt(alpha_bar), torch.tensor(s))
        eps = (z - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar)
        z = math.sqrt(alpha_bar_next) * x0 + math.sqrt(1 - alpha_bar_next) * eps
    assert torch.allclose(last(euler(data, x, levels)), z * math.sqrt(1 + levels[-1] ** 2), atol=1e-12)


# --- data that is no Gaussian ---------------------------------------------------------------------


class Mixture:
    """D for a mixture of Gaussians in the plane, in closed form."""

    weights = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    means = torch.tensor([[0.8, 0.0], [-0.6, 0.5], [-0.3, -0.8]], dtype=torch.float64)
    spread = torch.tensor([0.05, 0.1, 0.02], dtype=torch.float64)

    def __call__(self, x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        total = self.spread**2 + sigma[:, None] ** 2  # [b k]
        away = x[:, None] - self.means  # [b k 2]
        logits = self.weights.log() - total.log() - away.square().sum(2) / (2 * total)
        share = logits.softmax(1)[..., None]
        return (share * (self.means + (self.spread**2 / total)[..., None] * away)).sum(1)


@pytest.mark.parametrize("sampler", [heun, dpmpp_2m])
def test_a_mixture_in_the_plane_is_met(sampler: Callable[..., Iterator[Step]]) -> None:
    """Every point lands on a mode, each mode gets its share, and each has its own spread."""
    n, data = 2000, Mixture()
    start = 80 * torch.randn(n, 2, generator=generator(0, "mixture"), dtype=torch.float64)
    end = last(sampler(data, start, karras(60, 0.002, 80.0)))
    away = (end[:, None] - data.means).norm(dim=2)
    nearest = (away / data.spread).argmin(1)
    assert (away / data.spread).min(1).values.max() < 5.5
    for k in range(3):
        share, expected = float((nearest == k).double().mean()), float(data.weights[k])
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)
        spread = (end[nearest == k] - data.means[k]).std()
        assert float(spread / data.spread[k]) == pytest.approx(1, abs=4 / math.sqrt(2 * 2 * n * expected) + 0.01)


# --- churn ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("churn", [1.0, 10.0, 40.0])
def test_churn_keeps_the_spread(churn: float) -> None:
    """A sampler of Gaussian data is linear in its start and in every noise: its variance is summed exactly.

    One image for the start and one for each noise; each is 1 in its own and 0 in all the others.
    """
    spread, n = 0.5, 300
    levels = karras(n, 0.002, 80.0)
    shares = torch.eye(n + 2, dtype=torch.float64)
    noises = iter(shares[1:])
    *_, end = heun(Gaussian(0.0, spread), shares[0], levels, lambda _: next(noises), churn=churn)
    start_variance = spread**2 + 80.0**2
    variance = end.x[0] ** 2 * start_variance + end.x[1:].square().sum()
    assert float(variance) == pytest.approx(spread**2, rel=5e-3)
    assert end.x[1:].abs().max() > 0


def test_churn_only_acts_where_it_is_asked_to() -> None:
    data, start = Gaussian(MEAN, SPREAD), torch.full((2, 3), 30.0, dtype=torch.float64)
    levels = karras(12, 0.01, 80.0)
    asked = []

    def noise(like: Tensor) -> Tensor:
        asked.append(like.shape)
        return torch.zeros_like(like)

    steps = list(heun(data, start, levels, noise, churn=5, churn_min=0.1, churn_max=10))
    inside = int(((levels >= 0.1) & (levels <= 10)).sum())
    assert len(asked) == inside
    gamma = min(5 / 12, math.sqrt(2) - 1)
    told = [step.sigma for step in steps if not step.trial]
    expected = [s * (1 + gamma) if 0.1 <= s <= 10 else s for s in levels.tolist()]
    assert told == pytest.approx(expected)


def test_churn_without_noise_is_our_own_mistake() -> None:
    with pytest.raises(ValueError, match="noise"):
        next(heun(Gaussian(0.0, 1.0), torch.zeros(1, 1), karras(3, 0.1, 1.0), churn=1.0))


# --- noise belongs to the image -------------------------------------------------------------------


def test_an_images_noise_does_not_depend_on_its_batch() -> None:
    alone, among = ImageNoise(7, (3,)), ImageNoise(7, (0, 3, 9))
    for _ in range(3):
        assert torch.equal(alone((1, 4, 4))[0], among((1, 4, 4))[1])
    assert not torch.equal(ImageNoise(7, (3,))((8,)), ImageNoise(8, (3,))((8,)))
    assert not torch.equal(ImageNoise(7, (3,))((8,)), ImageNoise(7, (4,))((8,)))


@pytest.mark.parametrize("settings", [{"sampler": "heun", "churn": 20}, {"sampler": "euler"}, {"sampler": "dpmpp-2m"}])
def test_a_draw_may_be_split_anyhow(settings: dict[str, object]) -> None:
    """Bitwise, with fresh noise on the way."""
    data, chosen = Gaussian(0.1, 0.4), Sampling.model_validate({"steps": 7, "seed": 5, **settings})

    def drawn(indices: tuple[int, ...]) -> Tensor:
        return last(draw_path(data, None, (1, 4, 4), indices, chosen, levels_of(chosen), torch.device("cpu")))

    whole = drawn(tuple(range(6)))
    assert torch.equal(whole, torch.cat([drawn((0,)), drawn((1, 2)), drawn((3, 4, 5))]))
    assert torch.equal(whole[4:5], drawn((4,)))


def test_noise_is_standard_normal() -> None:
    noise = ImageNoise(0, tuple(range(50)))((2000,))
    assert float(noise.mean()) == pytest.approx(0, abs=4 / math.sqrt(noise.numel()))
    assert float(noise.var()) == pytest.approx(1, abs=4 * math.sqrt(2 / noise.numel()))
    together = torch.corrcoef(noise)
    together.fill_diagonal_(0)
    assert together.abs().max() < 5 / math.sqrt(2000)


# --- an independent implementation ----------------------------------------------------------------


def _stepped(
    scheduler: object, data: Gaussian, x: Tensor, predict: Callable[[Tensor, Tensor, Tensor], Tensor]
) -> Tensor:
    """diffusers' own loop: what a pipeline does."""
    for index, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[scheduler.step_index if scheduler.step_index is not None else index]
        scheduler.scale_model_input(x, t)
        x0 = data(x, sigma.expand(len(x)).to(x.dtype))
        x = scheduler.step(predict(x, x0, sigma), t, x).prev_sample
    return x


def _levels_of(scheduler: object) -> Tensor:
    """Its levels, each once: Heun's list has the inner ones twice."""
    levels = scheduler.sigmas.double()
    return torch.cat([levels[:1], levels[1:][levels[1:] != levels[:-1]]])


def _edm_prediction(x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """F from D, since these schedulers precondition themselves."""
    return Preconditioning(sigma_data=0.5).target(x, x0, sigma.to(x.dtype))


def _start(sigma: float) -> Tensor:
    return sigma * torch.randn(16, 3, generator=generator(4, "oracle"), dtype=torch.float64)


def test_euler_agrees_with_diffusers_edm_euler() -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    scheduler.set_timesteps(20)
    ours = karras(20, 0.002, 80.0)
    assert torch.allclose(scheduler.sigmas.double(), ours, rtol=1e-5)
    data, x = Gaussian(MEAN, SPREAD), _start(80.0)
    theirs = _stepped(scheduler, data, x, _edm_prediction)
    assert torch.allclose(last(euler(data, x, _levels_of(scheduler))), theirs.double(), atol=2e-4)


def test_dpmpp_2m_agrees_with_diffusers_edm_dpm_solver() -> None:
    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0, solver_order=2, solver_type="midpoint"
    )
    scheduler.set_timesteps(20)
    data, x = Gaussian(MEAN, SPREAD), _start(80.0)
    theirs = _stepped(scheduler, data, x, _edm_prediction)
    assert torch.allclose(last(dpmpp_2m(data, x, _levels_of(scheduler))), theirs.double(), atol=2e-4)


# numpy's word to diffusers about its own arrays
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("ours", "theirs"), [(euler, EulerDiscreteScheduler), (heun, HeunDiscreteScheduler)])
def test_euler_and_heun_agree_with_diffusers_discrete(ours: Callable[..., Iterator[Step]], theirs: type) -> None:
    """On the levels of its own table, from the noise it predicts."""
    scheduler = theirs(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True)
    scheduler.set_timesteps(15)
    levels = _levels_of(scheduler)
    data, x = Gaussian(MEAN, SPREAD), _start(float(levels[0]))
    end = _stepped(scheduler, data, x, lambda x, x0, sigma: (x - x0) / sigma)
    assert torch.allclose(last(ours(data, x, levels)), end.double(), atol=2e-4)
