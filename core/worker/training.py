"""A run in training: from recipe and folder to the last saved state, one turn at a time."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..commands import Draw, Train
from ..datasets import reading
from ..denoisers.model import Weighted, build_model, load_weights
from ..drawing import draw, images_per_call
from ..errors import RunError
from ..events import Preparing, Progress, SampleRow, Saved
from ..machine import choose_device, choose_precision, described_device, environment_now, memory_held
from ..models import Model
from ..runs.checkpoint import load_newest, weights_hash, write_checkpoint
from ..runs.folder import Run
from ..runs.samples import write_row
from ..training.loop import Tick, TrainingState, held_out_loss, train
from .pace import Pace
from .thread import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    import torch

    from ..conditioning import ConditioningScheme
    from ..data.cache import Dataset
    from ..events import Event
    from ..recipe import Recipe
    from ..runs.journal import Journal

ROW = 8
"""Fixed seeds that are drawn again and again."""
MEASURED_STEPS = 12


class TrainingRun:
    """Trains what a `Train` command says. Its events go to `emit`, its facts into the run's journal."""

    def __init__(self, command: Train, emit: Callable[[Event], None]) -> None:
        self._command = command
        self._emit = emit
        self._folder = Run(Path(command.run))
        self.run = str(self._folder.path)
        self._state: TrainingState | None = None
        self._journal: Journal | None = None
        self._recipe: Recipe | None = command.recipe
        self._scheme: ConditioningScheme | None = None
        self._device: torch.device | None = None
        self._steps = 0
        self._pace = Pace()

    # --- what the worker calls --------------------------------------------------------------------

    def turns(self) -> Generator[Moment, None, None]:
        """Raises WorkbenchErrors of all kinds; what was saved before stays."""
        try:
            yield from self._all_turns()
        finally:
            self._state = None
            try:
                if self._journal:
                    self._journal.close()
            finally:
                self._folder.release()

    def save(self) -> None:
        """Writes the state as a checkpoint and says so."""
        state, recipe, scheme, journal = self._parts()
        step = self._step()
        tensors = state.tensors()
        facts = {
            "seen": state.seen,
            "attempt": state.attempt,
            "steps": self._steps,
            "classes": list(scheme.facts.classes),
            "hashes": {name: weights_hash(group) for name, group in tensors.items()},
            "environment": self._environment(recipe),
        }
        saved = write_checkpoint(self._folder.checkpoints, step, tensors, facts)
        journal.write("saved", step, path=str(saved.path.relative_to(self._folder.path)), hashes=facts["hashes"])
        journal.sync()
        self._emit(Saved(self._command.ticket, self.run, step, str(saved.path)))

    def live_model(self) -> Model | None:
        """The model as it is now, to draw from between two turns; None before there is one."""
        state, recipe, scheme, device = self._state, self._recipe, self._scheme, self._device
        if state is None or recipe is None or scheme is None or device is None:
            return None
        weights = {float(name): average for name, average in state.emas.items()}
        weights[0.0] = state.tensors()["weights"]
        name = f"{self._folder.name} at {self._step():,}"
        return Model(self.run, name, recipe, scheme, state.model, weights, device, self._step())

    # --- turns ------------------------------------------------------------------------------------

    def _all_turns(self) -> Generator[Moment, None, None]:
        recipe = self._recipe = self._known_recipe()
        if self._folder.exists:
            self._folder.acquire()
        data = yield from self._prepare_data(recipe)
        if not self._folder.exists:
            self._folder.create(recipe)
            self._folder.acquire()
        yield from self._prepare_state(recipe, data)
        state, _, _, journal = self._parts()
        device = self._device
        assert device is not None
        if not state.seen:
            yield from self._measure_held_out(data)
            yield from self._draw_row()
            yield Moment.WHOLE
        settings = recipe.training
        self._pace.begin(state.seen)
        for tick in train(state, data, recipe, device, self._steps):
            if not tick.whole:
                yield Moment.AT_WORK
                continue
            self._tell(tick)
            yield Moment.WHOLE
            last = tick.step == self._steps
            if last or tick.step % settings.validate_every == 0:
                yield from self._measure_held_out(data)
            if last or tick.step % settings.preview_every == 0:
                yield from self._draw_row()
            if last or tick.step % settings.checkpoint_every == 0:
                self.save()
            self._pace.skip()
        journal.write("finished", self._step(), seconds=round(self._pace.seconds, 2))

    def _known_recipe(self) -> Recipe:
        """What to train. The folder of a new run is made only once its data can be read."""
        command, folder = replace(self._command, recipe=_with_whole_path(self._command.recipe)), self._folder
        if command.resume and folder.exists:
            recipe = folder.recipe()
            if command.recipe is not None and command.recipe != recipe:
                raise RunError(
                    "the run was begun with another recipe",
                    file=folder.path,
                    fix="Continue it with its own recipe.toml, or begin in another folder",
                )
            return recipe
        if command.recipe is None:
            return folder.recipe()
        folder.check_free()
        choose_device(command.recipe.training.device)
        return command.recipe

    def _prepare_data(self, recipe: Recipe) -> Generator[Moment, None, Dataset]:
        steps = reading(recipe)
        while True:
            try:
                seen = next(steps)
            except StopIteration as end:
                data, self._scheme = end.value
                return data
            self._emit(Preparing(self._command.ticket, "Reading images", seen.done, seen.total))
            yield Moment.PREPARING

    def _prepare_state(self, recipe: Recipe, data: Dataset) -> Generator[Moment, None, None]:
        """A new state, or the last good one."""
        self._device = choose_device(recipe.training.device)
        loaded = load_newest(self._folder.checkpoints) if self._folder.checkpoints.is_dir() else None
        if loaded is None:
            self._steps = yield from self._budget(recipe, data)
        state = self._state = self._new_state()
        self._journal = self._folder.open_journal()
        environment = self._environment(recipe)
        if loaded is None:
            self._folder.write_json("dataset.json", data.manifest())
            self._folder.write_json("environment.json", environment)
            self._journal.write(
                "started",
                0,
                steps=self._steps,
                weights="random",
                seed=recipe.training.seed,
                hash=weights_hash(state.tensors()["weights"]),
                minutes=self._command.minutes,
            )
            return
        checkpoint, tensors, passed = loaded
        for group in ("weights", *(f"ema-{name}" for name in state.emas)):
            load_weights(state.model, tensors.get(group, {}), checkpoint.path)
        state.load(tensors, int(checkpoint.facts["seen"]), int(checkpoint.facts["attempt"]))
        self._steps = int(checkpoint.facts["steps"])
        differs = _differences(checkpoint.facts["environment"], environment)
        if data.manifest()["digest"] != self._folder.read_json("dataset.json").get("digest"):
            differs.append("the training images")
        self._journal.write("resumed", self._step(), steps=self._steps, passed_over=passed, differs=differs)

    def _new_state(self) -> TrainingState:
        recipe, scheme, device = self._recipe, self._scheme, self._device
        assert recipe is not None
        assert scheme is not None
        assert device is not None
        model = build_model(recipe, scheme, choose_precision(recipe.training, device)).to(device)
        return TrainingState.begin(model, recipe)

    def _budget(self, recipe: Recipe, data: Dataset) -> Generator[Moment, None, int]:
        """Steps in all: those that the run was begun with, those that fit into the minutes, or the recipe's."""
        begun = next((record for record in self._folder.records() if record["kind"] == "started"), None)
        if begun is not None:
            return int(begun["steps"])
        if self._command.minutes:
            return (yield from self._steps_in(self._command.minutes, data))
        return recipe.training.steps

    def _steps_in(self, minutes: float, data: Dataset) -> Generator[Moment, None, int]:
        """How many steps fit: a few are made on a state that is thrown away, with what comes between them."""
        recipe, device = self._recipe, self._device
        assert recipe is not None
        assert device is not None
        self._state = self._new_state()
        times = []
        began = time.perf_counter()
        for tick in train(self._state, data, recipe, device, MEASURED_STEPS):
            if tick.whole:
                now = time.perf_counter()
                times.append(now - began)
                began = now
            yield Moment.PREPARING
        each = sorted(times)[len(times) // 2]
        for work, every in (
            (self._held_out(data), recipe.training.validate_every),
            (self._row(), recipe.training.preview_every),
        ):
            began = time.perf_counter()
            for _ in work:
                yield Moment.PREPARING
            each += (time.perf_counter() - began) / every
        self._state = None
        return max(1, round(minutes * 60 / each))

    def _measure_held_out(self, data: Dataset) -> Generator[Moment, None, None]:
        _, _, _, journal = self._parts()
        loss, bands = yield from self._held_out(data)
        if not math.isnan(loss):
            journal.write("held_out", self._step(), loss=loss, bands=bands)

    def _held_out(self, data: Dataset) -> Generator[Moment, None, tuple[float, list[tuple[str, float]]]]:
        state, recipe, device = self._state, self._recipe, self._device
        assert state is not None
        assert recipe is not None
        assert device is not None
        average = next(iter(state.emas.values()))
        denoise = Weighted(state.model, average)
        work = held_out_loss(denoise, denoise.encoder, data, recipe, device)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value
            yield Moment.AT_WORK

    def _draw_row(self) -> Generator[Moment, None, None]:
        """Draws the fixed seeds, writes them into the folder and shows them."""
        drawn = yield from self._row()
        if drawn is None or drawn.images is None:
            return
        write_row(self._folder.path, self._step(), drawn.images, drawn.recipe)
        if self._journal:
            self._journal.write("sampled", self._step(), path=f"samples/{self._step():08d}.png")
        self._emit(SampleRow(self._command.ticket, self.run, self._step(), drawn.images, drawn.conditions))

    def _row(self) -> Generator[Moment, None, Any]:
        model, recipe = self.live_model(), self._recipe
        assert model is not None
        assert recipe is not None
        request = Draw(0, self.run, (), min(ROW, 4 * images_per_call(recipe.data.size)), recipe.sampling, film=False)
        work = draw(model.drawing_weights(recipe.sampling.ema), request)
        while True:
            try:
                next(work)
            except StopIteration as end:
                return end.value
            yield Moment.AT_WORK

    def _tell(self, tick: Tick) -> None:
        state, recipe, _, journal = self._parts()
        device = self._device
        assert device is not None
        self._pace.step(state.seen, recipe.training.batch)
        journal.write(
            "step",
            tick.step,
            loss=round(tick.loss, 6),
            grad_norm=round(tick.grad_norm, 6),
            learning_rate=tick.learning_rate,
            images_per_second=round(self._pace.images_per_second, 1),
        )
        self._emit(
            Progress(
                self._command.ticket,
                self.run,
                tick.step,
                self._steps,
                tick.loss,
                self._pace.images_per_second,
                self._pace.seconds_for((self._steps - tick.step) * recipe.training.batch),
                tick.learning_rate,
                tick.grad_norm,
                journal.lines,
                described_device(device, state.model.autocast),
                memory_held(),
            )
        )

    # --- small ------------------------------------------------------------------------------------

    def _parts(self) -> tuple[TrainingState, Recipe, ConditioningScheme, Journal]:
        """What is there once the first step can be made."""
        state, recipe, scheme, journal = self._state, self._recipe, self._scheme, self._journal
        if state is None or recipe is None or scheme is None or journal is None:
            raise RunError("nothing has been trained yet", file=self._folder.path)
        return state, recipe, scheme, journal

    def _step(self) -> int:
        return self._state.seen // self._recipe.training.batch if self._state and self._recipe else 0

    def _environment(self, recipe: Recipe) -> dict[str, Any]:
        assert self._device is not None
        layout = {"batch": recipe.training.batch, "micro_batch": recipe.training.micro_batch}
        return {
            **environment_now(self._device, choose_precision(recipe.training, self._device)),
            "batch_layout": layout,
        }


def _with_whole_path(recipe: Recipe | None) -> Recipe | None:
    """The recipe, its data found from wherever the run is continued."""
    if recipe is None or not recipe.data.path or "://" in recipe.data.path:
        return recipe
    return recipe.with_values({"data.path": str(Path(recipe.data.path).expanduser().absolute())})


def _differences(then: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What exactness depends on and has changed, in words."""
    found = []
    for key in ("device", "device_name", "threads", "precision", "machine", "batch_layout"):
        if then.get(key) != now.get(key):
            found.append(f"{key.replace('_', ' ')}: {then.get(key)} then, {now.get(key)} now")
    before, after = then.get("versions", {}), now.get("versions", {})
    found += [
        f"{name} {before[name]} then, {after.get(name)} now" for name in before if before[name] != after.get(name)
    ]
    return found
