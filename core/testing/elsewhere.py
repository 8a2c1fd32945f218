"""The other process of `DatasetContract.test_same_bytes_in_another_process`: JSON comes in, JSON goes out."""

from __future__ import annotations

import importlib
import json
import sys

from .contracts import example_digest, remade


def main() -> None:
    """Makes the source that standard input describes, and tells the digests of its examples."""
    asked = json.load(sys.stdin)
    kind = importlib.import_module(asked["module"])
    for part in asked["name"].split("."):
        kind = getattr(kind, part)
    source = remade(kind, asked["settings"], asked["options"])  # type: ignore[arg-type]
    digests = [example_digest(source[index]) for index in asked["indices"]]
    json.dump({"digests": digests, "fingerprint": source.fingerprint()}, sys.stdout)
