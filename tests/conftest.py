"""What every test gets: homes of its own, one thread for torch, and a check that nothing is left running."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

# Before anything imports torch: two threads that wait for each other on a busy machine take many times longer than
# one, and exact resume holds for the same number of threads. Child processes get it, too.
os.environ["OMP_NUM_THREADS"] = "1"
# Hypothesis keeps nothing beside the source.
if "HYPOTHESIS_STORAGE_DIRECTORY" not in os.environ:
    os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = tempfile.mkdtemp(prefix="hypothesis-")
    atexit.register(shutil.rmtree, os.environ["HYPOTHESIS_STORAGE_DIRECTORY"], ignore_errors=True)
# Without a screen, Qt's own platform without one.
if sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
# Helpers lie beside the tests.
sys.path.insert(0, str(Path(__file__).parent))

import pytest
from hypothesis import settings

from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagen_workbench.core.runs.folder import Run

# The same examples every time: no luck, and no deadline on a machine that others share.
settings.register_profile("ours", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("ours")

ENDING = 10.0
"""Seconds that a thread which is about to end may take."""

FEW_STEPS = {
    "data.validation": 64,
    "training.steps": 20,
    "training.micro_batch": 8,
    "training.checkpoint_every": 10,
    "training.validate_every": 10,
    "training.preview_every": 10,
    "sampling.steps": 4,
}


@pytest.fixture(autouse=True)
def no_threads_left() -> Iterator[None]:
    """A thread that a test leaves running fails it."""
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before and not _is_foreign(each)]
    for thread in left:
        thread.join(ENDING / len(left))
    running = [thread.name for thread in left if thread.is_alive()]
    assert not running, f"threads left running: {', '.join(running)}"


def _is_foreign(thread: threading.Thread) -> bool:
    """A native thread that Python has only heard of: nobody can join it."""
    return isinstance(thread, threading._DummyThread)


@pytest.fixture(autouse=True)
def homes(no_threads_left: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The person's own folders, for this test alone. Returns the one that holds them."""
    place = tmp_path / "homes"
    monkeypatch.setenv("IMAGEN_WORKBENCH_HOME", str(place / "home"))
    monkeypatch.setenv("IMAGEN_WORKBENCH_CACHE", str(place / "cache"))
    return place


@pytest.fixture(scope="session")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(run folder, cache) of one training of the tiny recipe, from its first step to its last."""
    from imagen_workbench.core.worker.headless import train

    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMAGEN_WORKBENCH_HOME", str(place / "home"))
        patch.setenv("IMAGEN_WORKBENCH_CACHE", str(place / "cache"))
        run = train(_tiny(), place / "home" / "runs" / "tiny")
    return run.path, place / "cache"


def _tiny() -> Recipe:
    return Recipe.read(bundled_recipes()["tiny"]).with_values(FEW_STEPS)


@pytest.fixture
def tiny_recipe(_trained: tuple[Path, Path], homes: Path) -> Recipe:
    """The bundled recipe `tiny` with few steps; its digits lie decoded in this test's cache."""
    shutil.copytree(_trained[1], homes / "cache", dirs_exist_ok=True)
    return _tiny()


@pytest.fixture
def trained_run(_trained: tuple[Path, Path]) -> Run:
    """The tiny recipe, trained to its end. Many tests share it: read it, copy it, change nothing."""
    from imagen_workbench.core.runs.folder import Run

    return Run(_trained[0])


@pytest.fixture
def copied_run(tiny_recipe: Recipe, trained_run: Run, homes: Path) -> Run:
    """A copy of the trained run in this test's own home; its recipe is `tiny_recipe`."""
    from imagen_workbench.core.runs.folder import Run

    return Run(shutil.copytree(trained_run.path, homes / "home" / "runs" / "tiny"))
