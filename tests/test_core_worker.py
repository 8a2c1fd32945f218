"""The worker: its table of states, its turns, its two lanes. The engine is a gate that the test opens; no torch."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imagen_workbench.core import commands
from imagen_workbench.core.commands import (
    CancelDraw,
    Close,
    Command,
    Draw,
    OpenModel,
    Pause,
    ReadCatalogue,
    Resume,
    ShowData,
    Stop,
    Train,
)
from imagen_workbench.core.errors import RequestError
from imagen_workbench.core.events import (
    Catalogue,
    ClosedDown,
    DataShown,
    Drawn,
    Event,
    Failed,
    Kept,
    Measured,
    ModelOpened,
    Phase,
    PhaseChanged,
    Preparing,
    Preview,
    Progress,
    Saved,
)
from imagen_workbench.core.worker import Mailbox, Worker
from imagen_workbench.core.worker.states import TABLE, Act, decide
from imagen_workbench.core.worker.thread import Moment

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

PATIENCE = 30.0
"""Seconds that a test waits for another thread before it gives up."""
CALLS = 3
"""Network calls of a draw."""
PASSES = 2
"""Network passes of a training step."""


class FakeJob:
    """A training job that does nothing: PREPARING twice, then steps of two passes each."""

    def __init__(self, engine: FakeEngine, command: Train) -> None:
        self.run = command.run or "run"
        self.engine, self.steps = engine, 4 if command.minutes is None else int(command.minutes)
        self.done, self.whole, self.open = 0, False, False
        self.saved: list[int] = []

    def turns(self) -> Generator[Moment, None, None]:
        self.open = True
        try:
            for _ in range(2):
                self.engine.note("prepare")
                yield Moment.PREPARING
            while self.done < self.steps:
                for _ in range(PASSES):
                    self.whole = False
                    self.engine.note("pass")
                    yield Moment.AT_WORK
                if self.run == "breaks":
                    raise ValueError("the loss ran away")
                self.done += 1
                self.whole = True
                self.engine.note("step")
                yield Moment.WHOLE
        finally:
            self.open = False
            if self.run == "cannot close":
                raise OSError("the drive has gone")

    def save(self) -> None:
        assert self.whole, "saved where the state was not whole"
        assert self.open, "saved after it was released"
        if self.run == "cannot save":
            raise RequestError("the drive is full", file=self.run, fix="Free some space")
        self.saved.append(self.done)
        self.engine.emit(Saved(run=self.run, step=self.done))

    def abandon(self) -> None:
        self.engine.note("abandoned")


@dataclass
class FakeEngine:
    """Notes what is done, in order. How a command's work fails is in its `model` or `run`."""

    emit: Callable[[Event], None]
    log: list[str] = field(default_factory=list)
    open_draws: list[int] = field(default_factory=list)
    open_looks: list[int] = field(default_factory=list)
    jobs: list[FakeJob] = field(default_factory=list)
    measures: int = 0
    """Turns that measuring a draw takes."""

    def note(self, what: str) -> None:
        self.log.append(what)

    def answer(self, command: ReadCatalogue | OpenModel) -> None:
        if isinstance(command, OpenModel):
            if command.model == "missing":
                raise RequestError("no such model", file="missing", fix="Look again")
            self.emit(ModelOpened(command.ticket, command.model))
        else:
            self.emit(Catalogue(command.ticket))

    def draw(self, command: Draw) -> Generator[None, None, None]:
        if command.model == "refuses":
            raise RequestError("no such model", file="refuses", fix="Look again")
        return self._drawing(command)

    def _drawing(self, command: Draw) -> Generator[None, None, None]:
        self.open_draws.append(command.ticket)
        try:
            for call in range(CALLS):
                self.note(f"draw {command.ticket}.{call}")
                if command.model == "breaks" and call == 1:
                    raise ZeroDivisionError("in the network")
                self.emit(Preview(command.ticket, step=call))
                yield
            self.emit(Drawn(command.ticket, np.zeros((1, 2, 2, 1), np.uint8)))
        finally:
            self.open_draws.remove(command.ticket)
            if command.model == "cannot close":
                raise OSError("not even that")

    def measure(self, command: Draw) -> Generator[None, None, None]:
        for k in range(self.measures):
            self.note(f"measure {command.ticket}.{k}")
            yield
        if self.measures:
            self.emit(Measured(command.ticket, (3.0,)))

    def look_at_data(self, command: ShowData) -> Generator[None, None, None]:
        self.open_looks.append(command.ticket)
        try:
            for k in range(2):
                self.note(f"look {command.ticket}.{k}")
                yield
            if command.recipe.name == "breaks":
                raise RequestError("no such folder", file="nowhere", fix="Check the path")
            self.emit(DataShown(command.ticket))
        finally:
            self.open_looks.remove(command.ticket)

    def train(self, command: Train) -> FakeJob:
        if command.run == "refuses":
            raise RequestError("no such run", file="refuses", fix="Look again")
        self.jobs.append(FakeJob(self, command))
        return self.jobs[-1]


