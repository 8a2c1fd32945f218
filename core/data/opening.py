"""What is known of a source once it is open, before any of its examples is read."""

from __future__ import annotations

import operator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .mixture import Mixture
from .source import Attribute, Facts, Stream

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from ..recipe import Data
    from .source import Source


@dataclass(frozen=True)
class Opened:
    """kind: of which class it is; streams: whether it is a `Stream`; length: examples that are to be read, None where
    only reading will tell; fingerprint: empty where it has none.

    facts: without captions, for which examples would have to be read; parts: examples of each part of a mixture,
    which come one part after the other.
    """

    kind: str
    streams: bool
    length: int | None
    fingerprint: str
    options: Mapping[str, Any]
    facts: Facts
    parts: tuple[int, ...] = ()

    @classmethod
    def of(cls, source: Source | Stream, settings: Data, *, fingerprint: bool = True) -> Self:
        """Asks a source. fingerprint: whether for that, too, which may take long.

        Raises what the source raises, or TypeError where it answers with what it should not.
        """
        classes, attributes, fields = tuple(source.classes), tuple(source.attributes), tuple(source.fields)
        for name in (*classes, *fields):
            if not isinstance(name, str):
                raise TypeError(f"a class or a field is called {name!r}, which is no text")
        for attribute in attributes:
            if not isinstance(attribute, Attribute):
                raise TypeError(f"{attribute!r} is no Attribute")
        told = source.fingerprint() if fingerprint else ""
        if not isinstance(told, str):
            raise TypeError(f"its fingerprint is {type(told).__name__}, not text")
        streams = isinstance(source, Stream)
        length = source.length if isinstance(source, Stream) else len(source)
        if settings.most:
            length = settings.most if length is None else min(length, settings.most)
        kind = f"{type(source).__module__}:{type(source).__qualname__}"
        facts = Facts(classes, attributes, fields, (), settings.size, settings.channels)
        options = source.options.model_dump(mode="json")
        parts = source.lengths if isinstance(source, Mixture) else ()
        # as it comes back from a loader process
        return cls(kind, streams, _count(length), told, options, Facts.of(facts.as_dict()), parts)

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """The reverse. Raises KeyError, TypeError or ValueError where it is no such."""
        facts = Facts.of(told["facts"])
        length, options = _count(told["length"]), dict(told["options"])
        parts = tuple(operator.index(each) for each in told.get("parts", ()))
        return cls(str(told["kind"]), bool(told["streams"]), length, str(told["fingerprint"]), options, facts, parts)


def _count(length: Any) -> int | None:
    """Raises TypeError or ValueError where it is neither None nor a number from 0 on."""
    if length is None:
        return None
    if operator.index(length) < 0:
        raise ValueError(f"its length is {length}")
    return operator.index(length)
