"""The demo, timed and judged: how long it takes, how good its digits are, whether it copies.

    python benchmarks/demo.py [--run DIR] [--count 1000] [--model MODEL]

Without --model the demo itself runs first, in a process of its own. The judge is benchmarks/classifier.py, which has
only seen real digits. Held-out real digits stand beside every figure of the drawn ones.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from classifier import digits, judge_of

from imagen_workbench.core import open_model
from imagen_workbench.core.evaluation.agreement import agreement
from imagen_workbench.core.evaluation.classify import judge_in_turns
from imagen_workbench.core.evaluation.copies import MARKS, copies
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.generators import finish
from imagen_workbench.workbench.reports.evaluation_report import share_words
from imagen_workbench.workbench.reports.run_report import copies_words


def timed_demo(run: Path) -> float:
    """Seconds of `imagen-workbench demo`, from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "imagen_workbench.workbench", "demo", "--run", str(run)], check=True)
    return time.perf_counter() - began


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
    model = open_model(reference)
    data = digits()
    train, held_out = StoredImages(data, data.train), StoredImages(data, data.held_out)
    classifier = judge_of(data, options.judge or scratch / "classifier.safetensors")
    real = finish(judge_in_turns(classifier, held_out, ""))
    right = agreement(data.labels[data.held_out], real.answers, data.classes)
    print(f"classifier on {len(held_out):,} held-out digits: {share_words(right.accuracy)}")

    began = time.perf_counter()
    drawn = model.draw(count=options.count, seed=options.seed)
    settings = drawn.recipe["sampling"]
    print(
        f"{options.count} images, {settings['sampler']}, {settings['steps']} steps, w {settings['guidance']:g}, "
        f"seed {options.seed}: {time.perf_counter() - began:.0f} s"
    )
    judged = finish(judge_in_turns(classifier, drawn.arrays, ""))
    agreed = agreement(np.asarray(drawn.labels), judged.answers, data.classes)
    print(f"agreement with the label: {share_words(agreed.accuracy)}")
    print(f"images with specks: {specks(drawn.arrays):.1%}; held-out digits: {specks(held_out[:]):.1%}")
    found = copies(drawn.arrays, train, held_out)
    for mark in MARKS:
        print(copies_words(found, mark))


if __name__ == "__main__":
    main()
