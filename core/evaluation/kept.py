"""The classifier of a set of images, kept in the user's cache: the same to the last bit as one that is trained anew.

A folder `classifiers/<key>/` holds `weights.safetensors` and `index.json`, which tells what it was trained on, how,
and the weights' SHA-256; the key is a hash of the first two. A damaged one is trained anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any

import safetensors.torch
import torch
from safetensors import SafetensorError

from ..data.entries import classifier_folder
from ..data.store import read_index, write_index
from ..errors import DataError
from ..machine import environment_now
from ..runs.files import folder_atomically, remove_folder
from .classify import Classifier, classifier_recipe, train_classifier
from .images import StoredImages

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    import numpy as np

    from ..data.cache import Dataset
    from .turns import Turn

FORMAT = 1
"""Rises when training makes something else of the same recipe, or it is kept otherwise."""
WEIGHTS = "weights.safetensors"


def classifier_of(
    data: Dataset, which: np.ndarray, device: torch.device, *, epochs: int | None = None, seed: int = 0
) -> Generator[Turn, None, Classifier]:
    """The kept classifier of those images of a dataset that `which` [n] points to, or one that is trained and kept.

    All of them have a class. A cache that cannot be written is no reason to fail.
    """
    about = _about(data, which, device, classifier_recipe(epochs, seed))
    folder = classifier_folder() / hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:32]
    network = _read(folder, about)
    if network is not None:
        return network.to(device).eval()
    images, labels = StoredImages(data, which), data.labels[which]
    network = yield from train_classifier(images, labels, len(data.classes), epochs=epochs, seed=seed, device=device)
    with contextlib.suppress(OSError):
        _write(folder, network, about)
    return network


def _about(data: Dataset, which: np.ndarray, device: torch.device, recipe: dict[str, Any]) -> dict[str, Any]:
    """All that the weights depend on: images and labels in their order, the recipe, and this machine."""
    digest = hashlib.sha256(data.hashes[which].tobytes())
    digest.update(data.labels[which].astype("<i8").tobytes())
    now = environment_now(device, None)
    return {
        "format": FORMAT,
        "digest": digest.hexdigest(),
        "shape": [len(which), *data.image_shape],
        "dtype": str(data.pixels.dtype),
        "classes": len(data.classes),
        "recipe": recipe,
        "machine": {key: now[key] for key in ("machine", "device", "device_name", "threads")},
        "processor": torch.backends.cpu.get_cpu_capability(),
        "versions": {name: now["versions"][name] for name in ("torch", "numpy")},
    }


def _read(folder: Path, about: dict[str, Any]) -> Classifier | None:
    """None where there is none, or it is damaged."""
    try:
        kept = read_index(folder)["weights"]
        content = (folder / WEIGHTS).read_bytes()
        if hashlib.sha256(content).hexdigest() != kept:
            return None
        _, channels, height, width = about["shape"]
        network = Classifier(channels, (height, width), about["classes"])
        network.load_state_dict(safetensors.torch.load(content))
    except (DataError, OSError, SafetensorError, KeyError, TypeError, ValueError, RuntimeError):
        return None
    with contextlib.suppress(OSError):
        os.utime(folder / "index.json")  # when it was last used
    return network


def _write(folder: Path, network: Classifier, about: dict[str, Any]) -> None:
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    content = safetensors.torch.save(tensors)
    remove_folder(folder)
    with folder_atomically(folder) as unfinished:
        (unfinished / WEIGHTS).write_bytes(content)
        write_index(unfinished, about | {"weights": hashlib.sha256(content).hexdigest()})
