"""Ours beside diffusers, denoising-diffusion-pytorch and smalldiffusion: speed, and quality after equal time.

    python benchmarks/peers.py [--size 28] [--channels 1] [--folder DIR] [--seconds 60] [--formats float32 bfloat16]
                               [--only speed,quality] [--rate PEER=RATE] [--judge FILE] [--quick] [--out FILE]

28 × 28 in grey are the bundled digits with their recipe. Any other size takes the recipe `images-64` on a folder of
images with a subfolder for each class, or without one on coloured shapes that are painted first. How each peer is
trained and draws stands in benchmarks/libraries.py; they are installed by `pip install --group benchmarks`.

Speeds are medians over rounds in which all come in turn, so that a drift of the machine falls on all. Training is
forward, backward, optimizer and EMA; drawing is told at equal network calls, and in each one's own way. Quality is
judged as in benchmarks/time_to_quality.py, always drawn in float32; the steps that fit into the time are measured
first, so that rates decay within it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from classifier import judge_of
from libraries import FORMATS, KINDS, Ours, Peer, Task, count
from overhead import seconds_of, this_machine
from PIL import Image
from time_to_quality import Jury

from imagen_workbench.core import Recipe
from imagen_workbench.core.datasets import reading
from imagen_workbench.core.denoisers.model import build_model
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.generators import finish
from imagen_workbench.core.machine import choose_device, has_fast_bfloat16, set_threads

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS, ENDLESS, SAMPLES, PAINTED = 18, 1_000_000, 1000, 400
"""Network calls where they are equal; steps where training is only timed; images judged; shapes of each kind."""
SHAPES: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "diamond": np.add,
    "disc": np.hypot,
    "ring": lambda x, y: 2 * np.abs(np.hypot(x, y) - 0.5),
    "square": np.maximum,
}
"""Distance from the middle, 1 at the edge; x, y: [h w], not negative."""


# --- what is learned ------------------------------------------------------------------------------


def paint(place: Path, size: int, each: int) -> Path:
    """A folder of coloured shapes, a subfolder for each kind, everywhere and of any size."""
    numbers = np.random.default_rng(0)
    grid = np.linspace(-1, 1, size)
    for name, distance in SHAPES.items():
        (place / name).mkdir(parents=True)
        for k in range(each):
            across, down = numbers.uniform(-0.4, 0.4, 2)
            radius = numbers.uniform(0.3, 0.6)
            x, y = np.abs(grid[None, :] - across) / radius, np.abs(grid[:, None] - down) / radius
            inside = np.clip((1 - distance(x, y)) * radius * size / 2, 0, 1)[..., None]
            front, back = numbers.uniform(0, 255, (2, 3))
            pixels = (inside * front + (1 - inside) * back).round().astype(np.uint8)
            Image.fromarray(pixels).save(place / name / f"{k:04d}.png")
    return place


def task_of(options: argparse.Namespace, scratch: Path) -> Task:
    bundled = bundled_recipes()
    if (options.size, options.channels, options.folder) == (28, 1, None):
        recipe = Recipe.read(bundled["digits"])
    else:
        folder = options.folder or paint(scratch / "shapes", options.size, 40 if options.quick else PAINTED)
        place = {"data.path": str(folder), "data.size": [options.size] * 2, "data.channels": options.channels}
        recipe = Recipe.read(bundled["images-64"]).with_values(place)
    recipe = recipe.with_values({"training.checkpoint_every": ENDLESS})
    device = choose_device(recipe.training.device)
    data, scheme = finish(reading(recipe))
    x = torch.from_numpy(StoredImages(data, data.train)[:]).to(device)
    y = torch.from_numpy(np.asarray(data.labels[data.train], np.int64)).to(device)
    return Task(recipe, data, scheme, device, x, y, count(build_model(recipe, scheme)))


# --- measuring ------------------------------------------------------------------------------------


def speeds(task: Task, peers: list[Ours | Peer], *, quick: bool) -> list[dict[str, float]]:
    """Images per second of each in training, in drawing at equal calls, and in drawing in its own way."""
    rounds, steps, many, few = (1, 1, 2, 1) if quick else (7, 4, 64, 16)
    found: list[dict[str, list[float]]] = [{"training": [], "equal_calls": [], "own_way": []} for _ in peers]
    for peer in peers:
        peer.begin(ENDLESS)
        peer.step()
    for _ in range(rounds):
        for peer, rates in zip(peers, found, strict=True):
            rates["training"].append(steps * task.recipe.training.batch / seconds_of_steps(task, peer, steps))
        for kind, calls, images in (("equal_calls", CALLS, many), ("own_way", None, few)):
            labels = torch.arange(images) % task.classes
            for peer, rates in zip(peers, found, strict=True):
                with peer.autocast():
                    rates[kind].append(images / seconds_of(partial(peer.draw, labels, calls), task.device))
    return [{kind: statistics.median(each) for kind, each in rates.items()} for rates in found]


def quality(task: Task, peer: Ours | Peer, jury: Jury, seconds: float, images: int) -> dict[str, Any]:
    """After so many seconds of training: what the jury finds at equal calls, and in its own way."""
    peer.begin(ENDLESS)
    each = statistics.median(seconds_of_steps(task, peer, 1) for _ in range(9))
    steps = max(1, round(seconds / each))
    peer.begin(steps)
    took = seconds_of_steps(task, peer, steps)
    labels = torch.arange(images) % task.classes
    judged = {
        kind: jury.figures(peer.draw(labels, calls), labels.numpy())
        for kind, calls in (("equal_calls", CALLS), ("own_way", None))
    }
    return {"steps": steps, "seconds": took, **judged}


def seconds_of_steps(task: Task, peer: Ours | Peer, steps: int) -> float:
    return seconds_of(lambda: [peer.step() for _ in range(steps)], task.device)


# --- the program ----------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="images, a subfolder for each class")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training, before quality is judged")
    parser.add_argument("--formats", nargs="+", choices=tuple(FORMATS), help="by default those that are fast here")
    parser.add_argument("--only", default="speed,quality", help="which, separated by commas")
    parser.add_argument("--peers", nargs="+", choices=[kind.name for kind in KINDS], metavar="PEER")
    parser.add_argument("--rate", action="append", default=[], metavar="PEER=RATE", help="another learning rate")
    parser.add_argument("--judge", type=Path, help="where the classifier is kept (trained first where there is none)")
    parser.add_argument("--quick", action="store_true", help="a smoke run: little of everything, figures without worth")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, after every row")
    options = parser.parse_args()
    set_threads()
    with tempfile.TemporaryDirectory(prefix="peers-") as scratch:
        compare(options, Path(scratch))


def compare(options: argparse.Namespace, scratch: Path) -> None:
    task = task_of(options, scratch)
    formats = options.formats or list(FORMATS)[: 2 if has_fast_bfloat16(task.device) else 1]
    rates = {name: float(rate) for name, _, rate in (text.partition("=") for text in options.rate)}
    kinds = [kind for kind in KINDS if not options.peers or kind.name in options.peers]
    peers = [kind(task, each, rates.get(kind.name)) for each in formats for kind in kinds]
    rows: list[dict[str, Any]] = [
        {"peer": peer.name, "own": peer.own, "format": peer.number_format, "parameters": peer.parameters}
        for peer in peers
    ]
    results: dict[str, Any] = {"machine": this_machine(), "quick": options.quick, "recipe": task.recipe.name}
    results |= {"size": options.size, "channels": options.channels, "calls": CALLS, "rows": rows}
    print(*(f"{key}: {value}" for key, value in results["machine"].items()), sep="\n")
    measured = options.only.split(",")
    if "speed" in measured:
        table("images/s", "training", f"{CALLS} calls", "own way")
        for row, found in zip(rows, speeds(task, peers, quick=options.quick), strict=True):
            row["images_per_second"] = found
            line(row, *(f"{rate:.1f}" for rate in found.values()), f"  ({row['own']})")
        keep(results, options.out)
    if "quality" in measured:
        jury = Jury(task.data, judge_of(task.data, options.judge or scratch / "judge.safetensors"))
        real = results["real"] = jury.figures(jury.held_out, task.data.labels[task.data.held_out])
        seconds, samples = (3.0, task.classes) if options.quick else (options.seconds, SAMPLES)
        print(f"\nreal held-out images: {words(real)}")
        table("agreement / distance", "steps", "training", f"{CALLS} calls", "own way")
        for row, peer in zip(rows, peers, strict=True):
            row |= quality(task, peer, jury, seconds, samples)
            times = f"{row['steps']:,}", f"{row['seconds']:.1f} s"
            line(row, *times, words(row["equal_calls"]), words(row["own_way"]))
            keep(results, options.out)


def keep(results: dict[str, Any], place: Path | None) -> None:
    if place:
        place.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def words(judged: dict[str, Any]) -> str:
    return f"{judged['agreement']:.3f} / {judged['distance']:.2f}"


def table(name: str, *columns: str) -> None:
    print(f"\n{name:<21}{'format':<9}{'parameters':>11}" + "".join(f"{column:>17}" for column in columns))


def line(row: dict[str, Any], *columns: str) -> None:
    values = "".join(f"{column:>17}" for column in columns)
    print(f"{row['peer']:<21}{row['format']:<9}{row['parameters']:>11,}{values}", flush=True)


if __name__ == "__main__":
    main()
