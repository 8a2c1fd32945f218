"""Images a second, from files to batches: folder, tar shards and parquet through our cache, beside DataLoaders.

    python benchmarks/reading.py [--images 20000] [--side 256] [--size 64] [--workers 2] [--rounds 3] [--out FILE]

The same JPEG files, all brought to one size, in one run and on as many cores as there are workers. The first pass goes
from the files to the last batch, with whatever must be started: ours decodes in loader processes and keeps what it
decodes; a DataLoader decodes in its workers, and Hugging Face's first brings the parquet file into its own format.
Following passes take all images again in another order: ours from the cache, without workers; a DataLoader decodes
them anew. A batch is float32 [64 3 h w] in [-1, 1]. Rounds take turns, and medians are told; the files lie in the
system's memory for all, as they were just written.

Where torchvision cannot be imported, a plain folder of files read by Pillow stands alone in its place.
`pip install --group benchmarks` brings Hugging Face's.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import statistics
import tarfile
import tempfile
import time
from functools import cached_property, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from overhead import this_machine
from PIL import Image, ImageOps
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from imagen_workbench.core import Recipe
from imagen_workbench.core.data.unit import to_unit
from imagen_workbench.core.datasets import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

BATCH, PER_SHARD, CLASSES, QUALITY = 64, 1000, 10, 90


# --- the images -----------------------------------------------------------------------------------


def jpegs(count: int, side: int) -> Iterator[bytes]:
    """Soft colours with some grain, each another, about as large as photographs of that size."""
    for k in range(count):
        numbers = np.random.default_rng(k)
        soft = Image.fromarray(numbers.integers(0, 256, (8, 8, 3), np.uint8)).resize(
            (side, side), Image.Resampling.BICUBIC
        )
        pixels = np.asarray(soft, np.int16) + numbers.integers(-12, 13, (side, side, 1), np.int16)
        file = io.BytesIO()
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=QUALITY)
        yield file.getvalue()


def write(place: Path, count: int, side: int) -> dict[str, Path]:
    """The same images as a folder, as tar shards and, where that can be written, as a parquet file."""
    contents = list(jpegs(count, side))
    folder, shards = place / "folder", place / "shards"
    shards.mkdir()
    for k in range(CLASSES):
        (folder / f"class {k}").mkdir(parents=True)
    for k, content in enumerate(contents):
        (folder / f"class {k % CLASSES}" / f"{k:06d}.jpg").write_bytes(content)
    for first in range(0, count, PER_SHARD):
        with tarfile.open(shards / f"{first // PER_SHARD:04d}.tar", "w") as archive:
            for k, content in enumerate(contents[first : first + PER_SHARD], first):
                for suffix, inside in (("cls", str(k % CLASSES).encode()), ("jpg", content)):
                    member = tarfile.TarInfo(f"{k:06d}.{suffix}")
                    member.size = len(inside)
                    archive.addfile(member, io.BytesIO(inside))
    written = {"folder": folder, "shards": shards}
    if (datasets := imported("datasets")) is not None:
        datasets.disable_progress_bars()
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=CLASSES)})
        cells = [{"bytes": content, "path": None} for content in contents]
        table = {"image": cells, "label": [k % CLASSES for k in range(count)]}
        written["parquet"] = place / "train.parquet"
        datasets.Dataset.from_dict(table, features=features).to_parquet(str(written["parquet"]))
    return written


def imported(name: str) -> Any:
    """The module; None where it is missing or broken."""
    try:
        return import_module(name)
    except Exception as error:  # noqa: BLE001 - broken installations raise anything
        print(f"{name} cannot be imported and is left out: {' '.join(str(error).split())[:100]}")
        return None


# --- ours -----------------------------------------------------------------------------------------


class Ours:
    """A source of ours: decoded into the cache, then read from it."""

    def __init__(self, name: str, source: str, path: Path, size: int, cache: Path) -> None:
        self.name = f"ours: {name}"
        self._cache = cache
        data = {"source": source, "path": str(path), "size": [size, size], "channels": 3}
        self._recipe = Recipe.of({"data": data, "conditioning": {"scheme": "none"}})

    def first(self) -> int:
        shutil.rmtree(self._cache, ignore_errors=True)
        self._read = read(self._recipe)
        return self.following(np.arange(len(self._read.pixels)))

    def following(self, order: np.ndarray) -> int:
        done = 0
        for start in range(0, len(order), BATCH):
            pixels = torch.from_numpy(np.ascontiguousarray(self._read.pixels[order[start : start + BATCH]]))
            done += len(to_unit(pixels))
        return done


# --- the others -----------------------------------------------------------------------------------


class PlainFolder(TorchDataset):
    """What most people write: Pillow, file by file."""

    def __init__(self, folder: Path, size: int) -> None:
        self._files = sorted(folder.rglob("*.jpg"))
        self._size = size

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self._files[index]) as image:
            return tensor_of(image, self._size)


def tensor_of(image: Image.Image, size: int) -> Tensor:
    fitted = ImageOps.fit(image.convert("RGB"), (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(fitted)).permute(2, 0, 1).float() / 127.5 - 1


def plain(folder: Path, size: int) -> Any:
    return PlainFolder(folder, size)


def torchvision_folder(folder: Path, size: int) -> Any:
    datasets, transforms = import_module("torchvision.datasets"), import_module("torchvision.transforms")
    steps = [
        transforms.Resize(size),
        transforms.CenterCrop(size),
        transforms.ToTensor(),
        transforms.Normalize(0.5, 0.5),
    ]
    return datasets.ImageFolder(str(folder), transforms.Compose(steps))


def hugging_face(file: Path, size: int, cache: Path) -> Any:
    import datasets

    shutil.rmtree(cache, ignore_errors=True)
    table = datasets.load_dataset("parquet", data_files=[str(file)], split="train", cache_dir=str(cache))
    return table.with_transform(partial(transformed, size=size))


def transformed(rows: dict[str, Any], size: int) -> dict[str, Any]:
    return {"image": [tensor_of(image, size) for image in rows["image"]], "label": rows["label"]}


class Loader:
    """A dataset in torch's DataLoader, shuffled."""

    def __init__(self, name: str, make: Callable[[], Any], workers: int) -> None:
        self.name = name
        self._make, self._workers = make, workers

    def first(self) -> int:
        self.__dict__.pop("_batches", None)
        return self.following()

    def following(self, _: np.ndarray | None = None) -> int:
        """In an order of its own."""
        return sum(len(self._images(batch)) for batch in self._batches)

    @cached_property
    def _batches(self) -> Any:
        return DataLoader(self._make(), BATCH, shuffle=True, num_workers=self._workers, persistent_workers=True)

    def _images(self, batch: Any) -> Tensor:
        if isinstance(batch, dict):
            return batch["image"]
        return batch if isinstance(batch, torch.Tensor) else batch[0]


