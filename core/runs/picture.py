"""PNG files that carry the recipe of their draw."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, PngImagePlugin

from ..errors import ModelError
from .files import write_atomically

if TYPE_CHECKING:
    from pathlib import Path

CHUNK = "imagen-workbench"
GAP = 2


def to_image(pixels: np.ndarray) -> Image.Image:
    """[h w c] uint8 with 1, 3 or 4 channels → a PIL image (L, RGB, RGBA)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def grid(images: np.ndarray, columns: int = 0, gap: int = GAP, background: int = 32) -> np.ndarray:
    """[n h w c] → one [H W c] array, in rows of `columns` (0: nearly square), parted by `gap` pixels."""
    n, h, w, c = images.shape
    columns = min(columns or int(np.ceil(np.sqrt(n))), n)
    rows = -(-n // columns)
    sheet = np.full((rows * (h + gap) + gap, columns * (w + gap) + gap, c), background, np.uint8)
    if c == 4:
        sheet[..., 3] = 255
    for k, image in enumerate(images):
        top, left = gap + (k // columns) * (h + gap), gap + (k % columns) * (w + gap)
        sheet[top : top + h, left : left + w] = image
    return sheet


FRAME_MS, LAST_MS = 120, 2000
"""How long a film shows each step, and its end."""
FILM_SIDE = 96
"""Small images are enlarged in a film until their shorter side has this many pixels."""


def film_bytes(x: np.ndarray, x0: np.ndarray, columns: int = 0) -> bytes:
    """[s n h w c] uint8 of x_t and of x̂_0 over the steps → the bytes of an animated GIF, one beside the other."""
    scale = max(1, FILM_SIDE // min(x.shape[2:4]))
    frames = []
    for left, right in zip(x, x0, strict=True):
        sheets = [grid(images, columns) for images in (left, right)]
        frame = to_image(np.concatenate(sheets, axis=1))
        frames.append(
            frame.convert("RGB").resize((frame.width * scale, frame.height * scale), Image.Resampling.NEAREST)
        )
    times = [FRAME_MS] * (len(frames) - 1) + [LAST_MS]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=times, loop=0)
    return buffer.getvalue()


def png_bytes(pixels: np.ndarray, recipe: dict[str, Any]) -> bytes:
    """[h w c] uint8 and the recipe of the draw → the bytes of a PNG that carries it (iTXt)."""
    info = PngImagePlugin.PngInfo()
    info.add_itxt(CHUNK, json.dumps(recipe, ensure_ascii=False))
    buffer = io.BytesIO()
    to_image(pixels).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


def save_png(path: Path, pixels: np.ndarray, recipe: dict[str, Any]) -> None:
    """Writes a PNG with its recipe, atomically."""
    write_atomically(path, png_bytes(pixels, recipe))


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe that a PNG of ours carries.

    Raises ModelError where the file is no image or carries none.
    """
    try:
        with Image.open(path) as image:
            image.load()
            text = image.info.get(CHUNK, "")
    except (OSError, SyntaxError, ValueError) as error:
        raise ModelError(f"cannot be read as a PNG: {error}", file=path) from error
    try:
        recipe = json.loads(text) if text else None
    except ValueError:
        recipe = None
    if not isinstance(recipe, dict):
        raise ModelError(
            "carries no recipe", file=path, fix="Only PNG files drawn by Imagen Workbench can be drawn again"
        )
    return recipe
