"""EMAs of any length, rebuilt after training from snapshots of a few (Karras et al. 2024, arXiv 2312.02696, Sec. 3.2).

An average at time t with exponent g weighs the weights at time s <= t with p(s) = (g+1) s^g / t^(g+1). The profile
of another average is approached, in least squares, by a mixture of those that were kept; the same mixture of the
kept averages approaches that average.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ..errors import ModelError
from .ema import exponent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from ..runs.snapshots import Snapshot

WORST = 0.3
"""A profile that the kept ones miss by more than this, relative in L2, is not rebuilt."""


@dataclass(frozen=True)
class Profile:
    """The power-function profile of an average. time: in images, > 0; length: its relative width."""

    time: float
    length: float


@dataclass(frozen=True)
class Mixture:
    """shares: [k], which sum to 1, of the kept averages; error: of the profile, relative in L2: 0 is exact."""

    shares: np.ndarray
    error: float


def inner_products(first: Sequence[Profile], second: Sequence[Profile]) -> np.ndarray:
    """∫ p_i(s) q_j(s) ds of all pairs, [len(first) len(second)] float64 (Eq. 151-156, in closed form).

    (g1+1)(g2+1) (t1/t2)^e / ((g1+g2+1) max(t1, t2)), where e is g2 if t1 < t2, else -g1.
    """
    t1, g1 = _columns(first)
    t2, g2 = (column.T for column in _columns(second))
    power = np.where(t1 < t2, g2, -g1)
    return (g1 + 1) * (g2 + 1) * (t1 / t2) ** power / ((g1 + g2 + 1) * np.maximum(t1, t2))


def mixture(kept: Sequence[Profile], target: Profile) -> Mixture:
    """The mixture of kept profiles nearest to the target: A x = B with A_ij = <p_i, p_j>, B_i = <p_i, target>.

    No two kept profiles may be the same.
    """
    a, b = inner_products(kept, kept), inner_products(kept, [target])[:, 0]
    shares = np.linalg.solve(a, b)
    shares = shares / shares.sum()
    square = float(inner_products([target], [target])[0, 0])
    missed = max(0.0, square - 2 * float(shares @ b) + float(shares @ a @ shares))
    return Mixture(shares, (missed / square) ** 0.5)


@torch.no_grad()
def mixed(parts: Iterable[tuple[float, Mapping[str, Tensor]]]) -> dict[str, Tensor]:
    """The sum of share times tensor, name by name, added up in float64; one part is held at a time."""
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for share, tensors in parts:
        for name, tensor in tensors.items():
            kinds[name] = tensor.dtype
            sum_so_far = total.setdefault(name, torch.zeros(tensor.shape, dtype=torch.float64))
            sum_so_far.add_(tensor.to("cpu", torch.float64), alpha=share)
    return {name: tensor.to(kinds[name]) for name, tensor in total.items()}


@dataclass(frozen=True)
class KeptAverages:
    """What a run keeps of its averages up to a saved state.

    time: images that the state's own averages reach over; own: those, by length; snapshots: earlier ones.
    """

    time: int
    own: Mapping[float, Mapping[str, Tensor]]
    snapshots: tuple[Snapshot, ...]

    def rebuilt(self, length: float) -> dict[str, Tensor]:
        """The average of this length at the state's time, on the CPU. Raises ModelError where too little is kept."""
        earlier = [each for each in self.snapshots if each.time < self.time]
        kept = [Profile(each.time, float(name)) for each in earlier for name in each.lengths]
        kept += [Profile(self.time, known) for known in self.own]
        found = mixture(kept, Profile(self.time, length))
        if found.error > WORST:
            raise ModelError(
                f"the averages that are kept give EMA length {length:g} with an error of {found.error:.0%}",
                field="sampling.ema",
                fix=f"Choose one nearer to {', '.join(f'{known:g}' for known in self.own)}",
            )
        return mixed(self._parts(earlier, iter(found.shares.tolist())))

    def _parts(
        self, earlier: Sequence[Snapshot], shares: Iterator[float]
    ) -> Iterator[tuple[float, Mapping[str, Tensor]]]:
        for snapshot in earlier:
            averages = snapshot.averages()
            for name in snapshot.lengths:
                yield next(shares), averages[name]
        for average in self.own.values():
            yield next(shares), average


def _columns(profiles: Sequence[Profile]) -> tuple[np.ndarray, np.ndarray]:
    times = np.asarray([profile.time for profile in profiles], np.float64)
    exponents = np.asarray([exponent(profile.length) for profile in profiles], np.float64)
    return times[:, None], exponents[:, None]
