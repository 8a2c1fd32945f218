"""MNIST, Fashion-MNIST and CIFAR-10: local copies, downloads, and what is said where there is neither."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from plugin_packages import install

from imagen_workbench.core import Bringing
from imagen_workbench.core.data.cache import Reading
from imagen_workbench.core.datasets import reading
from imagen_workbench.core.errors import DataError, PluginError, WorkbenchError
from imagen_workbench.core.extensions import make_source
from imagen_workbench.core.recipe import Recipe
from imagen_workbench.core.testing import DatasetContract
from imagen_workbench.plugins.datasets.well_known import Cifar10, Mnist

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagen_workbench.core.data.source import Source

IMAGES, LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"


def source(name: str, path: Path | str = "", **options: Any) -> Source:
    return make_source(Recipe.of({"data": {"source": name, "path": str(path), "options": options}}))


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def digits(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return numbers.integers(0, 256, (count, 28, 28), np.uint8), numbers.integers(0, 10, count, np.uint8)


def mnist_copy(folder: Path, packed: bool = False) -> Path:
    """As torchvision keeps it."""
    folder.mkdir(parents=True, exist_ok=True)
    for stem, seed, count in (("train", 0, 30), ("t10k", 1, 12)):
        for name, values in zip((IMAGES, LABELS), digits(seed, count), strict=True):
            content = idx(values)
            if packed:
                (folder / f"{stem}-{name}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / f"{stem}-{name}").write_bytes(content)
    return folder


def batch(seed: int, count: int = 7) -> tuple[np.ndarray, np.ndarray]:
    numbers = np.random.default_rng(seed)
    return numbers.integers(0, 256, (count, 3, 32, 32), np.uint8), numbers.integers(0, 10, count, np.uint8)


def batch_bytes(seed: int, count: int = 7) -> bytes:
    images, labels = batch(seed, count)
    return b"".join(bytes([label]) + image.tobytes() for image, label in zip(images, labels, strict=True))


BATCHES = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]


def cifar_copy(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(BATCHES):
        (folder / name).write_bytes(batch_bytes(seed))
    return folder


def cifar_archive(path: Path, inner: str = "cifar-10-batches-bin/", count: int = 7) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for seed, name in enumerate(BATCHES):
            content = batch_bytes(seed, count)
            member = tarfile.TarInfo(inner + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


class TestMnist(DatasetContract):
    def make_source(self, folder: Path) -> Source:
        mnist_copy(folder / "MNIST" / "raw")
        return source("mnist", folder)


class TestFashionMnist(DatasetContract):
    def make_source(self, folder: Path) -> Source:
        mnist_copy(folder, packed=True)
        return source("fashion-mnist", folder, part="both")


class TestCifar10(DatasetContract):
    def make_source(self, folder: Path) -> Source:
        cifar_copy(folder / "cifar-10-batches-bin")
        return source("cifar10", folder)


# --- local copies ---------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["MNIST/raw", "raw", "."])
@pytest.mark.parametrize("packed", [True, False])
def test_a_copy_of_mnist_is_read_where_torchvision_keeps_it(tmp_path: Path, inner: str, packed: bool) -> None:
    mnist_copy(tmp_path / inner, packed)
    for part, seed, count in (("train", 0, 30), ("test", 1, 12)):
        images, labels = digits(seed, count)
        found = source("mnist", tmp_path, part=part)
        assert len(found) == count
        assert [found[k].label for k in range(count)] == labels.tolist()
        assert np.array_equal(np.stack([np.asarray(found[k].image) for k in range(count)]), images)
    both = source("mnist", tmp_path, part="both")
    assert len(both) == 42
    assert np.array_equal(np.asarray(both[30].image), digits(1, 12)[0][0])
    assert np.array_equal(np.asarray(both[41].image), digits(1, 12)[0][11])


@pytest.mark.parametrize("packed", [True, False])
def test_a_copy_of_cifar10_is_read(tmp_path: Path, packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cifar10, "per_batch", 7)
    cifar_archive(tmp_path / "cifar-10-binary.tar.gz") if packed else cifar_copy(tmp_path)
    found = source("cifar10", tmp_path)
    assert len(found) == 35
    for k in (0, 6, 7, 34):
        images, labels = batch(k // 7)
        example = found[k]
        assert np.array_equal(np.asarray(example.image).transpose(2, 0, 1), images[k % 7])
        assert example.label == labels[k % 7]
    assert len(source("cifar10", tmp_path, part="both")) == 42


def test_cifar10_as_pickles_is_never_opened(tmp_path: Path) -> None:
    """torchvision's copy is the Python version, whose files would be executed."""

    class Trap:
        def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
            return (tmp_path / "executed").touch, ()

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for k in range(1, 6):
        (folder / f"data_batch_{k}").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(DataError, match=r"binary version .the Python version is not read.") as caught:
        len(source("cifar10", tmp_path))
    assert caught.value.file == str(tmp_path)
    assert not (tmp_path / "executed").exists()


