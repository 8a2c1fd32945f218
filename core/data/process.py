"""One loader process from our side: started, asked, listened to, ended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from ..errors import DataError
from .frames import read_frame, write_frame

if TYPE_CHECKING:
    import queue

LEFT_OVER = 5.0
"""Seconds after which a process that was ended is taken for gone, though its pipe is still open."""
LAST_WORDS = 4096
"""Bytes of what it printed that are kept."""
KEEPS_MEMORY = {"MALLOC_TRIM_THRESHOLD_": str(1 << 28), "MALLOC_MMAP_THRESHOLD_": str(1 << 28)}
"""For glibc: giving memory back after each image and asking for it again took a quarter of the time."""
START = "import sys; sys.path[:] = sys.argv[1:]; from imagen_workbench.core.datasets import load; load()"


@dataclass
class Task:
    """What a process was asked. first, end: the examples that are still to come, for "decode"; name: of the first."""

    do: str
    limit: float
    first: int = 0
    end: int = 0
    name: str = ""


class Process:
    """A loader process, with two threads that listen to it. What it says goes to `arrived`, at last None."""

    def __init__(self, arrived: queue.SimpleQueue[tuple[Process, Any, Any]]) -> None:
        """Raises DataError where none can be started."""
        self.tasks: deque[Task] = deque()
        self._asked: set[str] = set()
        self._arrived = arrived
        self._since = time.monotonic()
        self._ended: float | None = None
        self._reason = ""
        self._printed = b""
        apart: dict[str, Any] = (
            {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
            if sys.platform == "win32"
            else {"start_new_session": True}
        )
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter
                [sys.executable, "-P", "-c", START, *sys.path],
                stdin=pipe,
                stdout=pipe,
                stderr=pipe,
                env=KEEPS_MEMORY | os.environ | {"OMP_NUM_THREADS": "1"},
                **apart,
            )
        except OSError as error:
            raise DataError(
                f"no process can be started to read the data: {error.strerror or error}", fix="Close other programs"
            ) from error
        self._threads = [
            threading.Thread(target=listen, name=f"imagen-workbench loader {self._process.pid}", daemon=True)
            for listen in (self._hear, self._overhear)
        ]
        for thread in self._threads:
            thread.start()

    def ask(self, task: Task, **more: Any) -> None:
        """One more thing to do, after what it was asked before."""
        if not self.tasks:
            self._since = time.monotonic()
        self.tasks.append(task)
        self._asked.add(task.do)
        with contextlib.suppress(OSError):  # it is gone, and will be missed
            write_frame(
                self._requests, {"do": task.do, "limit": task.limit, "first": task.first, "end": task.end, **more}
            )

    @property
    def _requests(self) -> BinaryIO:
        return cast("BinaryIO", self._process.stdin)

    def was_asked_to(self, do: str) -> bool:
        return do in self._asked

    def look(self) -> None:
        """Ends it where it has taken too long."""
        now = time.monotonic()
        if self._ended is not None:
            if now - self._ended > LEFT_OVER:
                self._arrived.put((self, None, ()))
        elif self.tasks and now - self._since > self.tasks[0].limit:
            self.end(f"took longer than {self.tasks[0].limit:g} s and was ended")

    def end(self, reason: str = "") -> None:
        """At once, with all that it has started."""
        if self._ended is not None:
            return
        self._ended, self._reason = time.monotonic(), reason
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()

    def why_gone(self) -> str:
        """Why it is no more, once it is."""
        said = self._reason
        self.close()
        code = self._process.returncode
        if said:
            return said
        if code is None or code >= 0:
            return f"ended its process (exit code {code})"
        hint = ", perhaps for want of memory" if code == -9 else ""
        return f"brought its process down (signal {-code}{hint})"

    def last_words(self) -> str:
        """The end of what it printed."""
        return self._printed.decode(errors="replace").strip()

    def close(self) -> None:
        """Ends it and waits until nothing is left of it."""
        self.end()
        self._process.wait()
        for thread in self._threads:
            thread.join(LEFT_OVER)
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()

    def _hear(self) -> None:
        pipe = cast("BinaryIO", self._process.stdout)
        try:
            while (frame := read_frame(pipe)) is not None:
                self._since = time.monotonic()
                self._arrived.put((self, *frame))
        except (ValueError, OSError):
            self._reason = "said what cannot be understood"
        self._arrived.put((self, None, ()))

    def _overhear(self) -> None:
        pipe = cast("BinaryIO", self._process.stderr)
        with contextlib.suppress(ValueError, OSError):
            while printed := pipe.read1(1 << 16):  # type: ignore[attr-defined]
                self._printed = (self._printed + printed)[-LAST_WORDS:]
