"""Exact resume: stopped, disturbed, damaged or killed, a run ends with the bits that it would have had."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
import torch

from imagen_workbench.core.commands import LIVE, Close, Command, Draw, OpenModel, Pause, Resume, Stop, Train
from imagen_workbench.core.errors import RunError
from imagen_workbench.core.events import (
    ClosedDown,
    Drawn,
    Event,
    Failed,
    Kept,
    ModelOpened,
    Phase,
    PhaseChanged,
    Preview,
    Progress,
    RolledBack,
    SampleRow,
    Saved,
)
from imagen_workbench.core.recipe import Recipe, Sampling
from imagen_workbench.core.runs.checkpoint import checkpoints, load_newest, write_checkpoint
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.runs.journal import Follower
from imagen_workbench.core.runs.samples import read_rows
from imagen_workbench.core.runs.snapshots import is_due, snapshots
from imagen_workbench.core.training import loop
from imagen_workbench.core.training.losses import denoising_error
from imagen_workbench.core.worker import Worker
from imagen_workbench.core.worker.headless import events_of, train
from imagen_workbench.core.worker.training import TrainingRun

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

PATIENCE = 120.0
POLL = 0.02

Answer = Callable[[Event], Command | None]


def driven(worker: Worker, first: Command, answer: Answer = lambda _: None) -> list[Event]:
    """What the worker says, given a command and what `answer` makes of its events."""
    said = []
    for event in events_of(worker, first):
        said.append(event)
        command = answer(event)
        if command is not None:
            worker.post(command)
    return said


def stopping_after(step: int) -> Answer:
    """Asks it to stop when this step has been made; the one that is begun is finished."""
    return lambda event: Stop(2) if isinstance(event, Progress) and event.step == step else None


def final_hashes(run: Path | Run) -> dict[str, str]:
    """Of weights, average and optimizer in the newest saved state."""
    folder = run.checkpoints if isinstance(run, Run) else Run(run).checkpoints
    return checkpoints(folder)[0].facts["hashes"]


def losses(run: Path) -> list[tuple[int, float]]:
    return [(record["step"], record["loss"]) for record in Run(run).records() if record["kind"] == "step"]


def failures(said: list[Event]) -> list[Failed]:
    return [event for event in said if isinstance(event, Failed)]


# --- a run that nothing disturbs ------------------------------------------------------------------


def test_the_folder_tells_the_whole_story(trained_run: Run) -> None:
    records = trained_run.records()
    kinds = [record["kind"] for record in records]
    assert kinds[:3] == ["started", "held_out", "sampled"]
    assert kinds[-1] == "finished"
    assert [record["step"] for record in records if record["kind"] == "step"] == list(range(1, 21))
    assert [record["step"] for record in records if record["kind"] == "saved"] == [10, 20]
    assert [record["step"] for record in records if record["kind"] == "held_out"] == [0, 10, 20]
    manifest = trained_run.read_json("dataset.json")
    assert (manifest["images"], manifest["training"], manifest["held_out"]) == (5000, 4936, 64)
    assert len(manifest["classes"]) == 10
    assert [step for step, _ in read_rows(trained_run.path, (28, 28))] == [0, 10, 20]
    environment = trained_run.read_json("environment.json")
    assert environment["threads"] == 1
    assert environment["batch_layout"] == {"batch": 16, "micro_batch": 8}
    assert not [path for path in trained_run.path.rglob(".*") if path.name.startswith(".")]


def test_a_saved_state_is_what_its_hashes_say(trained_run: Run) -> None:
    from imagen_workbench.core.runs.checkpoint import weights_hash

    loaded = load_newest(trained_run.checkpoints)
    assert loaded is not None
    checkpoint, groups, passed = loaded
    assert passed == []
    assert {name: weights_hash(group) for name, group in groups.items()} == checkpoint.facts["hashes"]
    assert set(groups) == {"weights", "ema-0.050", "ema-0.100", "optimizer"}
    assert checkpoint.facts["seen"] == 20 * 16


def test_the_same_recipe_gives_the_same_weights(tiny_recipe: Recipe, trained_run: Run, tmp_path: Path) -> None:
    """With a face that listens; and other checkpoints on the way do not matter."""
    heard: list[Event] = []
    run = train(tiny_recipe.with_values({"training.checkpoint_every": 7}), tmp_path / "run", on_event=heard.append)
    assert final_hashes(run) == final_hashes(trained_run)
    assert [event.step for event in heard if isinstance(event, Progress)] == list(range(1, 21))
    assert [event.step for event in heard if isinstance(event, Saved)] == [7, 14, 20]
    rows = [event for event in heard if isinstance(event, SampleRow)]
    assert [event.step for event in rows] == [0, 10, 20]
    assert all(event.images is not None and event.images.shape == (8, 28, 28, 1) for event in rows)


# --- stopped, paused, drawn from ------------------------------------------------------------------


@pytest.mark.parametrize("step", [3, 9, 12])
def test_stopped_and_continued_it_ends_with_the_same_bits(
    tiny_recipe: Recipe, trained_run: Run, tmp_path: Path, step: int
) -> None:
    folder = tmp_path / "run"
    said = driven(Worker(), Train(1, str(folder), tiny_recipe), stopping_after(step))
    assert not failures(said)
    assert [event.step for event in said if isinstance(event, Saved)][-1] == step + 1
    assert not [event for event in said if isinstance(event, PhaseChanged) and event.finished]
    said = driven(Worker(), Train(1, str(folder), resume=True))
    assert not failures(said)
    assert [event.step for event in said if isinstance(event, Progress)] == list(range(step + 2, 21))
    assert final_hashes(folder) == final_hashes(trained_run)
    assert losses(folder) == losses(trained_run.path)
    (resumed,) = [record for record in Run(folder).records() if record["kind"] == "resumed"]
    assert resumed["step"] == step + 1
    assert resumed["differs"] == []
    assert resumed["passed_over"] == []


def test_pauses_and_draws_change_nothing(tiny_recipe: Recipe, trained_run: Run, tmp_path: Path) -> None:
    """Drawing never changes training: in a pause, and in the middle of a step."""
    folder = tmp_path / "run"
    noisy = Sampling(sampler="heun", churn=10, steps=3, guidance=2.0, seed=9)

    def answer(event: Event) -> Command | None:
        match event:
            case Progress(step=2):
                return Pause(2)
            case PhaseChanged(phase=Phase.PAUSED):
                return Draw(3, LIVE, ("7",), 2, noisy)
            case Drawn(ticket=3):
                return Resume(4)
            case Progress(step=5 | 6 | 11):
                return Draw(5, LIVE, ("3",), 3, noisy.model_copy(update={"ema": 0.0}))
            case Progress(step=8):
                return OpenModel(6, LIVE)
        return None

    said = driven(Worker(), Train(1, str(folder), tiny_recipe), answer)
    assert not failures(said)
    assert {event.ticket for event in said if isinstance(event, Drawn)} == {3, 5}
    assert [event.ticket for event in said if isinstance(event, Preview)]
    assert [event.step for event in said if isinstance(event, ModelOpened)] == [8]
    assert final_hashes(folder) == final_hashes(trained_run)
    assert losses(folder) == losses(trained_run.path)


def test_closing_saves_and_the_next_worker_goes_on(tiny_recipe: Recipe, trained_run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    said = driven(
        Worker(),
        Train(1, str(folder), tiny_recipe),
        lambda event: Close(2) if isinstance(event, Progress) and event.step == 4 else None,
    )
    assert isinstance([event for event in said if isinstance(event, Kept)][-1], ClosedDown)
    assert [event.step for event in said if isinstance(event, Saved)] == [5]
    assert not failures(driven(Worker(), Train(1, str(folder), resume=True)))
    assert final_hashes(folder) == final_hashes(trained_run)


def test_a_live_draw_needs_a_run_in_training(tiny_recipe: Recipe) -> None:
    said = driven(Worker(), Draw(1, LIVE, ("7",), 1, tiny_recipe.sampling))
    (failed,) = failures(said)
    assert failed.fix


# --- continued in other ways ----------------------------------------------------------------------


def test_a_finished_run_has_nothing_left_to_do(copied_run: Run) -> None:
    before = final_hashes(copied_run)
    said = driven(Worker(), Train(1, str(copied_run.path), resume=True))
    assert not failures(said)
    assert [event.finished for event in said if isinstance(event, PhaseChanged)][-1]
    assert final_hashes(copied_run) == before


def test_a_damaged_state_is_passed_over_and_made_again(copied_run: Run, trained_run: Run) -> None:
    newest = checkpoints(copied_run.checkpoints)[0]
    file = newest.path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(bytes(content))
    said = driven(Worker(), Train(1, str(copied_run.path), resume=True))
    assert not failures(said)
    assert final_hashes(copied_run) == final_hashes(trained_run)
    assert losses(copied_run.path) == losses(trained_run.path)
    (resumed,) = [record for record in copied_run.records() if record["kind"] == "resumed"]
    assert resumed["step"] == 10
    assert "00000020" in resumed["passed_over"][0]
    loaded = load_newest(copied_run.checkpoints)
    assert loaded is not None
    assert (loaded[0].step, loaded[2]) == (20, [])


def test_where_no_state_is_good_it_says_so_and_touches_nothing(copied_run: Run) -> None:
    for checkpoint in checkpoints(copied_run.checkpoints):
        (checkpoint.path / "weights.safetensors").write_bytes(b"damaged")
    records = copied_run.records()
    (failed,) = failures(driven(Worker(), Train(1, str(copied_run.path), resume=True)))
    assert "no saved state is good" in failed.what
    assert failed.fix
    assert copied_run.records() == records


def test_what_has_changed_since_is_said(copied_run: Run) -> None:
    """It goes on, but no longer promises the same bits."""
    state = checkpoints(copied_run.checkpoints)[0].path / "state.json"
    facts = json.loads(state.read_text())
    del facts["digest"]
    facts["environment"]["threads"] = 64
    facts["environment"]["versions"]["torch"] = "0.0"
    facts["data"]["frozen"] = ["another encoder"]
    state.write_text(json.dumps(facts))
    copied_run.write_json("dataset.json", {**copied_run.read_json("dataset.json"), "digest": "other"})
    assert not failures(driven(Worker(), Train(1, str(copied_run.path), resume=True)))
    (resumed,) = [record for record in copied_run.records() if record["kind"] == "resumed"]
    assert [words.split(":")[0].split(" ")[0] for words in resumed["differs"]] == ["threads", "torch", "the", "the"]
    assert resumed["differs"][-1] == "the frozen encoder"


def test_another_recipe_is_refused(copied_run: Run, tiny_recipe: Recipe) -> None:
    other = tiny_recipe.with_values({"training.learning_rate": 0.001})
    (failed,) = failures(driven(Worker(), Train(1, str(copied_run.path), other, resume=True)))
    assert failed.file == str(copied_run.path)
    assert failed.fix


def test_a_run_is_never_begun_over_another(copied_run: Run, tiny_recipe: Recipe) -> None:
    before = final_hashes(copied_run)
    (failed,) = failures(driven(Worker(), Train(1, str(copied_run.path), tiny_recipe)))
    assert failed.file == str(copied_run.path)
    assert final_hashes(copied_run) == before


def test_where_there_is_no_run_there_is_nothing_to_continue(tmp_path: Path) -> None:
    (failed,) = failures(driven(Worker(), Train(1, str(tmp_path / "typo"), resume=True)))
    assert failed.file == str(tmp_path / "typo")
    assert failed.fix
    assert not (tmp_path / "typo").exists(), "a mistyped name leaves no folder behind"


def test_a_run_in_training_is_taken(tiny_recipe: Recipe, tmp_path: Path) -> None:
    folder, second = tmp_path / "run", []

    def answer(event: Event) -> Command | None:
        if isinstance(event, Progress) and event.step == 3:
            second.extend(failures(driven(Worker(), Train(1, str(folder), resume=True))))
            return Stop(2)
        return None

    assert not failures(driven(Worker(), Train(1, str(folder), tiny_recipe), answer))
    assert [failed.what for failed in second] == ["another process trains this run"]
    assert not failures(driven(Worker(), Train(1, str(folder), resume=True), stopping_after(5)))


def test_headless_training_raises_the_workers_own_words(tmp_path: Path, tiny_recipe: Recipe) -> None:
    with pytest.raises(RunError) as caught:
        train(tiny_recipe.with_values({"data.source": "nothing"}), tmp_path / "run")
    assert caught.value.field == "data.source"
    assert caught.value.fix


def broken_off(worker: Worker, command: Train, step: int) -> None:
    """Trains to a step and drops everything there, as a crash would: nothing is saved."""
    for event in events_of(worker, command):
        if isinstance(event, Progress) and event.step == step:
            break
    assert worker._turns is not None
    worker._turns.close()


def test_lost_before_the_first_saved_state_it_begins_again(
    tiny_recipe: Recipe, trained_run: Run, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    broken_off(Worker(), Train(1, str(folder), tiny_recipe), 6)
    assert not failures(driven(Worker(), Train(1, str(folder), resume=True)))
    assert final_hashes(folder) == final_hashes(trained_run)
    assert losses(folder) == losses(trained_run.path), "each step counts once"


def test_minutes_become_a_budget_of_steps_that_a_resume_replays(tiny_recipe: Recipe, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    broken_off(Worker(), Train(1, str(folder), tiny_recipe, minutes=1e-9), 1)
    (started,) = [record for record in Run(folder).records() if record["kind"] == "started"]
    assert started["steps"] == 1
    assert not failures(driven(Worker(), Train(1, str(folder), resume=True)))
    assert [step for step, _ in losses(folder)] == [1]


# --- numbers that are not finite ------------------------------------------------------------------


@pytest.fixture
def spoilt(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[int]], None]:
    """Given the numbers of passes in training, counted over this test: those get NaN for a loss."""
    made = iter(range(1, 10_000))

    def spoil(passes: set[int]) -> None:
        def spoilt_error(*given: Any) -> Tensor:
            found = denoising_error(*given)
            return found * math.nan if next(made) in passes else found

        monkeypatch.setattr(loop, "denoising_error", spoilt_error)

    return spoil


def rolled_back(said: list[Event]) -> list[int]:
    return [event.step for event in said if isinstance(event, RolledBack)]


def test_one_bad_step_is_left_out(tiny_recipe: Recipe, tmp_path: Path, spoilt: Callable[[set[int]], None]) -> None:
    spoilt({2 * 5})  # the second chunk of step 5
    said = driven(Worker(), Train(1, str(tmp_path / "run"), tiny_recipe))
    assert not failures(said)
    assert not rolled_back(said)
    records = Run(tmp_path / "run").records()
    assert [record["step"] for record in records if record["kind"] == "skipped"] == [5]
    assert [record["step"] for record in records if record["kind"] == "step"] == [*range(1, 5), *range(6, 21)]
    assert records[-1]["kind"] == "finished"


def test_three_bad_steps_go_back_and_on_with_other_noise(
    tiny_recipe: Recipe, trained_run: Run, tmp_path: Path, spoilt: Callable[[set[int]], None]
) -> None:
    """Back to step 10, and through steps 11 to 20 on another way; the journal tells each step once."""
    spoilt({2 * 13, 2 * 14, 2 * 15})
    folder = Run(tmp_path / "run")
    said = driven(Worker(), Train(1, str(folder.path), tiny_recipe))
    assert not failures(said)
    assert rolled_back(said) == [10]
    (event,) = [event for event in said if isinstance(event, RolledBack)]
    assert "step 15" in event.reason
    assert "step 10" in event.line
    assert [event.finished for event in said if isinstance(event, PhaseChanged)][-1]
    (record,) = [record for record in folder.records() if record["kind"] == "rolled_back"]
    assert (record["step"], record["lost"], record["attempt"]) == (10, 5, 1)
    told, before = losses(folder.path), losses(trained_run.path)
    assert [step for step, _ in told] == list(range(1, 21))
    assert told[:10] == before[:10]
    assert not set(told[10:]) & set(before[10:])
    assert [checkpoint.facts["attempt"] for checkpoint in checkpoints(folder.checkpoints)] == [1, 0]
    assert [each.step for each in snapshots(folder.averages, 20)] == [step for step in range(1, 21) if is_due(step, 20)]


@pytest.mark.parametrize("step", [10, 15])
def test_continued_after_going_back_it_ends_with_the_same_bits(
    tiny_recipe: Recipe, tmp_path: Path, spoilt: Callable[[set[int]], None], step: int
) -> None:
    """Lost after the roll-back, before or after the next saved state: the other noise is remembered."""
    recipe = tiny_recipe.with_values({"training.checkpoint_every": 5, "training.steps": 16})
    spoilt({2 * 14, 2 * 15, 2 * 16})  # nothing is saved at step 15 at first, in the middle of the trouble
    straight = tmp_path / "straight"
    said = driven(Worker(), Train(1, str(straight), recipe))
    assert rolled_back(said) == [10]
    broken = tmp_path / "broken"
    shutil.copytree(straight, broken)
    for checkpoint in checkpoints(Run(broken).checkpoints):
        if checkpoint.step > step:
            shutil.rmtree(checkpoint.path)
    assert not failures(driven(Worker(), Train(1, str(broken), resume=True)))
    assert final_hashes(broken) == final_hashes(straight)
    assert losses(broken) == losses(straight)
    assert checkpoints(Run(broken).checkpoints)[0].facts["attempt"] == 1


def test_before_the_first_saved_state_it_goes_back_to_the_beginning(
    tiny_recipe: Recipe, tmp_path: Path, spoilt: Callable[[set[int]], None]
) -> None:
    spoilt({2 * 4, 2 * 5, 2 * 6})
    said = driven(Worker(), Train(1, str(tmp_path / "run"), tiny_recipe))
    assert not failures(said)
    assert rolled_back(said) == [0]
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 21))


@pytest.mark.parametrize(("most", "words"), [(2, "after 2 roll-backs"), (0, "in a row")])
def test_what_no_going_back_helps_ends_with_a_word_of_advice(
    tiny_recipe: Recipe, tmp_path: Path, spoilt: Callable[[set[int]], None], most: int, words: str
) -> None:
    """Images that always give NaN, for example: it does not try for ever, and keeps what it saved."""
    spoilt(set(range(2 * 13, 10_000)))
    folder = Run(tmp_path / "run")
    recipe = tiny_recipe.with_values({"training.rollbacks": most})
    said = driven(Worker(), Train(1, str(folder.path), recipe))
    assert rolled_back(said) == [10] * most
    (failed,) = failures(said)
    assert failed.field == "training.learning_rate"
    assert failed.fix
    assert words in failed.what
    assert [checkpoint.step for checkpoint in checkpoints(folder.checkpoints)] == [10]
    (failed,) = failures(driven(Worker(), Train(1, str(folder.path), resume=True)))
    assert failed.field == "training.learning_rate", "nor does it when it is continued"


def test_weights_that_are_not_finite_are_not_saved(tiny_recipe: Recipe, tmp_path: Path) -> None:
    """Stopped with such weights, it keeps the state before."""
    worker, folder = Worker(), Run(tmp_path / "run")

    def answer(event: Event) -> Command | None:
        if isinstance(event, Progress) and event.step == 12:
            job = worker._job
            assert isinstance(job, TrainingRun)
            assert job._state is not None
            next(job._state.model.parameters()).data.fill_(math.inf)
            return Stop(2)
        return None

    (failed,) = failures(driven(worker, Train(1, str(folder.path), tiny_recipe), answer))
    assert "not finite" in failed.what
    assert [checkpoint.step for checkpoint in checkpoints(folder.checkpoints)] == [10]


# --- what is kept ---------------------------------------------------------------------------------


def test_the_newest_three_states_and_the_best_are_kept(tmp_path: Path) -> None:
    losses_by_step = {1: 0.9, 2: 0.5, 3: None, 4: 0.6, 5: 0.7, 6: 0.8}
    for step, loss in losses_by_step.items():
        write_checkpoint(tmp_path, step, {"weights": {"w": torch.zeros(1)}}, {"held_out": loss})
    assert [checkpoint.step for checkpoint in checkpoints(tmp_path)] == [6, 5, 4, 2]


def test_a_stopped_and_continued_run_keeps_the_same_snapshots(
    tiny_recipe: Recipe, trained_run: Run, tmp_path: Path
) -> None:
    folder = Run(tmp_path / "run")
    driven(Worker(), Train(1, str(folder.path), tiny_recipe), stopping_after(4))
    assert not failures(driven(Worker(), Train(1, str(folder.path), resume=True)))
    kept, known = (snapshots(run.averages, 20) for run in (folder, trained_run))
    assert len(kept) == 16
    assert [(each.step, each.time, each.lengths, each.hash) for each in kept] == [
        (each.step, each.time, each.lengths, each.hash) for each in known
    ]


# --- killed ---------------------------------------------------------------------------------------

TRAIN = """
import sys
from pathlib import Path
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.worker.headless import train
{before}
train(Recipe.read(Path(sys.argv[1])), sys.argv[2], resume=True)
"""

# kills itself where the second state is written whole, but has not yet taken its name
DIES_WHILE_SAVING = """
import os, signal
taking_its_name = Path.rename
def rename(path, target):
    if Path(target).name == "00000020":
        os.kill(os.getpid(), signal.SIGKILL)
    return taking_its_name(path, target)