class Bench:
    """A worker, turned by hand, with all it has said."""

    def __init__(self) -> None:
        self.engines: list[FakeEngine] = []
        self.worker = Worker(self._make)
        self.events: list[Event] = []

    def _make(self, emit: Callable[[Event], None]) -> FakeEngine:
        self.engines.append(FakeEngine(emit))
        return self.engines[0]

    @property
    def engine(self) -> FakeEngine:
        return self.engines[0]

    @property
    def job(self) -> FakeJob:
        return self.engine.jobs[-1]

    @property
    def phase(self) -> Phase:
        return self.worker.phase

    def post(self, *given: Command) -> Bench:
        for command in given:
            self.worker.post(command)
        return self

    def turn(self, times: int = 1) -> list[Event]:
        """Turns; returns what it said meanwhile."""
        said: list[Event] = []
        for _ in range(times):
            self.worker.turn()
            said += self.worker.mailbox.take()
        self.events += said
        return said

    def turn_until(self, reached: Callable[[], bool]) -> list[Event]:
        said: list[Event] = []
        for _ in range(1000):
            if reached():
                return said
            said += self.turn()
        raise AssertionError(f"never reached; at {self.phase}")

    def finish(self) -> list[Event]:
        """Turns until there is nothing more to do."""
        said: list[Event] = []
        for _ in range(1000):
            more = self.worker.turn()
            news = self.worker.mailbox.take()
            self.events += news
            said += news
            if not more:
                return said
        raise AssertionError("it never ends")


def bench_in(phase: Phase) -> Bench:
    """A worker in this state, in the middle of a training step where it trains."""
    bench = Bench()
    bench.turn()
    if phase is Phase.CLOSED:
        bench.post(Close(1))
        bench.turn()
    elif phase is not Phase.IDLE:
        bench.post(Train(1, "run"))
        bench.turn()
        if phase is not Phase.PREPARING:
            bench.turn_until(lambda: bench.job.done == 1)
            bench.turn()
        if phase is Phase.PAUSED:
            bench.post(Pause(2))
            bench.turn_until(lambda: bench.phase is Phase.PAUSED)
        if phase is Phase.STOPPING:
            bench.turn_until(lambda: bench.job.whole)
            bench.post(Stop(2))
            bench.turn()
    assert bench.phase is phase
    return bench


def failures(events: list[Event]) -> list[Failed]:
    return [event for event in events if isinstance(event, Failed)]


def phases(events: list[Event]) -> list[Phase]:
    return [event.phase for event in events if isinstance(event, PhaseChanged)]


# --- the table ------------------------------------------------------------------------------------

ALL_COMMANDS = [
    kind
    for kind in vars(commands).values()
    if isinstance(kind, type) and issubclass(kind, Command) and kind is not Command
]

# what each act comes to, where the state changes at once
LEADS_TO: dict[tuple[type[Command], Phase], Phase] = {
    (Train, Phase.IDLE): Phase.PREPARING,
    (Resume, Phase.PAUSED): Phase.TRAINING,
    (Stop, Phase.PREPARING): Phase.IDLE,
    (Stop, Phase.TRAINING): Phase.STOPPING,
    (Stop, Phase.PAUSED): Phase.IDLE,
    (Close, Phase.IDLE): Phase.CLOSED,
    (Close, Phase.PREPARING): Phase.CLOSED,
    (Close, Phase.TRAINING): Phase.STOPPING,
    (Close, Phase.PAUSED): Phase.CLOSED,
}


