"""Every process but the main one, where several train together: it does as it is told, and keeps no run folder."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

from ..datasets import reading
from ..generators import finish
from ..machine import choose_device, set_threads
from ..recipe import Recipe
from ..training.loop import train
from ..training.processes import join
from ..training.state import Diverged
from .starting import Setup

if TYPE_CHECKING:
    from collections.abc import Iterator


def follow(recipe: Recipe) -> None:
    """Trains along with the main process until that has ended. recipe: as this process was started with."""
    set_threads()
    processes = join(cpu=choose_device(recipe.training.device).type == "cpu")
    setup: Setup | None = None
    with contextlib.closing(processes), _the_main_process_decides():
        while (order := processes.hear()) is not None:
            told = Recipe.from_toml(order[0]["recipe"])
            if setup is None or setup.recipe != told:
                setup = _read(told)
            state, steps = setup.state_of(order), int(order[0]["steps"])
            with contextlib.suppress(Diverged):  # the main process meets it, too, and says what comes next
                for _ in train(state, setup.data, told, setup.device, steps, processes):
                    pass


def _read(recipe: Recipe) -> Setup:
    """The data, which the main process has decoded by now."""
    data, scheme = finish(reading(recipe, check=False))
    return Setup(recipe, data, scheme, choose_device(recipe.training.device))


@contextlib.contextmanager
def _the_main_process_decides() -> Iterator[None]:
    """Ctrl+C reaches all processes; the main one finishes its step with the others, saves, and ends all of them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
