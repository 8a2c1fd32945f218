"""torchvision's datasets, by name.

Only those whose readers unpickle nothing, or, as CIFAR-100's, only files that torchvision has checked by their digests
before. MNIST, Fashion-MNIST and CIFAR-10 are sources of their own, which need no torchvision.
"""

from __future__ import annotations

import hashlib
import operator
import os
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from imagen_workbench.core import Attribute, DataError, Example, PluginError, Source, user_home

from .file_list import FileList, stamp


@dataclass(frozen=True)
class Kind:
    """How a class of torchvision's is asked. train, test: its names for these parts, where it has a `split`; flag:
    whether it has a `train` instead; classes: how many there are, where it does not name them.
    """

    train: str = ""
    test: str = ""
    flag: bool = False
    classes: int = 0


KINDS = {
    "Caltech101": Kind(),
    "Caltech256": Kind(),
    "CelebA": Kind("train", "test"),
    "CIFAR100": Kind(flag=True),
    "Country211": Kind("train", "test"),
    "DTD": Kind("train", "test"),
    "EMNIST": Kind(flag=True),
    "EuroSAT": Kind(),
    "FGVCAircraft": Kind("trainval", "test"),
    "Flowers102": Kind("train", "test", classes=102),
    "Food101": Kind("train", "test"),
    "GTSRB": Kind("train", "test", classes=43),
    "Imagenette": Kind("train", "val"),
    "KMNIST": Kind(flag=True),
    "OxfordIIITPet": Kind("trainval", "test"),
    "RenderedSST2": Kind("train", "test"),
    "STL10": Kind("train", "test"),
    "SUN397": Kind(),
    "SVHN": Kind("train", "test", classes=10),
    "USPS": Kind(flag=True, classes=10),
}
EMNIST = "balanced"
"""Which of EMNIST's splits, unless one is named."""


class TorchvisionOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    dataset: Literal[
        "Caltech101", "Caltech256", "CelebA", "CIFAR100", "Country211", "DTD", "EMNIST", "EuroSAT", "FGVCAircraft",
        "Flowers102", "Food101", "GTSRB", "Imagenette", "KMNIST", "OxfordIIITPet", "RenderedSST2", "STL10", "SUN397",
        "SVHN", "USPS",
    ] = Field("CIFAR100", title="Dataset", description="By torchvision's name.")  # fmt: skip
    part: Literal["train", "test"] = Field(
        "train", title="Part", description="The makers' training images or their test images, where there are both."
    )
    split: str = Field(
        "", title="Split", description="Another part by torchvision's name: extra of SVHN, letters of EMNIST."
    )
    download: bool = Field(
        default=False, title="Download", description="Whether torchvision may download what is not there."
    )


class TorchvisionDatasets(Source):
    """From `data.path` where one is named, else from our folder."""

    title = "torchvision's datasets"
    summary = "CIFAR-100, EMNIST, SVHN, Flowers-102, Oxford pets and others; needs torchvision, which downloads them."
    licence = "each dataset's own"
    opens_slowly = True
    defaults = {"size": [32, 32], "channels": 3, "validation": 0.1}  # noqa: RUF012
    Options = TorchvisionOptions
    options: TorchvisionOptions

    @property
    def _name(self) -> str:
        return self.options.dataset

    @cached_property
    def _root(self) -> Path:
        if self.settings.path:
            return Path(self.settings.path).expanduser()
        return user_home() / "datasets" / "torchvision" / self._name.lower()

    @cached_property
    def _opened(self) -> Any:
        kind = getattr(library(), self._name, None)
        if kind is None:
            fix = "Update it: pip install -U torchvision"
            raise PluginError(f"this torchvision has no {self._name}", field="data.options.dataset", fix=fix)
        fix = f"Name the folder that torchvision keeps {self._name} in, or set data.options.download to true"
        try:
            if self.options.download:
                self._root.mkdir(parents=True, exist_ok=True)
            elif not self._root.is_dir():
                raise DataError(f"{self._name} is not here", file=self._root, fix=fix)
            return kind(str(self._root), download=self.options.download, **self._asked)
        except DataError:
            raise
        except Exception as error:
            # from the readers and the downloads of many makers
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise DataError(f"{self._name} cannot be opened: {reason}", file=self._root, fix=fix) from error

    @property
    def _asked(self) -> dict[str, Any]:
        kind, split = KINDS[self._name], self.options.split
        if kind.flag:
            named = {"split": split or EMNIST} if self._name == "EMNIST" else {}
            return {"train": self.options.part == "train", **named}
        split = split or (kind.train if self.options.part == "train" else kind.test)
        return {"split": split} if kind.train else {}

    @property
    def classes(self) -> tuple[str, ...]:
        return self._classes

    @cached_property
    def _classes(self) -> tuple[str, ...]:
        if self._attribute_names:
            return ()
        names = getattr(self._opened, "classes", None) or getattr(self._opened, "categories", None)
        # Imagenette gives several names for each, the first of which will do
        firsts = (name[0] if isinstance(name, tuple) else name for name in names or ())
        return tuple(map(str, firsts)) or tuple(map(str, range(KINDS[self._name].classes)))

    @property
    def attributes(self) -> tuple[Attribute, ...]:
        return tuple(Attribute(name, ("no", "yes")) for name in self._attribute_names)

    @cached_property
    def _attribute_names(self) -> tuple[str, ...]:
        """CelebA tells of forty instead of a class."""
        return tuple(name for name in getattr(self._opened, "attr_names", ()) if name)

    def __len__(self) -> int:
        return len(self._opened)

    def __getitem__(self, index: int) -> Example:
        image, target = self._opened[index]
        if self._attribute_names:
            told = dict(zip(self._attribute_names, ("yes" if value > 0 else "no" for value in target), strict=False))
            return Example(image, None, self.name_of(index), attributes=told)
        label = operator.index(target)
        return Example(image, label if label >= 0 else None, self.name_of(index))

    def name_of(self, index: int) -> str:
        return f"{self._name} {index}"

    def fingerprint(self) -> str:
        """Of torchvision's version, and the files' names, sizes and times of change."""
        digest = hashlib.sha256(f"{_version()} {len(self)} ".encode() + os.fsencode(self._root.resolve()))
        files = FileList(self._root, lambda _: True, lambda name: not name.startswith(b"."))
        for index in range(len(files)):
            digest.update(files.below_root(index))
            stamp(digest, files.path(index))
        return digest.hexdigest()


def library() -> Any:
    """torchvision.datasets. Raises PluginError where it is missing or broken."""
    try:
        return import_module("torchvision.datasets")
    except ModuleNotFoundError as error:
        install = "Install it: pip install 'imagen-workbench[torchvision]'"
        raise PluginError(f"torchvision is not installed ({error})", fix=install) from error
    except Exception as error:
        # one that was built for another torch says so in many ways
        reason = " ".join(str(error).split())[:200]
        raise PluginError(f"torchvision cannot be imported: {reason}", fix="Install the one for this torch") from error


def _version() -> str:
    try:
        return metadata.version("torchvision")
    except metadata.PackageNotFoundError:
        return ""
