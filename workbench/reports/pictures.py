"""Pictures for reports and files: labelled grids and film strips, as pixel arrays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Sequence

PAPER, INK, QUIET, WARNING = (251, 251, 252), (29, 31, 35), (99, 103, 111), (184, 70, 0)


def labelled_grid(images: np.ndarray, row_labels: Sequence[str], columns: int, scale: int = 2) -> np.ndarray:
    """[n h w c] uint8 in rows of `columns`, each row with its label before it → [H W 3]."""
    font = _font(13)
    n, h, w, _ = images.shape
    rows = -(-n // columns)
    gap, edge = 4, 12
    left = edge + max(round(font.getlength(label)) for label in row_labels) + 10 if row_labels else edge
    sheet = Image.new(
        "RGB", (left + columns * (w * scale + gap) - gap + edge, rows * (h * scale + gap) - gap + 2 * edge), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for row in range(rows):
        top = edge + row * (h * scale + gap)
        if row < len(row_labels):
            pen.text((left - 10, top + h * scale / 2), row_labels[row], INK, font, anchor="rm")
        for column, image in enumerate(images[row * columns : (row + 1) * columns]):
            sheet.paste(_scaled(image, scale), (left + column * (w * scale + gap), top))
    return np.asarray(sheet)


def captioned_grid(
    images: np.ndarray, captions: Sequence[str], marked: Sequence[bool], columns: int = 10, scale: int = 2
) -> np.ndarray:
    """[n h w c] uint8 in rows of `columns`, each image over its caption; marked ones in a warning colour → [H W 3]."""
    font = _font(11)
    n, h, w, _ = images.shape
    rows, gap, edge, foot = -(-n // columns), 6, 12, 16
    pitch = max(w * scale, *(round(font.getlength(caption)) for caption in captions), 0) + gap
    sheet = Image.new(
        "RGB", (2 * edge + columns * pitch - gap, 2 * edge + rows * (h * scale + foot + gap) - gap), PAPER
    )
    pen = ImageDraw.Draw(sheet)
    for k, (image, caption, mark) in enumerate(zip(images, captions, marked, strict=True)):
        left, top = edge + (k % columns) * pitch, edge + (k // columns) * (h * scale + foot + gap)
        sheet.paste(_scaled(image, scale), (left, top))
        pen.text((left, top + h * scale + foot / 2), caption, WARNING if mark else QUIET, font, anchor="lm")
    return np.asarray(sheet)


def film_strip(x: np.ndarray, x0: np.ndarray, sigmas: Sequence[float], scale: int = 2, most: int = 12) -> np.ndarray:
    """One image's way: x, x0 [s h w c] uint8 at sigmas [s] → [H W 3], x_t above, x̂_0 below, sigma under both."""
    shown = np.unique(np.linspace(0, len(sigmas) - 1, min(most, len(sigmas))).round().astype(int))
    font, small = _font(13), _font(11)
    _, h, w, _ = x.shape
    gap, edge, left = 6, 12, 44
    width, height = left + len(shown) * (w * scale + gap) - gap + edge, 2 * (h * scale + gap) + 2 * edge + 14
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    for row, (name, frames) in enumerate((("x_t", x), ("^x_0", x0))):
        top = edge + row * (h * scale + gap)
        _with_subscript(pen, (edge, top + h * scale / 2), name, font, small)
        for column, index in enumerate(shown):
            sheet.paste(_scaled(frames[index], scale), (left + column * (w * scale + gap), top))
    foot = edge + 2 * (h * scale + gap) + 6
    pen.text((edge, foot), "σ", QUIET, font, anchor="lm")
    for column, index in enumerate(shown):
        middle = left + column * (w * scale + gap) + w * scale / 2
        pen.text((middle, foot), f"{sigmas[index]:.3g}", QUIET, small, anchor="mm")
    return np.asarray(sheet)


def _with_subscript(
    pen: ImageDraw.ImageDraw,
    at: tuple[float, float],
    name: str,
    font: ImageFont.FreeTypeFont,
    small: ImageFont.FreeTypeFont,
) -> None:
    """`x_t` or, with a hat, `^x_0`; `at` is its left middle."""
    letter, _, below = name.removeprefix("^").partition("_")
    left, middle = at
    pen.text(at, letter, INK, font, anchor="lm")
    width = font.getlength(letter)
    if name.startswith("^"):
        top = middle - 7
        pen.line([(left + 1, top + 2), (left + width / 2, top), (left + width - 1, top + 2)], INK, 1)
    pen.text((left + width, middle + 4), below, INK, small, anchor="lm")


def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along: it has the Greek letters."""
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _scaled(pixels: np.ndarray, scale: int) -> Image.Image:
    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).convert("RGB")
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
