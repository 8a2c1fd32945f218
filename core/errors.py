"""Errors that say what is wrong, where, and what to do about it."""

from __future__ import annotations


def one_line(place: str, what: str, fix: str) -> str:
    """ "place: what. Fix."; place and fix may be empty."""
    line = f"{place}: {what}" if place else what
    if not fix:
        return f"{line}."
    return f"{line}. {fix}" + ("" if fix.endswith("?") else ".")


class WorkbenchError(Exception):
    """What went wrong, its place and its remedy, on one line when printed.

    what: a clause without full stop ("unknown key", "30 is not a multiple of 4").
    field: a dotted recipe key; file: a path; tensor: a tensor's name: the place, where known.
    fix: a sentence that says what to do.
    """

    def __init__(
        self,
        what: str,
        *,
        field: str = "",
        file: object = "",
        tensor: str = "",
        fix: str = "",
    ) -> None:
        self.what = what.rstrip(".")
        self.field = field
        self.file = str(file) if file else ""
        self.tensor = tensor
        self.fix = fix.rstrip(".")
        super().__init__(str(self))

    @property
    def place(self) -> str:
        """The first known of field, file and tensor; empty where none is."""
        return self.field or self.file or self.tensor

    def __str__(self) -> str:
        return one_line(self.place, self.what, self.fix)


class RecipeError(WorkbenchError):
    """A recipe that cannot be used as it stands."""


class DataError(WorkbenchError):
    """A dataset that cannot be read, or has nothing in it."""


class ModelError(WorkbenchError):
    """A model that cannot be found, read, or used for what was asked."""


class RunError(WorkbenchError):
    """A run folder that cannot be used: damaged, taken, or not there."""


class PluginError(WorkbenchError):
    """A plugin that is missing, broken, or returned something it should not."""


class RequestError(WorkbenchError):
    """A command that cannot be carried out: its settings, or the worker's state."""
