"""Widgets that draw on a canvas in the page: a grid of images, a film strip, seeds over training, loss curves.

Each is shown by numbered *frames* that the page confirms when it has painted them. At most two are on
their way; of what comes meanwhile the newest waits and replaces the one that waited before. So a slow page,
or none, never makes a queue grow. `show` may be called from any thread, also while a cell runs.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anywidget
import numpy as np
import traitlets

from .assets import asset
from .comms import answer_while_busy

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

IN_FLIGHT = 2  # one being painted, one on the way: a third would only be older when it is seen
POINTS = 800  # bins of a curve: about one per pixel of a panel


class FrameWidget(anywidget.AnyWidget):
    """A widget whose content travels in confirmed frames. Subclasses name `_kind` and call `_show`."""

    _esm = asset("table.js", "canvas.js")
    _css = asset("canvas.css")
    _kind = traitlets.Unicode().tag(sync=True)
    empty = traitlets.Unicode(help="what stands here before the first frame").tag(sync=True)

    def __init__(self, **traits: Any):
        self._gate = threading.Lock()  # around the names below, and sending, so that frames keep their order
        self._latest: tuple[dict[str, Any], list[bytes]] | None = None
        self._wanted = False  # the latest is yet to be sent
        self._sent = 0  # numbers of frames, from 1
        self._confirmed = 0
        self._live: bool | None = None
        super().__init__(**traits)
        self.on_msg(self._on_message)
        answer_while_busy(self)

    def _show(self, content: dict[str, Any], buffers: list[bytes]) -> None:
        """Sends this frame, or lets it wait in place of an older one. Any thread; never blocks on the page."""
        with self._gate:
            self._latest = content, buffers
            self._wanted = True
            self._send_wanted()

    def _send_wanted(self) -> None:
        """Sends the waiting frame if there is room. The caller holds the gate."""
        if not self._wanted or self._latest is None or self._sent - self._confirmed >= IN_FLIGHT:
            return
        content, buffers = self._latest
        self._wanted = False
        self._sent += 1
        self.send({"frame": self._sent, **content}, buffers)

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        """From the page, on the subshell's thread: `painted` a frame (and all before), or `hello`."""
        beside_main = threading.current_thread() is not threading.main_thread()
        with self._gate:
            self._live = bool(self._live) or beside_main
            match content.get("kind"):
                case "painted":
                    self._confirmed = max(self._confirmed, min(int(content["frame"]), self._sent))
                case "hello":  # a page was (re)loaded: what was on its way to the last one will not be confirmed
                    self._confirmed = self._sent
                    self._wanted = self._latest is not None
            self._send_wanted()

    @property
    def live(self) -> bool | None:
        """Whether the page is heard while a cell runs; None before the first frame was painted.

        False: its messages come on the main thread, so the kernel or the page knows no subshells.
        """
        with self._gate:
            return self._live if self._confirmed else None

    @property
    def frames(self) -> tuple[int, int]:
        """How many frames were sent, and up to which one the page has painted them."""
        with self._gate:
            return self._sent, self._confirmed


def _pictures(images: np.ndarray) -> tuple[dict[str, int], bytes]:
    """images: [n h w] or [n h w 3] uint8 -> its shape as the page reads it, and its bytes."""
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] == 3)):
        raise ValueError(f"images must be uint8 [n h w] or [n h w 3], got {images.dtype} {list(images.shape)}")
    n, h, w = images.shape[:3]
    return {"n": n, "h": h, "w": w, "c": 1 if images.ndim == 3 else 3}, images.tobytes()


class ImageCanvas(FrameWidget):
    """A grid of images, pixel for pixel at a whole-number scale. A click or the arrow keys choose one."""

    _kind = traitlets.Unicode("images").tag(sync=True)
    selected = traitlets.Int(-1, help="the chosen image, or -1").tag(sync=True)
    columns = traitlets.Int(0, help="images in a row; 0: as many as let them be largest").tag(sync=True)
    max_height = traitlets.Int(372, help="pixels that enlarging may fill; 1 : 1 may be higher").tag(sync=True)
    label = traitlets.Unicode("image {i} of {n}", help="for screen readers").tag(sync=True)
    empty = traitlets.Unicode("Pictures appear here.").tag(sync=True)

    def show(self, images: np.ndarray) -> None:
        """images: [n h w] or [n h w 3] uint8; copied. Any thread."""
        shape, pixels = _pictures(images)
        self._show(shape, [pixels])


