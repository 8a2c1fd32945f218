"""Training in a terminal: how far it has come, and Ctrl+C that saves before it ends."""

from __future__ import annotations

from shlex import quote
from typing import TYPE_CHECKING

from ..core.commands import Train
from ..core.events import Event, Failed, Phase, PhaseChanged, Preparing, RolledBack, Saved
from ..core.events import Progress as TrainingProgress
from ..core.launch import is_follower
from ..core.runs.folder import Run, new_run_path
from ..core.worker import Worker
from ..core.worker.headless import events_of, stopping_on_interrupt
from .terminal.meter import Meter

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from ..core.recipe import Recipe

STOPPED = 130


class Outcome:
    """What became of the training, from its events."""

    def __init__(self) -> None:
        self.failed: Failed | None = None
        self.finished = False
        self.saved_step = -1
        self.step = 0

    def take(self, event: Event) -> None:
        match event:
            case Failed():
                self.failed = self.failed or event
            case PhaseChanged():
                self.finished = self.finished or (event.phase is Phase.IDLE and event.finished)
            case Saved():
                self.saved_step = event.step
            case TrainingProgress():
                self.step = event.step
            case _:
                pass


def train_here(
    console: Console, recipe: Recipe, run: Path | None, reference: str, *, minutes: float | None, resume: bool
) -> int:
    """Trains on the caller's thread and returns the exit code. reference: what continues it after `train`."""
    if is_follower():
        from ..core.worker.following import follow  # with torch, as the worker's engine

        follow(recipe)
        return 0
    folder = Run(run or new_run_path(recipe.name))
    outcome = _train(console, Train(1, str(folder.path), recipe, resume, minutes))
    _tell_set_aside(console, folder)
    if outcome.finished and outcome.saved_step < 0:
        step = max((record["step"] for record in folder.records()), default=0)
        console.print(
            f"It had finished already, at step {step:,}. To train on, begin a run from it: "
            f"imagen-workbench train {reference} --from {quote(str(folder.path))}",
            soft_wrap=True,
        )
        return 0
    if outcome.finished:
        console.print(
            f"Finished at step {outcome.saved_step:,}. Draw from it: imagen-workbench sample {quote(str(folder.path))}",
            soft_wrap=True,
        )
        return 0
    saved = f"saved at step {outcome.saved_step:,}" if outcome.saved_step >= 0 else "nothing was saved yet"
    console.print(
        f"Stopped; {saved}. Go on with: imagen-workbench train {reference} --run {quote(str(folder.path))} --resume",
        soft_wrap=True,
    )
    return STOPPED


def _tell_set_aside(console: Console, folder: Run, most: int = 5) -> None:
    """Names the images that could not be used."""
    aside = folder.read_json("dataset.json").get("set_aside", [])
    for name, reason in aside[:most]:
        console.print(f"Set aside: {name}: {reason}", soft_wrap=True)
    if len(aside) > most:
        console.print(f"… and {len(aside) - most:,} more; all are in {folder.path / 'dataset.json'}", soft_wrap=True)


def demo_here(console: Console, recipe: Recipe, path: Path) -> int:
    """Trains, draws, and writes a report into the run folder."""
    from .reports.run_report import copies_words, write_report

    run = Run(path)
    if run.exists and any(record["kind"] == "finished" for record in run.records()):
        path = _free_name(path)
        console.print(f"{run.path} holds a finished demo and stays as it is; this one goes to {path}.", soft_wrap=True)
        run = Run(path)
    outcome = _train(console, Train(1, str(run.path), recipe, resume=True))
    if not outcome.finished:
        console.print(
            f"Stopped. `imagen-workbench demo --run {quote(str(path))}` "
            f"goes on from step {max(outcome.saved_step, 0):,}.",
            soft_wrap=True,
        )
        return STOPPED
    console.print("Drawing …")
    report = write_report(run)
    if report.copies is not None:
        console.print(copies_words(report.copies), soft_wrap=True)
    for name, file in (
        ("grid", report.grid),
        ("film strip", report.film),
        ("loss", report.loss),
        ("report", report.page),
    ):
        console.print(f"{name:>10}  {file}", soft_wrap=True)
    return 0


def _free_name(path: Path) -> Path:
    count = 2
    while (free := path.with_name(f"{path.name}-{count}")).exists():
        count += 1
    return free


def _train(console: Console, command: Train) -> Outcome:
    """Turns a worker until the training ends; Ctrl+C asks it to stop, a second one interrupts at once.

    Raises WorkbenchError with the worker's own words where it fails.
    """
    worker, outcome = Worker(), Outcome()

    def say() -> None:
        meter.say("Stopping after this step, then saving. Ctrl+C again ends at once, without saving.")

    with Meter(console) as meter, stopping_on_interrupt(worker, say):
        for event in events_of(worker, command):
            outcome.take(event)
            _show(meter, event)
    if outcome.failed:
        raise outcome.failed.as_error()
    return outcome


def _show(meter: Meter, event: Event) -> None:
    match event:
        case Preparing():
            meter.show(event.what, event.done, event.total)
        case PhaseChanged(phase=Phase.TRAINING):
            meter.say(f"Run folder: {event.run}")  # not before: what cannot begin leaves none
        case TrainingProgress():
            meter.show(
                "step",
                event.step,
                event.steps,
                f"{event.images_per_second:,.0f} images/s",
                f"loss {event.loss:.3f}",
                seconds_left=event.seconds_left,
            )
        case RolledBack():
            meter.say(event.line)
        case _:
            pass
