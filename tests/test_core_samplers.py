"""Samplers against data whose answer is known, and against an independent implementation."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EDMDPMSolverMultistepScheduler,
    EDMEulerScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    UniPCMultistepScheduler,
)
from diffusers_loop import stepped, stepped_in_its_frame
from torch import Tensor

from imagen_workbench.core.precondition import Preconditioning
from imagen_workbench.core.randomness import ImageNoise, generator
from imagen_workbench.core.recipe import Sampling
from imagen_workbench.core.sampling.path import MEASURED_LEVELS, SAMPLERS, draw_path, levels_of, measured_levels
from imagen_workbench.core.sampling.samplers import Step, dpmpp_2m, euler, heun, unipc
from imagen_workbench.core.sampling.stochastic import ddpm, dpmpp_2m_sde, langevin, predictor_corrector
from imagen_workbench.core.schedule import exponential, karras
from imagen_workbench.core.testing import SamplerContract, StochasticSamplerContract
from imagen_workbench.core.testing.denoising import Gaussian, Mixture
from imagen_workbench.core.testing.sampling import last, order_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagen_workbench.core.precondition import Denoiser


# --- the contracts --------------------------------------------------------------------------------


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


class TestDdpm(StochasticSamplerContract):
    sampler = staticmethod(ddpm)
    bias = 0.1


class TestDdpmWithHalfTheNoise(StochasticSamplerContract):
    sampler = staticmethod(partial(ddpm, eta=0.5))
    bias = 0.1


class TestDpmpp2mSde(StochasticSamplerContract):
    sampler = staticmethod(dpmpp_2m_sde)
    bias = 0.01


class TestHeunWithChurn(StochasticSamplerContract):
    sampler = staticmethod(partial(heun, churn=30, churn_min=0.01, churn_max=50))

    def test_it_tells_its_levels_in_order(self) -> None:
        """Churn stirs each level up to a noisier one: see test_churn_only_acts_where_it_is_asked_to."""


class TestLangevin(StochasticSamplerContract):
    sampler = staticmethod(partial(langevin, corrections=50, snr=0.2))


class TestPredictorCorrector(StochasticSamplerContract):
    sampler = staticmethod(predictor_corrector)


def test_every_sampler_of_the_recipe_is_under_contract() -> None:
    contracts = [*SamplerContract.__subclasses__(), *StochasticSamplerContract.__subclasses__()]
    under_contract = {getattr(each.sampler, "func", each.sampler) for each in contracts}
    assert under_contract == set(SAMPLERS.values())
    assert set(SAMPLERS) == set(Sampling.model_json_schema()["properties"]["sampler"]["enum"])


# --- convergence ----------------------------------------------------------------------------------

MEAN, SPREAD = torch.tensor([0.3, -0.5, 0.1]), torch.tensor([0.2, 0.5, 1.0])


@pytest.mark.parametrize(("sampler", "order"), [(euler, 1), (heun, 2), (dpmpp_2m, 2)])
def test_order_over_the_whole_range(sampler: Callable[..., Iterator[Step]], order: int) -> None:
    assert order_of(sampler, (16, 32, 64, 128, 256)) == pytest.approx(order, abs=0.25)
    assert order_of(sampler, (64, 128, 256)) == pytest.approx(order, abs=0.15)


@pytest.mark.parametrize(("predictor", "order"), [(1, 2), (2, 3), (3, 4)])
def test_unipc_with_a_predictor_of_order_p_has_order_p_plus_1(predictor: int, order: int) -> None:
    assert order_of(partial(unipc, order=predictor)) == pytest.approx(order, abs=0.15)


def test_unipc_predicts_as_dpmpp_2m_steps() -> None:
    """UniP-2 with B(h) = e^-h - 1 is DPM-Solver++(2M), from the point that the corrector left."""
    data, levels = Gaussian(MEAN, SPREAD), karras(8, 0.05, 20.0)[:-1]
    start = _start(20.0)
    steps = list(unipc(data, start, levels))
    for i in range(2, len(levels) - 2):
        s_before, s, s_next = levels[i - 1 : i + 2].tolist()
        corrected = last(unipc(data, start, levels[: i + 1]))
        x0_before, x0 = steps[i - 1].x0, steps[i].x0
        target = x0 + (x0 - x0_before) * math.log(s / s_next) / (2 * math.log(s_before / s))
        predicted = s_next / s * corrected + (1 - s_next / s) * target
        assert torch.allclose(steps[i + 1].x, predicted, atol=1e-12)


def test_the_end_of_the_ode_is_met_along_narrow_and_wide_axes() -> None:
    """Variances from 0.01 to 4, from 80 to 0: Heun is right to a thousandth with 200 levels."""
    data = Gaussian(0.0, torch.linspace(0.1, 2.0, 20, dtype=torch.float64))
    start = torch.full((1, 20), 80.0, dtype=torch.float64)
    answer = data.carried(start, 80.0, 0.0)
    coarse, fine = ((last(heun(data, start, karras(n, 0.002, 80.0))) / answer - 1).abs().max() for n in (18, 200))
    assert fine < 1e-3
    assert coarse > 0.01, "or the test would say nothing"


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
    for sampler, calls in ((euler, 18), (heun, 35), (dpmpp_2m, 18), (unipc, 18)):
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


SHARES, SPREADS = [0.2, 0.5, 0.3], [0.05, 0.1, 0.02]
MODES = Mixture(SHARES, torch.tensor([[0.8, 0.0], [-0.6, 0.5], [-0.3, -0.8]]), SPREADS)


@pytest.mark.parametrize("sampler", [heun, dpmpp_2m, unipc])
def test_a_mixture_in_the_plane_is_met(sampler: Callable[..., Iterator[Step]]) -> None:
    """Every point lands on a mode, each mode gets its share, and each has its own spread."""
    n, spreads = 2000, torch.tensor(SPREADS, dtype=torch.float64)
    start = 80 * torch.randn(n, 2, generator=generator(0, "mixture"), dtype=torch.float64)
    end = last(sampler(MODES, start, karras(60, 0.002, 80.0)))
    away = (end[:, None] - MODES.means).norm(dim=2) / spreads
    nearest = away.argmin(1)
    assert away.min(1).values.max() < 5.5
    for k, (expected, width) in enumerate(zip(SHARES, SPREADS, strict=True)):
        share = float((nearest == k).double().mean())
        assert abs(share - expected) < 4 * math.sqrt(expected * (1 - expected) / n)
        found = float((end[nearest == k] - MODES.means[k]).std())
        assert found / width == pytest.approx(1, abs=4 / math.sqrt(2 * 2 * n * expected) + 0.01)


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


@pytest.mark.parametrize("settings", [{"churn": 20}, *({"sampler": name} for name in SAMPLERS)])
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


# --- measured levels ------------------------------------------------------------------------------


def measured(data: Denoiser, steps: int, sampler: str = "heun") -> tuple[Tensor, int]:
    """The levels, and how often the network was asked for them."""
    settings = Sampling.model_validate({"steps": steps, "grid": "measured", "guidance": 1, "sampler": sampler})
    path, turns = measured_levels(data, None, (1, 1, 2), 16, settings, torch.device("cpu")), 0
    while True:
        try:
            next(path)
        except StopIteration as end:
            return end.value, turns
        assert torch.is_grad_enabled()
        turns += 1


def flat(data: Denoiser) -> Denoiser:
    """A denoiser of points, for images of as many values."""
    return lambda x, sigma, cond=None: data(x.flatten(1), sigma).reshape(x.shape)


def test_measured_levels_crowd_where_it_is_hard() -> None:
    """Between narrow modes: which one a point goes to is decided at the noise levels of their distances."""
    levels, turns = measured(flat(MODES), 16, sampler="euler")
    assert turns == MEASURED_LEVELS
    assert levels.shape == (17,)
    assert float(levels[0]) == 80
    assert float(levels[-2]) == pytest.approx(0.002)
    assert (levels.diff() < 0).all()
    even = exponential(16, 0.002, 80.0)

    def hard(levels: Tensor) -> int:
        return int(((levels > 0.3) & (levels < 3)).sum())

    assert hard(levels) >= 1.5 * hard(even)
    start = 80 * torch.randn(300, 2, generator=generator(5, "start"), dtype=torch.float64)
    answer = last(heun(MODES, start, karras(1000, 0.002, 80.0)))
    for sampler, name, share in ((euler, "euler", 0.5), (heun, "heun", 0.75)):
        levels, _ = measured(flat(MODES), 16, sampler=name)
        ours, theirs = (
            float((last(sampler(MODES, start, each)) - answer).square().mean().sqrt()) for each in (levels, even)
        )
        assert ours < share * theirs


def test_measured_levels_are_even_where_nothing_is_hard() -> None:
    """D that never changes: any levels would do."""

    def denoise(x: Tensor, sigma: Tensor, cond: object = None) -> Tensor:
        return torch.zeros_like(x)

    levels, _ = measured(denoise, 12)
    assert torch.allclose(levels, exponential(12, 0.002, 80.0), rtol=1e-9)


# --- an independent implementation ----------------------------------------------------------------


def _levels_of(scheduler: object) -> Tensor:
    """Its levels, each once: Heun's list has the inner ones twice."""
    levels = scheduler.sigmas.double()
    return torch.cat([levels[:1], levels[1:][levels.diff() != 0]])


