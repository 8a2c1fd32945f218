"""The contracts of noise schedules: families of levels, and the grids that samplers walk down."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch

from ..errors import RecipeError
from ..schedule import even_in_time, uniform_in_time

if TYPE_CHECKING:
    from torch import Tensor

    from ..schedule import Family


class ScheduleContract:
    """A family: sigma as a function of a time in [0, 1], and the scale alpha of its own frame z = alpha x.

    A subclass gives `make_schedule`.
    """

    def make_schedule(self) -> Family:
        raise NotImplementedError

    def _levels(self) -> Tensor:
        return torch.logspace(-3, 2, 40, dtype=torch.float64)

    def test_time_and_level_are_each_other_s_inverse(self) -> None:
        family, levels = self.make_schedule(), self._levels()
        times = family.time(levels)
        assert torch.allclose(family.sigma(times), levels, rtol=1e-9)
        assert torch.allclose(family.time(family.sigma(times)), times, rtol=1e-9)

    def test_float32_is_enough_for_the_network(self) -> None:
        """Which is told the time of float32 levels."""
        family, levels = self.make_schedule(), self._levels()
        assert torch.allclose(family.time(levels.float()).double(), family.time(levels), rtol=1e-5)

    def test_noise_rises_from_0_with_the_time(self) -> None:
        family = self.make_schedule()
        assert float(family.sigma(torch.zeros((), dtype=torch.float64))) == 0
        assert (family.sigma(torch.linspace(0, 0.999, 200, dtype=torch.float64)).diff() > 0).all()
        times = family.time(self._levels())
        assert (times.diff() > 0).all()
        assert 0 < float(times[0]) < float(times[-1]) < 1

    def test_its_own_frame_shrinks_the_image_as_noise_grows(self) -> None:
        """alpha falls from 1 at no noise, and alpha x stays finite at any."""
        family, levels = self.make_schedule(), self._levels()
        assert float(family.scale(torch.zeros((), dtype=torch.float64))) == 1
        alpha = family.scale(levels)
        assert (alpha.diff() < 0).all()
        assert ((alpha > 0) & (alpha * levels < 1)).all()

    def test_a_grid_even_in_its_time_goes_from_top_to_bottom(self) -> None:
        family = self.make_schedule()
        levels = even_in_time(20, 0.002, 80.0, family)
        assert math.isclose(float(levels[0]), 80)
        assert math.isclose(float(levels[-2]), 0.002, rel_tol=1e-9)
        steps = family.time(levels[:-1]).diff()
        assert torch.allclose(steps, steps.mean(), rtol=1e-6)

    def test_training_times_are_uniform(self) -> None:
        """Quantiles are even in time, and end at the levels that are asked for."""
        family, u = self.make_schedule(), torch.linspace(0, 1, 11, dtype=torch.float64)
        levels = uniform_in_time(u, 0.01, 50.0, family)
        assert math.isclose(float(levels[0]), 0.01, rel_tol=1e-9)
        assert math.isclose(float(levels[-1]), 50, rel_tol=1e-9)
        steps = family.time(levels).diff()
        assert torch.allclose(steps, steps.mean(), rtol=1e-6)


class GridContract:
    """Levels for a sampler: n that fall from hi to lo, then 0.

    A subclass gives `make_levels`.
    """

    def make_levels(self, n: int, lo: float, hi: float) -> Tensor:
        raise NotImplementedError

    def test_levels_fall_from_top_to_bottom_to_0(self) -> None:
        for n in (1, 2, 3, 18, 1000):
            for lo, hi in ((0.002, 80.0), (1e-4, 1e4), (0.5, 0.6)):
                levels = self.make_levels(n, lo, hi)
                assert levels.shape == (n + 1,)
                assert levels.dtype == torch.float64
                assert float(levels[0]) == hi
                assert float(levels[-1]) == 0
                assert n == 1 or math.isclose(float(levels[-2]), lo, rel_tol=1e-9)
                assert (levels.diff() < 0).all()

    def test_levels_that_cannot_fall_are_refused_at_their_field(self) -> None:
        for n, lo, hi, field in (
            (0, 0.002, 80.0, "sampling.steps"),
            (10, 80.0, 0.002, "sampling.sigma_min"),
            (10, 1.0, 1.0, "sampling.sigma_min"),
            (10, 0.0, 80.0, "sampling.sigma_min"),
            (10, math.nan, 80.0, "sampling.sigma_min"),
        ):
            try:
                self.make_levels(n, lo, hi)
            except RecipeError as error:
                assert error.field == field
                assert error.fix
            else:
                raise AssertionError(f"{n} levels from {hi} to {lo} were made")
