"""Rows of settings as one widget: the page draws them, tells of edits as typed, and shows what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import anywidget
import traitlets

from ..presenters.forms import FormField, text_of
from .assets import asset
from .comms import answer_while_busy

if TYPE_CHECKING:
    from collections.abc import Collection

Kind = Literal["number", "text", "choice", "search", "chips", "switch", "seed", "fold", "words", "lines"]


@dataclass(frozen=True)
class Row:
    """One setting. All values are texts, as a person types them.

    stops: where a number's slider can stand; default: what a double click on it gives.
    placeholder: what an empty text means.
    choices: (value, label); other: the label of a last choice that opens a field for anything else.
    A fold has two choices, no and yes: what it says while the rows that it unfolds are away, and while they are there.
    """

    key: str
    kind: Kind
    label: str = ""
    help: str = ""
    unit: str = ""
    note: str = ""
    wide: bool = False
    choices: tuple[tuple[str, str], ...] = ()
    other: str = ""
    stops: tuple[str, ...] = ()
    default: str = ""
    placeholder: str = ""


Groups = Sequence[tuple[str, Sequence[Row]]]


class Form(anywidget.AnyWidget):
    """Groups of rows. `edited(key, text)` and `pressed(key)` are called on a thread of the kernel.

    An edit is on its way until `hear` has been told of it: meanwhile the page keeps what the person did, and of
    further edits of the same row only the newest, so that a slider never runs ahead of the kernel.
    """

    _esm = asset("rows.js", "form.js")
    groups = traitlets.List().tag(sync=True)
    values = traitlets.Dict().tag(sync=True)
    errors = traitlets.Dict().tag(sync=True)
    changed = traitlets.List(help="keys that get a dot").tag(sync=True)
    off = traitlets.Dict(help="key -> why it cannot be used now").tag(sync=True)
    hidden = traitlets.List(help="keys of rows that are not there now").tag(sync=True)
    heard = traitlets.Dict(help="page -> number of its last edit that was handled").tag(sync=True)

    def __init__(self, groups: Groups = (), *, kind: str = "iw-form") -> None:
        self.edited: Callable[[str, str, Callable[[], None]], None] | None = None
        self.pressed: Callable[[str], None] | None = None
        self._rows: dict[str, Row] = {}
        self._shown: object = None
        self._heard: dict[str, int] = {}
        super().__init__()
        self.add_class(kind)
        self.lay_out(groups)
        self.on_msg(self._on_message)
        answer_while_busy(self)

    @property
    def rows(self) -> dict[str, Row]:
        return self._rows

    def lay_out(self, groups: Groups) -> None:
        """Shows other rows, where they are others."""
        if groups == self._shown:
            return
        self._shown = groups
        self._rows = {row.key: row for _, rows in groups for row in rows}
        self.groups = [{"title": title, "rows": [_told(row) for row in rows]} for title, rows in groups]

    def show(
        self,
        values: Mapping[str, str],
        errors: Mapping[str, str] | None = None,
        *,
        changed: Collection[str] = (),
        off: Mapping[str, str] | None = None,
        hidden: Collection[str] = (),
    ) -> None:
        """Shows all of it; what is as before is not sent."""
        with self.hold_sync():
            self.values = {key: text for key, text in values.items() if key in self._rows}
            self.errors = {key: text for key, text in (errors or {}).items() if text}
            self.changed = sorted(changed)
            self.off = {key: why for key, why in (off or {}).items() if why}
            self.hidden = sorted(hidden)
            self.heard = dict(self._heard)

    @property
    def is_behind(self) -> bool:
        """Whether the page waits to be told that an edit was handled."""
        return self._heard != self.heard

    def copy(self, text: str) -> None:
        """Puts a text where the person can paste it from."""
        self.send({"kind": "copy", "text": text})

    def _hear(self, page: str, number: int) -> None:
        self._heard[page] = max(number, self._heard.get(page, 0))

    def _on_message(self, _widget: object, content: Mapping[str, Any], _buffers: object) -> None:
        key = str(content.get("key", ""))
        usable = key in self._rows and key not in self.off and key not in self.hidden
        match content.get("kind"):
            case "edit" if self.edited:
                page, number = str(content["page"]), int(content["number"])
                # what cannot be edited is heard all the same, so that the page shows what holds
                self.edited(key if usable else "", str(content["text"]), lambda: self._hear(page, number))
            case "press" if self.pressed and usable:
                self.pressed(str(content.get("button", "")))
            case _:
                pass


def row_of(field: FormField) -> Row:
    """A field of a recipe or of a plugin's options as a row."""
    if field.kind == "choice":
        choices = tuple((text_of(choice), text_of(choice)) for choice in field.choices)
        return Row(field.key, "choice", field.label, field.help, choices=choices)
    if field.kind == "boolean":
        return Row(field.key, "switch", field.label, field.help)
    low, high = field.minimum, field.maximum
    span = f" {low:g} to {high:,.6g}." if low is not None and high is not None and high < 1e12 else ""
    wide = field.kind == "text"
    return Row(field.key, "text", field.label, f"{field.help}{span}", unit="" if wide else field.unit, wide=wide)


def _told(row: Row) -> dict[str, Any]:
    """A row as the page reads it, without what is not said."""
    return {name: value for name, value in asdict(row).items() if value}