# --- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"\0\0\x08", "no whole IDX file"),
        (b"\0\0\x08\x03" + b"\xff" * 12, "no whole IDX file"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-1], "no whole IDX file"),
        (idx(np.zeros((2, 28, 28), np.uint8)) + b"\0", "no whole IDX file"),
        (idx(np.zeros(2, np.uint8)), "no whole IDX file"),
        (idx(np.zeros((2, 28, 28), np.uint8)), "do not belong together"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path: Path, content: bytes, reason: str) -> None:
    mnist_copy(tmp_path)
    (tmp_path / f"train-{IMAGES}").write_bytes(content)
    with pytest.raises(DataError, match=reason) as caught:
        len(source("mnist", tmp_path))
    assert caught.value.file.startswith(str(tmp_path))
    assert caught.value.fix


@pytest.mark.parametrize("damage", ["cut", "not gzip", "bomb"])
def test_damaged_packed_files_are_named(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from imagen_workbench.plugins.datasets import well_known

    mnist_copy(tmp_path, packed=True)
    file = tmp_path / f"train-{IMAGES}.gz"
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-500])
    elif damage == "not gzip":
        file.write_bytes(b"PK\x03\x04")
    else:
        monkeypatch.setattr(well_known, "MOST_IDX", 1000)
    with pytest.raises(DataError, match="holds more than" if damage == "bomb" else "cannot be unpacked") as caught:
        len(source("mnist", tmp_path))
    assert caught.value.file == str(file)


