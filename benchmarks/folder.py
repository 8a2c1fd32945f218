"""A synthetic folder of many small images: how long it takes to index, decode, open and begin to train, in what memory.

    python benchmarks/folder.py [--images 100000] [--classes 100] [--out result.json]

Measured at a tenth of the images and at all of them, each in a process of its own that has done everything once with a
few images before, so that imports, the model and the allocators are paid for. Memory is the process's own: RssAnon of
/proc/self/status, sampled every few milliseconds, as growth over what it was before. VmHWM beside it counts mapped
files, too, which the system takes back when it needs to.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

SIDE = 16
SAMPLED_EVERY = 0.005
STAGES = ("index", "decode", "open", "train")


def make_folder(place: Path, images: int, classes: int) -> Path:
    """PPM files, each different, spread over subfolders; 0 classes: all in one folder."""
    numbers, head = np.random.default_rng(0), f"P6 {SIDE} {SIDE} 255\n".encode()
    for part in range(max(1, classes)):
        folder = place / f"class {part:03d}" if classes else place
        folder.mkdir(parents=True, exist_ok=True)
        for k in range(part, images, max(1, classes)):
            (folder / f"{k:08d}.ppm").write_bytes(head + numbers.bytes(3 * SIDE * SIDE))
    return place


def status(*fields: str) -> list[float]:
    """MB, of /proc/self/status."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return [int(lines[field].split()[0]) / 1024 for field in fields]


@contextlib.contextmanager
def measured(results: dict[str, dict[str, float]], stage: str) -> Iterator[None]:
    """Seconds, and growth of the largest RssAnon that was seen, and of VmHWM."""
    (before, peak_before), seen, done = status("RssAnon", "VmHWM"), [0.0], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLED_EVERY):
            seen[0] = max(seen[0], status("RssAnon")[0])

    sampler = threading.Thread(target=sample)
    sampler.start()
    began = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - began
        done.set()
        sampler.join()
        own, peak = status("RssAnon", "VmHWM")
        results[stage] = {
            "seconds": seconds,
            "own_mb": max(seen[0], own) - before,
            "peak_with_files_mb": peak - peak_before,
        }


def recipe_for(folder: Path) -> Any:
    from imagen_workbench.core import Recipe

    return Recipe.of(
        {
            "data": {"source": "image-folder", "path": str(folder), "size": [SIDE, SIDE], "channels": 3},
            "conditioning": {"scheme": "none"},
            "model": {"width": 8, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2},
            "training": {"steps": 20, "batch": 64, "checkpoint_every": 20, "device": "cpu"},
            "sampling": {"steps": 2},
        }
    )


def go_through(folder: Path, run: Path) -> dict[str, dict[str, float]]:
    """Indexes, decodes, opens and trains on a folder that the cache does not know."""
    from imagen_workbench.core import train
    from imagen_workbench.core.datasets import read
    from imagen_workbench.core.extensions import make_source

    recipe, results = recipe_for(folder), dict[str, dict[str, float]]()
    with measured(results, "index"):
        source = make_source(recipe)
        count, _ = len(source), source.fingerprint()
    del source
    with measured(results, "decode"):
        assert len(read(recipe).pixels) == count
    with measured(results, "open"):
        assert len(read(recipe).pixels) == count
    with measured(results, "train"):
        train(recipe, run)
    return results


def measure(folder: Path) -> None:
    """In the process of its own: results to standard output."""
    with tempfile.TemporaryDirectory(prefix="folder-benchmark-") as scratch:
        place = Path(scratch)
        os.environ["IMAGEN_WORKBENCH_CACHE"] = str(place / "cache")
        os.environ["IMAGEN_WORKBENCH_HOME"] = str(place / "home")
        go_through(make_folder(place / "few", 640, 10), place / "warm")
        print(json.dumps(go_through(folder, place / "run")))


def in_own_process(folder: Path) -> dict[str, dict[str, float]]:
    command = [sys.executable, __file__, "--measure", str(folder)]
    told = subprocess.run(
        command, check=True, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    return json.loads(told.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--classes", type=int, default=100, help="subfolders; 0 puts all into one folder")
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    results: dict[int, dict[str, dict[str, float]]] = {}
    for count in (options.images // 10, options.images):
        with tempfile.TemporaryDirectory(prefix="folder-benchmark-") as scratch:
            folder = make_folder(Path(scratch) / "images", count, options.classes)
            results[count] = in_own_process(folder)
    few, many = results
    print(f"{SIDE} × {SIDE} × 3 px, {options.classes or 'no'} subfolders, {platform.processor() or platform.machine()}")
    print(f"{'':8}{'images':>10}{'seconds':>10}{'µs/image':>10}{'own MB':>10}{'B/image':>10}{'VmHWM MB':>10}")
    for stage in STAGES:
        for count in (few, many):
            each = results[count][stage]
            grown = (each["own_mb"] - results[few][stage]["own_mb"]) * (1 << 20)
            growth = f"{grown / (count - few):.1f}" if count > few else ""
            time_each = 1e6 * each["seconds"] / count
            print(
                f"{stage:8}{count:10,}{each['seconds']:10.2f}{time_each:10.1f}{each['own_mb']:10.1f}{growth:>10}"
                f"{each['peak_with_files_mb']:10.1f}"
            )
    if options.out:
        facts = {"side": SIDE, "classes": options.classes, "machine": platform.machine(), "results": results}
        options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
