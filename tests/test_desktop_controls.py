"""The desktop's building blocks, with real mouse and keys."""

from __future__ import annotations

import gc
import itertools
import weakref

import numpy as np
import pytest
from PySide6.QtCore import QCoreApplication, QEvent, QPoint, QPointF, Qt
from PySide6.QtGui import QColor, QImage, QWheelEvent
from PySide6.QtTest import QSignalSpy
from PySide6.QtWidgets import QApplication, QLineEdit, QPushButton, QSlider, QVBoxLayout, QWidget

from imagen_workbench.workbench.desktop import theme
from imagen_workbench.workbench.desktop.canvas import ImageGrid, Thumbnails, fit
from imagen_workbench.workbench.desktop.chips import Chips
from imagen_workbench.workbench.desktop.controls import ChoiceControl, SwitchControl, TextControl
from imagen_workbench.workbench.desktop.film import FilmStrip
from imagen_workbench.workbench.desktop.number import NumberControl, SeedControl
from imagen_workbench.workbench.desktop.parts import Button, Slider, Text
from imagen_workbench.workbench.desktop.pictures import evenly, to_images
from imagen_workbench.workbench.desktop.plots import BandBars, Figure, LossPlot, StepAxis
from imagen_workbench.workbench.desktop.rail import Rail, StatusBar, TopBar
from imagen_workbench.workbench.desktop.seed_table import SeedTable, thinned
from imagen_workbench.workbench.desktop.surfaces import Card, Column, Group
from imagen_workbench.workbench.presenters.numbers import read_number

CTRL = Qt.KeyboardModifier.ControlModifier
NO = Qt.KeyboardModifier.NoModifier
LEFT = Qt.MouseButton.LeftButton


class Stage:
    """Shows widgets in an active window and listens to their signals."""

    def __init__(self, qtbot) -> None:
        self.qtbot = qtbot
        self.window = QWidget()
        self.window.resize(320, 240)
        self.column = QVBoxLayout(self.window)
        qtbot.addWidget(self.window)

    def show(self, widget: QWidget, width: int = 0, height: int = 0):
        self.column.addWidget(widget)
        if width:
            self.window.resize(width + 40, (height or 100) + 40)
            widget.setFixedSize(width, height or widget.sizeHint().height())
        self.window.show()
        self.qtbot.waitExposed(self.window)
        self.window.activateWindow()
        self.qtbot.waitUntil(self.window.isActiveWindow)
        return widget

    def find(self, kind: type, name: str):
        found = self.window.findChild(kind, name)
        assert found is not None, name
        return found

    def retype(self, name: str, text: str, end: Qt.Key | None = Qt.Key.Key_Return) -> QLineEdit:
        field = self.find(QLineEdit, name)
        self.qtbot.mouseClick(field, LEFT)
        field.selectAll()
        self.qtbot.keyClicks(field, text)
        if end is not None:
            self.qtbot.keyClick(field, end)
        return field

    def wheel(self, widget: QWidget, up: int, modifiers: Qt.KeyboardModifier) -> QWheelEvent:
        middle = QPointF(widget.rect().center())
        event = QWheelEvent(
            middle,
            QPointF(widget.mapToGlobal(middle.toPoint())),
            QPoint(),
            QPoint(0, 120 * up),
            Qt.MouseButton.NoButton,
            modifiers,
            Qt.ScrollPhase.NoScrollPhase,
            False,
        )
        QApplication.sendEvent(widget, event)
        return event


@pytest.fixture
def stage(qtbot, qapp):
    theme.apply(qapp, dark=True)
    yield Stage(qtbot)
    theme.apply(qapp, dark=True)


def values(spy: QSignalSpy) -> list:
    return [spy.at(i)[0] for i in range(spy.count())]


# --- numbers --------------------------------------------------------------------------------------


@pytest.fixture
def strength(stage) -> NumberControl:
    control = NumberControl("Strength w", 0, 8, default=1.5, step=0.05, name="guidance", help="1 is as learned.")
    return stage.show(control, 272)


def test_number_is_dragged_and_tells_each_value(stage, strength):
    slider, spy = stage.find(Slider, "guidance-slider"), QSignalSpy(strength.edited)
    start = QPoint(round(slider.x_of(slider.value())), 15)
    stage.qtbot.mousePress(slider, LEFT, NO, start)
    assert spy.count() == 0, "gripping the handle moves nothing"
    for x in (start.x() + 20, start.x() + 40):
        stage.qtbot.mouseMove(slider, QPoint(x, 15))
    stage.qtbot.mouseRelease(slider, LEFT, NO, QPoint(start.x() + 40, 15))
    told = values(spy)
    assert len(told) >= 1
    assert told == sorted(told)
    assert strength.value == told[-1] > 1.5
    assert stage.find(QLineEdit, "guidance-field").text() == f"{told[-1]:.2f}"


