"""The watchdog: a plugin's call that hangs in the worker is ended and named, or given up; training goes on exactly."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
import torch
from plugin_packages import install

from imagen_workbench.core.commands import Close, Train
from imagen_workbench.core.errors import PluginError
from imagen_workbench.core.events import ClosedDown, Event, Failed, Hanging, Phase, PhaseChanged
from imagen_workbench.core.foreign import Abandoned, Watched, call_foreign, watched
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of, train
from imagen_workbench.core.worker.watchdog import EVERY, GRACE, LIMIT, Watchdog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from imagen_workbench.core.recipe import Recipe

PATIENCE = 60.0
"""Seconds that a test waits for another thread before it gives up."""

HANGS = """
import threading
import numpy as np
import torch
from torch import nn
from imagen_workbench.core import Condition, ConditioningScheme

class State:
    how, left, release = "", 0, threading.Event()

class Hangs(ConditioningScheme):
    title, summary, key, vector_width = "Hangs", "", "hangs", 8

    def prepare(self, example):
        return np.zeros(1, np.float32)

    def parse(self, text):
        return np.zeros(1, np.float32)

    def encoder(self):
        return Encoder()

class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.empty(8))

    def reset(self, generator):
        with torch.no_grad():
            self.scale.copy_(torch.randn(8, generator=generator))

    def forward(self, prepared):
        State.left -= self.training
        if State.left < 0:
            while State.how == "loop":
                try:
                    sum(range(100))
                except Exception:
                    pass
            if State.how == "native":
                State.release.wait()
        vector = (1 + prepared) * self.scale
        return Condition(vector, null=Condition(torch.zeros_like(vector)))
"""


@pytest.fixture
def hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type]:
    """How a plugin's encoder hangs, and after how many more calls in training: its class attributes."""
    import importlib
    import sys

    install(tmp_path / "site", monkeypatch, "hanging-package", HANGS, schemes={"hangs": "Hangs"})
    yield importlib.import_module("hanging_package").State
    del sys.modules["hanging_package"]


@pytest.fixture
def recipe(tiny_recipe: Recipe, hangs: type) -> Recipe:
    return tiny_recipe.with_values(
        {
            "conditioning.scheme": "hangs",
            "conditioning.options": {},
            "training.checkpoint_every": 3,
            "training.steps": 12,
        }
    )


@contextmanager
def at_work(limit: float = 2.0, grace: float = 0.3) -> Iterator[list[Worker]]:
    """A worker on a thread of its own; whoever takes its place goes into the list, whose last is closed at the end.

    limit: more than any honest call takes, on a busy machine, too.
    """
    workers = [Worker(limit=limit, grace=grace)]
    workers[0].start()
    try:
        yield workers
    finally:
        workers[-1].post(Close(99))
        assert workers[-1].join(PATIENCE)


def until(worker: Worker, is_last: Callable[[Event], bool]) -> list[Event]:
    """What the worker says, up to the event that is waited for."""
    said: list[Event] = []
    while True:
        news = worker.mailbox.wait(PATIENCE)
        assert news, f"nothing more after {said}"
        said += news
        if any(is_last(event) for event in news):
            return said


def has_ended(event: Event) -> bool:
    return isinstance(event, PhaseChanged) and event.phase is Phase.IDLE


def hashes_of(run: Path) -> list[str]:
    """Of each state that the run has saved, in order, the last one for each step."""
    saved = {record["step"]: record["hashes"] for record in Run(run).records() if record["kind"] == "saved"}
    return [str(saved[step]) for step in sorted(saved)]


# --- a clock that is turned by hand ----------------------------------------------------------------


class Scene:
    """A watchdog whose time passes by hand, and what it has told."""

    def __init__(self, here: Watched) -> None:
        self.told: list[Event] = []
        self.dog = Watchdog(here, self.told.append)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / EVERY)):
            self.dog.look(EVERY)


def test_many_short_calls_alarm_nobody() -> None:
    with watched() as here:
        scene = Scene(here)
        for _ in range(50):
            call_foreign("slow", "slow-package", "parse", lambda: scene.wait(LIMIT - 2))
        assert scene.told == []


def test_turns_of_our_own_may_take_as_long_as_they_need() -> None:
    with watched() as here:
        scene = Scene(here)
        call_foreign("slow", "slow-package", "parse", lambda: None)
        scene.wait(100 * LIMIT)
        assert scene.told == []


def test_a_machine_asleep_ages_nobody() -> None:
    with watched() as here:
        scene = Scene(here)

        def work() -> None:
            for _ in range(5):
                scene.dog.look(10_000)

        call_foreign("slow", "slow-package", "parse", work)
        assert scene.told == []


def test_a_call_that_takes_too_long_is_ended_and_named() -> None:
    with watched() as here:
        scene = Scene(here)

        def work() -> None:
            scene.wait(LIMIT + 3 * EVERY)
            pytest.fail("it goes on")

        with pytest.raises(PluginError, match="'slow' of slow-package did not come back from parse"):
            call_foreign("slow", "slow-package", "parse", work)


def test_of_a_call_within_a_call_the_outer_one_counts() -> None:
    with watched() as here:
        scene = Scene(here)

        def work() -> None:
            for _ in range(100):
                call_foreign("inner", "inner-package", "parse", lambda: scene.wait(2))

        with pytest.raises(PluginError, match="outer"):
            call_foreign("outer", "outer-package", "parse", work)


