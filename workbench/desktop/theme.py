"""The look: colours, type, spacing, one palette and one style sheet made from them, and icons.

Widgets ask `tokens()` when they paint, so that a change of the system's colours reaches all of them.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

from PySide6.QtCore import QByteArray, QObject, QRectF, QSize, Qt
from PySide6.QtGui import (
    QColor,
    QFont,
    QFontDatabase,
    QFontMetrics,
    QGuiApplication,
    QIcon,
    QPainter,
    QPalette,
    QPixmap,
)
from PySide6.QtSvg import QSvgRenderer
from PySide6.QtWidgets import QApplication

ICONS = Path(__file__).resolve().parents[2] / "resources" / "icons"


@dataclass(frozen=True)
class Tokens:
    """Colours by what they are for. series: Okabe-Ito, in a fixed order."""

    window: str
    pane: str
    raised: str
    hairline: str
    canvas: str
    text: str
    quiet: str
    faint: str
    """Of what cannot be used now, and of lines that only accompany."""
    accent: str
    on_accent: str
    hover: str
    good: str
    warning: str
    error: str
    series: tuple[str, ...]

    def color(self, tone: str) -> QColor:
        """A token by its name."""
        return QColor(getattr(self, tone))


DARK = Tokens(
    window="#1b1c1e",
    pane="#232427",
    raised="#2c2e32",
    hairline="#36383d",
    canvas="#131416",
    text="#e6e7e9",
    quiet="#9a9da4",
    faint="#63666d",
    accent="#4c9be8",
    on_accent="#0b1a2a",
    hover="#34363b",
    good="#5fb37c",
    warning="#e0a243",
    error="#e5786d",
    series=("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442"),
)
LIGHT = Tokens(
    window="#f4f4f5",
    pane="#fbfbfc",
    raised="#ffffff",
    hairline="#dcdde0",
    canvas="#e9e9eb",
    text="#1d1f23",
    quiet="#63676f",
    faint="#a4a7ad",
    accent="#1768b8",
    on_accent="#ffffff",
    hover="#f1f1f3",
    good="#267d48",
    warning="#9a6200",
    error="#b3362b",
    series=("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#000000"),
)

NOTE, BODY, SUBJECT, FIGURE = 11, 13, 14, 18
TITLE = 12
"""Of a group or a card, semi-bold."""
XS, S, M, L, XL = 4, 8, 12, 16, 24
ROW, FIELD, BUTTON = 30, 26, 30
LABEL_WIDTH = 98


def tokens() -> Tokens:
    """Those in use, by the application's palette."""
    return DARK if QGuiApplication.palette().color(QPalette.ColorRole.Window).lightness() < 128 else LIGHT


def font(size: int = BODY, *, bold: bool = False) -> QFont:
    """The interface's font with figures of equal width; bold is semi-bold."""
    chosen = QFontDatabase.systemFont(QFontDatabase.SystemFont.GeneralFont)
    if "Inter" in QFontDatabase.families():
        chosen.setFamilies(["Inter", chosen.family()])
    chosen.setPixelSize(size)
    chosen.setWeight(QFont.Weight.DemiBold if bold else QFont.Weight.Normal)
    chosen.setHintingPreference(QFont.HintingPreference.PreferNoHinting)
    chosen.setFeature(QFont.Tag("tnum"), 1)
    return chosen


def code_font() -> QFont:
    """The system's font for code."""
    chosen = QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont)
    chosen.setPixelSize(TITLE)
    return chosen


def text_width(text: str, size: int = BODY, *, bold: bool = False) -> int:
    """How wide a text is drawn."""
    return QFontMetrics(font(size, bold=bold)).horizontalAdvance(text)


def apply(app: QApplication, dark: bool | None = None) -> None:  # noqa: FBT001
    """Gives the application its look. dark: None follows the system's colours, now and later."""
    for follower in app.findChildren(_Follower):
        follower.end()
    hints = app.styleHints()
    if dark is None:
        hints.unsetColorScheme()
        follower = _Follower(app)
        hints.colorSchemeChanged.connect(follower.follow)
    else:
        hints.setColorScheme(Qt.ColorScheme.Dark if dark else Qt.ColorScheme.Light)
    if app.style().objectName() != "fusion":
        app.setStyle("Fusion")
    _dress(app, DARK if (_system_is_dark(app) if dark is None else dark) else LIGHT)


