"""What the worker says: frozen values, numpy at most, free of torch.

Two kinds. *Kept* events are facts: rare, without arrays, delivered in order, never dropped.
*Latest* events are progress and pictures: only the newest of each kind waits for its reader.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from .errors import RunError, one_line

if TYPE_CHECKING:
    import numpy as np


class Phase(StrEnum):
    """States of training, as the worker's table has them."""

    IDLE = "idle"
    PREPARING = "preparing"
    TRAINING = "training"
    PAUSED = "paused"
    STOPPING = "stopping"
    CLOSED = "closed"


@dataclass(frozen=True)
class Event:
    """ticket: that of the command it answers; 0 where it answers none."""

    ticket: int = 0


@dataclass(frozen=True)
class Kept(Event):
    """Delivered in order, never dropped."""


@dataclass(frozen=True)
class Latest(Event):
    """Replaced by a newer one of its kind while it waits."""


# --- kept -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PhaseChanged(Kept):
    """phase: the new one; run: the run folder, where there is one; reason: in words, where it helps."""

    phase: Phase = Phase.IDLE
    run: str = ""
    reason: str = ""
    finished: bool = False
    """Whether training came to its planned end."""


@dataclass(frozen=True)
class Saved(Kept):
    """A state was saved. path: the checkpoint's folder."""

    run: str = ""
    step: int = 0
    path: str = ""


@dataclass(frozen=True)
class RolledBack(Kept):
    """Training met numbers that are not finite, and went back to the state of `step`. reason: a clause."""

    run: str = ""
    step: int = 0
    reason: str = ""

    @property
    def line(self) -> str:
        """All of it on one line."""
        return f"Went back to step {self.step:,}, and on with other noise: {self.reason}."


@dataclass(frozen=True)
class Failed(Kept):
    """A command could not be carried out. what, place, fix: as in WorkbenchError.

    about: the command's name ("Draw", "Train", …); refused: by the table of states, nothing was begun.
    """

    about: str = ""
    what: str = ""
    field: str = ""
    file: str = ""
    fix: str = ""
    refused: bool = False
    trace: str = ""

    @property
    def line(self) -> str:
        """All of it on one line."""
        return one_line(self.field or self.file, self.what, self.fix)

    def as_error(self) -> RunError:
        """What it was on the worker's side, to be raised on the caller's."""
        return RunError(self.what, field=self.field, file=self.file, fix=self.fix)


KINDS = {"Source": "dataset", "ConditioningScheme": "conditioning"}
"""What people call a plugin, by `PluginFacts.kind`."""


@dataclass(frozen=True)
class PluginFacts:
    """A plugin as the catalogue tells it. options: JSON schema of its settings; error: why it is unusable."""

    name: str
    kind: str
    title: str = ""
    summary: str = ""
    package: str = ""
    needs_path: bool = False
    defaults: dict[str, Any] = field(default_factory=dict[str, Any])
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    error: str = ""


@dataclass(frozen=True)
class Catalogue(Kept):
    """All that can be chosen. recipes: (name, TOML text); models: bundled names."""

    datasets: tuple[PluginFacts, ...] = ()
    schemes: tuple[PluginFacts, ...] = ()
    recipes: tuple[tuple[str, str], ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class ConditionField:
    """One thing that a person is asked for when a condition is made. default: the value that says nothing.

    key: its name in the written condition, as in "class=7;text=a red square"; kind: what is put in, of `choices`, in
    words, between `low` and `high`, or as the path of a picture.
    """

    key: str
    label: str
    kind: Literal["choice", "text", "number", "image"]
    help: str = ""
    choices: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    default: str = ""


@dataclass(frozen=True)
class ModelOpened(Kept):
    """model: the reference that was asked; choices: what can be asked of it, empty where it is free text."""

    model: str = ""
    name: str = ""
    weights: int = 0
    trained: str = ""
    """Date as YYYY-MM-DD."""
    step: int = 0
    hash: str = ""
    size: tuple[int, int] = (0, 0)
    channels: int = 0
    choices: tuple[str, ...] = ()
    conditional: bool = False
    emas: tuple[float, ...] = ()
    """EMA lengths that it carries; 0 is the raw weights."""
    ema: float = 0.0
    """The one that draws unless another is asked for."""
    any_ema: bool = False
    """Whether any other length can be rebuilt."""
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])
    """The recipe's own sampling settings: where the controls start."""
    form: tuple[ConditionField, ...] = ()
    """What a person is asked for when they say what to draw."""
    shapes: tuple[tuple[int, int], ...] = ()
    """(height, width) that it was trained on, `size` first, where there are several."""