# --- measuring ------------------------------------------------------------------------------------


def measured(peers: list[Ours | Loader], images: int, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Images a second, of each round."""
    speeds: dict[str, dict[str, list[float]]] = {peer.name: {"first": [], "following": []} for peer in peers}
    for turn in range(rounds):
        order = np.random.default_rng(turn).permutation(images)
        for peer in peers:
            for kind, work in (("first", peer.first), ("following", partial(peer.following, order))):
                began = time.perf_counter()
                done = work()
                speeds[peer.name][kind].append(images / (time.perf_counter() - began))
                assert done == images, f"{peer.name} gave {done} of {images} images"
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=256, help="of the files, in pixels")
    parser.add_argument("--size", type=int, default=64, help="that they are brought to")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="where the figures go, as JSON")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.workers])
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="reading-benchmark-", ignore_cleanup_errors=True) as scratch:
        place = Path(scratch)
        os.environ |= {"IMAGEN_WORKBENCH_CACHE": str(place / "cache"), "HF_HOME": str(place / "hf")}
        os.environ |= {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        files = write(place, options.images, options.side)
        size, workers = options.size, options.workers
        peers: list[Ours | Loader] = [
            Ours("folder", "image-folder", files["folder"], size, place / "cache"),
            Ours("tar shards", "webdataset", files["shards"], size, place / "cache"),
        ]
        if "parquet" in files:
            peers += [
                Ours("parquet", "hugging-face", files["parquet"], size, place / "cache"),
                Loader(
                    "Hugging Face datasets, parquet",
                    partial(hugging_face, files["parquet"], size, place / "hf datasets"),
                    workers,
                ),
            ]
        if imported("torchvision.datasets") is not None:
            peers.append(
                Loader("torchvision's ImageFolder", partial(torchvision_folder, files["folder"], size), workers)
            )
        peers.append(Loader("a plain folder with Pillow", partial(plain, files["folder"], size), workers))
        speeds = measured(peers, options.images, options.rounds)
    print(
        f"{options.images:,} JPEG files of {options.side} px → {size} px, {workers} workers, median of {options.rounds}"
    )
    print(f"{'images/s':36}{'first pass':>12}{'following':>12}")
    for name, each in speeds.items():
        first, following = (statistics.median(each[kind]) for kind in ("first", "following"))
        print(f"{name:36}{first:12,.0f}{following:12,.0f}")
    if options.out:
        facts = {key: value for key, value in vars(options).items() if key != "out"}
        told = {"machine": this_machine(), **facts, "speeds": speeds}
        options.out.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
