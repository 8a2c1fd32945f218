"""How quick the desktop window is, and what it costs: start, event loop, first preview, training speed.

    xvfb-run -a -s '-screen 0 1600x1000x24' python benchmarks/faces.py [--out FILE] [--only start,loop,preview,speed]

start    seconds from the start of a process until the window can be used, and until its first eight images
loop     lateness of a 5 ms timer in Qt's loop while the bundled recipe trains at full speed
preview  milliseconds from a move of the guidance slider until the grid paints the network's own first output
speed    training steps for each second of the training process's CPU time: window against no window, in pairs

The window is real: worker on its own thread, Qt's own timers. Measure on a machine that does nothing else. Under
Xvfb the server paints in a process of its own, whose CPU time is told beside; on a desktop it is the compositor's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QApplication

    from imagen_workbench.core.recipe import Recipe
    from imagen_workbench.workbench.desktop.window import Window
    from imagen_workbench.workbench.presenters.bench import Bench

STARTS, MOVES, PAIRS = 7, 30, 15
LOOP_SECONDS, TICK = 60, 5
SPEED_STEPS = 150
PATIENCE = 300

STARTING = """
import sys, time
began = float(sys.argv[1])
from imagen_workbench.workbench import app
from PySide6.QtCore import QEvent, QObject, QTimer
from PySide6.QtWidgets import QApplication

class Watch(QObject):
    window = painted = 0.0
    def eventFilter(self, seen, event):
        window = next((each for each in QApplication.topLevelWidgets() if type(each).__name__ == "Window"), None)
        if not self.painted and window and event.type() == QEvent.Type.Paint and seen is window.draw_page.draw:
            self.painted = time.time() - began
            QTimer.singleShot(0, self.look)
        return False
    def look(self):
        window = next(each for each in QApplication.topLevelWidgets() if type(each).__name__ == "Window")
        if window.bench.drawing.state.drawn is None:
            QTimer.singleShot(5, self.look)
        else:
            window.grab()
            print(self.painted, time.time() - began, len(window.bench.drawing.state.images), flush=True)
            window.bench.close()

watch = Watch()
real_exec = QApplication.exec
def filtered(*args):
    QApplication.instance().installEventFilter(watch)
    return real_exec()
QApplication.exec = filtered
sys.exit(app.run())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--only", default="start,loop,preview,speed", help="which, separated by commas")
    parser.add_argument("--quick", action="store_true", help="a smoke run: few repetitions, figures without worth")
    parser.add_argument("--as", dest="role", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        print(json.dumps(ROLES[arguments.role](arguments.quick)))
        return
    figures: dict[str, Any] = {"machine": machine(), "quick": arguments.quick}
    wanted = arguments.only.split(",")
    for name, measure in (("start", starts), ("loop", loops), ("preview", previews), ("speed", speeds)):
        if name in wanted:
            figures[name] = measure(arguments.quick)
            print_table(name, figures[name])
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def machine() -> dict[str, Any]:
    import PySide6
    import torch

    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "pyside": PySide6.__version__,
        "platform": os.environ.get("QT_QPA_PLATFORM") or ("xcb" if os.environ.get("DISPLAY") else "offscreen"),
    }


def print_table(name: str, rows: dict[str, Any]) -> None:
    print(f"\n{name}")
    for key, value in rows.items():
        if isinstance(value, list):
            continue
        print(f"  {key:<44} {value:>10,.3f}" if isinstance(value, float) else f"  {key:<44} {value:>10}")


def percentile(values: list[float], share: float) -> float:
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, round(share * (len(ranked) - 1)))]