def test_number_goes_where_the_slider_is_clicked(stage, strength):
    slider = stage.find(Slider, "guidance-slider")
    stage.qtbot.mouseClick(slider, LEFT, NO, QPoint(slider.width() - 2, 15))
    assert strength.value == 8


def test_double_click_gives_the_default(stage, strength):
    strength.show_value(6)
    spy, slider = QSignalSpy(strength.edited), stage.find(Slider, "guidance-slider")
    assert strength.label.is_changed
    stage.qtbot.mouseDClick(slider, LEFT, NO, QPoint(round(slider.x_of(slider.value())), 15))
    assert values(spy) == [1.5]
    assert not strength.label.is_changed


@pytest.mark.parametrize(("typed", "value"), [("2.5", 2.5), ("2,5", 2.5), ("1.53", 1.53), ("99", 99.0), ("-1", -1.0)])
def test_number_is_typed_even_beyond_the_slider(stage, strength, typed, value):
    spy = QSignalSpy(strength.edited)
    stage.retype("guidance-field", typed)
    assert values(spy) == [value], "told once, on Return"
    stage.find(Slider, "guidance-slider").setFocus()
    assert spy.count() == 1, "leaving the field does not tell it again"


def test_number_is_taken_when_the_field_is_left(stage, strength):
    spy = QSignalSpy(strength.edited)
    stage.retype("guidance-field", "3", Qt.Key.Key_Tab)
    assert values(spy) == [3.0]


def test_keys_step_slider_and_field(stage, strength):
    spy, slider, field = (
        QSignalSpy(strength.edited),
        stage.find(Slider, "guidance-slider"),
        stage.find(QLineEdit, "guidance-field"),
    )
    slider.setFocus()
    stage.qtbot.keyClick(slider, Qt.Key.Key_Right)
    field.setFocus()
    stage.qtbot.keyClick(field, Qt.Key.Key_Up)
    stage.qtbot.keyClick(field, Qt.Key.Key_Down)
    assert values(spy) == pytest.approx([1.55, 1.6, 1.55])


@pytest.mark.parametrize("part", ["guidance-slider", "guidance-field"])
def test_wheel_works_with_ctrl_only(stage, strength, part):
    spy = QSignalSpy(strength.edited)
    widget = stage.find(QWidget, part)
    assert not stage.wheel(widget, 1, NO).isAccepted(), "the column scrolls instead"
    assert spy.count() == 0
    stage.wheel(widget, 1, CTRL)
    assert values(spy) == pytest.approx([1.55])


def test_showing_a_value_tells_nobody(stage, strength):
    spy = QSignalSpy(strength.edited)
    strength.show_value(4)
    assert spy.count() == 0
    assert (stage.find(QLineEdit, "guidance-field").text(), strength.value) == ("4.00", 4)
    assert stage.find(QSlider, "guidance-slider").value() == 80


def test_showing_a_value_leaves_what_is_being_typed(stage, strength):
    field = stage.retype("guidance-field", "7.", end=None)
    strength.show_value(2)
    assert field.text() == "7."
    stage.qtbot.keyClick(field, Qt.Key.Key_Escape)
    assert field.text() == "2.00"


def test_a_text_that_is_no_number_is_told_and_kept(stage, strength):
    spy = QSignalSpy(strength.edited)
    field = stage.retype("guidance-field", "abc")
    assert values(spy) == ["abc"]
    assert strength.value == 1.5
    strength.show_error("Give a number; try 1.5.")
    assert field.text() == "abc"
    assert strength.message.isVisible()
    assert field.property("wrong") is True
    stage.qtbot.keyClick(field, Qt.Key.Key_Escape)
    assert (strength.error, field.text()) == ("", "1.50")


def test_refused_text_stays_with_its_error_until_mended(stage, strength):
    field = stage.retype("guidance-field", "99")
    strength.show_error("At most 20.")
    strength.show_value(1.5)
    assert (field.text(), strength.error) == ("99.00", "At most 20.")
    assert field.accessibleDescription() == "At most 20."
    spy = QSignalSpy(strength.edited)
    stage.retype("guidance-field", "2")
    assert values(spy) == [2.0]
    assert strength.error == ""
    assert field.property("wrong") is False


def test_error_has_its_colour_and_gives_its_place_back(stage, strength):
    plain = strength.sizeHint().height()
    strength.show_error("Above 0.05 training diverges. Try 0.002.")
    QCoreApplication.processEvents()
    assert strength.sizeHint().height() > plain
    picture = strength.message.grab().toImage()
    wanted = QColor(theme.DARK.error)
    assert any(picture.pixelColor(x, y) == wanted for x in range(picture.width()) for y in range(picture.height()))
    strength.show_error("")
    assert strength.sizeHint().height() == plain


