"""Numbers as a slider and a field in one row, and the seed with its dice (see `rows` for what they share)."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING

from PySide6.QtCore import QSignalBlocker, Signal

from ..presenters.numbers import read_number
from . import theme
from .parts import Button, Slider, Text
from .rows import Control, Field

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget


class NumberControl(Control):
    """A number as slider and field. Drag, type, arrow keys, wheel with Ctrl; double-click gives the default.

    integer: whole numbers only; step: between two stops of the slider (its decimals are shown);
    logarithmic: the slider's stops grow by a constant factor. What is typed may leave the slider's range, and a text
    that is no such number is told as it is: whoever listens judges it and answers with `show_value` or `show_error`.
    """

    def __init__(
        self,
        label: str,
        low: float,
        high: float,
        *,
        default: float | None = None,
        integer: bool = False,
        step: float = 0.0,
        logarithmic: bool = False,
        unit: str = "",
        name: str = "",
        help: str = "",
        note: str = "",
        label_width: int = theme.LABEL_WIDTH,
    ) -> None:
        super().__init__(label, name=name, help=help, note=note, label_width=label_width)
        self.default = default
        self._integer, self._logarithmic = integer, logarithmic
        self._step = step or (1 if integer else (high - low) / 100)
        self._decimals = 0 if integer else max(0, -math.floor(math.log10(self._step) + 1e-9))
        self._stops = self._make_stops(low, high)
        self._value: float = default if default is not None else self._stops[0]
        self._answered = self._value
        widest = max(theme.text_width(self._text(value)) for value in (low, high))
        self.slider = Slider(len(self._stops) - 1, f"{name}-slider" if name else "")
        self.field = Field(max(58, widest + 18), right=True, name=f"{name}-field" if name else "")
        self.line.addWidget(self.slider)
        self.line.addSpacing(10)
        self.line.addWidget(self.field)
        if unit:
            self.line.addSpacing(6)
            self.line.addWidget(Text(unit, tone="quiet"))
        self._hold(self.slider, unit=unit)
        self._hold(self.field, unit=unit)
        self.slider.valueChanged.connect(self._slid)
        self.slider.reset.connect(self.reset)
        self.field.committed.connect(self._typed)
        self.field.stepped.connect(self.step_by)
        self.field.taken_back.connect(self._take_back)
        self._show()

    @property
    def value(self) -> float:
        """What is shown."""
        return self._value

    def show_value(self, value: float) -> None:
        """Shows a value, telling nobody. What is being typed stays, and so does a refused text while its error does."""
        if self.error:
            if value == self._answered:
                return
            self.show_error("")
        self._value = self._answered = int(value) if self._integer else float(value)
        self._show(typing_stays=True)

    def step_by(self, steps: int) -> None:
        """To the next stop above or below."""
        if steps > 0:
            at = bisect.bisect_right(self._stops, self._value + 1e-12)
        else:
            at = bisect.bisect_left(self._stops, self._value - 1e-12) - 1
        self._take(self._stops[min(max(at, 0), len(self._stops) - 1)])

    def reset(self) -> None:
        """To the default, if there is one, as an edit."""
        if self.default is not None:
            self._take(self.default)

    def _make_stops(self, low: float, high: float) -> list[float]:
        if self._logarithmic:
            count = 240
            values = [low * (high / low) ** (i / count) for i in range(count + 1)]
            return sorted({round(v) if self._integer else float(f"{v:.3g}") for v in values})
        count = max(1, round((high - low) / self._step))
        values = [low + i * self._step for i in range(count)] + [high]
        return [round(v) if self._integer else round(v, self._decimals) for v in values]

    def _text(self, value: float) -> str:
        if self._integer:
            return f"{int(value):,}"
        is_round = not self._logarithmic and abs(round(value, self._decimals) - value) < 1e-9
        return f"{value:.{self._decimals}f}" if is_round else f"{value:.6g}"

    def _show(self, *, typing_stays: bool = False) -> None:
        with QSignalBlocker(self.slider):
            self.slider.setValue(self._nearest(self._value))
        if not (typing_stays and self.field.is_being_typed):
            self.field.show_text(self._text(self._value))
        self.mark_changed(self.default is not None and self._value != self.default)

    def _nearest(self, value: float) -> int:
        at = min(bisect.bisect_left(self._stops, value), len(self._stops) - 1)
        return at - 1 if at and value - self._stops[at - 1] < self._stops[at] - value else at

    def _take(self, value: float) -> None:
        """The person's edit, through whatever part."""
        if value == self._value and not self.error:
            self._show()
            return
        self._value = value
        self.show_error("")
        self._show()
        self.edited.emit(value)

    def _slid(self, position: int) -> None:
        self._take(self._stops[position])

    def _typed(self, text: str) -> None:
        value = read_number(text)
        if value is None or (self._integer and value != int(value)):
            self.edited.emit(text if value is None else value)
        else:
            self._take(int(value) if self._integer else value)

    def _take_back(self) -> None:
        if self.error:
            self._take(self._answered)
        self._show()

    def _wrong_field(self) -> QWidget:
        return self.field


class SeedControl(Control):
    """A seed: typed, or rolled with the dice; Lock keeps it from one draw to the next."""

    rolled = Signal()
    lock_toggled = Signal(bool)

    def __init__(
        self,
        label: str = "Seed",
        *,
        name: str = "",
        help: str = "",
        label_width: int = theme.LABEL_WIDTH,
    ) -> None:
        super().__init__(label, name=name, help=help, label_width=label_width)
        self._value = self._answered = 0
        self.field = Field(64, right=True, name=f"{name}-field" if name else "")
        self.dice = Button(
            kind="icon",
            icon="dice",
            name=f"{name}-dice" if name else "",
            help="Roll another seed and draw.",
        )
        self.lock = Button(
            "Lock",
            kind="toggle",
            name=f"{name}-lock" if name else "",
            help="While locked, Draw keeps this seed.",
        )
        for widget, gap in ((self.field, 6), (self.dice, 6), (self.lock, 0)):
            self.line.addWidget(widget)
            self.line.addSpacing(gap)
        self.line.addStretch()
        self._hold(self.field)
        self.field.committed.connect(self._typed)
        self.field.stepped.connect(self._step)
        self.field.taken_back.connect(self._take_back)
        self.dice.clicked.connect(self._roll)
        self.lock.toggled.connect(self.lock_toggled)
        self.field.show_text("0")

    def show_value(self, seed: int) -> None:
        """Shows a seed, telling nobody."""
        if self.error:
            if seed == self._answered:
                return
            self.show_error("")
        self._value = self._answered = seed
        if not self.field.is_being_typed:
            self.field.show_text(str(seed))

    def show_locked(self, locked: bool) -> None:  # noqa: FBT001
        """Shows whether the seed is kept, telling nobody."""
        with QSignalBlocker(self.lock):
            self.lock.setChecked(locked)

    def _take(self, seed: int) -> None:
        self._value = seed
        self.show_error("")
        self.field.show_text(str(seed))
        self.edited.emit(seed)

    def _typed(self, text: str) -> None:
        plain = text.strip().replace(",", "")
        if plain.isdecimal():
            self._take(int(plain))
        else:
            self.edited.emit(text)

    def _step(self, steps: int) -> None:
        if self._value + steps >= 0:
            self._take(self._value + steps)

    def _take_back(self) -> None:
        if self.error:
            self._take(self._answered)
        self.field.show_text(str(self._value))

    def _roll(self) -> None:
        self.rolled.emit()

    def _wrong_field(self) -> QWidget:
        return self.field
