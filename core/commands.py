"""What can be asked of the worker: frozen values, free of torch, that hold all their work needs."""

from __future__ import annotations

from dataclasses import dataclass, field

from .recipe import Recipe, Sampling

LIVE = "live"
"""As a model reference: the weights of the run that is training now."""


@dataclass(frozen=True)
class Command:
    """ticket: a rising number from the one who asks; answers carry it back."""

    ticket: int = 0


@dataclass(frozen=True)
class ReadCatalogue(Command):
    """Which plugins, recipes and models there are → `Catalogue`."""


@dataclass(frozen=True)
class OpenModel(Command):
    """Loads a model and tells about it → `ModelOpened`. model: a MODEL reference, or `LIVE`."""

    model: str = LIVE


@dataclass(frozen=True)
class Draw(Command):
    """Draws images → `Preview`s, then `Drawn`. The newest replaces any that waits or runs.

    model: a MODEL reference (bundled name, run folder, checkpoint, PNG of ours), or `LIVE`.
    conditions: one text per image, cycled to `count`; none means classes in turn.
    count: images; image k's noise depends on `sampling.seed` and k alone.
    film: whether `Drawn` carries x_t and x̂_0 of every step.
    """

    model: str = LIVE
    conditions: tuple[str, ...] = ()
    count: int = 8
    sampling: Sampling = field(default_factory=Sampling)
    film: bool = True


@dataclass(frozen=True)
class CancelDraw(Command):
    """Ends the draw that runs or waits, if it is this ticket's or older."""


@dataclass(frozen=True)
class ShowData(Command):
    """Reads the recipe's dataset, without training → `DataShown`."""

    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class Train(Command):
    """Trains in a run folder.

    run: the folder; recipe: what to train, or None to take the folder's own; its `finetune.base` is a MODEL.
    resume: continue the folder's run from its last good state, if it has one.
    minutes: training time instead of the recipe's steps; the step budget follows from measured steps.
    """

    run: str = ""
    recipe: Recipe | None = None
    resume: bool = False
    minutes: float | None = None


@dataclass(frozen=True)
class Pause(Command):
    """Pauses training after the running step, keeping everything loaded."""


@dataclass(frozen=True)
class Resume(Command):
    """Goes on after a pause."""


@dataclass(frozen=True)
class Stop(Command):
    """Ends training after the running step and saves its state."""


@dataclass(frozen=True)
class Close(Command):
    """Saves a run that trains, then ends the worker."""