def test_every_command_has_a_row_and_every_row_every_state() -> None:
    assert set(TABLE) == set(ALL_COMMANDS)
    assert all(set(row) == set(Phase) for row in TABLE.values())


@pytest.mark.parametrize("phase", list(Phase))
@pytest.mark.parametrize("kind", ALL_COMMANDS, ids=lambda kind: kind.__name__)
def test_every_command_in_every_state_acts_or_says_why_not(kind: type[Command], phase: Phase) -> None:
    bench = bench_in(phase)
    log, jobs = list(bench.engine.log), len(bench.engine.jobs)
    decision = decide(kind(7), phase)
    said = bench.post(kind(7)).turn()
    refused = [event for event in failures(said) if event.refused]
    if isinstance(decision, Act):
        assert not failures(said)
        assert bench.phase is LEADS_TO.get((kind, phase), phase)
    else:
        assert [(event.ticket, event.about, f"{event.what}.") for event in refused] == [(7, kind.__name__, decision)]
        assert len(failures(said)) == 1
        assert bench.phase is phase
        assert len(bench.engine.jobs) == jobs
        assert [line for line in bench.engine.log[len(log) :] if line.startswith(("draw", "look"))] == []


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase not in (Phase.CLOSED, Phase.STOPPING)])
def test_questions_are_answered_in_every_state(phase: Phase) -> None:
    """Looking at data, opening a model, drawing: none of it waits for training to end."""
    bench = bench_in(phase)
    place = bench.job.done if bench.engine.jobs else 0
    bench.post(ReadCatalogue(11), OpenModel(12, "m"), Draw(13), ShowData(14))
    said = bench.turn(CALLS + 1 + 3)
    answers = {(type(event), event.ticket) for event in said}
    assert {(Catalogue, 11), (ModelOpened, 12), (Drawn, 13), (DataShown, 14)} <= answers
    assert not bench.engine.jobs or bench.job.done == place
    assert bench.phase is phase


def test_who_stops_does_not_wait_for_draws() -> None:
    bench = bench_in(Phase.STOPPING)
    said = bench.post(Draw(13)).finish()
    kinds = [type(event) for event in said]
    assert kinds.index(Saved) < kinds.index(Drawn)
    assert [event.ticket for event in said if isinstance(event, Drawn)] == [13]


@pytest.mark.parametrize("phase", list(Phase))
def test_from_every_state_it_can_be_closed(phase: Phase) -> None:
    bench = bench_in(phase)
    said = bench.post(Close(9)).finish()
    assert bench.phase is Phase.CLOSED
    if phase is not Phase.CLOSED:
        assert isinstance(said[-1], ClosedDown)
        assert len([event for event in said if isinstance(event, ClosedDown)]) == 1
    assert not any(job.open for job in bench.engine.jobs)


# --- drawing --------------------------------------------------------------------------------------


def test_a_draw_takes_one_turn_for_each_network_call() -> None:
    bench = bench_in(Phase.IDLE)
    bench.post(Draw(5))
    for call in range(CALLS):
        bench.turn()
        assert bench.engine.log == [f"draw 5.{k}" for k in range(call + 1)]
    said = bench.turn()
    assert [type(event) for event in said] == [Drawn]
    assert not bench.turn(), "there was nothing to measure"
    assert not bench.worker.turn()


def test_the_newest_draw_closes_the_one_that_runs_between_two_calls() -> None:
    bench = bench_in(Phase.IDLE)
    bench.post(Draw(5))
    bench.turn(2)
    assert bench.engine.open_draws == [5]
    bench.post(Draw(6))
    bench.turn()
    assert bench.engine.open_draws == [6]
    assert bench.engine.log == ["draw 5.0", "draw 5.1", "draw 6.0"]
    said = bench.finish()
    assert [event.ticket for event in said if isinstance(event, Drawn)] == [6]
    assert not failures(bench.events)


def test_of_many_waiting_draws_only_the_newest_is_begun() -> None:
    """A slider that moves faster than the network asks for nothing twice."""
    bench = bench_in(Phase.IDLE)
    said = bench.post(*(Draw(ticket) for ticket in range(1, 100))).finish()
    assert bench.engine.log == [f"draw 99.{call}" for call in range(CALLS)]
    assert [event.ticket for event in said if isinstance(event, Drawn)] == [99]