class FilmStrip(FrameWidget):
    """The path of one image: x_t above, x̂_0 below, σ under them. Drag or the arrow keys choose a step."""

    _kind = traitlets.Unicode("strip").tag(sync=True)
    selected = traitlets.Int(0, help="the chosen step").tag(sync=True)
    tile = traitlets.Int(56, help="pixels that a picture's side may fill").tag(sync=True)
    label = traitlets.Unicode("step {i} of {n}, σ {sigma}", help="for screen readers").tag(sync=True)
    empty = traitlets.Unicode("The path from noise to picture appears here.").tag(sync=True)

    def show(self, x_t: np.ndarray, x0: np.ndarray, sigmas: Sequence[float] | np.ndarray) -> None:
        """x_t, x0: [n h w] or [n h w 3] uint8, from noise to picture; sigmas: [n]. Any thread."""
        shape, noisy = _pictures(x_t)
        levels = np.asarray(sigmas, dtype=np.float64)
        if x0.shape != x_t.shape or levels.shape != (shape["n"],):
            raise ValueError(
                f"x_t {list(x_t.shape)}, x0 {list(x0.shape)} and sigmas {list(levels.shape)} must have the same n"
            )
        self._show(shape, [noisy, _pictures(x0)[1], levels.tobytes()])


class SeedTable(FrameWidget):
    """The same seeds over training: a column for each time they were drawn, a row for each seed."""

    _kind = traitlets.Unicode("table").tag(sync=True)
    selected = traitlets.Int(-1, help="the image that is looked at, column by column, or -1").tag(sync=True)
    tile = traitlets.Int(28, help="pixels that a picture's side may fill").tag(sync=True)
    label = traitlets.Unicode("step {step}, image {i} of {n}", help="for screen readers").tag(sync=True)
    empty = traitlets.Unicode("The same seeds will be drawn here again and again.").tag(sync=True)

    def show(self, rows: Sequence[tuple[int, np.ndarray]]) -> None:
        """rows: (step, images [n h w] or [n h w 3] uint8), oldest first, all alike. Any thread."""
        images = np.concatenate([images for _, images in rows]) if rows else np.zeros((0, 1, 1), np.uint8)
        shape, pixels = _pictures(images)
        self._show({**shape, "steps": [step for step, _ in rows]}, [pixels])


def thin(x: np.ndarray, y: np.ndarray, bins: int = POINTS) -> tuple[np.ndarray, np.ndarray]:
    """x, y: [n] -> at most [2 * bins]: the lowest and the highest point of each bin, in order. NaN is left out."""
    kept = np.isfinite(y)
    x, y = x[kept], y[kept]
    if len(y) <= 2 * bins:
        return x, y
    index = []
    for part in np.array_split(np.arange(len(y)), bins):
        index += sorted({int(part[np.argmin(y[part])]), int(part[np.argmax(y[part])])})
    return x[index], y[index]


class LossPlot(FrameWidget):
    """Curves over a logarithmic axis. Colours go by order: the first two are drawn in colour, the third faintly."""

    _kind = traitlets.Unicode("curves").tag(sync=True)
    title = traitlets.Unicode("Loss").tag(sync=True)
    height = traitlets.Int(260, help="pixels").tag(sync=True)
    empty = traitlets.Unicode("The curve appears with the first steps.").tag(sync=True)

    def show(self, series: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """series: name -> (x [n], y [n]), y > 0, e.g. smoothed, held out, each step. Any thread."""
        names, counts, buffers = [], [], []
        for name, (x, y) in series.items():
            x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
            if x.ndim != 1 or x.shape != y.shape:
                raise ValueError(f"{name}: x {list(x.shape)} and y {list(y.shape)} must be equally long lists")
            points = thin(x, y)
            names.append(name)
            counts.append(len(points[0]))
            buffers += [axis.astype(np.float32).tobytes() for axis in points]
        self._show({"names": names, "counts": counts}, buffers)
