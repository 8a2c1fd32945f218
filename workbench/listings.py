"""What the command line lists: runs, and what this machine has."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from importlib import metadata
from typing import TYPE_CHECKING

from ..core.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ..core.runs.folder import Run


def run_rows(runs: Sequence[Run]) -> list[tuple[str, str, str, str, Path]]:
    """(name, state, step, recipe, folder) of each; a damaged one says so."""
    rows: list[tuple[str, str, str, str, Path]] = []
    for run in runs:
        try:
            recipe, records = run.recipe(), run.records()
        except WorkbenchError as error:
            rows.append((run.name, f"damaged: {error.what}", "", "", run.path))
            continue
        step = max((record["step"] for record in records), default=0)
        steps = next((record["steps"] for record in records if "steps" in record), recipe.training.steps)
        finished = any(record["kind"] == "finished" for record in records)
        rows.append(
            (run.name, "finished" if finished else "can go on", f"{step:,} of {steps:,}", recipe.name, run.path)
        )
    return rows


def doctor_facts() -> tuple[list[tuple[str, str | Path]], list[str]]:
    """What this machine has, as (name, value), and a line for each thing that is missing."""
    import torch

    from ..core.data.entries import cache_home
    from ..core.extensions import bundled_models, catalogue
    from ..core.machine import available_cores, devices, has_fast_bfloat16
    from ..core.runs.folder import environment, runs_home

    facts = environment()
    missing: list[str] = []
    speed = "fast" if has_fast_bfloat16(torch.device("cpu")) else "slow"
    rows: list[tuple[str, str | Path]] = [
        ("system", f"{facts['system']}, Python {facts['python']}"),
        (
            "processor",
            f"{available_cores()} of {os.cpu_count()} cores, bfloat16 {speed}",
        ),
        ("devices", ", ".join(_device_words(name) for name in devices())),
    ]
    for name in (
        "imagen-workbench",
        "torch",
        "numpy",
        "pydantic",
        "safetensors",
        "pillow",
        "PySide6-Essentials",
        "pyqtgraph",
        "ipywidgets",
        "anywidget",
        "ipykernel",
        "jupyterlab",
    ):
        try:
            rows.append((name, metadata.version(name)))
        except metadata.PackageNotFoundError:
            rows.append((name, "not installed"))
            if name != "jupyterlab":
                missing.append(f"{name}: pip install {name}")
    rows.append(("display", _display()))
    rows += [("runs", runs_home()), ("cache", cache_home())]
    rows.append(("free space", f"{_free(runs_home())} for runs, {_free(cache_home())} in the cache"))
    found = catalogue()
    rows.append(("datasets", ", ".join(each.name for each in found.datasets if not each.error)))
    rows.append(("conditioning", ", ".join(each.name for each in found.schemes if not each.error)))
    rows.append(("models", ", ".join(bundled_models()) or "none bundled"))
    missing += [f"plugin {each.name}: {each.error}" for each in (*found.datasets, *found.schemes) if each.error]
    if importlib.util.find_spec("jupyterlab") is None:
        missing.append("jupyterlab, for the notebook panel: pip install jupyterlab")
    elif int(metadata.version("ipykernel").split(".")[0]) < 7:
        missing.append("ipykernel 7, so that the panel answers while a cell runs: pip install 'ipykernel>=7'")
    if not _has_display():
        missing.append("a display, for the desktop window (set DISPLAY, or run under xvfb-run)")
    return rows, missing


def _device_words(name: str) -> str:
    import torch

    if name == "cuda":
        return f"cuda ({torch.cuda.get_device_name()})"
    return name


def _has_display() -> bool:
    return sys.platform != "linux" or any(
        os.environ.get(key) for key in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM")
    )


def _display() -> str:
    if sys.platform != "linux":
        return "the system's"
    known = [
        f"{key}={value}" for key in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM") if (value := os.environ.get(key))
    ]
    return ", ".join(known) or "none"


def _free(place: Path) -> str:
    while not place.exists():
        place = place.parent
    return f"{shutil.disk_usage(place).free / (1 << 30):.0f} GB"