def test_a_draw_goes_ahead_of_training_which_keeps_its_place() -> None:
    bench = bench_in(Phase.TRAINING)
    log = list(bench.engine.log)
    assert log[-1] == "pass"
    bench.post(Draw(5))
    bench.turn(CALLS + 1)
    assert bench.engine.log[len(log) :] == [f"draw 5.{call}" for call in range(CALLS)]
    bench.finish()
    training = [line for line in bench.engine.log if line in ("pass", "step")]
    assert training == ["pass", "pass", "step"] * 4
    assert bench.job.done == 4


def test_a_draw_goes_ahead_of_a_look_and_that_ahead_of_training() -> None:
    bench = bench_in(Phase.TRAINING)
    log = len(bench.engine.log)
    bench.post(ShowData(4), Draw(5)).finish()
    assert bench.engine.log[log:][:6] == ["draw 5.0", "draw 5.1", "draw 5.2", "look 4.0", "look 4.1", "pass"]


def test_what_was_drawn_is_measured_when_there_is_nothing_better_to_do() -> None:
    bench = bench_in(Phase.TRAINING)
    bench.engine.measures = 2
    log = len(bench.engine.log)
    bench.post(Draw(5), ShowData(6))
    said = bench.finish()
    done = bench.engine.log[log:]
    assert done.index("measure 5.0") > max(k for k, each in enumerate(done) if each.startswith(("look", "pass")))
    assert [event.ticket for event in said if isinstance(event, Measured)] == [5]


def test_a_new_draw_ends_the_measuring_of_the_last_one() -> None:
    bench = bench_in(Phase.IDLE)
    bench.engine.measures = 2
    bench.post(Draw(5))
    bench.turn(CALLS + 2)
    assert bench.engine.log[-1] == "measure 5.0"
    said = bench.post(Draw(6)).finish()
    assert "measure 5.1" not in bench.engine.log
    assert [event.ticket for event in said if isinstance(event, Measured)] == [6]


def test_a_draw_that_failed_is_not_measured() -> None:
    bench = bench_in(Phase.IDLE)
    bench.engine.measures = 2
    bench.post(Draw(5, "breaks")).finish()
    assert not [each for each in bench.engine.log if each.startswith("measure")]


@pytest.mark.parametrize(("ticket", "ends"), [(4, False), (5, True), (6, True)])
def test_a_draw_is_cancelled_by_its_own_ticket_or_a_later_one(ticket: int, ends: bool) -> None:
    bench = bench_in(Phase.IDLE)
    bench.post(Draw(5))
    bench.turn(2)
    bench.post(CancelDraw(ticket))
    said = bench.finish()
    assert bool([event for event in said if isinstance(event, Drawn)]) is not ends
    assert not bench.engine.open_draws
    assert not failures(said)


def test_the_newest_look_replaces_the_one_before() -> None:
    bench = bench_in(Phase.IDLE)
    bench.post(ShowData(4))
    bench.turn()
    said = bench.post(ShowData(5)).finish()
    assert bench.engine.log == ["look 4.0", "look 5.0", "look 5.1"]
    assert [event.ticket for event in said if isinstance(event, DataShown)] == [5]


# --- training -------------------------------------------------------------------------------------


def test_training_runs_to_its_planned_end() -> None:
    bench = bench_in(Phase.IDLE)
    said = bench.post(Train(3, "run")).finish()
    assert phases(said) == [Phase.PREPARING, Phase.TRAINING, Phase.IDLE]
    changes = [event for event in said if isinstance(event, PhaseChanged)]
    assert all(event.ticket == 3 and event.run == "run" for event in changes)
    assert [event.finished for event in changes] == [False, False, True]
    assert not bench.job.open


def test_pause_waits_for_the_step_and_keeps_its_place() -> None:
    bench = bench_in(Phase.TRAINING)
    bench.post(Pause(2))
    bench.turn()
    assert bench.phase is Phase.TRAINING, "in the middle of a step"
    bench.turn_until(lambda: bench.phase is Phase.PAUSED)
    assert bench.job.whole
    done = bench.job.done
    assert not bench.worker.turn()
    assert bench.job.done == done
    assert bench.job.open
    said = bench.post(Resume(3)).finish()
    assert phases(said) == [Phase.TRAINING, Phase.IDLE]
    assert len(bench.engine.jobs) == 1
    assert bench.job.done == 4
    assert bench.job.saved == []


