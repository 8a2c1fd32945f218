"""From a network's prediction to the denoiser D(x; sigma, cond)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from .schedule import family

if TYPE_CHECKING:
    from torch import Tensor

    from .conditioning import Condition

Prediction = Literal["F", "eps", "v", "x0", "velocity"]


class Denoiser(Protocol):
    """D(x; sigma, cond) → x̂_0, the mean of the clean images given the noisy ones."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Condition | None = None) -> Tensor:
        """x: [b …] at level sigma: [b] or []; x = x0 + sigma n with x0 in [-1, 1]. Returns [b …] like x."""
        ...


class Network(Protocol):
    """What a preconditioned denoiser holds: scaled images [b c h w], noise labels [b], conditions → prediction."""

    def __call__(self, x: Tensor, noise: Tensor, cond: Condition | None) -> Tensor: ...


def per_image(values: Tensor, x: Tensor) -> Tensor:
    """[b] or [] → shaped to multiply x [b …]."""
    return values.reshape(-1, *[1] * (x.ndim - 1)) if values.ndim else values


@dataclass(frozen=True)
class Preconditioning:
    """What the network sees of x and sigma, and how D follows from what it gives.

    prediction: F of EDM, the noise eps, v = alpha eps - beta x0 (Salimans & Ho 2022), x0, or the flow's velocity
    n - x0. schedule: edm (Karras et al. 2022, Table 1), or a family whose own scaling and time the network sees.
    """

    prediction: Prediction = "F"
    schedule: str = "edm"
    shift: float = 1.0
    sigma_data: float = 0.5

    def output(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_skip and c_out of D = c_skip x + c_out prediction (Eq. 7), each shaped like sigma.

        All predictions that are made from one (x0, n) give the same D.
        """
        one, data = sigma.new_ones(()), self.sigma_data
        match self.prediction:
            case "F":
                total = sigma**2 + data**2
                return data**2 / total, sigma * data / total.sqrt()
            case "eps":
                return one.expand_as(sigma), -sigma
            case "v":
                return 1 / (1 + sigma**2), -sigma * (1 + sigma**2).rsqrt()
            case "x0":
                return (0 * one).expand_as(sigma), one.expand_as(sigma)
            case "velocity":
                return 1 / (1 + sigma), -sigma / (1 + sigma)

    def input(self, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """c_in, and the label of the noise level that the network sees; each shaped like sigma.

        EDM: 1 / sqrt(sigma² + sigma_data²) and ln(sigma) / 4. A family: its alpha and 4 t - 2, so that its time
        in [0, 1] covers the range of ln(sigma) / 4, which the network's embedding is made for.
        """
        if self.schedule == "edm":
            return (sigma**2 + self.sigma_data**2).rsqrt(), sigma.log() / 4
        levels = family(self.schedule, self.shift)
        return levels.scale(sigma), 4 * levels.time(sigma) - 2

    def denoise(self, network: Network, x: Tensor, sigma: Tensor, cond: Condition | None) -> Tensor:
        """D(x; sigma, cond). The network may compute in a shorter number format; the sum is made in x's own."""
        sigma = sigma.expand(x.shape[0]).to(x.dtype)
        skip, out = (per_image(each, x) for each in self.output(sigma))
        scale, label = self.input(sigma)
        prediction = network(per_image(scale, x) * x, label, cond)
        return skip * x + out * prediction.to(x.dtype)

    def target(self, x: Tensor, x0: Tensor, sigma: Tensor) -> Tensor:
        """What the network should give for a noisy x of a clean x0: the other way round."""
        skip, out = (per_image(each, x) for each in self.output(sigma.expand(x.shape[0])))
        return (x0 - skip * x) / out
