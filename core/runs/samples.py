"""Rows of fixed-seed samples in a run folder: `samples/<step>.png`, images side by side without gaps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from .picture import grid, save_png

if TYPE_CHECKING:
    from pathlib import Path


def write_row(run: Path, step: int, images: np.ndarray, recipe: dict[str, Any]) -> Path:
    """images: [n h w c] uint8 → the file it was written to."""
    path = run / "samples" / f"{step:08d}.png"
    save_png(path, grid(images, columns=len(images), gap=0), recipe)
    return path


def read_rows(run: Path, size: tuple[int, int]) -> tuple[tuple[int, np.ndarray], ...]:
    """(step, images [n h w c]) of all rows, in order; a file that cannot be read is left out."""
    rows = []
    for path in sorted((run / "samples").glob("[0-9]*.png")):
        try:
            with Image.open(path) as image:
                sheet = np.asarray(image)
        except (OSError, SyntaxError, ValueError):
            continue
        sheet = sheet[..., None] if sheet.ndim == 2 else sheet
        height, width = size
        if sheet.shape[0] != height or sheet.shape[1] % width:
            continue
        rows.append((int(path.stem), np.stack(np.split(sheet, sheet.shape[1] // width, axis=1))))
    return tuple(rows)
