"""The table of states: what each command does in each state of training. Data, so that a test walks all of it."""

from __future__ import annotations

from enum import StrEnum

from ..commands import (
    CancelDraw,
    Close,
    Command,
    Draw,
    OpenModel,
    Pause,
    ReadCatalogue,
    Resume,
    ShowData,
    Stop,
    Train,
)
from ..events import Phase


class Act(StrEnum):
    """What the worker does about a command."""

    BEGIN = "begin"
    HOLD = "hold"
    GO_ON = "go on"
    END = "end"
    ANSWER = "answer"
    SHUT = "shut"


IDLE, PREPARING, TRAINING = Phase.IDLE, Phase.PREPARING, Phase.TRAINING
PAUSED, STOPPING, CLOSED = Phase.PAUSED, Phase.STOPPING, Phase.CLOSED

_BUSY = "Training is under way. Stop it first."
_NONE = "Nothing is training."
_ENDING = "Training is being stopped."
_OVER = "The worker has ended."

_ANSWERED = (ReadCatalogue, OpenModel, Draw, CancelDraw, ShowData)

TABLE: dict[type[Command], dict[Phase, Act | str]] = {
    **{
        command: {phase: Act.ANSWER for phase in Phase if phase is not CLOSED} | {CLOSED: _OVER}
        for command in _ANSWERED
    },
    Train: {IDLE: Act.BEGIN, PREPARING: _BUSY, TRAINING: _BUSY, PAUSED: _BUSY, STOPPING: _ENDING, CLOSED: _OVER},
    Pause: {
        IDLE: _NONE,
        PREPARING: "The data is still being prepared.",
        TRAINING: Act.HOLD,
        PAUSED: "Training is paused already.",
        STOPPING: _ENDING,
        CLOSED: _OVER,
    },
    Resume: {
        IDLE: _NONE,
        PREPARING: "Training is not paused.",
        TRAINING: Act.GO_ON,  # takes back a pause that waits for the step to end
        PAUSED: Act.GO_ON,
        STOPPING: _ENDING,
        CLOSED: _OVER,
    },
    Stop: {IDLE: _NONE, PREPARING: Act.END, TRAINING: Act.END, PAUSED: Act.END, STOPPING: _ENDING, CLOSED: _OVER},
    Close: {phase: Act.SHUT for phase in Phase if phase is not CLOSED} | {CLOSED: _OVER},
}
"""command → state → what is done about it, or the sentence that says why nothing is."""


def decide(command: Command, phase: Phase) -> Act | str:
    """What the table says. Every command has a row; a missing one is our mistake."""
    return TABLE[type(command)][phase]
