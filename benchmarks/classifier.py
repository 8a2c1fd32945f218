"""The judge of digits, trained once and kept: a classifier that has only ever seen the 4,000 training digits.

    python benchmarks/classifier.py --out FILE

What it is stands in core/evaluation/classify.py. Training takes about a minute on two cores.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import load_file, save_file

from imagen_workbench.core import Recipe
from imagen_workbench.core.datasets import read
from imagen_workbench.core.evaluation.agreement import agreement
from imagen_workbench.core.evaluation.classify import Classifier, judge_in_turns, train_classifier
from imagen_workbench.core.evaluation.images import StoredImages
from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.generators import finish
from imagen_workbench.core.machine import set_threads
from imagen_workbench.workbench.reports.evaluation_report import share_words

if TYPE_CHECKING:
    from imagen_workbench.core.data.cache import Dataset


def digits() -> Dataset:
    """The 5,000 digits of the bundled recipe: 4,000 for training, 1,000 held out."""
    return read(Recipe.read(bundled_recipes()["digits"]))


def judge_of(data: Dataset, place: Path) -> Classifier:
    """The classifier that is kept at `place` (safetensors), trained first where there is none."""
    _, channels, *size = data.pixels.shape
    if not place.exists():
        train = StoredImages(data, data.train)
        network = finish(train_classifier(train, data.labels[data.train], len(data.classes)))
        save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, place)
    network = Classifier(channels, (size[0], size[1]), len(data.classes))
    network.load_state_dict(load_file(place))
    return network.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="where the weights go (safetensors)")
    arguments = parser.parse_args()
    set_threads()
    data = digits()
    began = time.perf_counter()
    network = judge_of(data, arguments.out)
    seconds = time.perf_counter() - began
    judged = finish(judge_in_turns(network, StoredImages(data, data.held_out), ""))
    found = agreement(data.labels[data.held_out], judged.answers, data.classes)
    right = f"{share_words(found.accuracy)} of {len(data.held_out):,} held-out digits right"
    print(f"{right}; {seconds:.0f} s; {arguments.out}")


if __name__ == "__main__":
    main()
