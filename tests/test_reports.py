"""The demo and its report, on a tiny recipe: the files are there, the page stands alone, pictures carry recipes."""

from __future__ import annotations

import base64
import io
import re
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image
from rich.console import Console

from imagen_workbench.core.models import open_model
from imagen_workbench.core.runs.folder import Run
from imagen_workbench.core.runs.picture import read_recipe
from imagen_workbench.workbench.reports.page import Part, page
from imagen_workbench.workbench.reports.pictures import film_strip, labelled_grid
from imagen_workbench.workbench.reports.run_report import copies_words, write_report
from imagen_workbench.workbench.training_in_terminal import demo_here

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.core.recipe import Recipe


@pytest.fixture
def words() -> io.StringIO:
    return io.StringIO()


def console(words: io.StringIO) -> Console:
    return Console(file=words, width=160)


def test_the_demo_trains_draws_and_reports(tiny_recipe: Recipe, tmp_path: Path, words: io.StringIO) -> None:
    folder = tmp_path / "demo"
    assert demo_here(console(words), tiny_recipe, folder) == 0
    for name in ("grid.png", "film.png", "loss.png", "report.html", "recipe.toml"):
        assert (folder / name).stat().st_size > 0
    started = Run(folder).records()[0]
    assert (started["kind"], started["weights"]) == ("started", "random")

    text = (folder / "report.html").read_text(encoding="utf-8")
    assert "http" not in re.sub(r"data:image/png;base64,[^\"]+", "", text)
    assert "<script" not in text
    pictures = [base64.b64decode(found) for found in re.findall(r"data:image/png;base64,([^\"]+)", text)]
    carried = [Image.open(io.BytesIO(picture)).info.get("imagen-workbench") for picture in pictures]
    assert sum(found is not None for found in carried) == 3

    again = demo_here(console(words), tiny_recipe, folder)
    assert again == 0
    assert (tmp_path / "demo-2" / "report.html").exists()
    assert "stays as it is" in words.getvalue()


def test_the_grid_is_drawn_again_from_its_recipe(copied_run: Run) -> None:
    report = write_report(copied_run)
    carried = read_recipe(report.grid)
    assert carried["conditions"] == [str(digit) for digit in range(10) for _ in range(10)]
    again = open_model(report.grid).draw_again()
    assert np.array_equal(again.arrays, report.drawing.arrays)


def test_the_film_strip_is_drawn_again_from_its_recipe(copied_run: Run) -> None:
    report = write_report(copied_run)
    strip = open_model(report.film).draw_again()
    assert strip.conditions == ("7",)
    assert len(strip.images) == 1


def test_copies_are_told_with_their_baseline(copied_run: Run) -> None:
    report = write_report(copied_run)
    assert report.copies is not None
    told = copies_words(report.copies)
    assert "held-out" in told
    assert "by chance 5%" in told


def test_a_labelled_grid_holds_every_image_where_it_belongs() -> None:
    images = np.arange(6, dtype=np.uint8).reshape(6, 1, 1, 1).repeat(4, 1).repeat(4, 2) * 40
    sheet = labelled_grid(images, ("a", "b"), columns=3, scale=2)
    found = [int(value) for value in np.unique(sheet[..., 0]) if (sheet[..., 0] == value).sum() >= 64]
    for tone in (0, 40, 80, 120, 160, 200):
        assert tone in found


def test_a_film_strip_thins_long_paths() -> None:
    x = np.zeros((40, 4, 4, 1), np.uint8)
    sheet = film_strip(x, x, tuple(np.geomspace(80, 0.01, 40)), scale=2, most=6)
    assert sheet.shape[1] < 44 + 7 * 14 + 12


def test_text_is_escaped() -> None:
    assert "<b>" not in page("<b>", "<b>", [Part("<b>", "<b>", rows=(("<b>", "<b>"),), code="<b>")])
