"""torchvision's datasets by name: against a stand-in for the library, which this machine's torch may not go with."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import pytest
from PIL import Image

from imagen_workbench.core import DataError, PluginError, Recipe
from imagen_workbench.core.data.rows import Row, row_of
from imagen_workbench.core.extensions import make_source
from imagen_workbench.core.testing import DatasetContract
from imagen_workbench.plugins.datasets.torchvision_datasets import KINDS, TorchvisionOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

COUNT = 9
STAND_IN = '''
import numpy as np
from pathlib import Path
from PIL import Image

class VisionDataset:
    """Pictures from one file in its root, as torchvision's are made: PIL images with a number."""
    base = 0

    def __init__(self, root, download=False, **asked):
        self.asked = asked
        path = Path(root) / "pixels.npy"
        if download:
            np.save(path, np.random.default_rng(self.base).integers(0, 256, (9, 8, 8, 3), np.uint8))
        if not path.is_file():
            raise RuntimeError("Dataset not found. You can use download=True to download it")
        self.data = np.load(path)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return Image.fromarray(self.data[index]), index % 3 - self.base

class CIFAR100(VisionDataset):
    classes = ["a", "b", "c"]
    def __init__(self, root, train=True, transform=None, target_transform=None, download=False):
        super().__init__(root, download, train=train)

class EMNIST(VisionDataset):
    classes = ["a", "b", "c"]
    def __init__(self, root, split, **kwargs):
        super().__init__(root, split=split, **kwargs)

class SVHN(VisionDataset):
    def __init__(self, root, split="train", transform=None, target_transform=None, download=False):
        super().__init__(root, download, split=split)

class OxfordIIITPet(SVHN):
    classes = ["a", "b", "c"]

class STL10(SVHN):
    classes = ["a", "b"]
    base = 1

class Caltech101(VisionDataset):
    categories = ["a", "b", "c"]

class Imagenette(SVHN):
    classes = [("a", "an a"), ("b",), ("c", "see")]

class CelebA(SVHN):
    attr_names = ["Bald", "Smiling", ""]
    def __getitem__(self, index):
        return super().__getitem__(index)[0], np.array([index % 2, 1])