class _Follower(QObject):
    """Dresses the application anew when the system's colours change; the application owns it."""

    def follow(self, _scheme: Qt.ColorScheme) -> None:
        app = self.parent()
        if isinstance(app, QApplication):
            _dress(app, DARK if _system_is_dark(app) else LIGHT)

    def end(self) -> None:
        QGuiApplication.styleHints().colorSchemeChanged.disconnect(self.follow)
        self.setParent(None)
        self.deleteLater()


def _system_is_dark(app: QApplication) -> bool:
    return app.styleHints().colorScheme() == Qt.ColorScheme.Dark


def _dress(app: QApplication, look: Tokens) -> None:
    app.setFont(font())
    app.setPalette(palette(look))
    app.setStyleSheet(style_sheet(look))


def palette(look: Tokens) -> QPalette:
    """The tokens as Qt's own roles, for what no style sheet reaches."""
    role = QPalette.ColorRole
    made = QPalette()
    for roles, name in (
        ((role.Window,), look.window),
        ((role.WindowText, role.Text, role.ButtonText, role.ToolTipText, role.BrightText), look.text),
        ((role.Base, role.Button, role.ToolTipBase, role.Light), look.raised),
        ((role.AlternateBase, role.Midlight), look.pane),
        ((role.Mid, role.Dark, role.Shadow), look.hairline),
        ((role.PlaceholderText,), look.quiet),
        ((role.Highlight, role.Accent, role.Link, role.LinkVisited), look.accent),
        ((role.HighlightedText,), look.on_accent),
    ):
        for each in roles:
            made.setColor(each, QColor(name))
    for each in (role.WindowText, role.Text, role.ButtonText):
        made.setColor(QPalette.ColorGroup.Disabled, each, QColor(look.faint))
    return made


def style_sheet(look: Tokens) -> str:
    """The one style sheet."""
    sheet = _SHEET
    names = sorted((field.name for field in fields(look) if field.name != "series"), key=len, reverse=True)
    for name in names:
        sheet = sheet.replace(f"@{name}", getattr(look, name))
    return sheet


