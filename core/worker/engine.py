"""What the worker can do, with torch: models that are open, draws, looks at data, and the run in training."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from ..commands import LIVE, OpenModel
from ..data.unit import to_unit
from ..datasets import reading
from ..drawing import to_pixels
from ..errors import RequestError
from ..events import DataShown, Measured
from ..extensions import catalogue
from ..generators import retold
from ..likelihood import likelihood
from ..machine import set_threads
from ..models import Drawer, Model, open_drawer
from .training import TrainingRun

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from ..commands import Draw, ReadCatalogue, ShowData, Train
    from ..drawing import Weights
    from ..events import Drawn, Event, Preview

SHOWN = 36
"""Training images that a look at a dataset brings."""
OPEN = 3
"""Models that stay loaded."""


class TorchEngine:
    """emit: takes events. Lives on the worker's thread."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._models: dict[str, Drawer] = {}
        self._run: TrainingRun | None = None
        self._drawn: tuple[Weights, Drawn] | None = None
        set_threads()

    def answer(self, command: ReadCatalogue | OpenModel) -> None:
        if isinstance(command, OpenModel):
            self._models.pop(command.model, None)
            self._emit(replace(self._model(command.model).facts(command.ticket), model=command.model))
        else:
            self._emit(catalogue(command.ticket))

    def draw(self, command: Draw) -> Generator[None, None, None]:
        drawer = self._model(command.model)
        drawn = yield from retold(drawer.drawing(command), self._show)
        # the likelihood of a cascade's images is nobody's in particular
        self._drawn = (drawer.drawing_weights(command.sampling.ema), drawn) if isinstance(drawer, Model) else None
        self._emit(drawn)

    def _show(self, preview: Preview | None) -> None:
        if preview is not None:
            self._emit(preview)

    def measure(self, command: Draw) -> Generator[None, None, None]:
        if self._drawn is None or self._drawn[1].ticket != command.ticket:
            return
        weights, drawn = self._drawn
        assert drawn.arrays is not None
        live = self._run.live_model() if self._run else None
        if command.model == LIVE and (live is None or live.step != weights.step):
            return  # the weights that drew it are no more
        for known in likelihood(weights, drawn.arrays, drawn.conditions):
            if known is not None:
                self._emit(Measured(command.ticket, known.bits, known.error))
            yield

    def look_at_data(self, command: ShowData) -> Generator[None, None, None]:
        data, _ = yield from retold(reading(command.recipe, check=False), lambda _: None)
        shown = data.train[:SHOWN]
        names = data.classes
        self._emit(
            DataShown(
                command.ticket,
                to_pixels(to_unit(torch.from_numpy(data.images(shown)))),
                tuple(names[label] if label >= 0 else "" for label in data.labels[shown]),
                len(data.train),
                len(data.held_out),
                names,
                data.set_aside,
            )
        )

    def train(self, command: Train) -> TrainingRun:
        self._run = TrainingRun(command, self._emit)
        return self._run

    def _model(self, reference: str) -> Drawer:
        if reference == LIVE:
            live = self._run.live_model() if self._run else None
            if live is None:
                raise RequestError("no run is training", fix="Choose a model, or start training")
            return live
        if reference not in self._models:
            while len(self._models) >= OPEN:
                del self._models[next(iter(self._models))]
            self._models[reference] = open_drawer(reference)
        return self._models[reference]