@pytest.mark.parametrize("inner", ["../../", "/etc/", "a/../../b/"])
def test_an_archive_that_climbs_out_of_its_folder_writes_nowhere(
    tmp_path: Path, inner: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last part of a name counts, and only to find the member."""
    monkeypatch.setattr(Cifar10, "per_batch", 7)
    place = tmp_path / "deep" / "deeper"
    place.mkdir(parents=True)
    cifar_archive(place / "cifar-10-binary.tar.gz", inner)
    before = sorted(tmp_path.rglob("*"))
    assert len(source("cifar10", place)) == 35
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("damage", ["cut", "links", "sizes", "not tar"])
def test_damaged_archives_are_named(tmp_path: Path, damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cifar10, "per_batch", 7)
    path = cifar_archive(tmp_path / "cifar-10-binary.tar.gz", count=8 if damage == "sizes" else 7)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif damage == "not tar":
        path.write_bytes(b"no archive")
    elif damage == "links":
        with tarfile.open(path, "w:gz") as archive:
            for name in BATCHES:
                link = tarfile.TarInfo(name)
                link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
                archive.addfile(link)
    with pytest.raises(DataError, match=r"cannot be unpacked|lacks data_batch_1\.bin") as caught:
        len(source("cifar10", tmp_path))
    assert caught.value.file == str(path)


# --- downloads ------------------------------------------------------------------------------------


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the network holds, by address; anything else fails as it does without one."""
    held: dict[str, bytes] = {}

    def urlopen(url: str, timeout: float) -> io.BytesIO:
        assert url.startswith("https://")
        if url not in held:
            raise urllib.error.URLError(OSError(-2, "Name or service not known"))
        return io.BytesIO(held[url])

    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    return held


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10"])
def test_without_a_network_the_message_says_what_to_do(served: dict[str, bytes], name: str, homes: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be downloaded: .*Name or service not known") as caught:
        len(source(name))
    assert caught.value.file.startswith("https://")
    assert str(homes / "home" / "datasets") in caught.value.fix
    assert "data.path" in caught.value.fix
    assert not [path for path in homes.rglob("*") if path.is_file()]


def test_mnist_is_downloaded_once(served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {}
    for name, values in zip((IMAGES, LABELS), digits(0, 30), strict=True):
        packed = gzip.compress(idx(values))
        served[f"{Mnist.site}train-{name}.gz"] = packed
        digests[f"train-{name}"] = hashlib.sha256(packed).hexdigest()
    monkeypatch.setattr(Mnist, "digests", digests)
    assert len(source("mnist")) == 30
    served.clear()
    again = source("mnist")
    assert np.array_equal(np.asarray(again[3].image), digits(0, 30)[0][3])


def test_a_download_tells_how_far_it_is(served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    class Answer(io.BytesIO):
        length = 5 << 20

    packed = bytes(5 << 20)
    monkeypatch.setattr(urllib.request, "urlopen", lambda url, timeout: Answer(packed))
    with pytest.raises(DataError, match="not what was asked for"):
        list(source("mnist").bring())
    bringing = source("mnist").bring()
    assert [next(bringing) for _ in range(5)] == [Bringing("Downloading megabytes", k, 5) for k in range(1, 6)]


def test_what_is_here_is_not_brought(served: dict[str, bytes], tmp_path: Path) -> None:
    mnist_copy(tmp_path)
    assert list(source("mnist", tmp_path).bring()) == []


def test_cifar10_is_downloaded_once(
    served: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, homes: Path
) -> None:
    monkeypatch.setattr(Cifar10, "per_batch", 7)
    packed = cifar_archive(tmp_path / "made.tar.gz", "../../../").read_bytes()
    served[Cifar10.url] = packed
    monkeypatch.setattr(Cifar10, "digest", hashlib.sha256(packed).hexdigest())
    assert len(source("cifar10")) == 35
    served.clear()
    assert len(source("cifar10", part="both")) == 42
    files = {path.name for path in homes.rglob("*") if path.is_file()}
    assert files == set(BATCHES)


def test_what_was_not_asked_for_is_thrown_away(served: dict[str, bytes], homes: Path) -> None:
    served[f"{Mnist.site}train-{IMAGES}.gz"] = gzip.compress(idx(digits(0, 30)[0]))
    with pytest.raises(DataError, match="not what was asked for"):
        len(source("mnist"))
    assert not [path for path in homes.rglob("*") if path.is_file()]


def test_nothing_is_downloaded_into_a_folder_that_is_named(served: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not in this folder") as caught:
        len(source("mnist", tmp_path))
    assert "leave data.path empty" in caught.value.fix


def test_an_unknown_part_is_refused() -> None:
    with pytest.raises(WorkbenchError, match=r"data\.options\.part"):
        source("mnist", part="everything")


# --- what a source brings, told from its loader process --------------------------------------------

BRINGS = """
import numpy as np
from imagen_workbench.core import Bringing, Example, Source

class Brings(Source):
    title, summary, brought = "Brings", "For tests.", False

    def bring(self):
        for done in (1, 2, 3):
            yield Bringing("Downloading megabytes", done, 3) if self.settings.most != 3 else "a third"
        self.brought = True

    def __len__(self):
        assert self.brought
        return 5

    def __getitem__(self, index):
        return Example(np.full((8, 8), index, np.uint8))
"""


def brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int = 0) -> list[Reading]:
    install(tmp_path / "site", monkeypatch, "brings-plugin", BRINGS, datasets={"brings": "Brings"})
    data = {"source": "brings", "size": [8, 8], "channels": 1, "validation": 1, "most": most}
    return list(reading(Recipe.of({"data": data, "conditioning": {"scheme": "none"}})))


def test_whoever_waits_is_told_how_far_a_download_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = brings(tmp_path, monkeypatch)
    downloads = [each for each in told if each.what == "Downloading megabytes"]
    assert [(each.done, each.total) for each in downloads] == [(1, 3), (2, 3), (3, 3)]
    assert told[-1] == Reading(5, 5)


def test_nonsense_about_a_download_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PluginError):
        brings(tmp_path, monkeypatch, most=3)
