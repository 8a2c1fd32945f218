"""The whole panel over a bench: tabs, one status line, and a line for what does not work here."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

import ipywidgets

from .assets import asset
from .comms import answer_while_busy
from .draw_tab import DrawTab
from .kernel import DEAF
from .parts import Desk, Words, all_within, box
from .train_tab import TrainTab

if TYPE_CHECKING:
    from ..presenters.bench import Bench
    from ..presenters.status import Status

PLACES = ("Draw", "Train")


class PanelView:
    """Widgets over a bench. They are written on the bench's thread alone, but for what people write."""

    def __init__(self, bench: Bench, note: str = "") -> None:
        self.bench = bench
        self.desk = Desk(bench.ui)
        self.style = ipywidgets.HTML(f"<style>{asset('canvas.css', 'rows.css', 'panel.css')}</style>")
        self.style.add_class("iw-style")
        self.note = Words("iw-note-line")
        self._first_note = note
        self._status_shown: Status | None = None
        self.tabs = ipywidgets.ToggleButtons(options=PLACES)
        self.tabs.add_class("iw-tabs")
        self.status = ipywidgets.HTML()
        self.status.add_class("iw-status")
        self.draw = DrawTab(bench.drawing, self.desk)
        self.train = TrainTab(bench.training, self.desk, self._draw_live)
        head = box(self.tabs, self.status, kind="iw-head")
        for place, tab in zip(PLACES, (self.draw, self.train), strict=True):
            tab.view.add_class(f"iw-{place.lower()}")
        self.widget = box(self.style, self.note, head, self.draw.view, self.train.view, kind="iw-panel")
        self.widget.add_class("imagen-workbench")
        self.note.show(note, "warning")
        answer_while_busy(self.widget)
        self.draw.grid.on_msg(self._page_answered)
        bench.status_changed.connect(self._show_status)
        self._show_status()

    def _draw_live(self) -> None:
        if not self.bench.training.state.why_not("draw"):
            self.bench.draw_live()
            self.desk.write(self.tabs, "index", PLACES.index("Draw"))

    def _show_status(self) -> None:
        status = self.bench.status
        if status == self._status_shown:
            return
        self._status_shown = status
        text = " · ".join(status.left)
        self.status.value = f'<span class="iw-light iw-tone-{status.tone}"></span>{escape(text)}'
        self.draw.show_status(status)
        self.train.show_status(status)

    def _page_answered(self, *_: object) -> None:
        """A picture was painted, or a page was opened. On a thread of the kernel."""
        live = self.draw.grid.live
        if live is not None and not self._first_note:
            self.desk.do(self.note.show, "" if live else DEAF, "warning")

    def show_failure(self, error: Exception) -> None:
        """Of the panel itself, not of the worker's, whose failures stand in the tabs."""
        place = error.__traceback__
        while place is not None and place.tb_next is not None:
            place = place.tb_next
        where = f" ({place.tb_frame.f_code.co_filename}:{place.tb_lineno})" if place else ""
        self.note.show(f"The panel failed at something: {type(error).__name__}: {error}{where}.", "error")

    def close(self) -> None:
        """Takes all of it from the page."""
        self.bench.status_changed.disconnect(self._show_status)
        for widget in all_within(self.widget):
            for part in (getattr(widget, "style", None), getattr(widget, "layout", None), widget):
                if isinstance(part, ipywidgets.Widget):
                    part.close()