def test_whole_numbers_stay_whole_and_logarithmic_steps_grow(stage):
    control = stage.show(NumberControl("Steps", 1, 1000, default=18, integer=True, logarithmic=True, name="steps"), 272)
    spy, field = QSignalSpy(control.edited), stage.find(QLineEdit, "steps-field")
    field.setFocus()
    stage.qtbot.keyClick(field, Qt.Key.Key_Up)
    assert values(spy) == [19]
    assert isinstance(control.value, int)
    control.show_value(900)
    stage.qtbot.keyClick(field, Qt.Key.Key_Up)
    assert control.value > 905
    stage.retype("steps-field", "2.5")
    assert values(spy)[-1] == 2.5
    assert control.value != 2.5, "whoever listens refuses it"
    stage.retype("steps-field", "1,000")
    assert control.value == 1000


def test_number_names_itself_to_those_who_listen(stage, strength):
    assert stage.find(Slider, "guidance-slider").accessibleName() == "Strength w"
    assert stage.find(QLineEdit, "guidance-field").accessibleName() == "Strength w"
    assert "1 is as learned." in strength.label.toolTip()
    assert strength.focusProxy() is stage.find(QLineEdit, "guidance-field")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("12,000", 12000),
        ("−1", -1),
        ("1,5", 1.5),
        ("1e-3", 1e-3),
        (" 7 ", 7),
        ("12,34,5", None),
        ("", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_numbers_are_read_as_people_write_them(text, number):
    assert read_number(text) == number


def test_seed_is_typed_rolled_and_locked(stage):
    control = stage.show(SeedControl(name="seed"), 272)
    edited, rolled, locked = QSignalSpy(control.edited), QSignalSpy(control.rolled), QSignalSpy(control.lock_toggled)
    control.show_value(7)
    control.show_locked(True)
    assert (edited.count(), rolled.count(), locked.count()) == (0, 0, 0)
    stage.retype("seed-field", "123456")
    assert values(edited) == [123456]
    stage.qtbot.mouseClick(stage.find(QPushButton, "seed-dice"), LEFT)
    assert rolled.count() == 1
    stage.qtbot.mouseClick(stage.find(QPushButton, "seed-lock"), LEFT)
    assert values(locked) == [False]
    stage.retype("seed-field", "-3")
    assert values(edited)[1:] == ["-3"], "whoever listens refuses it"


# --- chips, choices, text, switch -----------------------------------------------------------------


def chip(stage, text: str) -> QPushButton:
    return stage.find(QPushButton, f"class-{text}")


def test_chips_choose_several_or_each_in_turn(stage):
    digits = [str(i) for i in range(10)]
    chips = stage.show(Chips(digits, each="each in turn", name="class", label="Condition"), 272, 100)
    spy = QSignalSpy(chips.edited)
    assert chip(stage, "each in turn").isChecked()
    stage.qtbot.mouseClick(chip(stage, "7"), LEFT)
    assert not chip(stage, "each in turn").isChecked()
    stage.qtbot.mouseClick(chip(stage, "3"), LEFT)
    assert values(spy) == [("7",), ("3", "7")], "in the choices' order"
    stage.qtbot.mouseClick(chip(stage, "each in turn"), LEFT)
    assert values(spy)[-1] == ()
    assert not chip(stage, "7").isChecked()
    stage.qtbot.mouseClick(chip(stage, "each in turn"), LEFT)
    assert spy.count() == 3, "choosing it again changes nothing"
    assert chip(stage, "each in turn").isChecked()


def test_taking_the_last_chip_away_is_each_in_turn(stage):
    chips = stage.show(Chips(["a", "b"], each="each in turn", name="class"), 272, 60)
    chips.show_value(("a",))
    spy = QSignalSpy(chips.edited)
    stage.qtbot.mouseClick(chip(stage, "a"), LEFT)
    assert values(spy) == [()]


def test_chips_one_of_several_keeps_one(stage):
    chips = stage.show(Chips(["a", "b"], several=False, name="class"), 272, 60)
    chips.show_value(("a",))
    spy = QSignalSpy(chips.edited)
    stage.qtbot.mouseClick(chip(stage, "a"), LEFT)
    assert (spy.count(), chips.value) == (0, ("a",))
    stage.qtbot.mouseClick(chip(stage, "b"), LEFT)
    assert values(spy) == [("b",)]
    assert not chip(stage, "a").isChecked()


def test_chips_obey_keys(stage):
    chips = stage.show(Chips(["a", "b"], each="each in turn", name="class"), 272, 60)
    spy = QSignalSpy(chips.edited)
    chip(stage, "a").setFocus()
    stage.qtbot.keyClick(chip(stage, "a"), Qt.Key.Key_Right)
    assert chip(stage, "b").hasFocus()
    stage.qtbot.keyClick(chip(stage, "b"), Qt.Key.Key_Space)
    assert values(spy) == [("b",)]


def test_chips_wrap_within_their_width_and_shorten_long_names(stage):
    names = ["a rather long class name, such as ImageNet has them", "cat & dog", "x"]
    chips = Chips(names, each="each in turn", name="class")
    stage.show(chips, 230, 140)
    assert all(each.geometry().right() <= chips.width() for each in chips.findChildren(QPushButton))
    assert len({each.y() for each in chips.findChildren(QPushButton)}) > 1
    assert "ImageNet" in chips.findChildren(QPushButton)[0].toolTip()
    spy = QSignalSpy(chips.edited)
    stage.qtbot.mouseClick(chip(stage, "cat & dog"), LEFT)
    assert values(spy) == [("cat & dog",)]


def test_chips_take_other_choices_silently(stage):
    chips = stage.show(Chips(["a", "b"], each="each in turn", name="class"), 272, 60)
    chips.show_value(("b",))
    spy = QSignalSpy(chips.edited)
    chips.show_choices(["b", "c"])
    assert (chips.value, spy.count()) == (("b",), 0)
    chips.show_choices(["x"])
    assert chips.value == ()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert {each.text() for each in chips.findChildren(QPushButton)} == {"x", "each in turn"}


def test_choice_by_keys_tells_its_value_not_its_text(stage):
    control = stage.show(ChoiceControl("Sampler", [("heun", "Heun"), ("euler", "Euler")], name="sampler"), 272)
    spy = QSignalSpy(control.edited)
    control.show_value("heun")
    assert spy.count() == 0
    control.combo.setFocus()
    stage.qtbot.keyClick(control.combo, Qt.Key.Key_Down)
    assert values(spy) == ["euler"]
    assert not stage.wheel(control.combo, 1, NO).isAccepted()
    assert control.value == "euler"


def test_long_choice_is_searched_by_typing(stage):
    words = ["ant", "bee", "cow", "dog", "eel", "fox", "gnu", "hen", "ibis", "jay", "kite", "lynx"]
    names = [(i, f"class {i:02d} {word}") for i, word in enumerate(words)]
    control = stage.show(ChoiceControl("Class", names, name="class"), 272)
    spy, line = QSignalSpy(control.edited), control.combo.lineEdit()
    assert line is not None
    line.setFocus()
    line.selectAll()
    stage.qtbot.keyClicks(line, "ibis")
    popup = QApplication.activePopupWidget()
    assert popup is not None, "what fits is shown while one types"
    stage.qtbot.keyClick(popup, Qt.Key.Key_Return)
    assert values(spy) == [8]
    assert not popup.isVisible()
    assert line.text() == "class 08 ibis"
    line.selectAll()
    stage.qtbot.keyClicks(line, "zebra")
    stage.qtbot.keyClick(line, Qt.Key.Key_Return)
    assert (spy.count(), line.text()) == (1, "class 08 ibis"), "what is not there changes nothing"


def test_text_is_told_once_and_error_stands_below(stage):
    control = TextControl("Learning rate", name="rate", unit="per step", right=True, width=106, note="Usual: 0.002")
    stage.show(control, 300, 70)
    control.show_value("0.002")
    spy = QSignalSpy(control.edited)
    stage.retype("rate-field", "0.2")
    assert values(spy) == ["0.2"]
    control.show_error("Above 0.05 training diverges. Try 0.002.")
    assert control.message.text().startswith("Above 0.05")
    control.show_error("")
    assert control.message.text() == "Usual: 0.002"
    field = stage.retype("rate-field", "9", end=None)
    stage.qtbot.keyClick(field, Qt.Key.Key_Escape)
    assert (field.text(), spy.count()) == ("0.2", 1)


def test_switch_by_mouse_and_space(stage):
    control = stage.show(SwitchControl("Mirror", name="flip"), 272)
    spy = QSignalSpy(control.edited)
    control.show_value(True)
    assert spy.count() == 0
    stage.qtbot.mouseClick(control.box, LEFT, NO, QPoint(8, 15))
    control.box.setFocus()
    stage.qtbot.keyClick(control.box, Qt.Key.Key_Space)
    assert values(spy) == [False, True]


def test_tab_goes_through_the_rows_in_order(stage):
    group = Group("Start")
    first, second = NumberControl("Images", 1, 64, integer=True, name="n"), SeedControl(name="seed")
    group.add(first, second)
    stage.show(group, 300, 120)
    order = ["n-slider", "n-field", "seed-field", "seed-dice", "seed-lock"]
    stage.find(QWidget, order[0]).setFocus()
    for name in order[1:]:
        stage.qtbot.keyClick(QApplication.focusWidget(), Qt.Key.Key_Tab)
        assert QApplication.focusWidget().objectName() == name


def test_long_labels_are_shortened_not_pushed(stage):
    text = "portrait-of-a-very-long-name-2026-11-24-second-attempt"
    label = stage.show(Text(text), 120, 20)
    assert label.is_cut
    assert text in label.toolTip()
    label.show_text("short")
    assert not label.is_cut
    assert label.toolTip() == ""
    row = NumberControl("A label that is a good deal too long", 0, 1, name="long")
    assert row.label.width() == theme.LABEL_WIDTH


def test_a_title_gives_way_to_a_shorter_one_and_facts_before_it(stage):
    card = Card("Held-out loss by noise level σ", "every 140 steps, ← → step, ↑ ↓ image", short="Held-out loss by σ")
    stage.show(card, 700, 60)
    assert not card.title.is_cut
    assert not card.facts.is_cut
    card.setFixedWidth(260)
    stage.window.resize(300, 100)
    QCoreApplication.processEvents()
    assert card.facts.is_cut
    assert card.title.width() >= theme.text_width("Held-out loss by σ", theme.TITLE, bold=True)


def test_button_says_why_not(stage):
    button = stage.show(Button("Draw", kind="primary", icon="return", help="Draws again."))
    button.allow("No model is open yet.")
    assert not button.isEnabled()
    assert "No model is open yet." in button.toolTip()
    button.allow()
    assert button.isEnabled()
    assert "Draws again." in button.toolTip()


def test_a_buttons_texts_move_nothing(stage):
    button = Button("Draw", kind="primary", icon="return", help="Draws.")
    button.reserve("Draw", "Stop")
    stage.show(button)
    width = button.width()
    button.show_verb("Stop", "stop", "Ends it.")
    button.allow()
    QCoreApplication.processEvents()
    assert (button.text(), button.width(), button.minimumWidth() >= button.sizeHint().width()) == ("Stop", width, True)
    assert "Ends it." in button.toolTip()


# --- images ---------------------------------------------------------------------------------------


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


@pytest.mark.parametrize("shape", [(2, 5, 7), (2, 5, 7, 1), (2, 5, 7, 3), (2, 5, 7, 4)])
def test_pixels_arrive_as_they_are(shape):
    array = noise(*shape)
    if shape[-1] == 4:
        array[..., 3] = 255
    images = to_images(array)
    array[:] = 0  # the images own theirs
    wanted = noise(*shape)
    for at, image in enumerate(images):
        color = image.pixelColor(6, 3)
        seen = [color.red(), color.green(), color.blue()]
        assert seen == list(np.broadcast_to(np.atleast_1d(wanted[at, 3, 6])[:3], 3))


def painted(widget: QWidget) -> QImage:
    return widget.grab().toImage()


def test_grid_scales_by_whole_numbers_exactly(stage):
    grid = stage.show(ImageGrid("grid"), 500, 300)
    array = noise(8, 28, 28)
    grid.show_images(array)
    layout = grid.layout_now
    assert layout is not None
    assert (layout.columns, layout.rows) == (4, 2)
    assert layout.scale == int(layout.scale) >= 2
    picture, scale = painted(grid), int(layout.scale)
    ratio = picture.devicePixelRatio()
    for index in (0, 5):
        corner = grid.cell(index).topLeft()
        for y, x in ((0, 0), (13, 27), (27, 3)):
            for inside in (0, scale - 1):
                across = round(corner.x() * ratio) + x * scale + inside
                down = round(corner.y() * ratio) + y * scale + inside
                assert picture.pixelColor(across, down).red() == array[index, y, x]


@pytest.mark.parametrize(("count", "side"), [(1, 8), (1, 256), (400, 28), (400, 256), (400, 8), (7, 28), (16, 28)])
def test_grid_holds_all_images_inside(stage, count, side):
    grid = stage.show(ImageGrid("grid"), 900, 540)
    grid.show_images(np.zeros((count, side, side), np.uint8))
    room = grid.rect()
    cells = [grid.cell(i) for i in range(count)]
    assert all(room.contains(cell.toAlignedRect()) for cell in cells)
    assert not any(a.intersects(b) for a, b in itertools.pairwise(cells))
    layout = grid.layout_now
    assert layout is not None
    assert layout.scale < 1 or layout.scale == int(layout.scale)
    painted(grid)


def test_grid_stays_still_while_previews_stream(stage):
    grid = stage.show(ImageGrid("grid"), 500, 300)
    grid.show_images(noise(8, 28, 28))
    before = [grid.cell(i) for i in range(8)]
    for _ in range(3):
        grid.show_images(noise(8, 28, 28, 1))
    assert [grid.cell(i) for i in range(8)] == before


def test_grid_selects_by_click_and_keys(stage):
    grid = stage.show(ImageGrid("grid"), 500, 300)
    grid.show_images(noise(8, 28, 28))
    spy = QSignalSpy(grid.selected)
    grid.show_selected(2)
    assert spy.count() == 0
    stage.qtbot.mouseClick(grid, LEFT, NO, grid.cell(5).center().toPoint())
    for key in (Qt.Key.Key_Right, Qt.Key.Key_Up, Qt.Key.Key_Left, Qt.Key.Key_Up, Qt.Key.Key_End):
        stage.qtbot.keyClick(grid, key)
    assert values(spy) == [5, 6, 2, 1, 7], "up from the top row goes nowhere"
    stage.qtbot.mouseClick(grid, LEFT, NO, QPoint(1, 1))
    assert spy.count() == 5, "a click beside all images selects none"


def test_grid_outlines_the_selected_image(stage):
    grid = stage.show(ImageGrid("grid"), 500, 300)
    grid.show_images(np.zeros((8, 28, 28), np.uint8))
    accent, picture_of = QColor(theme.DARK.accent), lambda: painted(grid)
    edge = (grid.cell(3).topLeft() - QPointF(3, 3)).toPoint()
    assert picture_of().pixelColor(edge) != accent
    grid.show_selected(3)
    assert picture_of().pixelColor(edge) == accent


def test_empty_grid_says_what_will_be_here(stage):
    grid = stage.show(ImageGrid("grid", "Pictures will be here in a moment."), 500, 300)
    blank = painted(grid)
    grid.show_images(None)
    assert grid.count == 0
    grid.show_empty_text("")
    assert painted(grid) != blank


def test_fit_prefers_full_rectangles(qapp):
    from PySide6.QtCore import QSize

    assert fit(8, 28, 28, QSize(916, 558), 1.0).columns == 4
    assert fit(16, 28, 28, QSize(916, 558), 1.0).columns == 4
    assert fit(8, 28, 28, QSize(300, 900), 1.0).columns == 2


def test_thumbnails_take_what_fits(stage):
    thumbs = stage.show(Thumbnails("data"), 306)
    thumbs.show_images(noise(40, 28, 28))
    assert thumbs.count == 40
    painted(thumbs)


# --- film and seeds -------------------------------------------------------------------------------


@pytest.fixture
def film(stage) -> FilmStrip:
    strip = FilmStrip("film")
    strip.resize(500, strip.height())
    strip = stage.show(strip)
    strip.setFixedWidth(500)
    QCoreApplication.processEvents()
    sigmas = np.geomspace(80, 0.01, 18)
    strip.show_film(noise(18, 28, 28), noise(18, 28, 28), sigmas)
    return strip


def test_film_thins_evenly_and_keeps_the_current_step(film):
    assert film.count == 18
    assert 4 <= len(film.columns) < 18
    assert (film.columns[0], film.columns[-1]) == (0, 17)
    for step in range(18):
        film.show_current(step)
        assert step in film.columns
        assert list(film.columns) == sorted(set(film.columns))
    film.show_current(-1)
    assert film.current == 17


def test_film_is_scrubbed_by_click_drag_and_keys(stage, film):
    film.show_current(0)
    spy = QSignalSpy(film.scrubbed)
    target = film.columns[3]
    stage.qtbot.mousePress(film, LEFT, NO, film.column_rect(3).center().toPoint())
    assert values(spy) == [target]
    last = film.column_rect(len(film.columns) - 1).center().toPoint()
    stage.qtbot.mouseMove(film, last)
    stage.qtbot.mouseRelease(film, LEFT, NO, last)
    assert film.current == 17
    assert len(set(values(spy))) == spy.count()
    stage.qtbot.keyClick(film, Qt.Key.Key_Left)
    assert film.current == 16, "keys go through all steps, not only those shown"
    before = spy.count()
    film.show_current(4)
    film.show_film(noise(18, 28, 28, 3), noise(18, 28, 28, 3), film._sigmas)
    assert (spy.count(), film.current) == (before, 4)


def test_film_may_be_empty_or_short(stage, film):
    film.show_film(None, None)
    assert film.columns == ()
    painted(film)
    spy = QSignalSpy(film.scrubbed)
    stage.qtbot.mouseClick(film, LEFT, NO, QPoint(100, 50))
    stage.qtbot.keyClick(film, Qt.Key.Key_Right)
    assert spy.count() == 0
    film.show_film(noise(1, 8, 8), noise(1, 8, 8), (0.01,))
    assert film.columns == (0,)
    painted(film)


@pytest.mark.parametrize(("count", "room"), [(5, 8), (18, 11), (18, 2), (1000, 11), (1, 1), (7, 1)])
def test_evenly_shows_ends_and_what_must_be(count, room):
    for wanted in {0, count // 2, count - 1}:
        shown = evenly(count, room, [wanted])
        assert len(shown) == min(count, room)
        assert shown == sorted(set(shown))
        if room > 2 or count <= room:
            assert wanted in shown
            assert {0, count - 1} <= set(shown)


@pytest.mark.parametrize("count", [1, 2, 9, 10, 11, 37, 400])
def test_thinned_keeps_the_newest_and_fits(count):
    shown = thinned(count, 10)
    assert len(shown) <= 10
    assert shown[-1] == count - 1
    assert shown[0] == 0


def test_seed_table_thins_highlights_and_keeps_known_columns(stage):
    table = stage.show(SeedTable("seeds"), 600, 300)
    rows = [(step * 140, noise(8, 28, 28, 1)) for step in range(40)]
    table.show_rows(rows[:5])
    assert table.columns == (0, 140, 280, 420, 560)
    kept = table._columns[140][1]
    table.show_rows(rows)
    assert table._columns[140][1] is kept
    assert len(table.columns) < 40
    assert table.columns[-1] == 39 * 140
    assert table.cell(len(table.columns) - 1, 0).right() <= table.width()
    assert table.cell(0, 7).bottom() <= table.height()
    spy = QSignalSpy(table.highlighted)
    stage.qtbot.mouseMove(table, table.cell(2, 3).center().toPoint())
    stage.qtbot.mouseMove(table, table.cell(2, 4).center().toPoint())
    assert table.current == (table.columns[2], 4)
    table.setFocus()
    stage.qtbot.keyClick(table, Qt.Key.Key_Right)
    stage.qtbot.keyClick(table, Qt.Key.Key_Up)
    assert table.current == (table.columns[3], 3)
    assert spy.count() >= 3
    painted(table)


# --- plots and the frame --------------------------------------------------------------------------


def test_loss_plot_shows_curves_in_its_range_and_bears_odd_values(stage):
    plot = stage.show(LossPlot(empty="Soon."), 500, 260)
    assert not plot.plot.isVisible()
    steps = np.arange(0, 2000, 2.0)
    smoothed = 0.2 + np.exp(-steps / 300)
    loss = smoothed.copy()
    loss[10], loss[11], loss[12] = np.nan, 0.0, np.inf
    held_steps = np.arange(0, 2000, 150.0)
    plot.show_curves(steps, loss, smoothed, held_steps, 0.25 + np.exp(-held_steps / 300))
    assert plot.plot.isVisible()
    (left, right), (low, high) = plot.plot.getViewBox().viewRange()
    assert (left, right) == (0, 1998)
    assert low <= np.log10(smoothed.min())
    assert high >= np.log10(1.25)
    ticks = plot.plot.getAxis("left").tickValues(low, high, 200)[0][1]
    assert 3 <= len(ticks) <= 8
    assert all(low - 1e-6 <= tick <= high + 1e-6 for tick in ticks)
    painted(plot)
    plot.show_curves(*(np.zeros(0),) * 5)
    assert not plot.plot.isVisible()


@pytest.mark.parametrize("width", [200, 500, 1200])
def test_steps_are_whole_and_each_is_named_once(width):
    axis = StepAxis("bottom")
    for last in (*range(1, 30), 99, 140, 6_000, 1_000_000):
        ticks = [tick for _, ticks in axis.tickValues(0, last, width) for tick in ticks]
        assert len(ticks) >= 2, last
        assert all(tick == round(tick) for tick in ticks), last
        texts = axis.tickStrings(ticks, 1, 1)
        assert len(set(texts)) == len(texts), (last, texts)


def test_plots_follow_a_change_of_theme(stage, qapp):
    plot = stage.show(LossPlot(), 400, 200)
    plot.show_curves(np.arange(3.0), np.ones(3), np.ones(3), np.zeros(0), np.zeros(0))
    dark = painted(plot).pixelColor(200, 100)
    theme.apply(qapp, dark=False)
    QCoreApplication.processEvents()
    assert painted(plot).pixelColor(200, 100).lightness() > 200 > 100 > dark.lightness()


def test_bars_and_figures_show_their_numbers(stage):
    bars, figure = BandBars(), Figure("images/s", name="speed")
    stage.show(bars, 240, 132)
    blank = painted(bars)
    bars.show_bands([("< .05", 0.62), ("> 3", float("nan"))])
    assert painted(bars) != blank
    assert "0.62" in bars.accessibleDescription()
    figure.show_value("915")
    assert figure.value.text() == "915"
    figure.show_value("")
    assert figure.value.text() == "–"
    figure.deleteLater()


def test_rail_goes_to_places(stage):
    rail = stage.show(Rail([("draw", "Draw", "draw"), ("train", "Train", "train")]), 60, 200)
    spy = QSignalSpy(rail.chosen)
    rail.show_current("draw")
    assert spy.count() == 0
    stage.qtbot.mouseClick(rail.buttons["train"], LEFT)
    assert values(spy) == ["train"]
    assert rail.current == "train"
    stage.qtbot.keyClick(rail.buttons["train"], Qt.Key.Key_Up)
    assert rail.current == "draw"
    assert values(spy)[-1] == "draw"


def test_bar_holds_long_subjects_and_progress(stage):
    bar = TopBar("bar", choosable=True)
    button = bar.add_button("Draw", kind="primary", icon="return", name="draw")
    stage.show(bar, 500, 52)
    bar.show_subject("portrait-of-a-very-long-name-2026-11-24-second-attempt", "1.1 M weights · trained 2026-11-24")
    bar.show_progress(0.4, "3 min 5 s left")
    QCoreApplication.processEvents()
    assert button.geometry().right() < bar.width()
    assert button.width() >= button.sizeHint().width()
    assert "second-attempt" in bar.subject.toolTip()
    assert bar.progress.value() == 400
    spy = QSignalSpy(bar.subject_pressed)
    stage.qtbot.mouseClick(bar.subject, LEFT)
    assert spy.count() == 1
    bar.show_progress(None)
    assert not bar.progress.isVisible()


@pytest.mark.parametrize(
    ("width", "shown"),
    [(700, (True, True)), (560, (False, True)), (450, (False, False))],
    ids=["wide", "narrow", "tight"],
)
def test_where_room_lacks_the_steps_are_still_counted(stage, width, shown):
    bar = TopBar("bar", choosable=True)
    buttons = [bar.add_button(text) for text in ("Pause", "Stop")]
    stage.show(bar, width, 52)
    bar.show_subject("digits-2026-11-24", "step 12,000 of 12,000")
    bar.show_progress(0.4, "3 min 5 s left")
    for _ in range(3):
        QCoreApplication.processEvents()
    assert (bar.progress.isVisible(), bar.progress_text.isVisible()) == shown
    assert all(button.width() >= button.sizeHint().width() for button in buttons)
    assert bar.subject.geometry().right() < buttons[0].x()
    facts = theme.text_width("step 12,000 of 12,000")
    assert bar.subject.width() >= facts + 90


def test_status_line(stage):
    line = stage.show(StatusBar(), 400, 26)
    line.show_status("good", ("Ready", "digits"), ("35 network calls", "0.42 s"))
    assert "Ready" in line.left.text()
    assert "0.42 s" in line.right.text()
    QCoreApplication.processEvents()
    colors = {line.dot.grab().toImage().pixelColor(3, 7).name()}
    assert colors == {theme.DARK.good}


def test_column_scrolls_and_is_emptied(stage):
    column = Column(304, name="column")
    for at in range(12):
        group = Group(f"Group {at}")
        group.add(TextControl("Value", name=f"v{at}"))
        column.add(group)
    stage.show(column, 304, 300)
    QCoreApplication.processEvents()
    assert column.verticalScrollBar().maximum() > 0
    column.clear()
    QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
    assert column.findChildren(TextControl) == []


# --- theme ----------------------------------------------------------------------------------------


def luminance(color: str) -> float:
    parts = [part / 255 for part in QColor(color).getRgb()[:3]]  # type: ignore[index]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    bright, dim = sorted((luminance(first), luminance(second)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("look", [theme.DARK, theme.LIGHT], ids=["dark", "light"])
def test_texts_are_readable(look):
    for ground in (look.window, look.pane, look.raised):
        for tone in (look.text, look.quiet, look.error, look.good, look.warning, look.accent):
            assert contrast(tone, ground) >= 4.5, (tone, ground)
    assert contrast(look.on_accent, look.accent) >= 4.5
    for color in look.series[:2]:
        assert contrast(color, look.pane) >= 3


def test_style_sheet_has_no_token_left():
    for look in (theme.DARK, theme.LIGHT):
        assert "@" not in theme.style_sheet(look)


def test_theme_changes_live_and_icons_take_its_colours(stage, qapp):
    button = stage.show(Button("Pause", icon="pause"))
    strongest = lambda: max(  # noqa: E731
        (color for color in _opaque(button.icon().pixmap(16).toImage())),
        key=lambda color: color.alpha(),
    ).lightness()
    assert strongest() > 200
    theme.apply(qapp, dark=False)
    QCoreApplication.processEvents()
    assert strongest() < 60
    theme.apply(qapp, None)
    theme.apply(qapp, None)
    assert len(qapp.findChildren(theme._Follower)) == 1


def _opaque(image: QImage) -> list[QColor]:
    pixels = (image.pixelColor(x, y) for x in range(image.width()) for y in range(image.height()))
    return [color for color in pixels if color.alpha() > 0]


def test_figures_are_equally_wide(qapp):
    assert theme.text_width("1111") == theme.text_width("8888") == theme.text_width("0000")


def test_nothing_keeps_a_closed_control_alive(qapp):
    makers = [
        lambda: NumberControl("n", 0, 1, name="n"),
        lambda: Chips(["a"], each="all"),
        lambda: ChoiceControl("c", [(i, str(i)) for i in range(20)]),
        lambda: TextControl("t"),
        lambda: SwitchControl("s"),
        lambda: Rail([("a", "A", "draw")]),
        lambda: Card("c"),
        lambda: Column(100),
        *(SeedControl, ImageGrid, FilmStrip, SeedTable, LossPlot, BandBars, TopBar, StatusBar),
    ]
    for make in makers:
        widget = make()
        gone = weakref.ref(widget)
        del widget
        gc.collect()
        QCoreApplication.sendPostedEvents(None, QEvent.Type.DeferredDelete)
        assert gone() is None, make


def test_a_value_from_elsewhere_ends_the_complaint_about_the_old_one(stage, strength):
    stage.retype("guidance-field", "much")
    strength.show_error("Give a number; try 1.5.")
    strength.show_value(1.5)
    assert strength.error, "the answer of before says nothing new"
    strength.show_value(2.0)
    assert not strength.error
    assert stage.find(QLineEdit, "guidance-field").text() == "2.00"