def _edm_prediction(x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
    """F from D, since these schedulers precondition themselves."""
    return Preconditioning(sigma_data=0.5).target(x, x0, sigma)


def _start(sigma: float) -> Tensor:
    return sigma * torch.randn(16, 3, generator=generator(4, "oracle"), dtype=torch.float64)


def test_euler_agrees_with_diffusers_edm_euler() -> None:
    scheduler = EDMEulerScheduler(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0)
    scheduler.set_timesteps(20)
    ours = karras(20, 0.002, 80.0)
    assert torch.allclose(scheduler.sigmas.double(), ours, rtol=1e-5)
    data, x = Gaussian(MEAN, SPREAD), _start(80.0)
    theirs = stepped(scheduler, data, x, _edm_prediction)
    assert torch.allclose(last(euler(data, x, _levels_of(scheduler))), theirs, rtol=0, atol=1e-6)


def test_dpmpp_2m_agrees_with_diffusers_edm_dpm_solver() -> None:
    scheduler = EDMDPMSolverMultistepScheduler(
        sigma_min=0.002, sigma_max=80.0, sigma_data=0.5, rho=7.0, solver_order=2, solver_type="midpoint"
    )
    scheduler.set_timesteps(20)
    data, x = Gaussian(MEAN, SPREAD), _start(80.0)
    theirs = stepped(scheduler, data, x, _edm_prediction)
    assert torch.allclose(last(dpmpp_2m(data, x, _levels_of(scheduler))), theirs, rtol=0, atol=1e-6)


# numpy's word to diffusers about its own arrays
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize(("ours", "theirs"), [(euler, EulerDiscreteScheduler), (heun, HeunDiscreteScheduler)])
def test_euler_and_heun_agree_with_diffusers_discrete(ours: Callable[..., Iterator[Step]], theirs: type) -> None:
    """On the levels of its own table, from the noise it predicts."""
    scheduler = theirs(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True)
    scheduler.set_timesteps(15)
    levels = _levels_of(scheduler)
    data, x = Gaussian(MEAN, SPREAD), _start(float(levels[0]))
    end = stepped(scheduler, data, x, lambda x, x0, sigma: (x - x0) / sigma)
    assert torch.allclose(last(ours(data, x, levels)), end, rtol=0, atol=1e-6)


# numpy's word to diffusers about its own arrays
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("data", [Gaussian(0.2, 0.4), MODES], ids=["gaussian", "mixture"])
@pytest.mark.parametrize("steps", [10, 25])
@pytest.mark.parametrize(
    ("ours", "theirs", "settings"),
    [
        (unipc, UniPCMultistepScheduler, {"solver_order": 2, "solver_type": "bh2", "predict_x0": True}),
        (partial(unipc, order=1), UniPCMultistepScheduler, {"solver_order": 1, "solver_type": "bh2"}),
        (dpmpp_2m, DPMSolverMultistepScheduler, {"solver_order": 2, "solver_type": "midpoint"}),
    ],
)
def test_multistep_samplers_agree_with_diffusers(
    ours: Callable[..., Iterator[Step]], theirs: type, settings: dict[str, Any], steps: int, data: Denoiser
) -> None:
    """Its table's range, Karras' spacing, from the noise it predicts, down to 0."""
    scheduler = theirs(beta_schedule="linear", beta_start=1e-4, beta_end=0.02, use_karras_sigmas=True, **settings)
    scheduler.set_timesteps(steps)
    scheduler.sigmas = scheduler.sigmas.double()
    levels = scheduler.sigmas
    x = float(levels[0]) * torch.randn(16, 2, generator=generator(4, "oracle"), dtype=torch.float64)
    assert torch.allclose(
        last(ours(data, x, levels)), stepped_in_its_frame(scheduler, data, x, levels), rtol=0, atol=1e-6
    )


def test_euler_agrees_with_diffusers_ddim() -> None:
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", clip_sample=False, timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    scheduler.alphas_cumprod = scheduler.alphas_cumprod.double()
    alphas = scheduler.alphas_cumprod[scheduler.timesteps]
    levels = torch.cat([((1 - alphas) / alphas).sqrt(), alphas.new_zeros(1)])
    x = float(levels[0]) * torch.randn(16, 2, generator=generator(4, "oracle"), dtype=torch.float64)
    theirs = stepped_in_its_frame(scheduler, MODES, x, levels)
    assert torch.allclose(last(euler(MODES, x, levels)), theirs, rtol=0, atol=1e-6)
