"""A run in training: from recipe and folder to the last saved state, one turn at a time."""

from __future__ import annotations

import contextlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING

from ..commands import Draw
from ..datasets import reading
from ..denoisers.model import Weighted
from ..drawing import draw, images_per_call
from ..errors import RunError
from ..events import Preparing, Progress, RolledBack, SampleRow, Saved
from ..generators import retold
from ..machine import choose_device, described_device, memory_held
from ..models import Model, facts_of
from ..runs.checkpoint import load_newest, weights_hash, write_checkpoint
from ..runs.folder import Run
from ..runs.samples import write_row
from ..runs.snapshots import forget_after, is_due, write_snapshot
from ..training.held_out import held_out_loss
from ..training.loop import Tick, train
from ..training.processes import Processes, join
from ..training.state import Diverged
from .pace import Pace
from .starting import Setup, attempt_at, differences, opened_base, recipe_to_train
from .thread import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from torch import Tensor

    from ..commands import Train
    from ..conditioning import ConditioningScheme
    from ..data.cache import Dataset, Reading
    from ..events import Drawn, Event
    from ..recipe import Recipe
    from ..runs.checkpoint import Checkpoint
    from ..runs.journal import Journal
    from ..training.held_out import HeldOut
    from ..training.state import TrainingState

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
        self._setup: Setup | None = None
        self._state: TrainingState | None = None
        self._journal: Journal | None = None
        self._processes = Processes()
        self._steps = 0
        self._held_out: float | None = None
        self._pace = Pace()

    # --- what the worker calls --------------------------------------------------------------------

    def turns(self) -> Generator[Moment, None, None]:
        """Raises WorkbenchErrors of all kinds; what was saved before stays."""
        try:
            yield from self._all_turns()
        finally:
            self._state = None
            with contextlib.ExitStack() as ending:
                ending.callback(self._folder.release)
                ending.callback(self._processes.close)
                if self._journal:
                    ending.callback(self._journal.close)

    def save(self) -> None:
        """Writes the state as a checkpoint and says so. Raises RunError where the weights are not finite."""
        setup, state, journal = self._parts()
        step = self._step()
        if not state.is_finite():
            raise RunError(
                f"the weights are not finite at step {step:,} and are not saved",
                file=self._folder.path,
                fix="Continue the run: it goes on from the state before",
            )
        tensors = state.tensors()
        facts = {
            **state.counters(),
            "steps": self._steps,
            "data": setup.scheme.facts.as_dict(),
            "hashes": {name: weights_hash(group) for name, group in tensors.items()},
            "held_out": self._held_out,
            "environment": setup.environment(self._processes),
        }
        saved = write_checkpoint(self._folder.checkpoints, step, tensors, facts)
        journal.write("saved", step, path=str(saved.path.relative_to(self._folder.path)), hashes=facts["hashes"])
        journal.sync()
        self._emit(Saved(self._command.ticket, self.run, step, str(saved.path)))

    def abandon(self) -> None:
        self._folder.release()

    def live_model(self) -> Model | None:
        """The model as it is now, to draw from between two turns; None before there is one."""
        setup, state = self._setup, self._state
        if setup is None or state is None:
            return None
        weights = {float(name): average for name, average in state.emas.items()}
        weights[0.0] = state.tensors()["weights"]
        name = f"{self._folder.name} at {self._step():,}"
        return Model(self.run, name, setup.recipe, setup.scheme, state.model, weights, setup.device, self._step())

    # --- turns ------------------------------------------------------------------------------------

    def _all_turns(self) -> Generator[Moment, None, None]:
        yield from self._prepare()
        _, state, journal = self._parts()
        if not state.seen:
            yield from self._measure_held_out()
            yield from self._draw_row()
            yield Moment.WHOLE
        self._pace.begin(state.seen)
        while True:
            try:
                yield from self._train_to_the_end()
            except Diverged as error:
                self._roll_back(error)
            else:
                break
        journal.write("finished", self._step(), seconds=round(self._pace.seconds, 2))

    def _train_to_the_end(self) -> Generator[Moment, None, None]:
        setup, state, _ = self._parts()
        settings = setup.recipe.training
        for tick in self._ticks(state, self._steps):
            if not tick.whole:
                yield Moment.AT_WORK
                continue
            self._tell(tick)
            if is_due(tick.step, self._steps):
                write_snapshot(self._folder.averages, tick.step, state.seen + state.before, state.emas)
            yield Moment.WHOLE
            last = tick.step == self._steps
            if last or tick.step % settings.validate_every == 0:
                yield from self._measure_held_out()
            if last or tick.step % settings.preview_every == 0:
                yield from self._draw_row()
            if last or (tick.step % settings.checkpoint_every == 0 and not state.skipped):
                self.save()
            self._pace.skip()

    def _ticks(self, state: TrainingState, steps: int) -> Iterator[Tick]:
        """Trains a state up to `steps` in all, in this process and the others."""
        assert self._setup is not None
        if self._processes.count > 1:
            self._processes.tell(self._setup.order(state, steps))
        return train(state, self._setup.data, self._setup.recipe, self._setup.device, steps, self._processes)

    def _prepare(self) -> Generator[Moment, None, None]:
        """Everything before the first step. The folder of a new run is made only once it is sure that it can begin."""
        folder, recipe = self._folder, recipe_to_train(self._command, self._folder)
        if folder.exists:
            folder.acquire()
        loaded = load_newest(folder.checkpoints) if folder.checkpoints.is_dir() else None
        base = opened_base(recipe) if loaded is None else None
        if base is not None:
            recipe = recipe.with_values({"finetune.hash": base.hash})
        data, scheme = yield from self._read_data(recipe)
        device = choose_device(recipe.training.device)
        self._setup = Setup(recipe, data, scheme, device, base)
        self._processes = join(cpu=device.type == "cpu")
        if loaded is None:
            self._steps = yield from self._budget()
            self._begin()
            if not folder.exists:
                folder.create(recipe)
                folder.acquire()
            self._tell_started()
        else:
            self._take(*loaded[:2])
            self._tell_resumed(loaded[0], loaded[2])

    def _read_data(self, recipe: Recipe) -> Generator[Moment, None, tuple[Dataset, ConditioningScheme]]:
        def told(seen: Reading) -> Moment:
            self._emit(Preparing(self._command.ticket, seen.what, seen.done, seen.total))
            return Moment.PREPARING

        return (yield from retold(reading(recipe), told))

    def _begin(self) -> None:
        """The state before the first step."""
        assert self._setup is not None
        self._state = self._setup.new_state(self._steps)
        self._state.try_again(attempt_at(self._folder.records(), 0))
        forget_after(self._folder.averages, 0)

    def _take(self, checkpoint: Checkpoint, tensors: dict[str, dict[str, Tensor]]) -> None:
        """A saved state, with the attempt that the journal knows of; what came after it is forgotten."""
        assert self._setup is not None
        facts = checkpoint.facts
        self._state = self._setup.loaded_state(tensors, facts, checkpoint.path)
        self._state.try_again(attempt_at(self._folder.records(), checkpoint.step))
        self._steps, self._held_out = int(facts["steps"]), facts.get("held_out")
        forget_after(self._folder.averages, checkpoint.step)

    def _roll_back(self, error: Diverged) -> None:
        """Goes back to the last saved state, or to the beginning, and on from there with other noise and order.

        Raises RunError once the recipe's roll-backs are used up.
        """
        setup, state, journal = self._parts()
        most, attempt, lost_at = setup.recipe.training.rollbacks, state.attempt + 1, self._step()
        if attempt > most:
            tried = f", after {most} roll-back{'s' * (most > 1)}" if most else ""
            raise RunError(f"{error.what}{tried}", field=error.field, fix=error.fix) from error
        loaded = load_newest(self._folder.checkpoints) if self._folder.checkpoints.is_dir() else None
        step = loaded[0].step if loaded else 0
        journal.write("rolled_back", step, lost=lost_at - step, attempt=attempt, reason=error.what)
        journal.sync()
        if loaded is None:
            self._begin()
        else:
            self._take(*loaded[:2])
        self._pace.rewind(step * setup.recipe.training.batch)
        self._emit(RolledBack(self._command.ticket, self.run, step, error.what))

    def _budget(self) -> Generator[Moment, None, int]:
        """Steps in all: those that the run was begun with, those that fit into the minutes, or the recipe's."""
        assert self._setup is not None
        begun = next((record for record in self._folder.records() if record["kind"] == "started"), None)
        if begun is not None:
            return int(begun["steps"])
        if self._command.minutes:
            return (yield from self._steps_in(self._command.minutes))
        return self._setup.recipe.training.steps

    def _steps_in(self, minutes: float) -> Generator[Moment, None, int]:
        """How many steps fit: a few are made on a state that is thrown away, with what comes between them."""
        assert self._setup is not None
        settings = self._setup.recipe.training
        self._state = self._setup.new_state(MEASURED_STEPS)
        times = []
        began = time.perf_counter()
        for tick in self._ticks(self._state, MEASURED_STEPS):
            if tick.whole:
                now = time.perf_counter()
                times.append(now - began)
                began = now
            yield Moment.PREPARING
        each = sorted(times)[len(times) // 2]
        for work, every in (
            (self._measured(), settings.validate_every),
            (self._row(), settings.preview_every),
        ):
            began = time.perf_counter()
            for _ in work:
                yield Moment.PREPARING
            each += (time.perf_counter() - began) / every
        self._state = None
        return max(1, round(minutes * 60 / each))

    # --- between the steps ------------------------------------------------------------------------

    def _measure_held_out(self) -> Generator[Moment, None, None]:
        _, _, journal = self._parts()
        found = yield from self._measured()
        if not math.isnan(found.loss):
            self._held_out = found.loss
            groups = {"groups": found.groups} if found.groups else {}
            journal.write("held_out", self._step(), loss=found.loss, bands=found.bands, **groups)

    def _measured(self) -> Generator[Moment, None, HeldOut]:
        setup, state = self._setup, self._state
        assert setup is not None
        assert state is not None
        average = next(iter(state.emas.values()))
        denoise = Weighted(state.model, average)
        work = held_out_loss(denoise, denoise.encoder, setup.scheme, setup.data, setup.recipe, setup.device)
        return (yield from retold(work, _at_work))

    def _draw_row(self) -> Generator[Moment, None, None]:
        """Draws the fixed seeds, writes them into the folder and shows them."""
        _, _, journal = self._parts()
        drawn = yield from self._row()
        if drawn.images is None:
            return
        write_row(self._folder.path, self._step(), drawn.images, drawn.recipe)
        journal.write("sampled", self._step(), path=f"samples/{self._step():08d}.png")
        self._emit(SampleRow(self._command.ticket, self.run, self._step(), drawn.images, drawn.conditions))

    def _row(self) -> Generator[Moment, None, Drawn]:
        model = self.live_model()
        assert model is not None
        recipe = model.recipe
        size = recipe.sampling.size or recipe.data.size
        request = Draw(0, self.run, (), min(ROW, 4 * images_per_call(size)), recipe.sampling, film=False)
        work = draw(model.drawing_weights(model.stored_ema(recipe.sampling.ema)), request)
        return (yield from retold(work, _at_work))

    # --- what is told -----------------------------------------------------------------------------

    def _tell_started(self) -> None:
        setup, state = self._setup, self._state
        assert setup is not None
        assert state is not None
        recipe = setup.recipe
        self._folder.write_json("dataset.json", setup.data.manifest())
        self._folder.write_json("environment.json", setup.environment(self._processes))
        self._journal = self._folder.open_journal()
        self._journal.write(
            "started",
            0,
            steps=self._steps,
            weights=f"from {recipe.finetune.base}" if recipe.finetune.base else "random",
            seed=recipe.training.seed,
            attempt=state.attempt,
            hash=weights_hash(state.tensors()["weights"]),
            minutes=self._command.minutes,
        )

    def _tell_resumed(self, checkpoint: Checkpoint, passed_over: list[str]) -> None:
        setup, state = self._setup, self._state
        assert setup is not None
        assert state is not None
        differs = differences(checkpoint.facts["environment"], setup.environment(self._processes))
        if setup.data.manifest()["digest"] != self._folder.read_json("dataset.json").get("digest"):
            differs.append("the training images")
        if setup.scheme.facts.frozen != facts_of(checkpoint.facts).frozen:
            differs.append("the frozen encoder")
        self._journal = self._folder.open_journal()
        self._journal.write(
            "resumed",
            checkpoint.step,
            steps=self._steps,
            attempt=state.attempt,
            passed_over=passed_over,
            differs=differs,
        )

    def _tell(self, tick: Tick) -> None:
        setup, state, journal = self._parts()
        batch = setup.recipe.training.batch
        self._pace.step(state.seen, batch)
        if tick.skipped:
            journal.write("skipped", tick.step, learning_rate=tick.learning_rate)
            return
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
                self._pace.seconds_for((self._steps - tick.step) * batch),
                tick.learning_rate,
                tick.grad_norm,
                journal.lines,
                described_device(setup.device, state.model.autocast),
                memory_held(),
            )
        )

    def _parts(self) -> tuple[Setup, TrainingState, Journal]:
        """What is there once the first step can be made."""
        setup, state, journal = self._setup, self._state, self._journal
        if setup is None or state is None or journal is None:
            raise RunError("nothing has been trained yet", file=self._folder.path)
        return setup, state, journal

    def _step(self) -> int:
        return self._state.seen // self._setup.recipe.training.batch if self._state and self._setup else 0


def _at_work(_turn: object) -> Moment:
    return Moment.AT_WORK
