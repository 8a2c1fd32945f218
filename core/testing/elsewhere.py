"""The other process of `DatasetContract`: JSON comes in, JSON goes out. Without torch, so that it is there at once."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from ..data.source import Stream
from ..errors import DataError
from ..recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..data.source import Example, Source

START = "import sys; sys.path[:] = sys.argv[1:]; from imagen_workbench.core.testing.elsewhere import main; main()"


def main() -> None:
    """Makes the source that standard input describes, and tells the digests of its examples."""
    asked, told = json.load(sys.stdin), answers()
    kind: Any = _module(asked["module"], asked["file"])
    for part in asked["name"].split("."):
        kind = getattr(kind, part)
    source: Source | Stream = kind(
        Recipe.of({"data": asked["settings"]}).data, kind.Options.model_validate(asked["options"])
    )
    indices = asked["indices"]
    if isinstance(source, Stream):
        examples = [example for _, example in islice(source.examples(None), len(indices))]
    else:
        examples = [source[index] for index in indices]
    digests = [example_digest(example) for example in examples]
    json.dump({"digests": digests, "fingerprint": source.fingerprint()}, told)
    told.close()


def answers() -> TextIO:
    """Standard output, for us alone: what a plugin prints from now on goes where errors go."""
    told = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return told


def elsewhere(source: Source | Stream, indices: Sequence[int]) -> dict[str, Any]:
    """What another process tells of these examples: their "indices" again, "digests", and the "fingerprint"."""
    asked = {
        "module": type(source).__module__,
        "name": type(source).__qualname__,
        "file": getattr(sys.modules.get(type(source).__module__), "__file__", "") or "",
        "settings": source.settings.model_dump(mode="json"),
        "options": source.options.model_dump(mode="json"),
        "indices": list(indices),
    }
    answer = subprocess.run(  # noqa: S603 - this very interpreter
        [sys.executable, "-P", "-c", START, *sys.path],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"in another process: {answer.stderr}"
    return {"indices": list(indices), **json.loads(answer.stdout)}


def _module(name: str, file: str) -> Any:
    """By name; by its file where the name is one that only the tests' runner knows."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        spec = importlib.util.spec_from_file_location(name, file)
        if spec is None or spec.loader is None:
            raise
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module


def example_digest(example: Example | DataError) -> str:
    """SHA-256 over everything an example holds, or over what is said in its place."""
    digest = hashlib.sha256()
    if isinstance(example, DataError):
        digest.update(str(example).encode())
        return digest.hexdigest()
    for image in (example.image, example.low_resolution, example.mask):
        _take(digest, image)
    told = (example.label, example.name, example.caption, sorted(example.attributes.items()))
    digest.update(f"|{told!r}".encode())
    return digest.hexdigest()


def _take(digest: hashlib._Hash, image: Any) -> None:
    if image is None:
        digest.update(b"|none")
    elif isinstance(image, np.ndarray):
        digest.update(f"{image.dtype}|{image.shape}|".encode() + np.ascontiguousarray(image).tobytes())
    elif hasattr(image, "tobytes"):
        digest.update(f"{image.mode}|{image.size}|".encode() + image.tobytes())
    else:
        digest.update(image.read_bytes())
