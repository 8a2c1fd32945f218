"""What is said where a file cannot be written."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ...core.errors import WorkbenchError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def writing(place: Path) -> Iterator[None]:
    """The drive's refusals within it become a WorkbenchError that names `place`."""
    try:
        yield
    except OSError as error:
        raise WorkbenchError(
            f"cannot be written: {error.strerror or error}", file=place, fix="Choose another place"
        ) from error