def test_one_that_comes_back_just_then_has_answered() -> None:
    with watched() as here:
        here_is: list[object] = []

        def work() -> str:
            here_is.append(here.now())
            return "done"

        assert call_foreign("slow", "slow-package", "parse", work) == "done"
        here.end(here.now()[0])  # too late: it is over
        assert call_foreign("slow", "slow-package", "parse", work) == "done"


def test_what_cannot_be_ended_is_told_once_and_taken_back() -> None:
    inside, release = threading.Event(), threading.Event()
    found: list[Watched] = []
    outcome: list[PluginError] = []

    def thread() -> None:
        with watched() as mine:
            found.append(mine)
            try:
                call_foreign("stuck", "stuck-package", "its encoder", work)
            except PluginError as error:
                outcome.append(error)

    def work() -> None:
        inside.set()
        release.wait(PATIENCE)  # one wait in native code

    other = threading.Thread(target=thread)
    other.start()
    assert inside.wait(PATIENCE)
    scene = Scene(found[-1])
    scene.wait(LIMIT + 3 * GRACE)
    (hanging,) = scene.told
    assert isinstance(hanging, Hanging)
    assert (hanging.plugin, hanging.package, hanging.part) == ("stuck", "stuck-package", "its encoder")
    assert hanging.seconds == pytest.approx(LIMIT + GRACE, abs=EVERY)
    release.set()
    other.join(PATIENCE)
    scene.wait(2)
    assert scene.told[1:] == [Hanging()]
    assert "was ended" in str(outcome[0])


def test_a_thread_that_was_given_up_ends_when_its_call_does() -> None:
    with watched() as here, pytest.raises(Abandoned):
        call_foreign("slow", "slow-package", "parse", here.abandon)


def test_ours_are_not_watched(tiny_recipe: Recipe) -> None:
    from imagen_workbench.core.data.source import Facts
    from imagen_workbench.core.extensions import make_scheme

    with watched() as here:
        before = here.now()
        make_scheme(tiny_recipe, Facts(tuple("0123456789"))).parse("7")
        assert here.now() == before


# --- a real thread ---------------------------------------------------------------------------------


def test_a_run_goes_on_exactly_from_a_call_that_was_ended_and_from_one_that_was_given_up(
    recipe: Recipe, hangs: type, tmp_path: Path
) -> None:
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    passes = recipe.training.batch // recipe.training.micro_batch
    train(recipe, whole)
    try:
        with at_work() as workers:
            stuck = workers[0]
            hangs.how, hangs.left = "loop", 5 * passes
            stuck.post(Train(1, str(broken), recipe))
            said = until(stuck, has_ended)
            (failed,) = [event for event in said if isinstance(event, Failed)]
            assert "'hangs' of hanging-package did not come back from its encoder and was ended" in failed.line
            assert "checkpoint" in failed.fix
            assert not any(isinstance(event, Hanging) for event in said)
            first = hashes_of(broken)

            hangs.how, hangs.left = "native", 4 * passes
            stuck.post(Train(2, str(broken), resume=True))
            said = until(stuck, lambda event: isinstance(event, Hanging))
            assert not any(isinstance(event, Failed) for event in said)
            second = hashes_of(broken)
            workers.append(stuck.abandon())
            hangs.how = ""
            workers[-1].post(Train(3, str(broken), resume=True))
            said = until(workers[-1], has_ended)
            assert not any(isinstance(event, Failed) for event in said), said
            third = hashes_of(broken)
            assert third == hashes_of(whole)
            assert 0 < len(first) < len(second) < len(third)

            hangs.release.set()  # the call ends after all
            assert stuck.join(PATIENCE)
            assert stuck.mailbox.take() == [], "it says nothing more"
            assert hashes_of(broken) == third
    finally:
        hangs.release.set()


def test_a_copy_of_a_fenced_encoder_is_its_own(recipe: Recipe) -> None:
    """With other weights in it, as the averages draw."""
    from imagen_workbench.core.data.source import Facts
    from imagen_workbench.core.denoisers.model import Weighted, build_model
    from imagen_workbench.core.extensions import make_scheme

    scheme = make_scheme(recipe, Facts())
    model = build_model(recipe, scheme)
    copied = Weighted(model, {name: each.detach() * 0 for name, each in model.named_parameters()})
    prepared = torch.zeros(3, 1)
    own, other = model.encode(prepared).vector, copied.encoder(prepared).vector
    assert own.abs().sum() > 0
    assert other.abs().sum() == 0
    with watched() as here:
        copied.encoder(prepared)
        assert here.now()[0] == 1


def test_what_a_plugin_raises_in_the_worker_is_named(recipe: Recipe) -> None:
    from imagen_workbench.core.data.source import Facts
    from imagen_workbench.core.extensions import make_scheme

    encoder = make_scheme(recipe, Facts()).encoder()
    with pytest.raises(PluginError, match="'hangs' of hanging-package failed: TypeError"):
        encoder("no tensor")


def test_a_worker_that_was_given_up_while_idle_ends() -> None:
    with at_work() as workers:
        workers.append(workers[0].abandon())
        assert workers[0].join(PATIENCE)
        workers[-1].post(Close(1))
        assert isinstance(until(workers[-1], lambda event: isinstance(event, ClosedDown))[-1], ClosedDown)


def test_the_command_line_ends_and_names_it_too(recipe: Recipe, hangs: type, tmp_path: Path) -> None:
    hangs.how = "loop"
    said = events_of(Worker(limit=0.3), Train(1, str(tmp_path / "run"), recipe))
    failed = [event for event in said if isinstance(event, Failed)]
    assert ["hanging-package" in event.line for event in failed] == [True]
