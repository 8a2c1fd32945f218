"""How quick the notebook's panel is, and what it costs, in a real JupyterLab and Chromium.

    python benchmarks/panel.py [--out FILE] [--quick]

preview  milliseconds from a move of the guidance slider in the page until the page has painted the network's own
         first output of the new draw; both ends are read from the page's own clock
speed    training steps for each second of the kernel process's CPU time: with the panel open, on its Train tab, in a
         page that is shown, against `core.train` in the same kernel without a panel; in pairs, each order in turn

Server, browser and kernel share this machine's cores: measure on one that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from jupyter_lab import Notebook, browser, lab, open_notebook

if TYPE_CHECKING:
    from collections.abc import Sequence

MOVES, PAIRS, STEPS = 20, 5, 150
OPEN = "from imagen_workbench.workbench import Panel\npanel = Panel()\npanel"
IDLE = """() => document.querySelector('.iw-draw .iw-facts')?.textContent.includes('network calls')
    && ![...document.querySelectorAll('.iw-draw .iw-actions .iw-button')].some((button) => button.disabled)"""
MOVE = """(at) => new Promise((resolve) => {
    const canvas = document.querySelector('.iw-draw .iw-images canvas');
    const slider = document.querySelector("[data-key='guidance'] input[type=range]");
    new MutationObserver((_, watch) => {
        const painted = performance.now();
        watch.disconnect();
        resolve(painted - began);
    }).observe(canvas, { attributes: true, attributeFilter: ['data-frame'] });
    slider.value = at;
    const began = performance.now();
    slider.dispatchEvent(new Event('input'));
})"""
TRAINING = """
import threading, time
from imagen_workbench.core import Recipe, train
from imagen_workbench.core.events import Phase
from imagen_workbench.core.extensions import bundled_recipes
from imagen_workbench.core.runs.folder import new_run_path
recipe = Recipe.read(bundled_recipes()["digits"]).with_values({steps})
train(recipe.with_values({{"training.steps": 2}}))  # the data is decoded, torch is warm

def headless():
    began = time.process_time()
    train(recipe)
    print(recipe.training.steps / (time.process_time() - began))

def watched():
    done = threading.Event()
    def look(state):
        if state.finished and state.phase is Phase.IDLE:
            done.set()
    panel.bench.training.changed.connect(look)
    began = time.process_time()
    panel.bench.ui.post(panel.bench.training.start)
    done.wait()
    print(recipe.training.steps / (time.process_time() - began))
    panel.bench.training.changed.disconnect(look)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few repetitions, figures without worth")
    chosen = parser.parse_args()
    moves, pairs, steps = (3, 1, 6) if chosen.quick else (MOVES, PAIRS, STEPS)
    figures: dict[str, Any] = {
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "versions": {name: metadata.version(name) for name in ("torch", "ipykernel", "ipywidgets", "jupyterlab")},
    }
    with tempfile.TemporaryDirectory() as home:
        places = {f"IMAGEN_WORKBENCH_{name}": f"{home}/{name.lower()}" for name in ("HOME", "CACHE")}
        with lab(environment=places) as server, browser() as chromium:
            notebook = open_notebook(server, chromium, [OPEN], height=1000)
            notebook.run(0)
            figures["preview"] = preview(notebook, moves)
            print(f"preview  {figures['preview']['median']:.0f} ms median, {figures['preview']['p95']:.0f} ms p95")
            figures["speed"] = speed(notebook, pairs, steps)
            print(f"speed    {figures['speed']['share']:+.1%} of steps per CPU second, median of {pairs} pairs")
            notebook.close()
    if chosen.out:
        chosen.out.write_text(json.dumps(figures, indent=1) + "\n")


def preview(notebook: Notebook, moves: int) -> dict[str, Any]:
    """Milliseconds from the slider's move to the first preview that is painted."""
    took = []
    for move in range(moves):
        notebook.page.wait_for_function(IDLE)
        notebook.page.wait_for_timeout(300)  # until what the last draw brought is painted, too
        took.append(notebook.page.evaluate(MOVE, 20 + 7 * move))
    return {"ms": took, "median": statistics.median(took), "p95": quantile(took, 0.95)}


def speed(notebook: Notebook, pairs: int, steps: int) -> dict[str, Any]:
    """Steps for each second of the kernel's CPU time, in pairs of (headless, with the panel)."""
    values = {"training.steps": steps}
    notebook.execute(TRAINING.format(steps=values))
    page = notebook.page
    page.locator(".iw-tabs button", has_text="Train").click()
    page.wait_for_selector(".iw-train [data-key='training.steps']")
    field = page.locator("[data-key='training.steps'] input")
    field.fill(str(steps))
    field.press("Enter")
    page.wait_for_timeout(1000)
    measured = []
    for pair in range(pairs):
        ways = ("headless", "watched") if pair % 2 == 0 else ("watched", "headless")
        got = {way: float(notebook.execute(f"{way}()")) for way in ways}
        measured.append((got["headless"], got["watched"]))
        print(f"         {got['headless']:.2f} headless, {got['watched']:.2f} with the panel", flush=True)
    return {"pairs": measured, "share": statistics.median(watched / headless - 1 for headless, watched in measured)}


def quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share of them does not exceed."""
    return sorted(values)[min(len(values) - 1, round(share * len(values)) - 1)]


if __name__ == "__main__":
    main()
