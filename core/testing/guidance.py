"""The contract of guidance, on data whose answer is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..conditioning import Condition
from ..precondition import per_image
from ..randomness import generator
from ..sampling.guidance import conditioned
from ..sampling.samplers import euler
from ..schedule import karras
from .sampling import last

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from ..sampling.guidance import Given, Guidance
    from ..sampling.samplers import Step


class ToldGaussian:
    """D for data N(m, s²) where the condition's vector is (m, s) itself. x: [b …].

    `batches` keeps how many images it was asked for in each call.
    """

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, cond: Given = None) -> Tensor:
        assert isinstance(cond, Condition)
        assert cond.vector is not None
        self.batches.append(len(x))
        assert len(cond.vector) == len(x)
        mean, spread = (per_image(each, x) for each in cond.vector.to(x.dtype).unbind(1))
        noise = per_image(sigma, x)
        return (spread**2 * x + noise**2 * mean) / (spread**2 + noise**2)


def told(mean: float, spread: float, count: int, null: tuple[float, float] | None = None) -> Condition:
    """The condition of `count` images that are N(mean, spread²), and without it N(null)."""

    def rows(pair: tuple[float, float]) -> Tensor:
        return torch.tensor([pair], dtype=torch.float64).expand(count, 2)

    return Condition(rows((mean, spread)), null=None if null is None else Condition(rows(null)))


LEVELS = karras(6, 0.002, 80.0)
ACTING = 0.3
"""A level where images are half made, and every guidance acts."""


class GuidanceContract:
    """A frozen setting whose `bind(denoise, sigmas)` makes a denoiser of a denoiser.

    A subclass gives `make_guidance`, and `make_neutral` where some setting leaves images in [-1, 1] as they are.
    """

    def make_guidance(self) -> Guidance:
        raise NotImplementedError

    def make_neutral(self) -> Guidance:
        raise NotImplementedError

    def _noisy(self, cond: Condition, sigma: float) -> Tensor:
        """Images of 64 values of the condition's own data, at this level."""
        assert cond.vector is not None
        mean, spread = cond.vector[:, :1], cond.vector[:, 1:]
        noise = torch.randn(len(mean), 64, generator=generator(0, "guidance"), dtype=torch.float64)
        return mean + (spread**2 + sigma**2).sqrt() * noise

    def _bright(self) -> Condition:
        """Images of which some values are beyond 1."""
        return told(0.9, 0.3, 5, (0.0, 0.5))

    def test_neutral_is_no_guidance_and_one_call(self) -> None:
        """Bitwise, at every level."""
        cond = told(0.1, 0.1, 5, (0.0, 0.2))
        for level in LEVELS[:-1].tolist():
            denoise, x = ToldGaussian(), self._noisy(cond, level)
            sigma = x.new_full((5,), level)
            guided = self.make_neutral().bind(denoise, LEVELS)(x, sigma, cond)
            assert denoise.batches == [5]
            assert torch.equal(guided, denoise(x, sigma, cond))

    def test_it_acts(self) -> None:
        cond = self._bright()
        x = self._noisy(cond, ACTING)
        sigma = x.new_full((5,), ACTING)
        plain = ToldGaussian()(x, sigma, cond)
        assert not torch.allclose(self.make_guidance().bind(ToldGaussian(), LEVELS)(x, sigma, cond), plain)

    def test_one_level_for_all_is_the_same_as_each_its_own(self) -> None:
        """sigma: [b] or []."""
        cond = self._bright()
        x, guided = self._noisy(cond, ACTING), self.make_guidance().bind(ToldGaussian(), LEVELS)
        sigma = x.new_full((5,), ACTING)
        assert torch.equal(guided(x, sigma[0], cond), guided(x, sigma, cond))

    def test_images_do_not_see_each_other(self) -> None:
        cond = self._bright()
        x, guided = self._noisy(cond, ACTING), self.make_guidance().bind(ToldGaussian(), LEVELS)
        sigma = x.new_full((5,), ACTING)
        together = guided(x, sigma, cond)
        for k in range(5):
            part = slice(k, k + 1)
            assert torch.allclose(guided(x[part], sigma[part], cond[part]), together[part], atol=1e-12)

    def test_shape_and_number_format_stay(self) -> None:
        cond = self._bright()
        x, guided = self._noisy(cond, ACTING), self.make_guidance().bind(ToldGaussian(), LEVELS)
        sigma = x.new_full((5,), ACTING)
        flat, image = guided(x, sigma, cond), guided(x.reshape(5, 4, 4, 4), sigma, cond)
        assert image.shape == (5, 4, 4, 4)
        assert torch.allclose(image.reshape(5, 64), flat, atol=1e-12)
        assert guided(x.float(), sigma.float(), cond).dtype == torch.float32

    def test_what_it_is_given_stays_as_it_was(self) -> None:
        cond = self._bright()
        x = self._noisy(cond, ACTING)
        kept, before = x.clone(), torch.get_rng_state()
        self.make_guidance().bind(ToldGaussian(), LEVELS)(x, x.new_full((5,), ACTING), cond)
        assert torch.equal(x, kept)
        assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"

    def test_gradients_reach_x(self) -> None:
        """The likelihood of guided draws, and guidance by gradients around it, need them."""
        cond = self._bright()
        x = self._noisy(cond, ACTING).requires_grad_()
        self.make_guidance().bind(ToldGaussian(), LEVELS)(x, x.new_full((5,), ACTING), cond).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()

    def test_guidances_nest(self) -> None:
        """A guided denoiser is a denoiser: neutral guidance around it, or within it, changes nothing."""
        cond = told(0.1, 0.1, 5, (0.0, 0.2))
        x = self._noisy(cond, 0.3)
        sigma = x.new_full((5,), 0.3)
        guided = self.make_guidance().bind(ToldGaussian(), LEVELS)(x, sigma, cond)
        inside = self.make_guidance().bind(self.make_neutral().bind(ToldGaussian(), LEVELS), LEVELS)
        assert torch.equal(inside(x, sigma, cond), guided)
        outside = self.make_neutral().bind(self.make_guidance().bind(ToldGaussian(), LEVELS), LEVELS)
        assert torch.equal(outside(x, sigma, cond), guided)

    def test_every_draw_is_bound_anew(self) -> None:
        """Two draws of one setting that take turns do not touch each other."""
        cond, guidance = self._bright(), self.make_guidance()
        start = self._noisy(cond, 80.0)

        def draw() -> Iterator[Step]:
            return euler(conditioned(guidance.bind(ToldGaussian(), LEVELS), cond), start, LEVELS)

        alone = last(draw())
        assert torch.isfinite(alone).all()
        *_, (one, other) = zip(draw(), draw(), strict=True)
        assert torch.equal(one.x, alone)
        assert torch.equal(other.x, alone)
