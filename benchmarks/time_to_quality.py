"""How good digits are after so many seconds of training: ours beside a plain rival, in one run.

    python benchmarks/time_to_quality.py [--budgets 15 30 60 75 120 300] [--seeds 0 1 2] [--only rival|ours]
                                         [--recipe digits] [--set KEY=VALUE] [--judge FILE] [--out FILE]

Every budget is a training of its own, whose warm-up and decay fit into it, in a process of its own. The judge, which
has only seen the 4,000 training digits, tells the agreement of 1,000 class-balanced samples with their labels and
their Fréchet distance to all 5,000 digits in its features; 1,000 held-out digits stand beside them. Training time is
first step to last; importing, and what else comes before the first step, are shown beside it. The rival is
benchmarks/rival.py. As orientation, on a quiet machine with two cores it reaches 0.32 / 176 in 15 s, 0.89 / 45 in 30 s,
0.94 / 19 in 60 s, 0.96 / 8.5 in 120 s and 0.991 / 2.3 in 300 s: one that stays far below these voids the run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from classifier import digits, judge_of

from imagen_workbench.core import open_model, train
from imagen_workbench.core.evaluation.agreement import agreement
from imagen_workbench.core.evaluation.classify import Judgement, judge_in_turns
from imagen_workbench.core.evaluation.copies import copies
from imagen_workbench.core.evaluation.frechet import fitted, frechet_distance
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.events import Progress
from imagen_workbench.core.generators import finish
from imagen_workbench.core.machine import set_threads
from imagen_workbench.core.recipe import parse_setting
from imagen_workbench.workbench.cli import find_recipe

if TYPE_CHECKING:
    from imagen_workbench.core.data.cache import Dataset
    from imagen_workbench.core.evaluation.classify import Classifier
    from imagen_workbench.core.evaluation.images import Images
    from imagen_workbench.core.recipe import Recipe

BUDGETS, SEEDS, COUNT = (15.0, 30.0, 60.0, 75.0, 120.0, 300.0), (0, 1, 2), 1000
NEVER = 100_000_000
"""Steps between two previews, measurements and saved states: none but the last."""


def recipe_of(reference: str, settings: list[str], seed: int = 0) -> Recipe:
    """The recipe of ours, with nothing but training between its first step and its last."""
    quiet = dict.fromkeys(("training.checkpoint_every", "training.preview_every", "training.validate_every"), NEVER)
    changed = dict(parse_setting(text) for text in settings)
    return find_recipe(reference).with_values(quiet | changed | {"training.seed": seed})


def ours(asked: dict[str, Any]) -> dict[str, Any]:
    """One training of ours and its samples, in this process."""
    imported, clock = time.time(), time.perf_counter()
    recipe = recipe_of(asked["recipe"], asked["settings"], asked["seed"])
    told: list[tuple[int, float]] = []

    def listen(event: object) -> None:
        if isinstance(event, Progress):
            told.append((event.step, time.perf_counter() - clock))

    run = train(recipe, Path(asked["samples"]).with_suffix(""), minutes=asked["budget"] / 60, on_event=listen)
    steps = next(record["steps"] for record in run.records() if record["kind"] == "started")
    (first, began), (last, ended) = told[0], told[-1]
    each = (ended - began) / max(1, last - first)
    model = open_model(run.path)
    drawing = model.draw(count=COUNT, seed=20_000 + asked["seed"])
    np.savez(asked["samples"], images=drawing.arrays, labels=np.asarray(drawing.labels))
    return {
        "parameters": model.facts().weights,
        "steps": steps,
        "seconds": each * steps,
        "import": imported - asked["launched"],
        "before": began - first * each,
    }


class Jury:
    """Judges samples of digits, as it judges real ones."""

    def __init__(self, data: Dataset, classifier: Classifier) -> None:
        self._data, self._classifier = data, classifier
        self._train, self.held_out = (StoredImages(data, which) for which in (data.train, data.held_out))
        self._reference = fitted(self._judged(StoredImages(data, np.arange(len(data.pixels)))).features)

    def _judged(self, images: Images) -> Judgement:
        return finish(judge_in_turns(self._classifier, images, "Judging"))

    def figures(self, images: Images, labels: np.ndarray) -> dict[str, Any]:
        """Agreement with its interval, distance to all digits, and how near the images come to training digits."""
        judged = self._judged(images)
        agreed = agreement(labels, judged.answers, self._data.classes).accuracy
        copied = copies(images, self._train, self.held_out)
        return {
            "agreement": agreed.value,
            "interval": agreed.interval,
            "distance": frechet_distance(fitted(judged.features), self._reference),
            "near_5_percent": copied.near(0.05),
            "median_distance_ratio": copied.ratio,
        }


HEADER = f"{'':<6}{'budget':>8}{'seed':>6}{'steps':>8}{'training':>10}{'import':>8}{'before':>8}  "
HEADER += f"{'agreement':>9}{'distance':>10}{'near 5 %':>10}{'ratio':>7}"


def line(name: str, row: dict[str, Any]) -> str:
    times = ""
    if "seconds" in row:
        times = f"{row['budget']:>6.0f} s{row['seed']:>6}{row['steps']:>8,}{row['seconds']:>8.1f} s"
        times += f"{row['import']:>6.1f} s{row['before']:>6.1f} s"
    figures = f"{row['agreement']:>9.3f}{row['distance']:>10.2f}"
    return f"{name:<6}{times:<48}  {figures}{row['near_5_percent']:>10.1%}{row['median_distance_ratio']:>7.2f}"


def summary(rows: list[dict[str, Any]]) -> list[str]:
    """For each rival and budget, mean and range over the seeds."""
    lines = []
    for name, budget in dict.fromkeys((row["name"], row["budget"]) for row in rows):
        same = [row for row in rows if (row["name"], row["budget"]) == (name, budget)]
        words = []
        for key, places in (("agreement", 3), ("distance", 2)):
            values = [row[key] for row in same]
            mean = f"{statistics.mean(values):.{places}f}"
            words.append(f"{key} {mean} ({min(values):.{places}f} to {max(values):.{places}f})")
        lines.append(f"{name:<6}{budget:>6.0f} s  {'  '.join(words)}")
    return lines


def machine() -> dict[str, Any]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def alone(name: str, asked: dict[str, Any], arrays: Path) -> dict[str, Any]:
    """One training and its samples, in a process of its own. Returns what it took."""
    asked = asked | {"launched": time.time()}
    rival = [str(Path(__file__).with_name("rival.py")), json.dumps(asked), str(arrays)]
    command = [sys.executable, *(rival if name == "rival" else [__file__, "--ours", json.dumps(asked)])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--budgets", type=float, nargs="+", default=BUDGETS, metavar="SECONDS")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--only", choices=("rival", "ours"))
    parser.add_argument("--recipe", default="digits", help="ours: a recipe of 28 × 28 digits")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="KEY=VALUE")
    parser.add_argument("--judge", type=Path, help="where the classifier is kept (trained first where there is none)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON, after every training")
    parser.add_argument("--ours", help=argparse.SUPPRESS)
    options = parser.parse_args()
    set_threads()
    if options.ours:
        print(json.dumps(ours(json.loads(options.ours))))
        return
    with tempfile.TemporaryDirectory(prefix="time-to-quality-") as scratch:
        compare(options, Path(scratch))


def compare(options: argparse.Namespace, scratch: Path) -> None:
    recipe_of(options.recipe, options.settings)  # refuses what is wrong before the first training
    data = digits()
    jury = Jury(data, judge_of(data, options.judge or scratch / "judge.safetensors"))
    arrays = scratch / "train.npz"
    np.savez(arrays, images=StoredImages(data, data.train)[:], labels=data.labels[data.train])
    results: dict[str, Any] = {"machine": machine(), "recipe": options.recipe, "settings": options.settings}
    results["real"] = jury.figures(jury.held_out, data.labels[data.held_out])
    rows = results["runs"] = []
    print(HEADER)
    print(line("real", results["real"]))
    for budget in options.budgets:
        for seed in options.seeds:
            for name in [options.only] if options.only else ["rival", "ours"]:
                samples = scratch / f"{name}-{budget:g}-{seed}.npz"
                asked = {"budget": budget, "seed": seed, "samples": str(samples)}
                row = alone(name, asked | {"recipe": options.recipe, "settings": options.settings}, arrays)
                with np.load(samples) as drawn:
                    row |= jury.figures(drawn["images"], drawn["labels"])
                rows.append({"name": name, "budget": budget, "seed": seed, **row})
                print(line(name, rows[-1]), flush=True)
                if options.out:
                    options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    print()
    print("\n".join(summary(rows)))


if __name__ == "__main__":
    main()
