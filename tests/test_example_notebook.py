"""The example notebook, run as a person runs it: every cell, in a kernel of its own, without a network."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

NOTEBOOK = Path(__file__).parent.parent / "examples" / "plugin.ipynb"
DOCS = NOTEBOOK.parent.parent / "docs" / "plugins.md"
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
"""Nobody answers there."""


def test_it_is_linked_to_and_kept_without_what_it_gave_here() -> None:
    import nbformat

    assert "(../examples/plugin.ipynb)" in DOCS.read_text(encoding="utf-8")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert all(not cell.get("outputs") for cell in notebook.cells)


@pytest.mark.slow
def test_every_cell_runs_and_shows_what_it_says(homes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbformat

    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for name, place in OFFLINE.items():
        monkeypatch.setenv(name, place)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the client's own libraries
        from nbclient import NotebookClient

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        NotebookClient(notebook, timeout=240, kernel_name="python3", resources=at(tmp_path)).execute()
    shown = list(outputs(notebook))
    said = "".join(str(each.get("text", "")) for each in shown)
    assert "Allowed:" in said
    assert "✗" not in said
    assert "hold." in said
    pictures = [each for each in shown if "image/png" in each.get("data", {})]
    assert len(pictures) == 2, "of the data, and of the model"
    assert (homes / "home" / "plugins" / "rings.py").is_file()
    assert list((homes / "home" / "runs").glob("rings-*/checkpoints/00000300"))


def at(folder: Path) -> dict[str, Any]:
    return {"metadata": {"path": str(folder)}}


def outputs(notebook: Any) -> Iterator[dict[str, Any]]:
    for cell in notebook.cells:
        yield from cell.get("outputs", [])
