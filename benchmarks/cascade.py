"""Two stages against one: digits of 14 px made 28, beside digits drawn at 28 px at once, after equal training.

    python benchmarks/cascade.py [--seconds 240] [--share 0.5] [--noise 0 0.05 0.1 0.2 0.4] [--seeds 0 1 2]
                                 [--judge FILE] [--out FILE]

The recipes are `digits` against `digits-small` and `digits-double`; `--share` of the time goes to the first stage.
Judged as in time_to_quality.py: agreement of 1,000 class-balanced samples with their labels, and Fréchet distance to
all 5,000 digits. The cascade is drawn at each level of noise on the picture between its stages; the second stage is
also fed with 1,000 held-out digits made small, which tells what it loses alone.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from classifier import digits, judge_of
from time_to_quality import COUNT, Jury, machine, recipe_of

from imagen_workbench.core import open_model, train
from imagen_workbench.core.commands import Draw
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.generators import finish
from imagen_workbench.core.machine import set_threads
from imagen_workbench.core.models import Cascade, open_drawer

if TYPE_CHECKING:
    from imagen_workbench.core.data.cache import Dataset

HEADER = f"{'':<34}{'seed':>5}{'agreement':>11}{'distance':>10}{'draw':>8}"


def trained(recipe: str, seconds: float, seed: int, path: Path) -> int:
    """A run of so many seconds of training; returns its steps."""
    run = train(recipe_of(recipe, [], seed), path, minutes=seconds / 60)
    return next(record["steps"] for record in run.records() if record["kind"] == "started")


def described(scratch: Path, noise: float) -> Path:
    """A cascade of the two runs, as a file."""
    path = scratch / f"cascade-{noise:g}.toml"
    stages = (("small", "digits-small", 0.0), ("double", "digits-double", noise))
    tables = [
        f'[[stages]]\nname = "{name}"\nrecipe = "{recipe}"\nmodel = "{name}"\nnoise = {level}\n'
        for name, recipe, level in stages
    ]
    path.write_text("\n".join(["version = 2", 'name = "cascade"', *tables]), encoding="utf-8")
    return path


class Bench:
    """One seed's models, and what the jury says of what they draw."""

    def __init__(self, jury: Jury, data: Dataset, scratch: Path, seed: int) -> None:
        self._jury, self._data, self._scratch, self._seed = jury, data, scratch, seed
        self.rows: list[dict[str, Any]] = []

    def one(self) -> None:
        began = time.perf_counter()
        drawing = open_model(self._scratch / "base").draw(count=COUNT, seed=20_000 + self._seed)
        self._say("one model at 28 px", drawing.arrays, np.asarray(drawing.labels), began)

    def two(self, noise: float) -> None:
        """The whole chain, with that much noise between."""
        began = time.perf_counter()
        drawer = open_drawer(str(described(self._scratch, noise)))
        drawing = drawer.draw(count=COUNT, seed=20_000 + self._seed)
        self._say(f"two stages, noise {noise:g}", drawing.arrays, np.asarray(drawing.labels), began)

    def second(self, noise: float) -> None:
        """The second stage alone, fed with real digits."""
        began = time.perf_counter()
        cascade = open_drawer(str(described(self._scratch, noise)))
        assert isinstance(cascade, Cascade)
        which = self._data.held_out[:COUNT]
        real = StoredImages(self._data, which)[:]
        small = real.reshape(len(real), 1, 14, 2, 14, 2).mean((3, 5), dtype=np.float32)
        labels = self._data.labels[which]
        sampling = cascade.recipe.sampling.model_copy(update={"seed": 20_000 + self._seed})
        texts = tuple(self._data.classes[label] for label in labels)
        request = Draw(0, cascade.reference, texts, len(texts), sampling, film=False)
        arrays = finish(cascade.stage_drawing(1, request, None, small)).arrays
        assert arrays is not None
        self._say(f"real digits, second stage, {noise:g}", arrays, labels, began)

    def _say(self, name: str, arrays: np.ndarray, labels: np.ndarray, began: float) -> None:
        seconds = time.perf_counter() - began
        figures = self._jury.figures(arrays, labels)
        self.rows.append({"name": name, "seed": self._seed, "draw": seconds, **figures})
        told = f"{figures['agreement']:>11.3f}{figures['distance']:>10.2f}{seconds:>6.0f} s"
        print(f"{name:<34}{self._seed:>5}{told}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240.0, help="training in all, of each")
    parser.add_argument("--share", type=float, default=0.5, help="of the first stage in the cascade's training")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.05, 0.1, 0.2, 0.4])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--judge", type=Path, help="where the classifier is kept (trained first where there is none)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    set_threads()
    data = digits()
    with tempfile.TemporaryDirectory(prefix="cascade-") as folder:
        jury = Jury(data, judge_of(data, options.judge or Path(folder) / "judge.safetensors"))
        results: dict[str, Any] = {"machine": machine(), "seconds": options.seconds, "share": options.share, "rows": []}
        print(HEADER)
        for seed in options.seeds:
            scratch = Path(folder) / str(seed)
            first = options.seconds * options.share
            budgets = {"base": options.seconds, "small": first, "double": options.seconds - first}
            recipes = {"base": "digits", "small": "digits-small", "double": "digits-double"}
            steps = {name: trained(recipes[name], budgets[name], seed, scratch / name) for name in budgets}
            print("steps: " + ", ".join(f"{name} {count:,}" for name, count in steps.items()))
            bench = Bench(jury, data, scratch, seed)
            bench.one()
            for noise in options.noise:
                bench.two(noise)
            bench.second(options.noise[0])
            results["rows"] += [{"steps": steps, **row} for row in bench.rows]
            if options.out:
                options.out.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
