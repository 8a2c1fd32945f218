"""What ipykernel does to a widget's messages, and the one thing this face must undo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import ipywidgets

REPLY_ROUTE = "_reply_subshell_for"  # ipykernel.comm.comm.BaseComm, 7.4


def _own_subshell(_data: object, default: str | None) -> str | None:
    return default


def answer_while_busy(widget: ipywidgets.Widget) -> None:
    """Lets the page's messages to this widget, and to the widgets in it, be handled while a cell runs.

    JupyterLab addresses them to a subshell, a thread beside the main one. ipykernel 7.4 overrules it and
    hands them to whichever shell last sent something through the same comm: that is the main one, busy, as
    soon as a cell makes the widget or a cell begins while a thread of ours sends. Callbacks and confirmations
    then wait for the end of the cell. Here the message's own address counts again, as in 7.1 to 7.3, where
    there is nothing to undo. Call it on every widget that listens, in the cell that makes it.
    """
    comm = widget.comm
    route: Callable[..., Any] | None = getattr(comm, REPLY_ROUTE, None)
    if route is not None:
        setattr(comm, REPLY_ROUTE, _own_subshell)
    for child in getattr(widget, "children", ()):
        answer_while_busy(child)