'''


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package torchvision, which other processes find, too."""
    place = tmp_path_factory.mktemp("stand-in")
    (place / "torchvision").mkdir()
    (place / "torchvision" / "__init__.py").write_text("", encoding="utf-8")
    (place / "torchvision" / "datasets.py").write_text(STAND_IN, encoding="utf-8")
    return place


@pytest.fixture(autouse=True)
def library(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    kept = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == "torchvision"}
    for name in kept:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(stand_in))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(stand_in), os.environ.get("PYTHONPATH", "")]).rstrip(":"))
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]


def recipe(path: Path | str = "", **options: Any) -> Recipe:
    data = {"source": "torchvision", "path": str(path), "size": [8, 8], "channels": 3, "options": options}
    return Recipe.of({"data": data, "conditioning": {"scheme": "none"}})


def made(path: Path | str = "", **options: Any) -> Any:
    return make_source(recipe(path, **options))


def copy_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "pixels.npy", np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 3), np.uint8))
    return folder


class TestTorchvision(DatasetContract):
    looked_at = 3

    def make_source(self, folder: Path) -> Any:
        if not (folder / "pixels.npy").exists():
            copy_in(folder)
        return made(folder, dataset="CIFAR100")


def test_images_classes_and_names(tmp_path: Path) -> None:
    source = made(copy_in(tmp_path), dataset="CIFAR100")
    assert (len(source), source.classes) == (COUNT, ("a", "b", "c"))
    assert [source[k].label for k in range(4)] == [0, 1, 2, 0]
    assert isinstance(source[0].image, Image.Image)
    assert source.name_of(3) == "CIFAR100 3"
    assert all(isinstance(row_of(source, k, source.settings, None), Row) for k in range(COUNT))


@pytest.mark.parametrize(
    ("options", "asked"),
    [
        ({"dataset": "CIFAR100"}, {"train": True}),
        ({"dataset": "CIFAR100", "part": "test"}, {"train": False}),
        ({"dataset": "EMNIST"}, {"split": "balanced", "train": True}),
        ({"dataset": "EMNIST", "split": "letters", "part": "test"}, {"split": "letters", "train": False}),
        ({"dataset": "SVHN"}, {"split": "train"}),
        ({"dataset": "SVHN", "split": "extra"}, {"split": "extra"}),
        ({"dataset": "OxfordIIITPet"}, {"split": "trainval"}),
        ({"dataset": "OxfordIIITPet", "part": "test"}, {"split": "test"}),
        ({"dataset": "Caltech101"}, {}),
    ],
)
def test_each_is_asked_in_its_own_words(tmp_path: Path, options: dict[str, str], asked: dict[str, Any]) -> None:
    assert made(copy_in(tmp_path), **options)._opened.asked == asked


def test_classes_without_names_are_numbers(tmp_path: Path) -> None:
    assert made(copy_in(tmp_path), dataset="SVHN").classes == tuple("0123456789")
    assert made(tmp_path, dataset="Caltech101").classes == ("a", "b", "c")
    assert made(tmp_path, dataset="Imagenette").classes == ("a", "b", "c"), "of several names the first"
    assert [made(tmp_path, dataset="STL10")[k].label for k in range(3)] == [None, 0, 1]


def test_attributes_instead_of_a_class(tmp_path: Path) -> None:
    source = made(copy_in(tmp_path), dataset="CelebA")
    assert [attribute.name for attribute in source.attributes] == ["Bald", "Smiling"]
    assert source.fields == ("image", "attributes")
    assert source[1].attributes == {"Bald": "yes", "Smiling": "yes"}
    assert source[2].attributes["Bald"] == "no"


def test_it_is_downloaded_only_where_that_is_asked_for(homes: Path) -> None:
    with pytest.raises(DataError, match="is not here") as caught:
        len(made(dataset="SVHN"))
    assert "data.options.download" in caught.value.fix
    assert not homes.exists()
    assert len(made(dataset="SVHN", download=True)) == COUNT
    assert len(made(dataset="SVHN")) == COUNT
    assert (homes / "home" / "datasets" / "torchvision" / "svhn" / "pixels.npy").is_file()


def test_what_torchvision_says_is_handed_on(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"SVHN cannot be opened: Dataset not found") as caught:
        len(made(tmp_path, dataset="SVHN"))
    assert caught.value.file == str(tmp_path)


def test_other_files_are_another_dataset(tmp_path: Path) -> None:
    before = made(copy_in(tmp_path), dataset="SVHN").fingerprint()
    assert made(tmp_path, dataset="SVHN").fingerprint() == before
    np.save(tmp_path / "pixels.npy", np.zeros((5, 8, 8, 3), np.uint8))
    assert made(tmp_path, dataset="SVHN").fingerprint() != before


def test_a_torchvision_without_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="has no DTD"):
        len(made(copy_in(tmp_path), dataset="DTD"))


@pytest.mark.parametrize(
    ("content", "reason", "fix"),
    [
        (None, "not installed", "pip install 'imagen-workbench[torchvision]'"),
        ("raise RuntimeError('operator torchvision::nms does not exist')", "nms does not exist", "for this torch"),
        ("raise ImportError('undefined symbol')", "undefined symbol", "for this torch"),
    ],
)
def test_a_missing_or_broken_torchvision_is_named(
    tmp_path: Path, content: str | None, reason: str, fix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is None:
        monkeypatch.setitem(sys.modules, "torchvision", None)
    else:
        (tmp_path / "torchvision").mkdir()
        (tmp_path / "torchvision" / "__init__.py").write_text(content, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(PluginError, match=reason) as caught:
        len(made(copy_in(tmp_path / "data")))
    assert fix in caught.value.fix


def test_the_form_s_choices_are_those_that_are_known() -> None:
    assert get_args(TorchvisionOptions.model_fields["dataset"].annotation) == tuple(KINDS)


def test_it_is_read_in_a_loader_process(tmp_path: Path) -> None:
    from imagen_workbench.core.datasets import read

    data = read(recipe(copy_in(tmp_path / "data"), dataset="CIFAR100"))
    assert (len(data.pixels), data.classes) == (COUNT, ("a", "b", "c"))
    assert not any(name.partition(".")[0] == "torchvision" for name in sys.modules)


def test_the_real_ones_take_what_they_are_asked(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torchvision can be imported."""
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path != str(stand_in)])
    if importlib.util.find_spec("torchvision") is None:
        pytest.skip("torchvision is not installed")
    from torchvision import datasets

    for name in KINDS:
        known = inspect.signature(getattr(datasets, name).__init__).parameters
        asked = make_source(recipe(dataset=name))._asked
        assert set(asked) <= set(known) or "kwargs" in known
        assert "download" in known or "kwargs" in known