@dataclass(frozen=True)
class Hanging(Kept):
    """A plugin's call does not end, and cannot be ended: the worker does nothing else until it does.

    part: of its code. Without a plugin: the call has ended after all.
    """

    plugin: str = ""
    package: str = ""
    part: str = ""
    seconds: float = 0.0

    @property
    def line(self) -> str:
        """All of it on one line."""
        who = f"The plugin {self.plugin!r} of {self.package}"
        return f"{who} has not come back from {self.part} for {self.seconds:.0f} s, and cannot be ended."


@dataclass(frozen=True)
class ClosedDown(Kept):
    """The worker has ended."""


# --- latest ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Preparing(Latest):
    """What is done before the first step. done of total, in images or what it says itself."""

    what: str = ""
    done: int = 0
    total: int = 0


@dataclass(frozen=True)
class Progress(Latest):
    """Where training is. Curves are read from the journal, which has `lines` lines by now."""

    run: str = ""
    step: int = 0
    steps: int = 0
    loss: float = float("nan")
    images_per_second: float = 0.0
    seconds_left: float = float("nan")
    learning_rate: float = 0.0
    grad_norm: float = float("nan")
    lines: int = 0
    device: str = ""
    memory: int = 0
    """Bytes that the process holds."""


@dataclass(frozen=True)
class Preview(Latest):
    """The network's own output on the way. images: [n h w c] uint8, x̂_0 at this noise level."""

    images: np.ndarray | None = field(default=None, compare=False)
    sigma: float = 0.0
    step: int = 0
    steps: int = 0
    nfe: int = 0


@dataclass(frozen=True)
class Drawn(Latest):
    """A finished draw. images: [n h w c] uint8; arrays: [n c h w] float32 in [-1, 1].

    film_x, film_x0: [s n h w c] uint8, x_t (scaled into view) and x̂_0 at `sigmas` [s].
    labels: [n] class numbers, -1 where there is none; conditions: their texts.
    recipe: everything that makes the draw again, as a PNG of ours carries it.
    """

    images: np.ndarray | None = field(default=None, compare=False)
    arrays: np.ndarray | None = field(default=None, compare=False)
    film_x: np.ndarray | None = field(default=None, compare=False)
    film_x0: np.ndarray | None = field(default=None, compare=False)
    sigmas: tuple[float, ...] = ()
    labels: tuple[int, ...] = ()
    conditions: tuple[str, ...] = ()
    nfe: int = 0
    seconds: float = 0.0
    device: str = ""
    memory: int = 0
    recipe: dict[str, Any] = field(default_factory=dict[str, Any], compare=False)


@dataclass(frozen=True)
class Measured(Latest):
    """How likely the images of a finished draw are under its model, each with its condition and without guidance.

    bits: per value, of 256 grey levels, for the first images of the draw; error: their standard errors.
    """

    bits: tuple[float, ...] = ()
    error: tuple[float, ...] = ()


@dataclass(frozen=True)
class DataShown(Latest):
    """A look at a dataset. images: [m h w c] uint8, some of the training images."""

    images: np.ndarray | None = field(default=None, compare=False)
    labels: tuple[str, ...] = ()
    training: int = 0
    held_out: int = 0
    classes: tuple[str, ...] = ()
    set_aside: tuple[tuple[str, str], ...] = ()
    """(name, reason) of each image that cannot be used."""


@dataclass(frozen=True)
class SampleRow(Latest):
    """The same seeds, drawn again. images: [n h w c] uint8 at `step`."""

    run: str = ""
    step: int = 0
    images: np.ndarray | None = field(default=None, compare=False)
    conditions: tuple[str, ...] = ()
