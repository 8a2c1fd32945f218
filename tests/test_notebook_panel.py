"""The panel in a real JupyterLab, in a real Chromium, over the real engine."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from jupyter_lab import CHROMIUM, Notebook, Server, browser, lab, open_notebook
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Locator

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"Chromium is missing: there is no {CHROMIUM}"),
]

OPEN = "from imagen_workbench.workbench import Panel\npanel = Panel()\npanel"
DRAWN = "() => document.querySelector('.iw-draw .iw-facts')?.textContent.includes('network calls')"
PIXELS = "() => document.querySelector('.iw-draw .iw-images canvas').toDataURL()"
OTHER_PIXELS = "(before) => document.querySelector('.iw-draw .iw-images canvas').toDataURL() !== before"
STATUS = "(text) => new RegExp(text).test(document.querySelector('.iw-status').textContent)"
BUSY = """
n, phase = 0, panel.bench.training.state.phase
while panel.bench.training.state.phase == phase:
    n += 1
print("done")"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    place = tmp_path_factory.mktemp("panel")
    homes = {f"IMAGEN_WORKBENCH_{name}": str(place / name.lower()) for name in ("HOME", "CACHE")}
    with lab(environment=homes) as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def notebook(server: Server, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    opened = open_notebook(server, chromium, [OPEN], name=f"{request.node.name}.ipynb", height=1000)
    opened.run(0)
    opened.page.wait_for_function(DRAWN)
    yield opened
    opened.close()


def row(notebook: Notebook, key: str) -> Locator:
    return notebook.page.locator(f".iw-row[data-key='{key}']")


def write(notebook: Notebook, key: str, text: str) -> None:
    field = row(notebook, key).locator("input[type=text]")
    field.fill(text)
    field.press("Enter")


def button(notebook: Notebook, name: str) -> Locator:
    return notebook.page.locator(".iw-button").and_(notebook.page.get_by_role("button", name=name, exact=True))


def step_now(notebook: Notebook) -> int:
    found = re.search(r"step ([\d,]+)", notebook.page.locator(".iw-status").inner_text())
    assert found
    return int(found[1].replace(",", ""))


def press(notebook: Notebook, name: str) -> None:
    button(notebook, name).click()


def test_draw_with_sliders_fields_and_keys(notebook: Notebook, tmp_path: Path) -> None:
    page = notebook.page
    assert notebook.execute("print(len(panel.samples), panel.samples[7].size, panel.arrays.shape)").strip() == (
        "8 (28, 28) (8, 1, 28, 28)"
    )
    assert page.locator(".iw-note-line").inner_text() == "", "nothing is wrong with this kernel"

    before = page.evaluate(PIXELS)
    slider = row(notebook, "guidance").locator("input[type=range]")
    field = row(notebook, "guidance").locator("input[type=text]")
    started = float(field.input_value())
    slider.press("ArrowRight")
    page.wait_for_function(OTHER_PIXELS, arg=before)
    assert float(field.input_value()) == pytest.approx(started + 0.05)

    before = page.evaluate(PIXELS)
    box = slider.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.9, box["y"] + box["height"] / 2, steps=12)
    page.mouse.up()
    page.wait_for_function(OTHER_PIXELS, arg=before)
    dragged = float(field.input_value())
    assert dragged > 6
    page.wait_for_function("() => !document.querySelector('.iw-draw .iw-actions button:disabled')")
    assert float(notebook.execute("print(panel.bench.drawing.state.drawn.recipe['sampling']['guidance'])")) == dragged
    assert float(field.input_value()) == dragged, "no older value comes back"

    slider.dblclick()
    page.wait_for_function(
        "(at) => document.querySelector('[data-key=guidance] input[type=text]').value === at", arg=f"{started:.2f}"
    )
    field.press("ArrowUp")
    assert float(field.input_value()) == pytest.approx(started + 0.05)

    button(notebook, "Draw").focus()
    before_frame = page.get_attribute(".iw-draw .iw-images canvas", "data-frame")
    page.keyboard.press("Enter")  # the notebook's own, were it not for the panel
    page.wait_for_function(
        "(at) => document.querySelector('.iw-draw .iw-images canvas').dataset.frame !== at", arg=before_frame
    )

    write(notebook, "guidance", "99")
    page.wait_for_function("() => document.querySelector('[data-key=guidance] .iw-error').textContent.includes('20')")
    assert button(notebook, "Draw").is_disabled()
    write(notebook, "guidance", "2")
    page.wait_for_function("() => !document.querySelector('[data-key=guidance] .iw-error').textContent")

    seed = row(notebook, "seed").locator("input")
    before_seed = seed.input_value()
    seed.select_text()
    button(notebook, "Roll another seed").dispatch_event("click")  # a new value arrives while another is begun
    page.wait_for_function("(at) => document.querySelector('[data-key=seed] input').value !== at", arg=before_seed)
    assert seed.evaluate("(it) => it.selectionEnd - it.selectionStart") == len(seed.input_value()), "still all marked"

    row(notebook, "condition").get_by_role("radio", name="7").click()
    page.wait_for_selector(".iw-chip[value='7'][aria-checked='true']")
    page.locator(".iw-draw .iw-images canvas").press("End")
    page.wait_for_function("() => document.querySelector('.iw-image-facts').textContent === 'No. 8 · condition 7'")

    press(notebook, "Save")
    target = tmp_path / "seven.png"
    write(notebook, "path", str(target))
    press(notebook, "Save picture")
    page.wait_for_function("() => document.querySelector('.iw-draw .iw-problem').textContent")
    assert page.locator(".iw-draw .iw-problem").inner_text() == f"Saved as {target}"
    with Image.open(target) as picture:
        assert "imagen-workbench" in picture.info

    # as bytes: Playwright would write a file on a thread that it leaves behind
    with Image.open(io.BytesIO(page.locator(".iw-panel").screenshot())) as shot:
        assert len(set(shot.convert("L").resize((64, 64)).tobytes())) > 20
    assert not [line for line in notebook.console if line.startswith(("error", "pageerror"))]


