"""The worker's loop: commands are handled between two turns; a turn advances one generator once.

A draw goes ahead of a look at data, that ahead of training, and training ahead of measuring what was drawn. There
is one slot for each, and the newest request takes it. torch comes in with the engine, on the worker's own thread.
"""

from __future__ import annotations

import contextlib
import threading
import traceback
from collections import deque
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from ..commands import CancelDraw, Close, Command, Draw, OpenModel, Pause, ReadCatalogue, ShowData, Stop, Train
from ..errors import WorkbenchError
from ..events import ClosedDown, Event, Failed, Phase, PhaseChanged
from ..foreign import Abandoned, watched
from .mailbox import Mailbox
from .states import Act, decide
from .watchdog import GRACE, LIMIT, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from ..foreign import Watched


class Turn(StrEnum):
    """What became of a short job in one turn."""

    GOES_ON = "goes on"
    DONE = "done"
    FAILED = "failed"


class Moment(StrEnum):
    """What a training job says when it yields."""

    PREPARING = "preparing"
    AT_WORK = "at work"
    WHOLE = "whole"
    """Its state may be saved, and training may pause or end here."""


class TrainingJob(Protocol):
    """Training, as the worker sees it. Each `next` is a turn."""

    run: str

    def turns(self) -> Generator[Moment, None, None]:
        """From preparing to the planned end; closing it releases the run."""
        ...

    def save(self) -> None:
        """Saves the state. Called where it is whole."""
        ...

    def abandon(self) -> None:
        """Leaves the run to another job, from any thread, while this one hangs for good."""
        ...


class Engine(Protocol):
    """What the worker can do; the real one imports torch. Every job is a generator of turns."""

    def answer(self, command: ReadCatalogue | OpenModel) -> None: ...

    def draw(self, command: Draw) -> Generator[None, None, None]: ...

    def measure(self, command: Draw) -> Generator[None, None, None]:
        """How likely the images of a draw are that has just been finished."""
        ...

    def look_at_data(self, command: ShowData) -> Generator[None, None, None]: ...

    def train(self, command: Train) -> TrainingJob: ...


def real_engine(emit: Callable[[Event], None]) -> Engine:
    """The engine of this package; imports torch."""
    from .engine import TorchEngine

    return TorchEngine(emit)


