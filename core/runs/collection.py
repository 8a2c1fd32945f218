"""A folder of single images that grows: a subfolder for each condition, and a manifest that lists them all."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any

from ..errors import RunError
from .files import write_atomically
from .picture import save_png

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np

COLUMNS = ("file", "index", "condition", "label")
FORBIDDEN = frozenset('/\\:*?"<>|')


class Collection:
    """`manifest.csv` names each image with its index, condition and label; `draw.json` says how all were drawn.

    An image is listed once it is there, so a collection that was interrupted goes on with the next one.
    Raises RunError where the folder holds other things.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = folder / "manifest.csv"
        self._recipe = folder / "draw.json"
        if folder.exists() and not self.manifest.exists() and any(folder.iterdir()):
            raise RunError("is not empty, and no folder of drawn images", file=folder, fix="Choose another folder")
        self._count = self._listed()

    def __len__(self) -> int:
        """Images that are there."""
        return self._count

    def add(self, images: np.ndarray, labels: Sequence[int], recipe: dict[str, Any]) -> None:
        """Writes the next images, [n h w c] uint8, each with its own recipe inside, and lists them.

        recipe: that of their draw, whose indices go on from those listed. Raises RunError where the ones that are
        there were drawn otherwise.
        """
        self._check(recipe)
        rows = io.StringIO()
        table = csv.writer(rows, lineterminator="\n")
        if not self._count:
            table.writerow(COLUMNS)
        for image, label, index, text in zip(images, labels, recipe["indices"], recipe["conditions"], strict=True):
            path = self.folder / folder_name(text) / f"{index:07d}.png"
            save_png(path, image, recipe | {"indices": [index], "conditions": [text]})
            table.writerow((path.relative_to(self.folder).as_posix(), index, text, label))
        with self.manifest.open("a", encoding="utf-8", newline="") as file:
            file.write(rows.getvalue())
        self._count += len(images)

    def _check(self, recipe: dict[str, Any]) -> None:
        """The first images say how all are drawn."""
        how = {key: recipe[key] for key in ("version", "model", "ema", "sampling")}
        how["model"] = {key: value for key, value in how["model"].items() if key != "reference"}
        if not self._count:
            write_atomically(self._recipe, json.dumps(how, ensure_ascii=False, indent=2))
            return
        try:
            before = json.loads(self._recipe.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise RunError("draw.json cannot be read", file=self.folder, fix="Choose another folder") from error
        if before != how:
            raise RunError(
                "its images were drawn from another model or with other settings",
                file=self.folder,
                fix="Choose another folder, or draw with the settings in its draw.json",
            )

    def _listed(self) -> int:
        """How many images the manifest lists; a line that was cut short is taken away."""
        if not self.manifest.exists():
            return 0
        text = self.manifest.read_bytes().decode("utf-8", "replace")
        whole = text[: text.rfind("\n") + 1]
        if whole != text:
            write_atomically(self.manifest, whole)
        try:
            return max(0, sum(1 for _ in csv.reader(io.StringIO(whole))) - 1)
        except csv.Error as error:
            raise RunError(
                f"cannot be read as a table: {error}", file=self.manifest, fix="Choose another folder"
            ) from error


def folder_name(condition: str) -> str:
    """A condition as a folder's name on every system; `all` where there is none."""
    kept = "".join("_" if char in FORBIDDEN or not char.isprintable() else char for char in condition)
    return kept.strip(" .")[:100] or "all"