def test_train_while_cells_run(notebook: Notebook) -> None:
    page = notebook.page
    page.locator(".iw-tabs button", has_text="Train").click()
    row(notebook, "recipe").locator("select").select_option("tiny")
    page.wait_for_function("() => document.querySelector('[data-key=\"training.batch\"] input').value === '16'")
    write(notebook, "training.learning_rate", "0.2")
    page.wait_for_function(
        "() => document.querySelector('[data-key=\"training.learning_rate\"] .iw-error').textContent.includes('Try')"
    )
    assert button(notebook, "Start").is_disabled()
    press(notebook, "Undo")
    write(notebook, "training.steps", "4000")
    write(notebook, "training.preview_every", "20")
    page.wait_for_function("() => document.querySelector('[data-key=\"training.steps\"] input').value === '4,000'")
    press(notebook, "Start")
    page.wait_for_function(STATUS, arg=r"step \d+ of 4,000")

    steps = step_now(notebook)
    assert notebook.execute("print(sum(range(1_000_000)))").strip() == "499999500000"  # the next cell is not held up
    cell = notebook.add(BUSY)
    notebook.start(cell)
    page.wait_for_function(STATUS, arg="Training")
    for _ in range(3):  # it goes on beside the cell
        before = page.locator(".iw-status").inner_text()
        page.wait_for_function("(then) => document.querySelector('.iw-status').innerText !== then", arg=before)
    assert notebook.running(cell)
    assert step_now(notebook) > steps
    press(notebook, "Pause")  # nothing else ends the cell
    page.wait_for_function(STATUS, arg="Paused")
    assert notebook.wait(cell).strip() == "done"

    press(notebook, "Resume")
    page.wait_for_function(STATUS, arg="Training")
    page.wait_for_function("() => Number(document.querySelector('.iw-table canvas')?.dataset.steps) >= 2")
    page.wait_for_function("() => document.querySelector('.iw-curves canvas')?.dataset.frame")
    press(notebook, "Draw now")
    page.wait_for_function("() => document.querySelector('[data-key=model] select').value === 'live'")
    page.wait_for_selector(".iw-draw", state="visible")
    before = page.evaluate(PIXELS)
    write(notebook, "seed", "60")
    page.wait_for_function(OTHER_PIXELS, arg=before)
    page.wait_for_function(STATUS, arg="Training")

    page.locator(".iw-tabs button", has_text="Train").click()
    press(notebook, "Stop")
    page.wait_for_function(STATUS, arg="Ready")
    said = notebook.execute(
        "panel.close()\nimport threading\nprint([t.name for t in threading.enumerate() if 'workbench' in t.name])"
    )
    assert said.strip() == "[]"
    page.wait_for_selector(".iw-panel", state="detached")
    assert not [line for line in notebook.console if line.startswith(("error", "pageerror"))]
