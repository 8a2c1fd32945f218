"""What the training pane shows: a frozen value, and what is said about it in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.events import (
    DataShown,
    Hanging,
    Phase,
    Preparing,
    Progress,
)
from ...core.recipe import Recipe
from .curves import Curves
from .numbers import spoken_time

if TYPE_CHECKING:
    import numpy as np

    from .forms import FormField

GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        "Data",
        (
            "data.source",
            "data.path",
            "data.size",
            "data.channels",
            "data.depth",
            "data.fit",
            "data.validation",
            "data.most",
            "data.shift",
            "data.flip",
            "data.augment",
        ),
    ),
    ("Condition", ("conditioning.scheme", "conditioning.dropout")),
    (
        "Network",
        (
            "model.network",
            "model.width",
            "model.stem",
            "model.multipliers",
            "model.blocks",
            "model.attention",
            "model.coordinates",
            "model.depth",
            "model.dropout",
            "model.sigma_data",
            "model.prediction",
            "model.schedule",
        ),
    ),
    (
        "Training",
        (
            "training.steps",
            "training.batch",
            "training.learning_rate",
            "training.optimizer",
            "training.emas",
            "training.noise",
            "training.sigma_mean",
            "training.sigma_std",
            "training.weighting",
            "training.checkpoint_every",
            "training.preview_every",
            "training.seed",
            "training.device",
            "training.precision",
        ),
    ),
    ("Samples", ("sampling.sampler", "sampling.steps", "sampling.guidance")),
)


@dataclass(frozen=True)
class TrainingState:
    """What the pane shows. Arrays do not compare: `rows_version` and `curves_version` rise instead."""

    recipes: tuple[str, ...] = ()
    recipe_name: str = ""
    """Which recipe the form started from."""
    recipe: Recipe = field(default_factory=Recipe)
    form: tuple[tuple[str, tuple[FormField, ...]], ...] = ()
    """(group, its fields) in order."""
    texts: tuple[tuple[str, str], ...] = ()
    """(key, value as typed)."""
    errors: tuple[tuple[str, str], ...] = ()
    """(key, what to do)."""
    changed: frozenset[str] = frozenset()
    """Keys that differ from the recipe the form started from."""
    can_undo: bool = False
    data: DataShown | None = None
    data_ticket: int = 0
    data_problem: str = ""
    phase: Phase = Phase.IDLE
    run: str = ""
    finished: bool = False
    unfinished: bool = False
    """Whether the run has ended before its planned end, with a state to go on from."""
    hanging: Hanging | None = None
    """A plugin's call that does not end."""
    preparing: Preparing | None = None
    progress: Progress | None = None
    saved_step: int = -1
    curves: Curves = field(default_factory=Curves, compare=False)
    curves_version: int = 0
    rows: tuple[tuple[int, np.ndarray], ...] = field(default=(), compare=False)
    """(step, images [n h w c]) of the fixed seeds."""
    rows_version: int = 0
    problem: str = ""

    @property
    def run_name(self) -> str:
        return Path(self.run).name if self.run else ""

    def why_not(self, verb: str) -> str:
        """Empty, or why `start`, `pause`, `resume` or `stop` cannot be done now."""
        phase = self.phase
        match verb:
            case "start":
                if phase is Phase.CLOSED:
                    return "The worker has ended."
                if phase is not Phase.IDLE:
                    return "Training is under way."
                if self.errors:
                    return "Mend the marked fields first."
                return "The data cannot be read. Mend it first." if self.data_problem else ""
            case "pause":
                return "" if phase is Phase.TRAINING else "Nothing is training."
            case "resume":
                waits = phase is Phase.PAUSED or self.goes_on_from_disk or self.hanging is not None
                return "" if waits else "Nothing is paused."
            case "stop":
                return "" if phase in (Phase.PREPARING, Phase.TRAINING, Phase.PAUSED) else "Nothing is training."
            case "draw":
                return "" if phase in (Phase.TRAINING, Phase.PAUSED) else "Start training first."
            case _:
                raise ValueError(verb)

    @property
    def goes_on_from_disk(self) -> bool:
        """Whether `resume` continues the run that has been stopped."""
        return self.phase is Phase.IDLE and self.unfinished

    @property
    def verbs(self) -> tuple[str, ...]:
        """What is offered about the run, in order."""
        if self.hanging is not None:
            return ("resume",)
        if self.goes_on_from_disk:
            return ("draw", "resume", "start")
        if self.phase is Phase.PAUSED:
            return ("draw", "resume", "stop")
        return ("draw", "pause", "stop") if self.busy else ("draw", "pause", "stop", "start")

    @property
    def main_verb(self) -> str:
        """Which of them is the first to choose."""
        return "start" if self.why_not("resume") else "resume"

    @property
    def subject(self) -> str:
        """The run's name, or what would be begun."""
        return self.run_name or f"New run of {self.recipe.name}"

    @property
    def subject_facts(self) -> str:
        """Where it is, in words."""
        if self.preparing is not None and self.phase is Phase.PREPARING:
            what, done, total = self.preparing.what.lower(), self.preparing.done, self.preparing.total
            return f"{what} {done:,} of {total:,}" if total else what
        if self.progress is None:
            return ""
        facts = f"step {self.progress.step:,} of {self.progress.steps:,}"
        return f"{facts} · finished" if self.finished else facts

    @property
    def share_done(self) -> float | None:
        """Between 0 and 1 while a run is under way."""
        if not self.busy or self.progress is None:
            return None
        return self.progress.step / max(1, self.progress.steps)

    @property
    def left_line(self) -> str:
        """ "3 min 5 s left"."""
        if self.progress is None or self.progress.seconds_left != self.progress.seconds_left:
            return ""
        return f"{spoken_time(self.progress.seconds_left)} left"

    @property
    def data_line(self) -> str:
        """ "digits: 4,000 to train, 1,000 held out, none set aside"."""
        if self.data is None:
            return "Reading the data …" if self.data_ticket else ""
        aside = f"{len(self.data.set_aside):,}" if self.data.set_aside else "none"
        return f"{self.data.training:,} to train, {self.data.held_out:,} held out, {aside} set aside"

    @property
    def seeds_facts(self) -> str:
        """What the table of seeds shows."""
        every = self.recipe.training.preview_every
        return f"EMA {self.recipe.training.emas[0]:.2f} · every {every:,} steps"

    @property
    def seeds_line(self) -> str:
        """The same, and how to walk it."""
        return f"{self.seeds_facts} · ← → step, ↑ ↓ image"

    @property
    def figures(self) -> tuple[tuple[str, str], ...]:
        """(name, text) of the four figures."""
        progress = self.progress
        if progress is None:
            return tuple((name, "–") for name in ("images_per_second", "learning_rate", "grad_norm", "loss"))
        return (
            ("images_per_second", f"{progress.images_per_second:,.0f}"),
            ("learning_rate", f"{progress.learning_rate:.4f}"),
            ("grad_norm", f"{progress.grad_norm:.2f}"),
            ("loss", f"{progress.loss:.3f}"),
        )

    @property
    def busy(self) -> bool:
        """Whether a run would be interrupted by closing."""
        return self.phase in (Phase.PREPARING, Phase.TRAINING, Phase.PAUSED, Phase.STOPPING)
