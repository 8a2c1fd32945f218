"""What the drawing pane shows: a frozen value, and what is said about it in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...core.commands import LIVE
from ...core.recipe import REBUILT, Sampling
from ...core.sampling.limits import check_quantile
from .draw_form import why_off
from .numbers import short_count

if TYPE_CHECKING:
    import numpy as np

    from ...core.events import ConditionField, Drawn, Measured, ModelOpened

MOST_CHIPS = 12
"""More choices than these become a list that is searched."""


@dataclass(frozen=True)
class DrawingState:
    """What the pane shows. Arrays do not compare: `frame` rises when the pictures change."""

    model: str = ""
    models: tuple[tuple[str, str], ...] = ()
    """(reference, what it is called) of what can be chosen."""
    facts: ModelOpened | None = None
    conditions: tuple[str, ...] = ()
    """Chosen ones; none means each in turn."""
    said: tuple[tuple[str, str], ...] = ()
    """(key, value) of the condition's fields that say something."""
    count: int = 8
    locked: bool = True
    """Whether Draw keeps the seed."""
    sampling: Sampling = field(default_factory=Sampling)
    errors: tuple[tuple[str, str], ...] = ()
    """(field, what to do) of settings that cannot be used as typed."""
    drawing: bool = False
    stoppable: bool = False
    """Whether the draw has taken so long that it can be stopped."""
    frame: int = 0
    images: np.ndarray | None = field(default=None, compare=False)
    sigma: float = 0.0
    step: int = 0
    drawn: Drawn | None = None
    measured: Measured | None = None
    """How likely the drawn images are; comes after them."""
    selected: int = 0
    film_at: int = -1
    """Which step of the film is shown; -1: the finished image."""
    problem: str = ""
    saved: str = ""

    @property
    def can_draw(self) -> str:
        """Empty, or why nothing can be drawn now."""
        if self.facts is None:
            return "No model is open yet."
        return "Mend the marked settings first." if self.errors else ""

    @property
    def verb(self) -> str:
        """What the main button does now, and says."""
        return "Stop" if self.stoppable else "Draw"

    @property
    def why_not(self) -> str:
        """Empty, or why the main button can do nothing now."""
        return "" if self.stoppable else self.can_draw

    @property
    def can_save(self) -> str:
        """Empty, or why nothing can be saved now."""
        return "" if self.drawn is not None and not self.drawing else "Draw something first."

    @property
    def film(self) -> tuple[np.ndarray, np.ndarray, tuple[float, ...]] | None:
        """x_t and x̂_0 ([s h w c] uint8) of the selected image, and sigmas [s]."""
        drawn = self.drawn
        if drawn is None or drawn.film_x is None or drawn.film_x0 is None:
            return None
        return drawn.film_x[:, self.selected], drawn.film_x0[:, self.selected], drawn.sigmas

    @property
    def likely(self) -> str:
        """How likely the selected image is, as "3.21 bits/dim"; empty before it is known."""
        bits = self.measured.bits if self.measured else ()
        return f"{bits[self.selected]:.2f} bits/dim" if self.selected < len(bits) else ""

    def value(self, key: str) -> Any:
        """What a control shows of a setting."""
        if key == "ema" and self.sampling.ema is None:
            return self.facts.ema if self.facts else 0.0
        if key == "size" and self.sampling.size is None:
            return self.facts.size if self.facts else (0, 0)
        if key == "corrections":
            return self.sampling.langevin[0]
        return getattr(self.sampling, key)

    @property
    def sizes(self) -> tuple[tuple[tuple[int, int], str], ...]:
        """((height, width), as it is said) to choose from; none where there is but one."""
        shapes = self.facts.shapes if self.facts else ()
        return tuple((shape, f"{shape[0]} × {shape[1]}") for shape in shapes) if len(shapes) > 1 else ()

    def nearest_ema(self, length: float) -> float:
        """The EMA length that the model can draw with and that is nearest to the one asked for."""
        facts = self.facts
        if facts is None or not facts.emas or (facts.any_ema and REBUILT[0] <= length <= REBUILT[1]):
            return length
        return min(facts.emas, key=lambda known: abs(known - length))

    @property
    def choices(self) -> tuple[str, ...]:
        """What can be chosen, where the model asks for one choice and nothing else."""
        form = self.facts.form if self.facts else ()
        return form[0].choices if len(form) == 1 and form[0].kind == "choice" else ()

    @property
    def fields(self) -> tuple[ConditionField, ...]:
        """What the model asks for, where it is anything else."""
        return self.facts.form if self.facts and not self.choices else ()

    def unknown_condition(self, conditions: tuple[str, ...]) -> str:
        """The first that the model does not know; empty where it knows all, or takes any text."""
        choices = self.choices
        return next((each for each in conditions if choices and each not in choices), "")

    def check_density(self, sampling: Sampling) -> None:
        """Raises RequestError where the model's images are too small for this quantile on these levels."""
        assert self.facts is not None
        height, width = sampling.size or self.facts.size
        values = height * width * self.facts.channels
        check_quantile(sampling.density, values, sampling.sigma_min, sampling.sigma_max)

    def off(self, key: str) -> str:
        """Empty, or why a setting has no effect now."""
        facts = self.facts
        if facts and key == "guidance" and not facts.conditional:
            return "This model knows no conditions, so there is nothing to guide by."
        if facts and key == "ema" and len(facts.emas) < 2 and not facts.any_ema:
            return "This model carries the weights of one EMA length only."
        return why_off(key, self.sampling)

    @property
    def facts_line(self) -> str:
        """ "1.1 M weights · trained 2026-11-24"."""
        if self.facts is None:
            return ""
        parts = [f"{short_count(self.facts.weights)} weights"]
        if self.model == LIVE:
            parts.append("training now")
        elif self.facts.trained:
            parts.append(f"trained {self.facts.trained}")
        return " · ".join(parts)
