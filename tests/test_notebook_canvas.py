"""The canvas widgets: their confirmed frames alone, and all of it in a real JupyterLab."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from jupyter_lab import Notebook, Server, browser, lab, open_notebook

from imagen_workbench.workbench.notebook.canvas import FilmStrip, ImageCanvas, LossPlot, thin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Position

# ---- frames, with a page that the test plays ----------------------------------------------------------------


class Page:
    """Takes a widget's messages and confirms them when told."""

    def __init__(self, widget: ImageCanvas):
        self.widget, self.got, self.most = widget, [], 0
        widget.send = self.receive  # type: ignore[method-assign]

    def receive(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        self.got.append((content["frame"], buffers[0][0]))
        self.most = max(self.most, self.widget._sent - self.widget._confirmed)

    def say(self, **content: object) -> None:
        self.widget._on_message(self.widget, content, [])


def grey(value: int) -> np.ndarray:
    return np.full((2, 3, 3), value, np.uint8)


@pytest.fixture
def canvas() -> Iterator[ImageCanvas]:
    widget = ImageCanvas()
    yield widget
    widget.close()


def test_the_newest_frame_replaces_the_one_that_waits(canvas: ImageCanvas) -> None:
    page = Page(canvas)
    for value in range(10):
        canvas.show(grey(value))
    assert page.got == [(1, 0), (2, 1)]
    page.say(kind="painted", frame=1)
    assert page.got[2:] == [(3, 9)]
    page.say(kind="painted", frame=3)  # confirms the second, too
    assert canvas.frames == (3, 3)


def test_a_page_that_comes_later_gets_the_last_frame(canvas: ImageCanvas) -> None:
    page = Page(canvas)
    page.say(kind="hello")
    assert page.got == []
    for value in range(5):
        canvas.show(grey(value))
    page.say(kind="hello")
    assert page.got[-1] == (3, 4)
    page.say(kind="painted", frame=99)  # no such frame
    assert canvas.frames == (3, 3)


def test_many_threads_keep_order_and_limit(canvas: ImageCanvas) -> None:
    page = Page(canvas)
    stop = threading.Event()

    def show(value: int) -> None:
        for _ in range(200):
            canvas.show(grey(value))

    def confirm() -> None:
        while not stop.is_set():
            page.say(kind="painted", frame=canvas.frames[0])

    writers = [threading.Thread(target=show, args=(value,)) for value in range(4)]
    reader = threading.Thread(target=confirm)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert page.most <= 2
    assert [frame for frame, _ in page.got] == list(range(1, len(page.got) + 1))


def test_what_is_shown_must_be_images(canvas: ImageCanvas) -> None:
    with pytest.raises(ValueError, match="uint8"):
        canvas.show(np.zeros((2, 3, 3)))
    with pytest.raises(ValueError, match=r"\[2, 3\]"):
        canvas.show(np.zeros((2, 3), np.uint8))
    strip, plot = FilmStrip(), LossPlot()
    with pytest.raises(ValueError, match="same n"):
        strip.show(grey(0), grey(0), [1.0])
    with pytest.raises(ValueError, match="held out"):
        plot.show({"held out": (np.zeros(2), np.zeros(3))})
    strip.close()
    plot.close()


def test_thinning_keeps_extremes_and_order() -> None:
    x = np.arange(100_000.0)
    y = np.ones_like(x)
    y[31_415], y[92_653], y[5] = 9.0, 0.1, np.nan
    few_x, few_y = thin(x, y, bins=100)
    assert len(few_x) <= 200
    assert (few_y.max(), few_y.min()) == (9.0, 0.1)
    assert np.isfinite(few_y).all()
    assert (np.diff(few_x) > 0).all()


# ---- in JupyterLab ------------------------------------------------------------------------------------------

SETUP = """
import threading, time
import numpy as np, ipywidgets
from imagen_workbench.workbench.notebook.canvas import FilmStrip, ImageCanvas, LossPlot
from imagen_workbench.workbench.notebook.comms import answer_while_busy
canvas = ImageCanvas()
slider = ipywidgets.IntSlider(0, 0, 100)
answer_while_busy(slider)
grey = lambda value: np.full((10, 28, 28), value, np.uint8)
release, stop = threading.Event(), threading.Event()
most, threads = [0], set()
send = canvas.send
def counted(content, buffers=None):
    most[0] = max(most[0], canvas._sent - canvas._confirmed)
    send(content, buffers)
canvas.send = counted
def settled(widget, value):  # what the page chose arrives on another thread: the cell waits for it
    there = threading.Event()
    widget.observe(lambda change: change.new == value and there.set(), "selected")
    return widget.selected == value or there.wait(60)
def stream():
    value = 0
    while not stop.wait(0.005):
        value = value % 250 + 1
        canvas.show(grey(value))
canvas.observe(lambda change: (threads.add(threading.current_thread().name), release.set()), "selected")
ipywidgets.VBox([canvas, slider])
"""
BUSY = {
    "waiting": "print(release.wait(300))",
    "computing": "x = 0\nwhile not release.is_set():\n    x += 1\nprint(True)",
}
PIXEL = """([x, y]) => { const c = document.querySelector('.iw-images canvas');
    return [...c.getContext('2d').getImageData(x, y, 1, 1).data]; }"""
FRAME = "(n) => Number(document.querySelector('.iw-view canvas')?.dataset.frame) >= n"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with lab() as running:
        yield running


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as running:
        yield running


@pytest.fixture
def notebook(server: Server, chromium: Browser, request: pytest.FixtureRequest) -> Iterator[Notebook]:
    name = f"{request.node.originalname}-{abs(hash(request.node.name))}.ipynb"
    opened = open_notebook(server, chromium, [SETUP], name=name)
    opened.run(0)
    opened.page.wait_for_selector(".iw-view .iw-empty")
    yield opened
    opened.close()


def place(notebook: Notebook, index: int) -> Position:
    """The middle of an image, in pixels of the canvas (the screen has one pixel to the pixel)."""
    data = notebook.page.evaluate("() => ({...document.querySelector('.iw-images canvas').dataset})")
    cols, gap, side = int(data["cols"]), float(data["gap"]), 28 * float(data["scale"])
    x, y = (gap + at * (side + gap) + side // 2 for at in (index % cols, index // cols))
    return {"x": x, "y": y}


@pytest.mark.browser
@pytest.mark.parametrize("busy", BUSY)
def test_frames_and_clicks_pass_while_a_cell_is_busy(notebook: Notebook, busy: str) -> None:
    # the stream begins inside the cell: in ipykernel 7.4 its confirmations would wait for the cell's end
    cell = notebook.add("threading.Thread(target=stream, daemon=True).start()\n" + BUSY[busy])
    notebook.start(cell)
    notebook.page.wait_for_function(FRAME, arg=20)
    assert notebook.running(cell)
    notebook.page.locator(".iw-images canvas").click(position=place(notebook, 3))
    assert notebook.wait(cell).strip() == "True"  # the click, and nothing else, released it
    notebook.execute("stop.set()")
    assert notebook.execute("print(canvas.selected, most[0] <= 2, [t[:8] for t in threads])").split("\n")[0] == (
        "3 True ['subshell']"
    )


@pytest.mark.browser
def test_a_control_first_touched_while_a_cell_is_busy(notebook: Notebook) -> None:
    notebook.execute("slider.observe(lambda change: (canvas.show(grey(change.new)), release.set()), 'value')")
    cell = notebook.add(BUSY["computing"])
    notebook.start(cell)
    notebook.page.locator(".noUi-handle").first.press("ArrowRight")
    assert notebook.wait(cell).strip() == "True"
    notebook.page.wait_for_function(FRAME, arg=1)
    at = place(notebook, 0)
    assert notebook.page.evaluate(PIXEL, [at["x"], at["y"]]) == [1, 1, 1, 255]


@pytest.mark.browser
def test_at_most_two_frames_wait_for_a_page_that_does_not_paint(notebook: Notebook) -> None:
    page = notebook.page
    notebook.execute("canvas.show(grey(1))")
    page.wait_for_function(FRAME, arg=1)
    page.evaluate(
        "() => { globalThis.held = []; globalThis.raf = requestAnimationFrame;"
        " globalThis.requestAnimationFrame = (f) => held.push(f); }"
    )
    notebook.execute("first = canvas.frames[1]\nfor value in range(2, 200): canvas.show(grey(value))")
    assert notebook.execute("print(canvas.frames[0] - first, canvas.frames[1] - first)").strip() == "2 0"
    page.evaluate("() => { globalThis.requestAnimationFrame = raf; held.forEach((f) => raf(f)); }")
    last = int(notebook.execute("print(canvas.frames[0])"))
    page.wait_for_function(FRAME, arg=last)
    at = place(notebook, 9)
    assert page.evaluate(PIXEL, [at["x"], at["y"]]) == [199, 199, 199, 255]
    assert int(notebook.execute("print(most[0])")) == 2


@pytest.mark.browser
def test_click_and_arrow_keys_choose_an_image(notebook: Notebook) -> None:
    page = notebook.page
    notebook.execute("canvas.columns = 5\ncanvas.show(np.arange(10, dtype=np.uint8)[:, None, None] + grey(100))")
    page.wait_for_selector(".iw-images canvas[data-cols='5']")
    canvas = page.locator(".iw-images canvas")
    scale = float(canvas.get_attribute("data-scale") or 0)
    assert scale == int(scale) > 1
    for image in range(10):
        at = place(notebook, image)
        assert page.evaluate(PIXEL, [at["x"], at["y"]]) == [100 + image] * 3 + [255]

    def chosen(expected: int) -> None:
        page.wait_for_selector(f".iw-images canvas[data-selected='{expected}']")

    canvas.click(position=place(notebook, 7))
    chosen(7)
    active = page.evaluate("() => __nb.content.activeCellIndex")
    for key, expected in {"ArrowRight": 8, "ArrowUp": 3, "Home": 0, "ArrowLeft": 0, "ArrowDown": 5, "End": 9}.items():
        canvas.press(key)
        chosen(expected)
    assert page.evaluate("() => __nb.content.activeCellIndex") == active  # the keys were not the notebook's
    at = place(notebook, 9)
    edge = at["x"] + 14 * scale + 3  # the outline stands in the gap, off the picture
    red, green, blue, _ = page.evaluate(PIXEL, [edge, at["y"]])
    assert blue > green > red
    assert notebook.execute("print(settled(canvas, 9))").strip() == "True"
    notebook.execute("canvas.selected = 2")
    chosen(2)


@pytest.mark.browser
def test_a_reloaded_page_shows_the_last_frame(notebook: Notebook) -> None:
    notebook.execute("canvas.selected = 4\ncanvas.show(grey(77))")
    notebook.page.wait_for_function(FRAME, arg=1)
    notebook.save()
    notebook.open()
    notebook.page.wait_for_function(FRAME, arg=2)
    at = place(notebook, 4)
    assert notebook.page.evaluate(PIXEL, [at["x"], at["y"]]) == [77, 77, 77, 255]
    assert notebook.page.get_attribute(".iw-images canvas", "data-selected") == "4"
    notebook.execute("canvas.show(grey(78))")
    notebook.page.wait_for_function(FRAME, arg=3)


@pytest.mark.browser
def test_the_strip_is_dragged_and_stepped(notebook: Notebook) -> None:
    page = notebook.page
    cell = notebook.add(
        "strip = FilmStrip()\nstrip.show(grey(20), grey(200), np.geomspace(80, 0.01, 10))\n"
        "ipywidgets.VBox([strip], layout=ipywidgets.Layout(width='600px'))"
    )
    notebook.run(cell)
    page.wait_for_selector(".iw-strip canvas[data-frame]")
    strip = page.locator(".iw-strip canvas")
    box = strip.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 10, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 20, steps=5)
    page.mouse.move(box["x"] + box["width"] + 50, box["y"] - 30, steps=5)  # the drag goes on outside
    page.mouse.up()
    page.wait_for_selector(".iw-strip canvas[data-selected='9']")
    strip.press("ArrowLeft")
    page.wait_for_selector(".iw-strip canvas[data-selected='8']")
    assert strip.get_attribute("aria-valuetext") == "step 9 of 10, σ 0.0271"
    assert notebook.execute("print(settled(strip, 8))").strip() == "True"


@pytest.mark.browser
def test_curves_are_drawn_in_both_themes(notebook: Notebook) -> None:
    cell = notebook.add(
        "plot = LossPlot()\nx = np.arange(1, 3000)\n"
        "plot.show({'smoothed': (x, 1 / x), 'held out': (x, 2 / x), 'each step': (x, 1.5 / x)})\nplot"
    )
    notebook.run(cell)
    notebook.page.wait_for_selector(".iw-curves canvas[data-frame='1'], .iw-curves canvas[data-frame='2']")
    has = """(rgb) => { const c = document.querySelector('.iw-curves canvas');
        const d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;
        for (let i = 0; i < d.length; i += 4) if (rgb.every((v, k) => v === d[i + k])) return true;
        return false; }"""
    for theme, colours in {"light": [(0, 114, 178), (213, 94, 0)], "dark": [(86, 180, 233), (230, 159, 0)]}.items():
        notebook.theme(theme)
        for colour in colours:
            notebook.page.wait_for_function(has, arg=list(colour))
    notebook.theme("light")


SPY = """() => { globalThis.written = []; const fill = CanvasRenderingContext2D.prototype.fillText;
    CanvasRenderingContext2D.prototype.fillText = function (text, ...place) {
        written.push(text); return fill.call(this, text, ...place); }; }"""


def written(notebook: Notebook, code: str, kind: str) -> list[str]:
    """The texts that a new canvas paints, once it has painted its newest frame."""
    notebook.page.evaluate("() => { written.length = 0; }")
    notebook.run(notebook.add(code))
    notebook.page.locator(f".iw-{kind} canvas[data-frame]").last.wait_for()
    return notebook.page.evaluate("() => written")


@pytest.mark.browser
def test_the_strips_rows_have_names_and_each_step_is_named_once(notebook: Notebook) -> None:
    notebook.page.evaluate(SPY)
    strip = "strip = FilmStrip()\nstrip.show(grey(20), grey(200), np.geomspace(80, 0.01, 10))\nstrip"
    assert written(notebook, strip, "strip")[:5] == ["x", "t", "x\N{COMBINING CIRCUMFLEX ACCENT}", "0", "σ"]
    for last in (1, 2, 3):
        code = f"plot = LossPlot()\nx = np.arange({last + 1})\nplot.show({{'smoothed': (x, 1 / (x + 1))}})\nplot"
        texts = written(notebook, code, "curves")
        before = texts[: texts.index("Loss")]
        steps = before[len(before) - 1 - before[::-1].index("0") :]
        assert steps == [str(step) for step in range(0, last + 1)], texts
