"""From a network's prediction to the denoiser D(x; sigma, cond)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from .conditioning import Condition


class Denoiser(Protocol):
    """D(x; sigma, cond) → x̂_0, the mean of the clean images given the noisy ones."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        """x: [b …] at level sigma: [b] or []; x = x0 + sigma n with x0 in [-1, 1]. Returns [b …] like x."""
        ...


class Network(Protocol):
    """F(c_in x; c_noise, vector): what an EDM-preconditioned denoiser holds."""

    def __call__(self, x: Tensor, noise: Tensor, vector: Tensor | None) -> Tensor: ...


def per_image(values: Tensor, x: Tensor) -> Tensor:
    """[b] or [] → shaped to multiply x [b …]."""
    return values.reshape(-1, *[1] * (x.ndim - 1)) if values.ndim else values


def edm_coefficients(sigma: Tensor, sigma_data: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in, c_noise at sigma (Karras et al. 2022, Table 1), each shaped like sigma."""
    total = sigma**2 + sigma_data**2
    return sigma_data**2 / total, sigma * sigma_data / total.sqrt(), total.rsqrt(), sigma.log() / 4


def edm(network: Network, sigma_data: float, x: Tensor, sigma: Tensor, vector: Tensor | None) -> Tensor:
    """D(x; sigma) = c_skip x + c_out F(c_in x; c_noise, vector) (Eq. 7).

    The network may compute in a shorter number format; the sum is made in x's own.
    """
    sigma = sigma.expand(x.shape[0]).to(x.dtype)
    skip, out, scale, noise = (per_image(each, x) for each in edm_coefficients(sigma, sigma_data))
    prediction = network(scale * x, noise.reshape(-1), vector)
    return skip * x + out * prediction.to(x.dtype)
