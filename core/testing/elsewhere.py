"""The other process of `DatasetContract`: JSON comes in, JSON goes out. Without torch, so that it is there at once."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..recipe import Recipe

if TYPE_CHECKING:
    from ..data.source import Example, Source


def main() -> None:
    """Makes the source that standard input describes, and tells the digests of its examples."""
    asked = json.load(sys.stdin)
    kind: Any = importlib.import_module(asked["module"])
    for part in asked["name"].split("."):
        kind = getattr(kind, part)
    source: Source = kind(Recipe.of({"data": asked["settings"]}).data, kind.Options.model_validate(asked["options"]))
    digests = [example_digest(source[index]) for index in asked["indices"]]
    json.dump({"digests": digests, "fingerprint": source.fingerprint()}, sys.stdout)


def example_digest(example: Example) -> str:
    """SHA-256 over everything an example holds."""
    digest = hashlib.sha256()
    image: Any = example.image
    if isinstance(image, np.ndarray):
        digest.update(f"{image.dtype}|{image.shape}|".encode() + np.ascontiguousarray(image).tobytes())
    elif hasattr(image, "tobytes"):
        digest.update(f"{image.mode}|{image.size}|".encode() + image.tobytes())
    else:
        digest.update(image.read_bytes())
    digest.update(f"|{example.label}|{example.name}|{sorted(example.fields.items())!r}".encode())
    return digest.hexdigest()