def test_a_pause_is_taken_back_before_it_takes_effect() -> None:
    """Two quick clicks on the same button: training goes on."""
    bench = bench_in(Phase.TRAINING)
    said = bench.post(Pause(2), Resume(3)).finish()
    assert Phase.PAUSED not in phases(said)
    assert not failures(said)
    assert bench.job.done == 4


def test_stop_saves_where_the_state_is_whole() -> None:
    bench = bench_in(Phase.TRAINING)
    said = bench.post(Stop(2)).finish()
    assert bench.job.saved == [2]
    assert phases(said) == [Phase.STOPPING, Phase.IDLE]
    assert not [event for event in said if isinstance(event, PhaseChanged) and event.finished]
    kinds = [type(event) for event in said if isinstance(event, Kept)]
    assert kinds == [PhaseChanged, Saved, PhaseChanged]
    assert not bench.job.open


def test_stop_in_a_pause_saves_at_once() -> None:
    bench = bench_in(Phase.PAUSED)
    done = bench.job.done
    said = bench.post(Stop(3)).turn()
    assert bench.job.saved == [done]
    assert phases(said) == [Phase.STOPPING, Phase.IDLE]


def test_stop_while_preparing_saves_nothing() -> None:
    bench = bench_in(Phase.PREPARING)
    said = bench.post(Stop(2)).turn()
    assert bench.job.saved == []
    assert phases(said) == [Phase.STOPPING, Phase.IDLE]
    assert [event.reason for event in said if isinstance(event, PhaseChanged)][-1]
    assert not bench.job.open


def test_closing_while_training_saves_first() -> None:
    bench = bench_in(Phase.TRAINING)
    said = bench.post(Draw(4), Close(5)).finish()
    assert bench.job.saved == [2]
    assert [type(event) for event in said if isinstance(event, Kept)] == [
        PhaseChanged,
        Saved,
        PhaseChanged,
        PhaseChanged,
        ClosedDown,
    ]
    assert phases(said) == [Phase.STOPPING, Phase.IDLE, Phase.CLOSED]
    assert not bench.engine.open_draws
    assert not [event for event in said if isinstance(event, Drawn)], "nobody waits for a picture any more"


def test_another_run_can_follow() -> None:
    bench = bench_in(Phase.TRAINING)
    bench.post(Stop(2)).finish()
    bench.post(Train(3, "second")).finish()
    assert [job.run for job in bench.engine.jobs] == ["run", "second"]
    assert bench.job.done == 4


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "about", "what"),
    [
        (OpenModel(7, "missing"), "OpenModel", "no such model"),
        (Draw(7, "refuses"), "Draw", "no such model"),
        (Draw(7, "breaks"), "Draw", "ZeroDivisionError: in the network"),
        (ShowData(7, commands.Recipe(name="breaks")), "ShowData", "no such folder"),
        (Train(7, "refuses"), "Train", "no such run"),
        (Train(7, "breaks"), "Train", "ValueError: the loss ran away"),
        (Train(7, "cannot close"), "Train", "OSError: the drive has gone"),
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'run', getattr(value, 'model', ''))}",
)
def test_a_failure_becomes_one_event_and_the_worker_lives_on(command: Command, about: str, what: str) -> None:
    bench = bench_in(Phase.IDLE)
    said = bench.post(command).finish()
    (failed,) = failures(said)
    assert (failed.ticket, failed.about, failed.what, failed.refused) == (7, about, what, False)
    assert failed.trace
    if not what.startswith(("Zero", "Value", "OS")):
        assert failed.file
        assert failed.fix
    assert bench.phase is Phase.IDLE
    said = bench.post(Draw(8), Train(9, "run")).finish()
    assert not failures(said)
    assert [event.ticket for event in said if isinstance(event, Drawn)] == [8]
    assert bench.job.done == 4


