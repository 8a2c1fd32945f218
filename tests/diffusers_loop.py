"""diffusers' own loop, for comparisons: what a pipeline does, with a denoiser of data whose answer is known."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from imagen_workbench.core.precondition import Denoiser


def stepped(
    scheduler: Any, data: Denoiser, x: Tensor, predict: Callable[[Tensor, Tensor, Tensor], Tensor], **more: Any
) -> Tensor:
    """A scheduler that holds x = x0 + sigma n, in float64; predict(x, D, sigma) is what a network would give."""
    scheduler.sigmas = scheduler.sigmas.double()
    for index, t in enumerate(scheduler.timesteps):
        sigma = scheduler.sigmas[scheduler.step_index if scheduler.step_index is not None else index]
        scheduler.scale_model_input(x, t)
        x0 = data(x, sigma.expand(len(x)))
        x = scheduler.step(predict(x, x0, sigma), t, x, **more).prev_sample
    return x


def stepped_in_its_frame(scheduler: Any, data: Denoiser, x: Tensor, levels: Tensor, **more: Any) -> Tensor:
    """The same for one that holds z = x / sqrt(1 + sigma²), as variance-preserving ones do.

    levels: of its timesteps, then 0; more: arguments of every step, of which an iterator gives the next one.
    """
    z = x / math.sqrt(1 + float(levels[0]) ** 2)
    for t, s in zip(scheduler.timesteps, levels.tolist(), strict=False):
        x = z * math.sqrt(1 + s**2)
        eps = (x - data(x, x.new_full((len(x),), s))) / s
        now = {name: next(each) if hasattr(each, "__next__") else each for name, each in more.items()}
        z = scheduler.step(eps, t, z, **now).prev_sample
    return z
