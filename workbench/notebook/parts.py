"""What the tabs are put together from, and the way from the page's threads to the presenters' one."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Any

import ipywidgets
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..presenters.ui_thread import UiThread


class Desk:
    """Between the page and the presenters.

    What people do arrives on threads of the kernel: `do` hands it on, in order. What is shown is written on the
    presenters' thread: `write` does so where a person may write, too, and `heard` tells the two apart.
    """

    def __init__(self, ui: UiThread) -> None:
        self._ui = ui
        self._writing = False

    def do(self, job: Callable[..., object], *args: Any) -> None:
        """Has it done on the presenters' thread, soon. Any thread."""

        def run() -> None:
            job(*args)

        self._ui.post(run)

    def write(self, widget: ipywidgets.Widget, name: str, value: object) -> None:
        """Shows a value in a control; whoever listens to people's edits hears nothing."""
        if getattr(widget, name) == value:
            return
        self._writing = True
        try:
            setattr(widget, name, value)
        finally:
            self._writing = False

    def heard(self) -> bool:
        """In an observer: whether a person did it."""
        return not (self._writing and self._ui.is_here())


class Refresher:
    """Shows the newest state once, however often it changed meanwhile."""

    def __init__(self, desk: Desk, show: Callable[[], None]) -> None:
        self._desk, self._show = desk, show
        self._due = False

    def soon(self) -> None:
        """On the presenters' thread."""
        if not self._due:
            self._due = True
            self._desk.do(self._now)

    def _now(self) -> None:
        self._due = False
        self._show()


class Words(ipywidgets.HTML):
    """A text that says something; only the presenters' thread writes it."""

    def __init__(self, kind: str, *, hidden_when_empty: bool = True) -> None:
        super().__init__()
        self._hides = hidden_when_empty
        self.add_class(kind)
        self.text = self.tone = ""
        self.show("")

    def show(self, text: str, tone: str = "quiet") -> None:
        """tone: quiet, text, good, accent, warning, error."""
        if (text, tone) == (self.text, self.tone):
            return
        self.text, self.tone = text, tone
        role = ' role="alert"' if tone == "error" and text else ""
        self.value = f'<div class="iw-tone-{tone}"{role}>{escape(text)}</div>' if text else ""
        if self._hides:
            show_if(self, when=bool(text))


def show_if(widget: ipywidgets.DOMWidget, *, when: bool) -> None:
    """Shows or hides a widget."""
    wanted = None if when else "none"
    if widget.layout.display != wanted:
        widget.layout.display = wanted


def is_shown(widget: ipywidgets.DOMWidget) -> bool:
    return widget.layout.display != "none"


class Button(ipywidgets.Button):
    """A button that says why it cannot be pressed. pressed: called on a thread of the kernel.

    kind: primary, link, or nothing.
    """

    def __init__(self, label: str, help: str, pressed: Callable[[], None], kind: str = "") -> None:
        super().__init__(description=label, tooltip=help)
        self._help, self._kind = help, ""
        self.add_class("iw-button")
        self.make(kind)
        self.on_click(lambda _button: pressed())

    def make(self, kind: str) -> None:
        """Makes it another kind of button."""
        if kind == self._kind:
            return
        if self._kind:
            self.remove_class(f"iw-{self._kind}")
        if kind:
            self.add_class(f"iw-{kind}")
        self._kind = kind

    def show_verb(self, label: str, help: str) -> None:
        """Says and does something else now."""
        self.description, self._help = label, help

    def allow(self, why_not: str) -> None:
        """Greys it where there is a reason, which is its tooltip then."""
        self.disabled = bool(why_not)
        self.tooltip = why_not or self._help


def box(*children: ipywidgets.Widget, kind: str) -> ipywidgets.Box:
    """A place for widgets; how they lie in it is the style sheet's."""
    made = ipywidgets.Box(children)
    made.add_class(kind)
    return made


def all_within(widget: ipywidgets.Widget) -> Iterable[ipywidgets.Widget]:
    """The widget and all that it holds, innermost first."""
    for child in getattr(widget, "children", ()):
        yield from all_within(child)
    yield widget


def pictures(images: np.ndarray) -> np.ndarray:
    """[n h w c] uint8 of any number of channels -> [n h w] or [n h w 3], as a canvas takes it."""
    channels = images.shape[-1]
    if channels < 3:
        return np.ascontiguousarray(images[..., 0])
    if channels == 4:  # on black, as the canvas of the desktop shows it
        return (images[..., :3] * (images[..., 3:] / 255.0) + 0.5).astype(np.uint8)
    return np.ascontiguousarray(images[..., :3])
