"""The run folder: the truth about a run, which any process may read.

recipe.toml  environment.json  dataset.json  journal/  checkpoints/<step>/  ema/  samples/  lock
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import filelock
import platformdirs

from ..errors import RunError
from ..recipe import Recipe
from .files import write_atomically
from .journal import Journal, last_records, read


def runs_home() -> Path:
    """Where runs go by default: `IMAGEN_WORKBENCH_HOME/runs`, or the platform's user data folder."""
    return user_home() / "runs"


def user_home() -> Path:
    """Our folder among the person's own: `IMAGEN_WORKBENCH_HOME`, or the platform's user data folder."""
    chosen = os.environ.get("IMAGEN_WORKBENCH_HOME")
    return Path(chosen) if chosen else platformdirs.user_data_path("imagen-workbench", appauthor=False)


class Run:
    """A run folder at `path`; it need not exist before `create`."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path).expanduser()
        self._lock = filelock.FileLock(self.path / "lock", timeout=0, thread_local=False)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def exists(self) -> bool:
        return (self.path / "recipe.toml").is_file()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def averages(self) -> Path:
        """Snapshots of the EMAs."""
        return self.path / "ema"

    def check_free(self) -> None:
        """Raises RunError where there is a run already, or something else that is not ours."""
        if self.exists:
            raise RunError(
                "there is a run here already", file=self.path, fix="Choose another folder, or continue it with --resume"
            )
        if self.path.is_dir() and any(entry.name != "lock" for entry in self.path.iterdir()):
            raise RunError("the folder is not empty", file=self.path, fix="Choose an empty or a new folder")

    def create(self, recipe: Recipe) -> None:
        """Makes the folder and writes recipe and environment. Raises RunError as `check_free`, or where it cannot."""
        self.check_free()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f"cannot be made: {error.strerror}", file=self.path, fix="Choose another folder") from error
        self.write_json("environment.json", environment())
        write_atomically(self.path / "recipe.toml", recipe.to_toml())

    def recipe(self) -> Recipe:
        """Raises RunError where this is no run folder, RecipeError where its recipe is damaged."""
        if not self.exists:
            raise RunError(
                "no run is here (no recipe.toml)", file=self.path, fix="`imagen-workbench runs` lists the known ones"
            )
        return Recipe.read(self.path / "recipe.toml")

    def acquire(self) -> None:
        """Takes the run for this process. Raises RunError where another one trains it, or the folder refuses."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except filelock.Timeout as error:
            raise RunError(
                "another process trains this run", file=self.path, fix="Wait until it ends, or stop it there"
            ) from error
        except OSError as error:
            raise RunError(
                f"cannot be used: {error.strerror or error}",
                file=self.path,
                fix="Choose a folder that you may write to",
            ) from error

    def release(self) -> None:
        self._lock.release()

    def open_journal(self) -> Journal:
        return Journal(self.path / "journal")

    def records(self) -> list[dict[str, Any]]:
        """The journal's records that count, in order."""
        return read(self.path / "journal")

    def last_records(self) -> list[dict[str, Any]]:
        """The journal's last few records, however long it is."""
        return last_records(self.path / "journal")

    def write_json(self, name: str, content: object) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=1, ensure_ascii=False))

    def read_json(self, name: str) -> dict[str, Any]:
        """The file's object; empty where there is none. Raises RunError where it is damaged."""
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise RunError(f"damaged: {error}", file=self.path / name) from error


def new_run_path(name: str, home: Path | None = None, today: datetime.date | None = None) -> Path:
    """A free folder `name-YYYY-MM-DD`, numbered from the second on."""
    home = home or runs_home()
    day = (today or datetime.date.today()).isoformat()
    stem = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    path, count = home / f"{stem}-{day}", 1
    while path.exists():
        count += 1
        path = home / f"{stem}-{day}-{count}"
    return path


def find_runs(home: Path | None = None) -> list[Run]:
    """The runs in the runs folder, newest first."""
    home = home or runs_home()
    found = [Run(path.parent) for path in home.glob("*/recipe.toml")]
    return sorted(found, key=lambda run: (run.path / "recipe.toml").stat().st_mtime, reverse=True)


def environment() -> dict[str, Any]:
    """What exactness depends on beside the recipe: machine and versions. The worker adds threads and device."""
    names = ("imagen-workbench", "torch", "numpy", "pillow", "safetensors", "pydantic")
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = ""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "versions": versions,
        "executable": Path(sys.executable).name,
    }