_SHEET = """
QMainWindow, QDialog { background: @window; }
QToolTip { background: @raised; color: @text; border: 1px solid @hairline; padding: 5px 7px; }
QWidget[surface="window"] { background: @window; }
QWidget[surface="pane"] { background: @pane; }
QWidget[surface="card"] { background: @pane; border: 1px solid @hairline; border-radius: 6px; }
QWidget[edge="below"] { border-bottom: 1px solid @hairline; }
QWidget[edge="above"] { border-top: 1px solid @hairline; }
QWidget[edge="right"] { border-right: 1px solid @hairline; }
QWidget[edge="left"] { border-left: 1px solid @hairline; }
QLabel[tone="quiet"] { color: @quiet; }
QLabel[tone="error"] { color: @error; }
QLabel[tone="warning"] { color: @warning; }
QLabel[tone="good"] { color: @good; }

QPushButton { background: @raised; color: @text; border: 1px solid @hairline; border-radius: 5px;
  padding: 0 12px; min-height: 28px; max-height: 28px; }
QPushButton:hover { background: @hover; }
QPushButton:pressed { background: @hairline; }
QPushButton:disabled { color: @faint; background: transparent; }
QPushButton[kind="primary"] { background: @accent; color: @on_accent; border-color: @accent; font-weight: 600; }
QPushButton[kind="primary"]:disabled { background: @raised; color: @faint; border-color: @hairline; }
QPushButton[kind="chip"] { border-radius: 4px; padding: 0 10px; min-height: 24px; max-height: 24px; }
QPushButton[kind="chip"]:checked { background: @accent; color: @on_accent; border-color: @accent; font-weight: 600; }
QPushButton[kind="chip"]:checked:disabled { background: @hairline; color: @quiet; border-color: @hairline; }
QPushButton[kind="toggle"] { padding: 0 9px; min-height: 24px; max-height: 24px; }
QPushButton[kind="toggle"]:checked { color: @accent; border-color: @accent; background: transparent; }
QPushButton[kind="icon"] { padding: 0; min-height: 24px; max-height: 24px; min-width: 28px; max-width: 28px; }
QPushButton[kind="link"] { background: transparent; color: @accent; border: none; padding: 0; text-align: left;
  min-height: 22px; max-height: 22px; }
QPushButton[kind="link"]:hover { text-decoration: underline; }
QPushButton[kind="link"]:disabled { color: @faint; text-decoration: none; }

QLineEdit { background: @raised; color: @text; border: 1px solid @hairline; border-radius: 4px; padding: 0 7px;
  min-height: 24px; max-height: 24px; selection-background-color: @accent; selection-color: @on_accent; }
QLineEdit:focus { border-color: @accent; }
QLineEdit:disabled { color: @faint; background: transparent; }
QLineEdit[wrong="true"] { border-color: @error; }
QComboBox { background: @raised; color: @text; border: 1px solid @hairline; border-radius: 4px; padding: 0 2px 0 8px;
  min-height: 24px; max-height: 24px; }
QComboBox:focus, QComboBox:on { border-color: @accent; }
QComboBox[wrong="true"] { border-color: @error; }
QComboBox:disabled { color: @faint; background: transparent; }
QComboBox::drop-down { border: none; width: 20px; }
QComboBox::down-arrow { image: none; }
QComboBox QLineEdit { border: none; background: transparent; padding: 0; min-height: 22px; }
QAbstractItemView { background: @raised; color: @text; border: 1px solid @hairline; outline: none;
  selection-background-color: @accent; selection-color: @on_accent; }
QComboBox QAbstractItemView::item, QListView#choices::item { min-height: 26px; padding: 0 8px; }
QMenu { background: @raised; color: @text; border: 1px solid @hairline; padding: 4px 0; }
QMenu::item { padding: 6px 24px 6px 14px; }
QMenu::item:selected { background: @accent; color: @on_accent; }
QMenu::item:disabled { color: @faint; }
QMenu::separator { height: 1px; background: @hairline; margin: 4px 0; }

QProgressBar { background: @hairline; border: none; border-radius: 2px; min-height: 4px; max-height: 4px; }
QProgressBar::chunk { background: @accent; border-radius: 2px; }
QTabBar { background: transparent; qproperty-drawBase: 0; }
QTabBar::tab { background: transparent; color: @quiet; border: none; border-bottom: 2px solid transparent;
  padding: 0; margin: 0 18px 0 0; height: 49px; }
QTabBar::tab:selected { color: @text; border-bottom-color: @accent; font-weight: 600; }
QTabBar::tab:hover { color: @text; }
QPlainTextEdit, QTextEdit { background: @raised; color: @text; border: 1px solid @hairline; border-radius: 4px; }
QPlainTextEdit#toml { background: @pane; border: none; border-radius: 0; padding: 12px 12px 12px 12px; }
QScrollArea { border: none; background: transparent; }
QScrollArea > QWidget > QWidget[surface="pane"] { background: @pane; }
QScrollBar { background: transparent; border: none; margin: 0; }
QScrollBar:vertical { width: 10px; }
QScrollBar:horizontal { height: 10px; }
QScrollBar::handle { background: @hairline; border-radius: 3px; margin: 2px; min-height: 28px; min-width: 28px; }
QScrollBar::handle:hover { background: @faint; }
QScrollBar::add-line, QScrollBar::sub-line, QScrollBar::add-page, QScrollBar::sub-page { width: 0; height: 0;
  background: none; }
QSplitter::handle { background: @hairline; }
QSplitter::handle:horizontal { width: 1px; }
QSplitter::handle:vertical { height: 1px; }
"""


# --- icons ----------------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def _drawing(name: str, color: str) -> QSvgRenderer:
    text = (ICONS / f"{name}.svg").read_text(encoding="utf-8").replace("currentColor", color)
    return QSvgRenderer(QByteArray(text.encode()))


def paint_icon(painter: QPainter, name: str, color: str, where: QRectF) -> None:
    """Draws an icon of ours in this colour; sharp at any scale."""
    _drawing(name, color).render(painter, where)


def icon(name: str, color: str = "", size: int = 20) -> QIcon:
    """An icon of ours in this colour (by default the text's), for buttons and menus."""
    made = QIcon()
    for ratio in (1, 2, 3):
        pixmap = QPixmap(QSize(size, size) * ratio)
        pixmap.fill(Qt.GlobalColor.transparent)
        painter = QPainter(pixmap)
        paint_icon(painter, name, color or tokens().text, QRectF(0, 0, size * ratio, size * ratio))
        painter.end()
        pixmap.setDevicePixelRatio(ratio)
        made.addPixmap(pixmap)
    return made