def alone(role: str, quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """A measurement in a process of its own, with a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, __file__, "--as", role, *(["--quick"] if quick else [])]
        done = subprocess.run(command, env=at_home(home), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{role} failed:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def at_home(home: str) -> dict[str, str]:
    """The environment of a measured process. Compiled modules are kept, as those of an installed wheel are."""
    place = Path(tempfile.gettempdir()) / "faces-benchmark"
    cache = os.environ.get("IMAGEN_WORKBENCH_CACHE") or str(place / "cache")
    given = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    kept = {"PYTHONPYCACHEPREFIX": str(place / "compiled")}
    return given | kept | {"IMAGEN_WORKBENCH_HOME": home, "IMAGEN_WORKBENCH_CACHE": cache}


# --- start ----------------------------------------------------------------------------------------


def starts(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Each in a fresh process; one start goes before them, which reads the libraries from the drive."""
    shown, drawn = [], []
    for number in range(2 if quick else STARTS + 1):
        with tempfile.TemporaryDirectory() as home:
            command = [sys.executable, "-c", STARTING, repr(time.time())]
            done = subprocess.run(command, env=at_home(home), capture_output=True, text=True, check=True)
        window, first, count = done.stdout.split()
        assert int(count) == 8, count
        if number:
            shown.append(float(window))
            drawn.append(float(first))
    return {
        "s to the window, median (goal 1.5)": statistics.median(shown),
        "s to the window, slowest": max(shown),
        "s to 8 images, median (goal 5)": statistics.median(drawn),
        "s to 8 images, slowest": max(drawn),
        "window": shown,
        "images": drawn,
    }


# --- the window in this process -------------------------------------------------------------------


def open_window() -> tuple[QApplication, Bench, Window]:
    """As `workbench.app` does, short of entering the loop."""
    from PySide6.QtWidgets import QApplication

    from imagen_workbench.core.worker import Worker
    from imagen_workbench.workbench.desktop import theme
    from imagen_workbench.workbench.desktop.qt_thread import QtThread
    from imagen_workbench.workbench.desktop.window import Window
    from imagen_workbench.workbench.presenters.bench import Bench

    app = QApplication([])
    theme.apply(app)
    worker = Worker()
    bench = Bench(worker, QtThread(app))
    window = Window(bench)
    window.show()
    worker.start()
    bench.start()
    return app, bench, window


def wait(until: Callable[[], Any]) -> None:
    """Turns Qt's loop, without spinning, until something holds."""
    from PySide6.QtCore import QEventLoop, QTimer

    loop = QEventLoop()
    looking = QTimer()
    looking.timeout.connect(lambda: loop.quit() if until() else None)
    looking.start(20)
    QTimer.singleShot(1000 * PATIENCE, loop.quit)
    if not until():
        loop.exec()
    if not until():
        raise SystemExit("waited in vain")


def end(bench: Bench) -> None:
    bench.close()
    wait(lambda: bench.is_closed)
    bench.worker.join(30)


def begin_training(bench: Bench, window: Window, steps: int) -> None:
    """The bundled recipe, from the Train page."""
    wait(lambda: bench.drawing.state.drawn and bench.training.state.data)
    window.go_to("train")
    for key, value in without_pauses(steps).items():
        bench.training.set(key, str(value))
    window.train_page.start.click()
    wait(lambda: step_of(bench) >= 3)


def without_pauses(steps: int) -> dict[str, Any]:
    return {"training.steps": steps}


def step_of(bench: Bench) -> int:
    progress = bench.training.state.progress
    return progress.step if progress else 0


# --- event loop -----------------------------------------------------------------------------------


def loops(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    return alone("loop", quick)


def loop_alone(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Lateness of a precise timer: how long what the person does would wait."""
    from PySide6.QtCore import Qt, QTimer

    _, bench, window = open_window()
    begin_training(bench, window, 1_000_000)
    late: list[float] = []
    expected = [0.0]

    def tick() -> None:
        now = time.perf_counter()
        late.append(1000 * (now - expected[0]))
        expected[0] = now + TICK / 1000

    timer = QTimer()
    timer.setTimerType(Qt.TimerType.PreciseTimer)
    timer.timeout.connect(tick)
    ends = time.perf_counter() + (8 if quick else LOOP_SECONDS)
    began, first = time.perf_counter(), step_of(bench)
    expected[0] = began + TICK / 1000
    timer.start(TICK)
    wait(lambda: time.perf_counter() > ends)
    timer.stop()
    rate = (step_of(bench) - first) / (time.perf_counter() - began)
    end(bench)
    late = [max(0.0, each) for each in late]
    return {
        "ms late, median": statistics.median(late),
        "ms late, p99 (goal 20)": percentile(late, 0.99),
        "ms late, p99.9": percentile(late, 0.999),
        "ms late, most (goal 100)": max(late),
        "timer events": len(late),
        "steps/s meanwhile": rate,
    }


# --- preview --------------------------------------------------------------------------------------


def previews(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    return alone("preview", quick)


def preview_alone(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Moves the guidance slider by the mouse; the grid's paint with the new request's first preview ends the wait."""
    from PySide6.QtCore import QEvent, QEventLoop, QObject, QPoint, Qt
    from PySide6.QtTest import QTest

    from imagen_workbench.core.events import Preview

    app, bench, window = open_window()
    grid, slider = window.draw_page.grid, window.draw_page.settings["guidance"].slider
    arrived: dict[int, int] = {}

    class Watch(QObject):
        painted = 0.0

        def eventFilter(self, _seen: QObject, event: QEvent) -> bool:
            if event.type() == QEvent.Type.Paint and arrived and not self.painted:
                self.painted = -1  # this paint shows it; its end is the next event
                app.postEvent(self, QEvent(QEvent.Type.User))
            return False

        def event(self, event: QEvent) -> bool:
            if event.type() == QEvent.Type.User:
                self.painted = time.perf_counter()
            return super().event(event)

    watch = Watch()
    grid.installEventFilter(watch)
    presenter = bench.drawing
    hand_on = presenter.on_event

    def listen(event: Any) -> None:
        hand_on(event)
        if isinstance(event, Preview) and event.ticket == presenter._ticket and event.ticket not in arrived:
            arrived[event.ticket] = event.step

    presenter.on_event = listen  # type: ignore[method-assign]
    times = []
    middle = slider.height() // 2
    for number in range(5 if quick else MOVES):
        wait(lambda: presenter.state.drawn and not presenter.state.drawing)
        arrived.clear()
        watch.painted = 0.0
        x = slider.width() // 4 + (number * 37) % (slider.width() // 2)
        if abs(x - slider.x_of(slider.value())) < 12:
            x += 24  # on the handle, a press moves nothing
        began = time.perf_counter()
        QTest.mousePress(slider, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(x, middle))
        while watch.painted <= 0:
            app.processEvents(QEventLoop.ProcessEventsFlag.WaitForMoreEvents)
            if time.perf_counter() - began > PATIENCE:
                raise SystemExit("no preview came")
        times.append(1000 * (watch.painted - began))
        QTest.mouseRelease(slider, Qt.MouseButton.LeftButton, Qt.KeyboardModifier.NoModifier, QPoint(x, middle))
    end(bench)
    return {
        "ms to the first preview, median (goal 300)": statistics.median(times),
        "ms to the first preview, p95": percentile(times, 0.95),
        "ms to the first preview, most": max(times),
        "moves": len(times),
        "times": times,
    }


# --- speed ----------------------------------------------------------------------------------------


def speeds(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    """Pairs of window and no window, in turn, each in a fresh process; the ratio of each pair counts."""
    ratios, walls, with_window, without, server = [], [], [], [], []
    for number in range(1 if quick else PAIRS):
        order = ("window", "headless") if number % 2 else ("headless", "window")
        found: dict[str, dict[str, Any]] = {}
        for role in order:
            before = server_seconds()
            found[role] = alone(role, quick)
            if role == "window":
                server.append((server_seconds() - before) / found[role]["seconds"])
        ratios.append(found["window"]["per_cpu_second"] / found["headless"]["per_cpu_second"])
        walls.append(found["window"]["per_second"] / found["headless"]["per_second"])
        with_window.append(found["window"]["per_cpu_second"])
        without.append(found["headless"]["per_cpu_second"])
    return {
        "steps per CPU second, headless, median": statistics.median(without),
        "steps per CPU second, window, median": statistics.median(with_window),
        "% slower by CPU time, median pair (goal 3)": 100 * (1 - statistics.median(ratios)),
        "% slower by the clock, median pair": 100 * (1 - statistics.median(walls)),
        "X server, cores beside it": statistics.median(server),
        "pairs": len(ratios),
        "ratios": ratios,
    }


def cpu_seconds() -> float:
    spent = os.times()
    return spent.user + spent.system


def server_seconds() -> float:
    """CPU time of the X server on this display, where it is a process that can be seen."""
    display = os.environ.get("DISPLAY", "").partition(".")[0]
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
            if words[0].rpartition(b"/")[2] in (b"Xvfb", b"Xorg", b"X") and display.encode() in words:
                fields = (path.parent / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return 0.0


def steps_of(quick: bool) -> tuple[int, int]:  # noqa: FBT001
    """From which step to which it is measured."""
    return (3, 23) if quick else (10, 10 + SPEED_STEPS)


def window_alone(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    first, last = steps_of(quick)
    _, bench, window = open_window()
    begin_training(bench, window, last + 1_000)
    wait_step(bench, first)
    spent, began, at = cpu_seconds(), time.perf_counter(), step_of(bench)
    wait_step(bench, last)
    result = rates(step_of(bench) - at, cpu_seconds() - spent, time.perf_counter() - began)
    end(bench)
    return result


def wait_step(bench: Bench, step: int) -> None:
    wait(lambda: step_of(bench) >= step)


def headless_alone(quick: bool) -> dict[str, Any]:  # noqa: FBT001
    from imagen_workbench.core.events import Progress
    from imagen_workbench.core.worker.headless import train

    first, last = steps_of(quick)
    marks: list[tuple[int, float, float]] = []

    class Enough(Exception):
        pass

    def listen(event: Any) -> None:
        if isinstance(event, Progress) and event.step in (first, last):
            marks.append((event.step, cpu_seconds(), time.perf_counter()))
            if event.step == last:
                raise Enough

    with contextlib.suppress(Enough):
        train(digits().with_values(without_pauses(last + 1_000)), on_event=listen)
    (step, spent, began), (to_step, spent_then, ended) = marks
    return rates(to_step - step, spent_then - spent, ended - began)


def rates(steps: int, cpu: float, seconds: float) -> dict[str, Any]:
    return {"per_cpu_second": steps / cpu, "per_second": steps / seconds, "steps": steps, "seconds": seconds}


def digits() -> Recipe:
    from imagen_workbench.core.extensions import bundled_recipes
    from imagen_workbench.core.recipe import Recipe

    return Recipe.read(bundled_recipes()["digits"])


ROLES: dict[str, Callable[[bool], dict[str, Any]]] = {
    "loop": loop_alone,
    "preview": preview_alone,
    "window": window_alone,
    "headless": headless_alone,
}


if __name__ == "__main__":
    main()