Path.rename = rename
"""


def process(recipe: Path, run: Path, before: str = "") -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", TRAIN.format(before=before), str(recipe), str(run)])


@pytest.fixture
def long_recipe(tiny_recipe: Recipe, tmp_path: Path) -> tuple[Recipe, Path]:
    """Forty steps with little between them, and its file."""
    few = {"training.steps": 40, "training.validate_every": 40, "training.preview_every": 40}
    recipe = tiny_recipe.with_values(few)
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    return recipe, tmp_path / "recipe.toml"


@pytest.fixture
def never_killed(long_recipe: tuple[Recipe, Path], tmp_path: Path) -> Run:
    return train(long_recipe[0], tmp_path / "never killed")


def records(run: Path) -> list[dict[str, Any]]:
    return Follower(run / "journal").news()


def frozen_between_two_states(child: subprocess.Popen[bytes], run: Path) -> tuple[int, int]:
    """Stops the child where its journal has steps that no saved state has; returns (last step, last saved step)."""
    for _ in range(int(PATIENCE / POLL)):
        try:
            child.wait(POLL)
        except subprocess.TimeoutExpired:
            pass
        else:
            raise AssertionError(f"it ended by itself, with {child.returncode}")
        told = [record["step"] for record in records(run) if record["kind"] == "step"]
        if not told or told[-1] < 12:
            continue
        child.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        said = records(run)
        last = max(record["step"] for record in said if record["kind"] == "step")
        saved = [checkpoint.step for checkpoint in checkpoints(Run(run).checkpoints)]
        if saved and last > saved[0] and last % 10 and not any(record["kind"] == "finished" for record in said):
            return last, saved[0]
        child.send_signal(signal.SIGCONT)
    raise AssertionError("it was never caught between two saved states")


@pytest.fixture
def children() -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that the test starts; none outlives it."""
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for child in started:
        if child.poll() is None:
            child.kill()
        child.wait()


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_killed_between_two_states_it_ends_with_the_same_bits(
    long_recipe: tuple[Recipe, Path], never_killed: Run, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    """SIGKILL: nothing can be tidied up. Another process goes on."""
    run = tmp_path / "killed"
    children.append(process(long_recipe[1], run))
    last, saved = frozen_between_two_states(children[0], run)
    children[0].kill()
    assert children[0].wait() == -signal.SIGKILL
    assert saved < last < 40
    assert not any(record["kind"] == "finished" for record in records(run))

    children.append(process(long_recipe[1], run))
    assert children[1].wait(PATIENCE) == 0
    assert final_hashes(run) == final_hashes(never_killed)
    assert losses(run) == losses(never_killed.path)
    (resumed,) = [record for record in Run(run).records() if record["kind"] == "resumed"]
    assert resumed["step"] == saved
    assert resumed["differs"] == []


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_killed_while_it_saves_it_ends_with_the_same_bits(
    long_recipe: tuple[Recipe, Path], never_killed: Run, tmp_path: Path, children: list[subprocess.Popen[bytes]]
) -> None:
    """The half-saved state is no state; it is cleared away when the next one is saved."""
    run = tmp_path / "killed"
    children.append(process(long_recipe[1], run, DIES_WHILE_SAVING))
    assert children[0].wait(PATIENCE) == -signal.SIGKILL
    (left,) = Run(run).checkpoints.glob(".unfinished-*")
    assert (left / "state.json").is_file()
    shutil.copytree(left, Run(run).checkpoints / ".unfinished-older")
    assert [checkpoint.step for checkpoint in checkpoints(Run(run).checkpoints)] == [10]

    said = driven(Worker(), Train(1, str(run), resume=True))
    assert not failures(said)
    assert final_hashes(run) == final_hashes(never_killed)
    assert losses(run) == losses(never_killed.path)
    assert not list(Run(run).checkpoints.glob(".unfinished-*"))
