"""Folders of images for tests, and what a recipe makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from imagen_workbench.core.data.cache import prepare
from imagen_workbench.core.data.source import Facts
from imagen_workbench.core.extensions import make_scheme, make_source
from imagen_workbench.core.generators import finish
from imagen_workbench.core.recipe import Data, Recipe

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.data.cache import Dataset


def settings(**values: Any) -> Data:
    return Recipe.of({"data": {"size": [8, 8], "channels": 3, **values}}).data


def folder_recipe(path: Path, **values: Any) -> Recipe:
    """An image folder, unconditional unless told otherwise."""
    tables: dict[str, Any] = {
        "data": {"source": "image-folder", "path": str(path), "size": [8, 8], "channels": 3, "validation": 1},
        "conditioning": {"scheme": "none"},
        "model": {"width": 8, "multipliers": [1], "blocks": [1], "attention": [], "stem": 2},
        "training": {"steps": 2, "batch": 4, "micro_batch": 4, "checkpoint_every": 2, "device": "cpu"},
        "sampling": {"steps": 2},
    }
    return Recipe.of(tables).with_values(values)


def prepared(recipe: Recipe) -> Dataset:
    source = make_source(recipe)
    return finish(prepare(source, make_scheme(recipe, Facts(source.classes)), recipe.data))


def plain(colour: tuple[int, int, int] | int, size: tuple[int, int] = (8, 8)) -> Image.Image:
    return Image.new("L" if isinstance(colour, int) else "RGB", size, colour)


def some_images(folder: Path, count: int = 6) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        plain((20 * k, 255 - 20 * k, 77)).save(folder / f"{k}.png")
    return folder


def damaged_files(folder: Path) -> dict[str, str]:
    """Files that are no images, by name, with a word of the reason that should be given."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in ("png", "jpg", "webp", "gif"):
        noise.save(folder / f"whole.{suffix}")
        content = (folder / f"whole.{suffix}").read_bytes()
        (folder / f"cut.{suffix}").write_bytes(content[: len(content) // 2])
        (folder / f"whole.{suffix}").unlink()
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("I am no picture")
    (folder / "header.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return {
        "cut.png": "",
        "cut.jpg": "",
        "cut.webp": "",
        "cut.gif": "",
        "empty.png": "empty",
        "text.png": "not an image",
        "header.png": "",
    }
