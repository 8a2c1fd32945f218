"""The one line at the bottom: state, then device, memory, and the last draw's figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...core.events import Drawn, Event, Failed, Phase, PhaseChanged, Progress
from .numbers import spoken_bytes, spoken_time

Tone = Literal["good", "accent", "warning", "error", "quiet"]

WORDS: dict[Phase, tuple[str, Tone]] = {
    Phase.IDLE: ("Ready", "good"),
    Phase.PREPARING: ("Preparing the data", "accent"),
    Phase.TRAINING: ("Training", "accent"),
    Phase.PAUSED: ("Paused", "warning"),
    Phase.STOPPING: ("Saving", "accent"),
    Phase.CLOSED: ("Closed", "quiet"),
}

UNDER_WAY = frozenset(WORDS[phase][0] for phase in (Phase.PREPARING, Phase.TRAINING, Phase.PAUSED, Phase.STOPPING))


@dataclass(frozen=True)
class Status:
    """tone: colour of the dot; left and right: texts on either side, in order."""

    tone: Tone = "quiet"
    state: str = "Starting"
    run: str = ""
    training: str = ""
    network_calls: str = ""
    seconds: str = ""
    device: str = ""
    memory: str = ""

    @property
    def left(self) -> tuple[str, ...]:
        return tuple(text for text in (self.state, self.run, self.training) if text)

    @property
    def right(self) -> tuple[str, ...]:
        return tuple(text for text in (self.network_calls, self.seconds, self.device, self.memory) if text)


def status_after(status: Status, event: Event) -> Status:
    """The line after an event; pure."""
    match event:
        case PhaseChanged():
            state, tone = WORDS[event.phase]
            if event.phase is Phase.IDLE and event.finished:
                state = "Finished"
            return replace(status, state=state, tone=tone, run=Path(event.run).name, training="")
        case Progress():
            left = f", {spoken_time(event.seconds_left)} left" if event.seconds_left == event.seconds_left else ""
            # the last step's progress comes after the news that training has ended
            under_way = status.state in UNDER_WAY
            return replace(
                status,
                training=f"step {event.step:,} of {event.steps:,}{left}" if under_way else status.training,
                device=event.device or status.device,
                memory=spoken_bytes(event.memory) or status.memory,
            )
        case Drawn():
            ready = {"state": "Ready", "tone": "good"} if status.state in ("Starting", "Failed") else {}
            return replace(
                status,
                network_calls=f"{event.nfe} network calls",
                seconds=f"{event.seconds:.2f} s",
                device=event.device or status.device,
                memory=spoken_bytes(event.memory) or status.memory,
                **ready,
            )
        case Failed(refused=False):
            return replace(status, state="Failed", tone="error")
        case _:
            return status