def test_a_state_that_cannot_be_saved_is_said() -> None:
    bench = bench_in(Phase.IDLE)
    bench.post(Train(1, "cannot save"))
    bench.turn_until(lambda: bool(bench.engine.jobs) and bench.job.done == 1)
    said = bench.post(Stop(2)).finish()
    (failed,) = failures(said)
    assert (failed.about, failed.what, failed.file) == ("Stop", "the drive is full", "cannot save")
    assert bench.phase is Phase.IDLE
    assert [event.reason for event in said if isinstance(event, PhaseChanged)][-1]


def test_closing_goes_through_whatever_fails() -> None:
    for run in ("cannot save", "cannot close", "breaks"):
        bench = bench_in(Phase.IDLE)
        bench.post(Train(1, run, minutes=9))
        bench.turn(4)
        said = bench.post(Close(2)).finish()
        assert bench.phase is Phase.CLOSED
        assert isinstance(said[-1], ClosedDown)
        assert len(failures(said)) == 1


def test_a_draw_that_cannot_even_be_closed_does_not_take_the_next_with_it() -> None:
    bench = bench_in(Phase.IDLE)
    bench.post(Draw(5, "cannot close"))
    bench.turn()
    said = bench.post(Draw(6)).finish()
    assert [(event.ticket, event.about) for event in failures(said)] == [(5, "Draw")]
    assert [event.ticket for event in said if isinstance(event, Drawn)] == [6]


def test_a_draw_that_cannot_be_closed_does_not_keep_the_worker_open() -> None:
    bench = bench_in(Phase.TRAINING)
    bench.post(Draw(5, "cannot close"))
    bench.turn()
    bench.post(Draw(6, "cannot close"))
    bench.turn()
    said = bench.post(Close(7)).finish()
    assert bench.phase is Phase.CLOSED
    assert isinstance(said[-1], ClosedDown)


def test_without_an_engine_it_says_so_and_ends() -> None:
    def broken(_emit: Callable[[Event], None]) -> FakeEngine:
        raise ImportError("no torch here")

    worker = Worker(broken)
    worker.post(Draw(4))
    while worker.turn():
        pass
    said = worker.mailbox.take()
    assert worker.phase is Phase.CLOSED
    first, *_ = failures(said)
    assert (first.about, first.what) == ("Start", "ImportError: no torch here")
    assert [(event.ticket, event.refused) for event in failures(said)[1:]] == [(4, True)]
    assert any(isinstance(event, ClosedDown) for event in said)


def test_what_comes_after_the_end_is_refused() -> None:
    bench = bench_in(Phase.IDLE)
    said = bench.post(Close(1), Draw(2), Train(3)).finish()
    assert [(event.ticket, event.refused) for event in failures(said)] == [(2, True), (3, True)]
    said = bench.post(Draw(4)).finish()
    assert [(event.ticket, event.refused) for event in failures(said)] == [(4, True)]


def test_the_engine_is_made_once_at_the_first_turn() -> None:
    bench = Bench()
    bench.post(Draw(1))
    assert bench.engines == []
    bench.finish()
    bench.post(Draw(2)).finish()
    assert len(bench.engines) == 1


# --- any sequence of commands ---------------------------------------------------------------------

FOLLOWS = {
    Phase.IDLE: {Phase.PREPARING, Phase.CLOSED},
    Phase.PREPARING: {Phase.TRAINING, Phase.STOPPING, Phase.IDLE},
    Phase.TRAINING: {Phase.TRAINING, Phase.PAUSED, Phase.STOPPING, Phase.IDLE},
    Phase.PAUSED: {Phase.TRAINING, Phase.STOPPING},
    Phase.STOPPING: {Phase.IDLE},
    Phase.CLOSED: set(),
}

RUNS = st.sampled_from(["run", "run", "run", "breaks", "refuses", "cannot save", "cannot close"])
MODELS = st.sampled_from(["m", "m", "m", "breaks", "refuses", "missing", "cannot close"])