class Worker:
    """Takes commands from any thread, works on its own (`start`) or whoever turns it (`turn`).

    make_engine: called at the first turn, on the thread that turns, with the function that takes events.
    limit: seconds that one call of a plugin's may take; grace: those that it then has to end.
    """

    def __init__(
        self,
        make_engine: Callable[[Callable[[Event], None]], Engine] = real_engine,
        *,
        limit: float = LIMIT,
        grace: float = GRACE,
    ) -> None:
        self.mailbox = Mailbox()
        self.phase = Phase.IDLE
        self._make_engine = make_engine
        self._limit, self._grace = limit, grace
        self._watched: Watched | None = None
        self._engine: Engine | None = None
        self._inbox: deque[Command] = deque()
        self._arrived = threading.Condition()
        self._thread: threading.Thread | None = None
        self._drawing: tuple[Draw, Generator[None, None, None]] | None = None
        self._looking: tuple[ShowData, Generator[None, None, None]] | None = None
        self._measuring: tuple[Draw, Generator[None, None, None]] | None = None
        self._job: TrainingJob | None = None
        self._turns: Generator[Moment, None, None] | None = None
        self._train_ticket = 0
        self._holding = False
        self._ending = False
        self._shutting = False
        self._is_abandoned = False

    # --- from any thread --------------------------------------------------------------------------

    def post(self, command: Command) -> None:
        """Hands a command in; it takes effect between two turns."""
        with self._arrived:
            self._inbox.append(command)
            self._arrived.notify()

    def start(self) -> None:
        """Begins to work on a thread of its own."""
        if self._thread is not None:
            raise RuntimeError("the worker has been started already")
        self._thread = threading.Thread(target=self.run, name="imagen-workbench worker", daemon=True)
        self._thread.start()

    def join(self, timeout: float | None = None) -> bool:
        """Waits until the thread has ended; says whether it has."""
        if self._thread is not None:
            self._thread.join(timeout)
            return not self._thread.is_alive()
        return self.phase is Phase.CLOSED

    def abandon(self) -> Worker:
        """Gives up a thread that hangs in a plugin's call; returns the worker in its place, at work if this one was.

        What was not saved is lost. Should the call end one day, the thread ends, too, and says nothing more.
        """
        if self._watched is not None:
            self._watched.abandon()
        with self._arrived:
            self._is_abandoned = True
            self._arrived.notify()
        successor = Worker(self._make_engine, limit=self._limit, grace=self._grace)
        successor.mailbox.listen(self.mailbox.shut())
        if self._job is not None:
            self._job.abandon()
        if self._thread is not None:
            successor.start()
        return successor

    # --- on the working thread --------------------------------------------------------------------

    def run(self) -> None:
        """Turns until it is closed, sleeping while there is nothing to do."""
        with contextlib.suppress(Abandoned), self.watching():
            while self.phase is not Phase.CLOSED:
                if not self.turn():
                    with self._arrived:
                        self._arrived.wait_for(lambda: bool(self._inbox) or self._is_abandoned)
            self.turn()

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Around the turns, on the thread that turns: a plugin's call that hangs is ended, or told of (`Hanging`)."""
        with watched() as self._watched, Watchdog(self._watched, self.mailbox.put, self._limit, self._grace).on_duty():
            yield

    def turn(self) -> bool:
        """Handles the commands that wait, then advances one job by one turn; says whether there was anything.

        Once it is closed, all that comes is refused. Raises Abandoned once it is given up.
        """
        if self._is_abandoned:
            raise Abandoned
        if self._engine is None and self.phase is not Phase.CLOSED:
            try:
                self._engine = self._make_engine(self.mailbox.put)
            except Exception as error:  # noqa: BLE001 - without an engine, all that is left is to say so
                self._fail(Command(), "Start", error)
                self._closed()
                return True
        handled = self._handle_inbox()
        return self._advance() or handled

    def _handle_inbox(self) -> bool:
        with self._arrived:
            commands = list(self._inbox)
            self._inbox.clear()
        for command in commands:
            decision = decide(command, self.phase)
            if isinstance(decision, Act):
                assert self._engine is not None
                try:
                    self._carry_out(self._engine, command, decision)
                except Exception as error:  # noqa: BLE001 - becomes one Failed event; the worker lives on
                    self._fail(command, type(command).__name__, error)
            else:
                self.mailbox.put(
                    Failed(command.ticket, about=type(command).__name__, what=decision.rstrip("."), refused=True)
                )
        return bool(commands)

    def _carry_out(self, engine: Engine, command: Command, act: Act) -> None:
        match command, act:
            case ((ReadCatalogue() | OpenModel()), _):
                engine.answer(command)
            case Draw(), _:
                self._end_drawing()
                self._end_measuring()
                self._drawing = command, engine.draw(command)
            case CancelDraw(), _:
                if self._drawing and self._drawing[0].ticket <= command.ticket:
                    self._end_drawing()
            case ShowData(), _:
                self._end_looking()
                self._looking = command, engine.look_at_data(command)
            case Train(), Act.BEGIN:
                self._begin(engine, command)
            case Pause(), Act.HOLD:
                self._holding = True
            case _, Act.GO_ON:
                self._holding = False
                self._enter(Phase.TRAINING)
            case Stop(), Act.END:
                self._end_soon()
            case Close(), Act.SHUT:
                self._shutting = True
                self._end_drawing()
                if self.phase is Phase.IDLE:
                    self._closed()
                elif self.phase is not Phase.STOPPING:
                    self._end_soon()
            case _:
                raise AssertionError(f"{command} has no way to {act}")

    def _begin(self, engine: Engine, command: Train) -> None:
        self._job = engine.train(command)
        self._turns = self._job.turns()
        self._train_ticket = command.ticket
        self._holding = self._ending = False
        self._enter(Phase.PREPARING)

    def _end_soon(self) -> None:
        """Training ends where its state is next whole: at once while it is paused or has not begun."""
        was = self.phase
        self._ending = True
        self._enter(Phase.STOPPING)
        if was is Phase.PAUSED:
            self._save_and_end()
        elif was is Phase.PREPARING:
            self._end_training(reason="Stopped before the first step.")

    # --- turns ------------------------------------------------------------------------------------

    def _advance(self) -> bool:
        if self._turns is not None and self.phase is Phase.STOPPING:
            # who stops or closes does not wait for draws
            self._train_on(self._turns)
            return True
        if self._drawing:
            command, path = self._drawing
            turn = self._step(command, "Draw", path)
            if turn is not Turn.GOES_ON:
                self._drawing = None
            if turn is Turn.DONE:
                self._begin_measuring(command)
            return True
        if self._looking:
            command, path = self._looking
            if self._step(command, "ShowData", path) is not Turn.GOES_ON:
                self._looking = None
            return True
        if self._turns is not None and self.phase is not Phase.PAUSED:
            self._train_on(self._turns)
            return True
        if self._measuring:
            command, path = self._measuring
            if self._step(command, "Measure", path) is not Turn.GOES_ON:
                self._measuring = None
            return True
        return False

    def _begin_measuring(self, command: Draw) -> None:
        """Once there is nothing better to do, what was drawn is measured."""
        assert self._engine is not None
        self._measuring = command, self._engine.measure(command)

    def _step(self, command: Command, about: str, path: Generator[None, None, None]) -> Turn:
        """One turn of a short job."""
        try:
            next(path)
        except StopIteration:
            return Turn.DONE
        except Exception as error:  # noqa: BLE001 - becomes one Failed event; the worker lives on
            self._fail(command, about, error)
            return Turn.FAILED
        return Turn.GOES_ON

    def _train_on(self, turns: Generator[Moment, None, None]) -> None:
        try:
            moment = next(turns)
        except StopIteration:
            self._end_training(finished=True)
            return
        except Exception as error:  # noqa: BLE001 - becomes one Failed event; the run keeps what it saved
            self._fail(Command(self._train_ticket), "Train", error)
            self._end_training(reason="Training failed; what was saved is kept.")
            return
        if moment is not Moment.PREPARING and self.phase is Phase.PREPARING:
            self._enter(Phase.TRAINING)
        if moment is Moment.WHOLE and self._ending:
            self._save_and_end()
        elif moment is Moment.WHOLE and self._holding:
            self._holding = False
            self._enter(Phase.PAUSED)

    def _save_and_end(self) -> None:
        assert self._job is not None
        try:
            self._job.save()
        except Exception as error:  # noqa: BLE001 - becomes one Failed event; the run keeps what it saved
            self._fail(Command(self._train_ticket), "Stop", error)
            self._end_training(reason="The last state could not be saved; an earlier one is kept.")
            return
        self._end_training()

    def _end_training(self, *, finished: bool = False, reason: str = "") -> None:
        if self._turns is not None:
            self._close(Command(self._train_ticket), "Train", self._turns)
        run = self._job.run if self._job else ""
        self._job = self._turns = None
        self._holding = self._ending = False
        self._enter(Phase.IDLE, run=run, reason=reason, finished=finished)
        if self._shutting:
            self._closed()

    # --- small ------------------------------------------------------------------------------------

    def _end_drawing(self) -> None:
        if self._drawing:
            (command, path), self._drawing = self._drawing, None
            self._close(command, "Draw", path)

    def _end_measuring(self) -> None:
        if self._measuring:
            (command, path), self._measuring = self._measuring, None
            self._close(command, "Measure", path)

    def _end_looking(self) -> None:
        if self._looking:
            (command, path), self._looking = self._looking, None
            self._close(command, "ShowData", path)

    def _close(self, command: Command, about: str, path: Generator[Any, None, None]) -> None:
        """Closes a job between two turns; one that fails even at that is told of, and is gone all the same."""
        try:
            path.close()
        except Exception as error:  # noqa: BLE001 - becomes one Failed event; the worker lives on
            self._fail(command, about, error)

    def _enter(self, phase: Phase, *, run: str = "", reason: str = "", finished: bool = False) -> None:
        self.phase = phase
        run = run or (self._job.run if self._job else "")
        self.mailbox.put(PhaseChanged(self._train_ticket, phase, run, reason, finished))

    def _closed(self) -> None:
        self._end_drawing()
        self._end_looking()
        self._end_measuring()
        self._enter(Phase.CLOSED)
        self.mailbox.put(ClosedDown())

    def _fail(self, command: Command, about: str, error: Exception) -> None:
        known = error if isinstance(error, WorkbenchError) else None
        self.mailbox.put(
            Failed(
                command.ticket,
                about=about,
                what=known.what if known else f"{type(error).__name__}: {error}",
                field=known.field if known else "",
                file=known.file if known else "",
                fix=known.fix if known else "",
                trace="".join(traceback.format_exception(error)),
            )
        )
