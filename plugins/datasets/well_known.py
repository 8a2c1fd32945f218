"""MNIST, Fashion-MNIST and CIFAR-10, in the files that their makers publish.

A copy that torchvision has downloaded is read as well, but for CIFAR-10's Python version, whose files are pickles,
which would be executed: its binary version is used.
"""

from __future__ import annotations

import hashlib
import math
from abc import abstractmethod
from bisect import bisect_right
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from imagen_workbench.core import DataError, Example, Source, user_home

from .fetching import fetch, gunzipped, mapped, members

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagen_workbench.core import Bringing


class PartOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    part: Literal["train", "test", "both"] = Field(
        "train", title="Part", description="The makers' training images, their test images, or both."
    )

    @property
    def parts(self) -> tuple[str, ...]:
        return ("train", "test") if self.part == "both" else (self.part,)


class WellKnown(Source):
    """A published dataset: from `data.path` where one is named, else from our folder, filled by a download."""

    opens_slowly = True
    Options = PartOptions
    options: PartOptions
    names: ClassVar[tuple[str, ...]]
    subfolders: ClassVar[tuple[str, ...]]
    """Where torchvision, or the makers' archive, puts the files within a folder."""

    @property
    def classes(self) -> tuple[str, ...]:
        return self.names

    @cached_property
    def _files(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """(images [n h w] or [n c h w], labels [n]) of each file, all uint8 and mapped where the file is not packed."""
        for _ in self.bring():
            pass
        files = [file for part in self.options.parts for file in self._read(part)]
        for images, labels in files:
            if len(images) != len(labels) or (len(labels) and labels.max() >= len(self.names)):
                raise DataError("images and labels do not belong together", file=self._places[0], fix="Bring it again")
        return files

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(len(labels) for _, labels in self._files))

    def bring(self) -> Iterator[Bringing]:
        for part in self.options.parts:
            for name in self._needed(part):
                yield from self._fetched(name)

    @abstractmethod
    def _needed(self, part: str) -> tuple[str, ...]:
        """Names of its files."""

    @abstractmethod
    def _fetched(self, name: str) -> Iterator[Bringing]:
        """Downloads that file where it is not here. Raises DataError where that cannot be done."""

    @abstractmethod
    def _read(self, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
        """Its files, which are here."""

    @cached_property
    def _home(self) -> Path:
        return user_home() / "datasets" / type(self).__name__.lower()

    @cached_property
    def _places(self) -> list[Path]:
        """Where copies may lie."""
        root = Path(self.settings.path).expanduser() if self.settings.path else self._home
        return [root, *(root / inner for inner in self.subfolders)]

    def _find(self, name: str) -> Path | None:
        return next((place / name for place in self._places if (place / name).is_file()), None)

    def _by_hand(self, names: str) -> str:
        return f"Put {names} into {self._home}, or name the folder they are in as data.path"

    def _check_download(self, names: str) -> None:
        """Raises DataError where a folder is named: nothing is downloaded into a person's own."""
        if self.settings.path:
            raise DataError(
                f"{self.title} is not in this folder",
                file=self.settings.path,
                fix=f"It should hold {names}; leave data.path empty to download it",
            )

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, index: int) -> Example:
        which = bisect_right(self._ends, index)
        images, labels = self._files[which]
        at = index - self._ends[which]  # from the end of the file
        image = images[at] if images.ndim == 3 else images[at].transpose(1, 2, 0)
        return Example(np.array(image), int(labels[at]), f"{self.title} {index}")

    def fingerprint(self) -> str:
        """Of all labels, and of each thousandth image: enough to tell copies apart that differ by design."""
        digest = hashlib.sha256()
        for images, labels in self._files:
            digest.update(f"{images.shape}".encode())
            digest.update(np.ascontiguousarray(labels).data)
            digest.update(np.ascontiguousarray(images[::1000]).data)
        return digest.hexdigest()


