"""Loss curves, built from a run's journal as it grows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.runs.journal import Follower

if TYPE_CHECKING:
    from pathlib import Path

SHOWN = 1500
"""Points a plot gets at most."""
PIECE = 128 << 10
"""Bytes of a journal that are read at once: a few milliseconds' work."""


@dataclass(frozen=True)
class Curves:
    """steps, loss, smoothed: [p]; held_steps, held: [q]; bands: (noise band, held-out loss), newest."""

    steps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    loss: np.ndarray = field(default_factory=lambda: np.zeros(0))
    smoothed: np.ndarray = field(default_factory=lambda: np.zeros(0))
    held_steps: np.ndarray = field(default_factory=lambda: np.zeros(0))
    held: np.ndarray = field(default_factory=lambda: np.zeros(0))
    bands: tuple[tuple[str, float], ...] = ()


class CurveReader:
    """Follows the journal of one run: `advance` reads on, `curves` gives what has been read."""

    def __init__(self, run: Path) -> None:
        self._follower = Follower(run / "journal")
        self._steps: list[int] = []
        self._loss: list[float] = []
        self._smoothed: list[float] = []
        self._held: list[tuple[int, float]] = []
        self._bands: tuple[tuple[str, float], ...] = ()

    def advance(self, most: int = PIECE) -> bool:
        """Reads up to so many bytes more; says whether that was all there is."""
        for record in self._follower.news(most):
            self._take(record)
        return self._follower.is_up_to_date

    def read(self) -> Curves:
        """The curves up to the newest whole line."""
        while not self.advance():
            pass
        return self.curves()

    def curves(self) -> Curves:
        stride = max(1, -(-len(self._steps) // SHOWN))
        return Curves(
            np.asarray(self._steps[::stride], float),
            np.asarray(self._loss[::stride], float),
            np.asarray(self._smoothed[::stride], float),
            np.asarray([step for step, _ in self._held], float),
            np.asarray([loss for _, loss in self._held], float),
            self._bands,
        )

    def _take(self, record: dict[str, Any]) -> None:
        step = record["step"]
        match record["kind"]:
            case "step" if record.get("loss") is not None:
                loss = float(record["loss"])
                # a mean over the steps so far, then over about the last ten
                share = max(1 / (len(self._loss) + 1), 0.1)
                last = self._smoothed[-1] if self._smoothed else loss
                self._steps.append(step)
                self._loss.append(loss)
                self._smoothed.append(last + share * (loss - last))
            case "held_out" if record.get("loss") is not None:
                self._held.append((step, float(record["loss"])))
                self._bands = tuple(
                    (str(name), float(value)) for name, value in record.get("bands", []) if value is not None
                )
            case "started" | "resumed" | "rolled_back":
                keep = sum(1 for known in self._steps if known <= step)
                del self._steps[keep:], self._loss[keep:], self._smoothed[keep:]
                self._held = [(known, loss) for known, loss in self._held if known <= step]
            case _:
                pass
