"""How commands speak: bars and lines that tell how far they have come, tables at the width of a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from imagen_workbench.core.errors import WorkbenchError
from imagen_workbench.workbench.terminal.console import plain_console
from imagen_workbench.workbench.terminal.meter import Meter
from imagen_workbench.workbench.terminal.table import print_table, table_lines
from imagen_workbench.workbench.terminal.writing import writing


class Clock:
    """Stands still until a test moves it."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Screen(io.StringIO):
    """Takes what a terminal would."""

    def isatty(self) -> bool:
        return True


def screen_console(width: int = 80) -> tuple[Screen, Console]:
    screen = Screen()
    return screen, Console(file=screen, force_terminal=True, width=width, highlight=False, markup=False, emoji=False)


# --- how far it has come --------------------------------------------------------------------------


def test_a_log_gets_a_line_every_ten_seconds_and_at_each_change() -> None:
    log, clock = io.StringIO(), Clock()
    with Meter(Console(file=log, width=20), clock) as meter:
        meter.show("Reading images", 0, 1200)
        for second in range(1, 25):
            clock.now = float(second)
            meter.show("Reading images", 50 * second, 1200)
        meter.say("Run folder: somewhere")
        meter.show("step", 1, 2000, "480 images/s", "", "loss 0.213", seconds_left=185.0)
        clock.now += 9.9
        meter.show("step", 80, 2000, "480 images/s", "loss 0.190", seconds_left=175.0)
        clock.now += 0.1
        meter.show("step", 120, 2000, "480 images/s", "loss 0.180", seconds_left=float("nan"))
    assert log.getvalue().splitlines() == [
        "Reading images 0 of 1,200",
        "Reading images 500 of 1,200, 14 s left",
        "Reading images 1,000 of 1,200, 4 s left",
        "Run folder: somewhere",
        "step 1 of 2,000, 480 images/s, loss 0.213, 3 min 5 s left",
        "step 120 of 2,000, 480 images/s, loss 0.180",
    ]


def test_the_time_left_counts_from_where_the_work_went_on() -> None:
    log, clock = io.StringIO(), Clock()
    with Meter(Console(file=log, width=80), clock) as meter:
        meter.show("Drawing", 900, 1000)
        clock.now = 10.0
        meter.show("Drawing", 920, 1000)
    assert log.getvalue().splitlines()[-1] == "Drawing 920 of 1,000, 40 s left"


def test_a_log_that_is_asked_for_colours_has_no_bar() -> None:
    log = io.StringIO()
    with Meter(Console(file=log, width=80, force_terminal=True, highlight=False)) as meter:
        meter.show("Drawing", 1, 2)
    assert log.getvalue() == "Drawing 1 of 2\n"


def test_a_terminal_has_a_bar_which_fits() -> None:
    screen, console = screen_console()
    with Meter(console) as meter:
        meter.say("Run folder: [here]")
        meter.show("step", 1234, 2000, "480 images/s", "loss 0.213", seconds_left=185.0)
    text = screen.getvalue()
    assert "Run folder: [here]" in text
    assert "━" in text
    last = next(line for line in reversed(text.splitlines()) if "━" in line)
    assert "step 1,234 of 2,000" in last
    assert "480 images/s  loss 0.213  3 min 5 s left" in last


def test_a_bar_that_never_moved_is_taken_away() -> None:
    screen, console = screen_console()
    with pytest.raises(WorkbenchError), Meter(console):
        raise WorkbenchError("no such folder")
    assert screen.getvalue().rstrip().endswith("\x1b[2K"), "the line is cleared"


# --- tables ---------------------------------------------------------------------------------------

COLUMNS = ("run", "state", "step", "folder")
ROWS = [
    (
        "portrait-of-a-very-long-name-2026-11-24-second-attempt",
        "can go on",
        "1,200 of 12,000",
        Path("/a/very long/w"),
    ),
    ("数字-2026-11-24", "damaged: " + "the recipe is no TOML " * 4, "", Path("/数据/试验 一/数字-2026-11-24")),
]


@pytest.mark.parametrize("room", [20, 80, 400])
def test_names_states_figures_and_paths_stay_whole(room: int) -> None:
    head, body = table_lines(COLUMNS, ROWS, ("state",), room)
    lines = [head, *body]
    for name, _, step, folder in ROWS:
        (line,) = (line for line in lines if name in line)
        assert step in line
        assert str(folder) in line
    assert any("can go on" in line for line in lines)
    words = " ".join(lines).split()
    assert set(ROWS[1][1].split()) <= set(words)
    for line in lines:
        assert line == line.rstrip()


def test_prose_wraps_at_words_where_that_makes_a_line_fit() -> None:
    about = "Handwritten digits, 28 × 28 px, 60,000 to train and 10,000 to test; downloaded, 12 MB."
    head, body = table_lines(("name", "what it is", "needs"), [("mnist", about, "data.path")], ("what it is",), 60)
    assert all(cell_len(line) <= 60 for line in body)
    assert len(body) > 1
    column = head.index("what it is")
    told = " ".join(line[column : column + 42].strip() for line in body)
    assert told == about
    assert body[0].endswith("data.path")


def test_columns_are_aligned_by_width_not_by_letters() -> None:
    _, body = table_lines(("a", "b"), [("数字", "1"), ("ab", "2"), ("e\N{COMBINING ACUTE ACCENT}", "3")], (), 80)
    assert {cell_len(line) for line in body} == {7}


def test_room_that_one_text_leaves_goes_to_the_other() -> None:
    _, body = table_lines(("a", "b"), [("short", "word " * 20)], ("a", "b"), 60)
    assert 50 < max(map(cell_len, body)) <= 60


def test_outside_a_terminal_a_row_is_a_line() -> None:
    log = io.StringIO()
    print_table(Console(file=log, width=40), COLUMNS, ROWS, prose=("state",))
    assert len(log.getvalue().splitlines()) == 1 + len(ROWS)


def test_a_terminal_gets_long_lines_whole() -> None:
    screen, console = screen_console(40)
    print_table(console, COLUMNS, ROWS, prose=("state",))
    for *_, folder in ROWS:
        assert str(folder) in screen.getvalue()


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    console = plain_console()
    print_table(console, ("name",), [("[bold]x[/] :cat: [/nothing]",)])
    console.print("[red]y[/] :dog:", soft_wrap=True)
    assert capsys.readouterr().out.splitlines() == ["name", "[bold]x[/] :cat: [/nothing]", "[red]y[/] :dog:"]


# --- writing --------------------------------------------------------------------------------------


def test_what_cannot_be_written_names_the_place(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    place = tmp_path / "file" / "grid.png"
    with pytest.raises(WorkbenchError, match=r"grid\.png: cannot be written: Not a directory"), writing(place):
        place.write_bytes(b"")
