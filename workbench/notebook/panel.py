"""The notebook's face: `Panel()` in a cell."""

from __future__ import annotations

import atexit
from typing import TYPE_CHECKING, Any

from PIL import Image

from ...core.worker import Worker
from ..presenters.bench import Bench
from ..presenters.drawing import FIRST_MODEL
from .kernel import in_kernel, kernel_note
from .notebook_thread import NotebookThread, Pacer
from .view import PanelView

if TYPE_CHECKING:
    import numpy as np

PATIENCE = 60.0
"""Seconds that a step of training and saving may take when the panel is closed."""


class Panel:
    """Draw and Train in a notebook, with a worker of its own that goes on while cells run.

        panel = Panel()
        panel                    # shows it
        panel.samples[7]         # a picture of the last draw
        panel.close()            # saves a run that trains, and ends all of it

    Also a context manager. Several panels do not know of each other.
    """

    def __init__(self, model: str = FIRST_MODEL, *, worker: Worker | None = None) -> None:
        self._note = kernel_note()
        self._ui = NotebookThread(self._failed)
        self.bench = Bench(worker or Worker(), self._ui)
        self._pacer = Pacer(self.bench, self._ui)
        self.view = PanelView(self.bench, self._note)
        self._is_closed = False
        self.worker.start()
        self._ui.post(lambda: self.bench.start(model))
        atexit.register(self._end_work, PATIENCE)

    @property
    def worker(self) -> Worker:
        """The one at work: another takes its place where it hangs for good, and is given up."""
        return self.bench.worker

    # --- the last draw ----------------------------------------------------------------------------

    @property
    def samples(self) -> list[Image.Image]:
        """The pictures of the last finished draw; empty before the first."""
        drawn = self.bench.drawing.state.drawn
        if drawn is None or drawn.images is None:
            return []
        return [_picture(pixels) for pixels in drawn.images]

    @property
    def arrays(self) -> np.ndarray | None:
        """The same as the network made them: [n c h w] float32 in [-1, 1]."""
        drawn = self.bench.drawing.state.drawn
        return None if drawn is None else drawn.arrays

    # --- showing it -------------------------------------------------------------------------------

    def _repr_mimebundle_(self, **options: Any) -> Any:
        if not in_kernel() or self._is_closed:
            return {"text/plain": repr(self)}
        return self.view.widget._repr_mimebundle_(**options)

    def __repr__(self) -> str:
        if self._is_closed:
            return "Panel (closed)"
        return f"Panel ({self.bench.status.state.lower()})" if in_kernel() else self._note

    def _failed(self, error: Exception) -> None:
        self.view.show_failure(error)

    # --- its end ----------------------------------------------------------------------------------

    def close(self, timeout: float = PATIENCE) -> None:
        """Saves a run that trains, ends the worker and takes the panel from the page.

        Raises TimeoutError where the worker is not done by then; it ends all the same when its step is.
        """
        if self._is_closed:
            return
        self._is_closed = True
        atexit.unregister(self._end_work)
        ended = self._end_work(timeout)
        self._ui.post(self.bench.pump)  # what the worker said last
        self._ui.close(timeout)
        self.view.close()
        if not ended:
            raise TimeoutError(f"the worker has not ended after {timeout:g} s; it will, when its step is done")

    def _end_work(self, timeout: float) -> bool:
        """All that must happen when the kernel ends, too."""
        self.bench.close()
        return self.worker.join(timeout)

    def __enter__(self) -> Panel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _picture(pixels: np.ndarray) -> Image.Image:
    """[h w c] uint8 → a picture; of numbers of channels that no picture has, the first three or the first."""
    channels = pixels.shape[2]
    if channels in (3, 4):
        return Image.fromarray(pixels)
    return Image.fromarray(pixels[:, :, 0] if channels < 3 else pixels[:, :, :3])