class AnySequence(RuleBasedStateMachine):
    """Commands and turns in any order. Whatever comes, it acts or answers, and it can be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.ticket = 0
        self.phase = Phase.IDLE
        self.owed: dict[int, str] = {}

    def _post(self, command: Command) -> None:
        self.bench.post(command)

    def _next(self) -> int:
        self.ticket += 1
        return self.ticket

    @rule(model=MODELS)
    def draw(self, model: str) -> None:
        self._post(Draw(self._next(), model))

    @rule(back=st.integers(0, 3))
    def cancel(self, back: int) -> None:
        self._post(CancelDraw(max(0, self.ticket - back)))

    @rule(model=MODELS)
    def open_model(self, model: str) -> None:
        self.owed[self._next()] = "OpenModel"
        self._post(OpenModel(self.ticket, model))

    @rule()
    def read_catalogue(self) -> None:
        self.owed[self._next()] = "ReadCatalogue"
        self._post(ReadCatalogue(self.ticket))

    @rule(name=st.sampled_from(["fine", "breaks"]))
    def show_data(self, name: str) -> None:
        self._post(ShowData(self._next(), commands.Recipe(name=name)))

    @rule(run=RUNS, steps=st.integers(1, 3))
    def train(self, run: str, steps: int) -> None:
        self.owed[self._next()] = "Train"
        self._post(Train(self.ticket, run, minutes=steps))

    @rule(kind=st.sampled_from([Pause, Resume, Stop]))
    def control(self, kind: type[Command]) -> None:
        self._post(kind(self._next()))

    @precondition(lambda self: self.ticket > 6)
    @rule()
    def close(self) -> None:
        self._post(Close(self._next()))

    @rule(times=st.integers(1, 8))
    def turn(self, times: int) -> None:
        for _ in range(times):
            self._hear(self.bench.turn())

    def _hear(self, said: list[Event]) -> None:
        """Every change of state is one that can follow; whoever is owed an answer gets it."""
        for event in said:
            if isinstance(event, PhaseChanged):
                assert event.phase in FOLLOWS[self.phase], f"{self.phase} → {event.phase}"
                self.phase = event.phase
            self.owed.pop(event.ticket, None)

    @invariant()
    def what_it_says_is_what_it_is(self) -> None:
        assert self.bench.phase is self.phase

    @invariant()
    def nothing_is_open_that_should_not_be(self) -> None:
        if not self.bench.engines:
            return
        engine = self.bench.engine
        assert len(engine.open_draws) <= 1
        assert len(engine.open_looks) <= 1
        open_jobs = [job for job in engine.jobs if job.open]
        assert len(open_jobs) <= 1
        if self.phase in (Phase.TRAINING, Phase.PAUSED, Phase.STOPPING):
            assert len(open_jobs) == 1
        if self.phase in (Phase.IDLE, Phase.CLOSED):
            assert not open_jobs
        if self.phase is Phase.PAUSED:
            assert open_jobs[0].whole
        if self.phase is Phase.CLOSED:
            assert not engine.open_draws
            assert not engine.open_looks

    def teardown(self) -> None:
        if not hasattr(self, "bench"):
            return
        if self.phase is not Phase.CLOSED:
            self._post(Close(self._next()))
        self._hear(self.bench.finish())
        assert self.bench.phase is Phase.CLOSED
        self.what_it_says_is_what_it_is()
        self.nothing_is_open_that_should_not_be()
        assert len([event for event in self.bench.events if isinstance(event, ClosedDown)]) == 1
        assert not self.owed, f"never answered: {self.owed}"
        for job in self.bench.engine.jobs if self.bench.engines else ():
            fine = job.run == "run" and job.done > 0
            assert not fine or job.done == job.steps or job.saved == [job.done], "what was trained was not saved"


AnySequence.TestCase.settings = settings(max_examples=150, stateful_step_count=30)
TestAnySequence = AnySequence.TestCase


# --- the two lanes --------------------------------------------------------------------------------


def test_facts_are_kept_in_order_and_of_progress_only_the_newest() -> None:
    box = Mailbox()
    for step in range(50):
        box.put(Progress(step=step))
        box.put(Preview(step=step))
        if step % 10 == 0:
            box.put(Saved(step=step))
    said = box.take()
    assert [event.step for event in said if isinstance(event, Saved)] == [0, 10, 20, 30, 40]
    assert [event.step for event in said if isinstance(event, Progress | Preview)] == [49, 49]
    assert [isinstance(event, Kept) for event in said] == [True] * 5 + [False] * 2
    assert box.take() == []


def test_what_is_newest_comes_last() -> None:
    box = Mailbox()
    for event in (Progress(1), Preview(2), Progress(3), Saved(4)):
        box.put(event)
    assert [event.ticket for event in box.take()] == [4, 2, 3]


def test_a_slow_reader_makes_nothing_grow() -> None:
    box = Mailbox()
    kinds = [Progress, Preview, Drawn, DataShown, Preparing]
    for k in range(5000):
        box.put(kinds[k % 5](k))
    assert [event.ticket for event in box.take()] == list(range(4995, 5000))


def test_it_wakes_only_when_it_turns_from_empty_to_filled() -> None:
    woken: list[int] = []
    box = Mailbox(lambda: woken.append(1))
    for k in range(5):
        box.put(Progress(k))
        box.put(Saved(k))
    assert len(woken) == 1
    box.take()
    assert len(woken) == 1
    box.put(Progress(9))
    assert len(woken) == 2


def test_who_begins_to_listen_hears_of_what_waits() -> None:
    box, woken = Mailbox(), []
    box.listen(lambda: woken.append("empty"))
    assert woken == []
    box.put(Saved())
    box.listen(lambda: woken.append("filled"))
    assert woken == ["empty", "filled"]
    box.listen(None)
    box.take()
    box.put(Saved())
    assert len(woken) == 2


def test_who_is_woken_may_read_at_once() -> None:
    """The lock is not held while a face is woken."""
    said: list[Event] = []
    box = Mailbox(lambda: said.extend(box.take()))
    box.put(Saved(1))
    box.put(Saved(2))
    assert [event.ticket for event in said] == [1, 2]


def test_an_event_in_neither_lane_is_our_own_mistake() -> None:
    with pytest.raises(TypeError, match="neither lane"):
        Mailbox().put(Event())


def test_waiting_ends_with_an_event_or_with_time() -> None:
    box = Mailbox()
    assert box.wait(0) == []
    box.put(Saved(1))
    assert [event.ticket for event in box.wait(0)] == [1]
    writer = threading.Thread(target=lambda: box.put(Saved(2)))
    writer.start()
    assert [event.ticket for event in box.wait(PATIENCE)] == [2]
    writer.join()


# --- a real thread --------------------------------------------------------------------------------


def hear_until(worker: Worker, kind: type[Event]) -> list[Event]:
    said: list[Event] = []
    while not any(isinstance(event, kind) for event in said):
        news = worker.mailbox.wait(PATIENCE)
        assert news, f"nothing came for {PATIENCE:g} seconds"
        said += news
    return said


def test_a_thread_works_and_ends() -> None:
    threads: list[str] = []

    def make(emit: Callable[[Event], None]) -> FakeEngine:
        threads.append(threading.current_thread().name)
        return FakeEngine(emit)

    worker = Worker(make)
    worker.mailbox.listen(lambda: threads.append(threading.current_thread().name))
    assert not worker.join(0)
    worker.start()
    with pytest.raises(RuntimeError, match="already"):
        worker.start()
    worker.post(Draw(3))
    hear_until(worker, Drawn)
    worker.post(Train(4, "run"))
    said = hear_until(worker, PhaseChanged)
    worker.post(Close(5))
    said += hear_until(worker, ClosedDown)
    assert worker.join(PATIENCE)
    assert worker.phase is Phase.CLOSED
    assert set(threads) == {"imagen-workbench worker"}
    assert worker.join(0)


def test_an_idle_thread_waits_and_wakes() -> None:
    worker = Worker(FakeEngine)
    worker.start()
    for ticket in range(1, 20):
        worker.post(Draw(ticket))
        said = hear_until(worker, Drawn)
        assert said[-1].ticket == ticket
    worker.post(Close(99))
    assert worker.join(PATIENCE)


def test_commands_from_many_threads_are_all_answered() -> None:
    worker = Worker(FakeEngine)
    worker.start()
    asking = [
        threading.Thread(target=lambda base=base: [worker.post(OpenModel(base + k, "m")) for k in range(20)])
        for base in range(0, 100, 20)
    ]
    for thread in asking:
        thread.start()
    for thread in asking:
        thread.join()
    worker.post(Close(1000))
    said = hear_until(worker, ClosedDown)
    assert worker.join(PATIENCE)
    assert sorted(event.ticket for event in said if isinstance(event, ModelOpened)) == list(range(100))
