"""The demo, timed and judged: how long it takes, how good its digits are, whether it copies.

    python benchmarks/demo.py [--run DIR] [--count 1000] [--model MODEL]

Without --model the demo itself runs first, in a process of its own. The judge is benchmarks/classifier.py, which has
only seen real digits. Held-out real digits stand beside every figure of the drawn ones.
"""

from __future__ import annotations

import argparse
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from classifier import load, predict, save, split_digits, to_float, train_classifier

from imagen_workbench.core import open_model
from imagen_workbench.core.evaluation.copies import copies


def timed_demo(run: Path) -> float:
    """Seconds of `imagen-workbench demo`, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "imagen_workbench.workbench", "demo", "--run", str(run)], check=True)
    return time.perf_counter() - began


def judge(place: Path, train: tuple[np.ndarray, np.ndarray]) -> torch.nn.Module:
    """The classifier, trained once and kept beside the run."""
    if not place.exists():
        save(train_classifier(*train), place)
    return load(place)


def with_interval(share: float, count: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    z, n = 1.96, count
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return f"{share:.1%} ({middle - half:.1%} to {middle + half:.1%})"


def specks(images: np.ndarray) -> float:
    """Share of images with a bright pixel that has no bright neighbour."""
    bright = torch.from_numpy((images > -0.8).astype(np.float32))
    around = torch.nn.functional.conv2d(bright, torch.ones(1, 1, 3, 3), padding=1)
    return float(((bright * (around <= 1)).flatten(1).sum(1) > 0).double().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path)
    parser.add_argument("--model")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=20_000)
    parser.add_argument("--judge", type=Path, help="where the classifier is kept")
    options = parser.parse_args()
    scratch = Path(tempfile.mkdtemp(prefix="demo-benchmark-"))

    reference = options.model
    if reference is None:
        run = options.run or scratch / "demo"
        print(f"demo: {timed_demo(run):.0f} s")
        reference = str(run)
    (train_images, train_labels), (held_images, held_labels) = split_digits()
    classifier = judge(options.judge or scratch / "classifier.safetensors", (train_images, train_labels))
    right = float((predict(classifier, to_float(held_images)).numpy() == held_labels).mean())
    print(f"classifier on {len(held_labels)} held-out digits: {right:.1%}")

    model = open_model(reference)
    began = time.perf_counter()
    drawn = model.draw(count=options.count, seed=options.seed)
    settings = drawn.recipe["sampling"]
    print(
        f"{options.count} images, {settings['sampler']}, {settings['steps']} steps, w {settings['guidance']:g}, "
        f"seed {options.seed}: {time.perf_counter() - began:.0f} s"
    )
    agreement = float((predict(classifier, torch.from_numpy(drawn.arrays)).numpy() == np.asarray(drawn.labels)).mean())
    print(f"agreement with the label: {with_interval(agreement, options.count)}")
    train, held_out = to_float(train_images).numpy(), to_float(held_images).numpy()
    print(f"images with specks: {specks(drawn.arrays):.1%}; held-out digits: {specks(held_out):.1%}")
    for quantile in (0.01, 0.05):
        found = copies(drawn.arrays, train, held_out, quantile)
        print(
            f"nearer to a training digit than the nearest {quantile:.0%} of held-out ones: {found.near:.1%} "
            f"(by chance {quantile:.0%} ± {2 * found.standard_error:.1%})"
        )
    print(f"median distance to the nearest training digit: {found.ratio:.2f} of the held-out ones'")


if __name__ == "__main__":
    main()
