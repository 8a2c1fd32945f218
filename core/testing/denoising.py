"""The contract of denoisers, and denoisers of data whose answer is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from ..randomness import generator

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..conditioning import Condition
    from ..precondition import Denoiser


# --- data whose answer is known -------------------------------------------------------------------


class Gaussian:
    """D for data N(mean, spread²), independent along the last axis, in closed form.

    mean, spread: [d] or numbers. `calls` counts what it was asked.
    """

    def __init__(self, mean: Tensor | float, spread: Tensor | float) -> None:
        self.mean = torch.as_tensor(mean, dtype=torch.float64)
        self.variance = torch.as_tensor(spread, dtype=torch.float64) ** 2
        self.calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:  # noqa: ARG002
        self.calls += 1
        noise = (sigma.reshape(-1, *[1] * (x.ndim - 1)) if sigma.ndim else sigma).to(x.dtype) ** 2
        mean, variance = self.mean.to(x.dtype), self.variance.to(x.dtype)
        return (variance * x + noise * mean) / (variance + noise)

    def carried(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the ODE takes x from level sigma to sigma_end."""
        grown = ((self.variance + sigma_end**2) / (self.variance + sigma**2)).sqrt()
        return self.mean + grown * (x - self.mean)

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        """[b]: ln p of x [b …] at level sigma."""
        total = (self.variance + sigma**2).expand(x.shape)
        each = -((x - self.mean) ** 2) / (2 * total) - (2 * math.pi * total).log() / 2
        return each.reshape(len(x), -1).sum(1)


class Mixture:
    """D for data sum_k w_k N(mean_k, spread_k² I), in closed form: not Gaussian, so that D is not linear.

    weights: [k], summing to 1; means: [k d]; spreads: [k]. x: [b …] of d values each.
    """

    def __init__(self, weights: Sequence[float], means: Tensor, spreads: Sequence[float]) -> None:
        self.logs = torch.tensor(weights, dtype=torch.float64).log()
        self.means = means.double()
        self.variances = torch.tensor(spreads, dtype=torch.float64) ** 2

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:  # noqa: ARG002
        away, total, logits = self._parts(x, sigma)
        kept = self.variances.to(x.dtype) / total
        guesses = self.means.to(x.dtype) + kept[..., None] * away
        return (logits.softmax(1)[..., None] * guesses).sum(1).reshape(x.shape)

    def log_density(self, x: Tensor, sigma: float) -> Tensor:
        """[b]: ln p of x at level sigma."""
        return self._parts(x, x.new_full((len(x),), sigma))[2].logsumexp(1)

    def _parts(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x - mean_k [b k d], spread_k² + sigma² [b k], and ln w_k N(x; mean_k, that) [b k]."""
        away = x.reshape(len(x), 1, -1) - self.means.to(x.dtype)
        total = self.variances.to(x.dtype) + sigma.to(x.dtype).reshape(-1, 1) ** 2
        d = away.shape[-1]
        logits = self.logs.to(x.dtype) - d / 2 * (2 * math.pi * total).log() - away.square().sum(-1) / (2 * total)
        return away, total, logits


# --- the contract ---------------------------------------------------------------------------------


class DenoiserContract:
    """D(x; sigma, cond) → x̂_0.

    A subclass gives `make_denoiser`, and `shape` of one image; where it takes conditions, `make_condition` too.
    """

    shape: ClassVar[tuple[int, ...]] = (1, 8, 8)
    dtype: ClassVar[torch.dtype] = torch.float32
    tolerance: ClassVar[float] = 1e-4
    """How far an image may come out otherwise in another batch: sums are made in another order there."""

    def make_denoiser(self) -> Denoiser:
        raise NotImplementedError

    def make_condition(self, count: int) -> Condition | None:  # noqa: ARG002
        """Conditions for that many images, the same each time; None where it takes none."""
        return None

    def _noisy(self, sigma: Tensor) -> Tensor:
        noise = torch.randn(len(sigma), *self.shape, generator=generator(0, "contract"), dtype=self.dtype)
        return noise * sigma.reshape(-1, *[1] * len(self.shape))

    def _levels(self) -> Tensor:
        return torch.logspace(math.log10(0.002), math.log10(80), 6, dtype=self.dtype)

    def test_shape_and_type_stay(self) -> None:
        sigma = self._levels()
        x = self._noisy(sigma)
        with torch.no_grad():
            x0 = self.make_denoiser()(x, sigma, self.make_condition(len(x)))
        assert x0.shape == x.shape
        assert x0.dtype == x.dtype

    def test_finite_at_every_level(self) -> None:
        sigma = torch.logspace(-4, 4, 9, dtype=self.dtype)
        with torch.no_grad():
            x0 = self.make_denoiser()(self._noisy(sigma), sigma, self.make_condition(len(sigma)))
        assert torch.isfinite(x0).all()

    def test_one_level_for_all_is_the_same_as_each_its_own(self) -> None:
        """sigma: [b] or []."""
        sigma = torch.full((4,), 0.7, dtype=self.dtype)
        x, cond, denoise = self._noisy(sigma), self.make_condition(4), self.make_denoiser()
        with torch.no_grad():
            assert torch.equal(denoise(x, sigma, cond), denoise(x, sigma[0], cond))

    def test_images_do_not_see_each_other(self) -> None:
        sigma = self._levels()
        x, cond, denoise = self._noisy(sigma), self.make_condition(len(sigma)), self.make_denoiser()
        with torch.no_grad():
            together = denoise(x, sigma, cond)
            for k in range(len(x)):
                part = slice(k, k + 1)
                alone = denoise(x[part], sigma[part], cond[part] if cond else None)
                assert (alone - together[part]).abs().max() <= self.tolerance

    def test_asked_twice_it_says_the_same(self) -> None:
        """No hidden state, no chance: dropout is off, nothing is counted."""
        sigma = self._levels()
        x, cond, denoise = self._noisy(sigma), self.make_condition(len(sigma)), self.make_denoiser()
        kept, before = x.clone(), torch.get_rng_state()
        with torch.no_grad():
            assert torch.equal(denoise(x, sigma, cond), denoise(x, sigma, cond))
        assert torch.equal(x, kept), "x was changed in place"
        assert torch.equal(torch.get_rng_state(), before), "torch's global generator was used"

    def test_gradients_reach_x(self) -> None:
        """Guidance by gradients, likelihood and distillation need them."""
        sigma = self._levels()
        x = self._noisy(sigma).requires_grad_()
        self.make_denoiser()(x, sigma, self.make_condition(len(sigma))).sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()