class Mnist(WellKnown):
    """28 × 28 grey pixels in IDX files."""

    title = "MNIST"
    summary = "Handwritten digits, 28 × 28 px, 60,000 to train and 10,000 to test; downloaded, 12 MB."
    licence = "CC BY-SA 3.0"
    citation = "LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition, 1998"
    defaults = {"size": [28, 28], "channels": 1, "validation": 5000}  # noqa: RUF012
    names = tuple("0123456789")
    subfolders = ("MNIST/raw", "raw")
    site: ClassVar[str] = "https://ossci-datasets.s3.amazonaws.com/mnist/"
    digests: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "train-labels-idx1-ubyte": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "t10k-images-idx3-ubyte": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "t10k-labels-idx1-ubyte": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    }

    def _needed(self, part: str) -> tuple[str, ...]:
        stem = "train" if part == "train" else "t10k"
        return f"{stem}-images-idx3-ubyte", f"{stem}-labels-idx1-ubyte"

    def _fetched(self, name: str) -> Iterator[Bringing]:
        packed = f"{name}.gz"
        if self._find(name) or self._find(packed):
            return
        self._check_download(f"{packed} and the other files of {self.title}")
        yield from fetch(
            self.site + packed,
            self.digests[name],
            lambda path: {name: gunzipped(path, MOST_IDX)},
            self._home,
            self._by_hand(packed),
        )

    def _read(self, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
        images, labels = self._needed(part)
        return [(self._idx(images, 3), self._idx(labels, 1))]

    def _idx(self, name: str, ndim: int) -> np.ndarray:
        if path := self._find(name):
            return read_idx(mapped(path), ndim, path)
        path = self._find(f"{name}.gz") or self._home / f"{name}.gz"
        return read_idx(gunzipped(path, MOST_IDX), ndim, path)


class FashionMnist(Mnist):
    """28 × 28 grey pixels in IDX files."""

    title = "Fashion-MNIST"
    summary = "Clothes in ten classes, 28 × 28 px, 60,000 to train and 10,000 to test; downloaded, 31 MB."
    licence = "MIT"
    citation = "Xiao, Rasul, Vollgraf: Fashion-MNIST, a novel image dataset, 2017"
    names = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
    subfolders = ("FashionMNIST/raw", "raw")
    site = "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/"
    digests: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "train-labels-idx1-ubyte": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "t10k-images-idx3-ubyte": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "t10k-labels-idx1-ubyte": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    }


class Cifar10(WellKnown):
    """32 × 32 colour pixels in the binary version's records: a label, then the three planes."""

    title = "CIFAR-10"
    summary = "Photographs in ten classes, 32 × 32 px, 50,000 to train and 10,000 to test; downloaded, 170 MB."
    licence = "unstated; for research"
    citation = "Krizhevsky: Learning multiple layers of features from tiny images, 2009"
    defaults = {"size": [32, 32], "channels": 3, "validation": 5000}  # noqa: RUF012
    names = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    subfolders = ("cifar-10-batches-bin",)
    archive: ClassVar[str] = "cifar-10-binary.tar.gz"
    url: ClassVar[str] = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
    digest: ClassVar[str] = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
    record: ClassVar[int] = 1 + 3 * 32 * 32
    batches: ClassVar[dict[str, tuple[str, ...]]] = {
        "train": tuple(f"data_batch_{k}.bin" for k in range(1, 6)),
        "test": ("test_batch.bin",),
    }
    per_batch: ClassVar[int] = 10_000
    _batches: dict[str, np.ndarray] | None = None

    def _needed(self, part: str) -> tuple[str, ...]:
        return self.batches[part]

    def _fetched(self, name: str) -> Iterator[Bringing]:
        if self._find(name) or self._find(self.archive):
            return
        pickled = any((place / "cifar-10-batches-py").is_dir() for place in self._places)
        binary = f"{self.archive}, the binary version" + (" (the Python version is not read)" if pickled else "")
        self._check_download(binary)
        yield from fetch(self.url, self.digest, self._unpacked, self._home, self._by_hand(binary))

    def _read(self, part: str) -> list[tuple[np.ndarray, np.ndarray]]:
        records = [self._records(name) for name in self._needed(part)]
        return [(each[:, 1:].reshape(-1, 3, 32, 32), each[:, 0]) for each in records]

    def _records(self, name: str) -> np.ndarray:
        if path := self._find(name):
            return self._whole(mapped(path), path)
        packed = self._find(self.archive) or self._home / self.archive
        return self._whole(self._unpacked(packed)[name], packed)

    def _unpacked(self, packed: Path) -> dict[str, np.ndarray]:
        """All batches of the archive, which is gone through once."""
        if self._batches is None:
            size = self.per_batch * self.record
            self._batches = members(packed, {name: size for names in self.batches.values() for name in names})
        return self._batches

    def _whole(self, content: np.ndarray, path: Path) -> np.ndarray:
        """[n] → [images record]."""
        if len(content) % self.record:
            raise DataError("is no file of CIFAR-10's records", file=path, fix="Bring it again")
        return content.reshape(-1, self.record)


MOST_IDX = 16 + 60_000 * 28 * 28
"""Bytes of the largest file of MNIST."""


def read_idx(content: np.ndarray, ndim: int, path: Path) -> np.ndarray:
    """IDX (LeCun's format): two zeros, type 8 for uint8, the number of axes, their sizes big-endian, the values."""
    head = 4 + 4 * ndim
    shape: tuple[int, ...] = ()
    if content[:4].tolist() == [0, 0, 8, ndim] and len(content) >= head:
        shape = tuple(int(size) for size in content[4:head].view(">u4"))
    if not shape or len(content) != head + math.prod(shape):
        raise DataError("is no whole IDX file", file=path, fix="Bring it again")
    return content[head:].reshape(shape)
