"""The one line at the bottom: state, then device, memory, and the last draw's figures."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ...core.events import DataShown, Drawn, Event, Failed, Hanging, ModelOpened, Phase, PhaseChanged, Progress
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
UNDER_WAY = frozenset((Phase.PREPARING, Phase.TRAINING, Phase.PAUSED, Phase.STOPPING))
STARTING, FAILED, HANGING = "Starting", "Failed", "Not answering"


@dataclass(frozen=True)
class Status:
    """tone: colour of the dot; left and right: texts on either side, in order; phase: of training."""

    tone: Tone = "quiet"
    state: str = STARTING
    phase: Phase = Phase.IDLE
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
        """What the last draw took, and the machine."""
        return tuple(text for text in (self.network_calls, self.seconds, *self.machine) if text)

    @property
    def machine(self) -> tuple[str, ...]:
        """Device and memory."""
        return tuple(text for text in (self.device, self.memory) if text)


def status_after(status: Status, event: Event) -> Status:
    """The line after an event; pure."""
    match event:
        case PhaseChanged():
            state, tone = WORDS[event.phase]
            if event.phase is Phase.IDLE and event.finished:
                state = "Finished"
            elif event.phase is Phase.IDLE and status.state == FAILED:
                state, tone = status.state, status.tone  # of a training that failed, this is the end
            run = Path(event.run).name
            return replace(status, state=state, tone=tone, phase=event.phase, run=run, training="")
        case Progress():
            left = f", {spoken_time(event.seconds_left)} left" if event.seconds_left == event.seconds_left else ""
            # the last step's progress comes after the news that training has ended
            under_way = status.phase in UNDER_WAY
            return replace(
                status,
                training=f"step {event.step:,} of {event.steps:,}{left}" if under_way else status.training,
                device=event.device or status.device,
                memory=spoken_bytes(event.memory) or status.memory,
            )
        case Drawn():
            return replace(
                _mended(status, STARTING, FAILED),
                network_calls=f"{event.nfe} network calls",
                seconds=f"{event.seconds:.2f} s",
                device=event.device or status.device,
                memory=spoken_bytes(event.memory) or status.memory,
            )
        case Hanging():
            return replace(status, state=HANGING, tone="error") if event.plugin else _mended(status, HANGING)
        case DataShown() | ModelOpened():
            return _mended(status, FAILED)
        case Failed(refused=False) if status.phase not in UNDER_WAY or event.about in ("Train", "Stop"):
            # while a run trains, that is the state; a failure beside it stands in its own place
            return replace(status, state=FAILED, tone="error")
        case _:
            return status


def _mended(status: Status, *states: str) -> Status:
    """After a success, one of these states gives way to what training is at."""
    if status.state not in states:
        return status
    state, tone = WORDS[status.phase]
    return replace(status, state=state, tone=tone)
