"""The notebook's panel, driven through its real widgets as a page does it: what `face_scenarios` operates."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np
from face_scenarios import Face

from imagen_workbench.workbench.notebook.parts import all_within, is_shown
from imagen_workbench.workbench.notebook.view import PLACES, PanelView
from imagen_workbench.workbench.presenters.bench import Bench
from imagen_workbench.workbench.presenters.ui_thread import ManualThread

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_workbench.workbench.notebook.canvas import FrameWidget
    from imagen_workbench.workbench.notebook.form import Form, Row

LATER = 1.0
"""Seconds: more than anything in a face waits."""
MANY_ROUNDS = 1_000


def say(widget: ipywidgets.Widget, **content: Any) -> None:
    """What a page's own message does."""
    widget._handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})


def set_in_page(widget: ipywidgets.Widget, **state: Any) -> None:
    """What a value that changes in the page does."""
    widget._handle_msg({"content": {"data": {"method": "update", "state": state, "buffer_paths": []}}, "buffers": []})


class NotebookFace(Face):
    """A real panel over a worker and a clock that the test turns. Call `close` at the end: nothing may be left."""

    def __init__(self) -> None:
        super().__init__()
        self._others = set(ipywidgets.widgets.widget._instances)
        self.ui = ManualThread()
        self._bench = Bench(self.first_worker, self.ui)
        self.view = PanelView(self._bench)
        self._edits = 0

    @property
    def bench(self) -> Bench:
        return self._bench

    def settle(self) -> None:
        for _ in range(MANY_ROUNDS):
            self.ui.run()
            if not self.ui._later:
                return
            self.ui.advance(LATER)
        raise AssertionError("the face never comes to rest")

    def close(self) -> None:
        """Ends bench, worker and widgets, and looks for what is left."""
        self.bench.close()
        self.work()
        assert self.bench.is_closed
        self.view.close()
        left = [
            type(each).__name__
            for name, each in ipywidgets.widgets.widget._instances.items()
            if name not in self._others
        ]
        assert not left, f"left open: {', '.join(left)}"

    # --- finding ----------------------------------------------------------------------------------

    @property
    def place(self) -> str:
        return PLACES[self.view.tabs.index].lower()

    @property
    def forms(self) -> tuple[Form, ...]:
        """Those of the present place that can be seen."""
        draw, train = self.view.draw, self.view.train
        found = (draw.form, draw.path, draw.code) if self.place == "draw" else (train.recipe, train.runs, train.fields)
        return tuple(form for form in found if self._is_seen(form))

    def button(self, name: str) -> ipywidgets.Button:
        draw, train = self.view.draw, self.view.train
        named: dict[str, ipywidgets.Button] = {
            "draw": draw.draw, "save": draw.save, "copy-python": draw.copy, "save-now": draw.save_now,
            "save-not": draw.save_not, "undo": train.undo, "list-runs": train.more, "go-on": train.go_on,
            "look-again": train.again, "draw-live": train.buttons["draw"],
            **{verb: train.buttons[verb] for verb in ("start", "pause", "resume", "stop")},
        }  # fmt: skip
        return named[name]

    def _is_seen(self, widget: ipywidgets.Widget) -> bool:
        """Whether it, and all that it lies in, is there."""
        holders = {child: each for each in all_within(self.view.widget) for child in getattr(each, "children", ())}
        at: ipywidgets.Widget | None = widget
        while at is not None:
            if not is_shown(at):
                return False
            at = holders.get(at)
        return True

    def form_with(self, key: str) -> tuple[Form, Row]:
        """The form with a row that can be seen."""
        for form in self.forms:
            if key in form.rows and key not in form.hidden:
                return form, form.rows[key]
        raise AssertionError(f"no {key} can be seen on {self.place}")

    # --- doing ------------------------------------------------------------------------------------

    def edit(self, key: str, text: str) -> None:
        form, _ = self.form_with(key)
        assert key not in form.off, f"{key} cannot be edited: {form.off[key]}"
        self._edits += 1
        say(form, kind="edit", key=key, text=text, page="test", number=self._edits)

    def go_to(self, place: str) -> None:
        set_in_page(self.view.tabs, index=PLACES.index(place.capitalize()))
        self.settle()

    def type_into(self, name: str, text: str) -> None:
        assert self.form_with(name)[1].kind in ("number", "text", "seed"), name
        self.edit(name, text)

    def slide(self, name: str, value: float) -> None:
        _, row = self.form_with(name)
        assert row.stops, f"{name} has no slider"
        self.edit(name, min(row.stops, key=lambda stop: abs(float(stop) - value)))

    def choose(self, name: str, choice: str) -> None:
        _, row = self.form_with(name)
        if row.kind in ("switch", "fold"):
            self.edit(name, choice)
            return
        values = [value for value, label in row.choices if choice in (value, label)]
        assert values, f"{choice} is not among {row.choices}"
        self.edit(name, values[0])

    def unfold(self) -> None:
        form, _ = self.form_with("more")
        self.choose("more", "no" if form.values["more"] == "yes" else "yes")
        self.settle()

    def click(self, name: str) -> None:
        if name in ("roll-seed", "lock-seed"):
            say(self.form_with("seed")[0], kind="press", key="seed", button=name)
            return
        assert self.is_enabled(name), f"{name} cannot be pressed: {self.button(name).tooltip}"
        say(self.button(name), event="click")

    def click_image(self, index: int) -> None:
        set_in_page(self.view.draw.grid, selected=index)

    def click_film(self, column: int) -> None:
        set_in_page(self.view.draw.film, selected=column)

    def save_picture(self, path: Path) -> None:
        self.click("save")
        self.settle()
        self.type_into("path", str(path))
        self.settle()
        self.click("save-now")
        self.settle()

    # --- seeing -----------------------------------------------------------------------------------

    def is_there(self, name: str) -> bool:
        return any(name in form.rows and name not in form.hidden for form in self.forms)

    def is_primary(self, name: str) -> bool:
        button = self.button(name)
        return self._is_seen(button) and "iw-primary" in button._dom_classes

    def label(self, name: str) -> str:
        if name == "subject":
            return self.view.train.subject.text
        if name == "more":
            form, row = self.form_with(name)
            return dict(row.choices)[form.values[name]]
        return self.button(name).description

    def is_enabled(self, name: str) -> bool:
        if name == "corrections":
            form, _ = self.form_with(name)
            return name not in form.off
        button = self.button(name)
        return self._is_seen(button) and not button.disabled

    def shown(self, name: str) -> str:
        if name == "image-likely":
            return self.view.draw.image_facts.text
        form, row = self.form_with(name)
        text = form.values[name]
        return text.split(" ")[0] if row.kind == "seed" else text

    def error_at(self, name: str) -> str:
        return self.form_with(name)[0].errors.get(name, "")

    def grid(self) -> np.ndarray | None:
        return images_of(self.view.draw.grid)

    def film_columns(self) -> int:
        return frame_of(self.view.draw.film)["n"]

    def seed_steps(self) -> list[int]:
        return frame_of(self.view.train.seeds)["steps"]

    def loss_points(self) -> int:
        frame = frame_of(self.view.train.loss)
        return frame["counts"][frame["names"].index("smoothed")]

    def data_words(self) -> str:
        form, _ = self.form_with("data-words")
        return form.errors.get("data-words", "") or form.values["data-words"]

    def data_images(self) -> int:
        thumbnails = self.view.train.thumbnails
        return frame_of(thumbnails)["n"] if is_shown(thumbnails) else 0

    def problem(self) -> str:
        words = getattr(self.view, self.place).problem
        return words.text if words.tone == "error" and is_shown(words) else ""

    def status(self) -> str:
        line = html.unescape(re.sub("<[^>]*>", "", self.view.status.value))
        return f"{line}  {getattr(self.view, self.place).facts.text}"


def frame_of(widget: FrameWidget) -> dict[str, Any]:
    """What a canvas shows, as the page reads it; empty where it shows nothing yet."""
    return widget._latest[0] if widget._latest else {"n": 0, "steps": []}


def images_of(widget: FrameWidget) -> np.ndarray | None:
    """The images [n h w c] that a canvas shows."""
    if widget._latest is None or not widget._latest[0]["n"]:
        return None
    shape, buffers = widget._latest
    return np.frombuffer(buffers[0], np.uint8).reshape(*(shape[side] for side in "nhwc"))
