"""Areas that hold other things: plain surfaces, titled groups with a hairline below, cards."""

from __future__ import annotations

from PySide6.QtCore import Qt
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLayout, QScrollArea, QVBoxLayout, QWidget

from . import theme
from .parts import Text


class Surface(QWidget):
    """A plain area in one of the theme's greys (window, pane, card), with a hairline on one edge."""

    def __init__(self, surface: str = "pane", edge: str = "", name: str = "", parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setObjectName(name)
        self.setProperty("surface", surface)
        self.setProperty("edge", edge)
        self.setAttribute(Qt.WidgetAttribute.WA_StyledBackground)


class Group(Surface):
    """A titled section of a column; a hairline below parts it from the next."""

    def __init__(self, title: str, name: str = "", spacing: int = 0) -> None:
        super().__init__("pane", "below", name)
        self.setAccessibleName(title)
        self.title = Text(title, size=theme.TITLE, bold=True)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(theme.L, 15, theme.L, 13)
        self.body.setSpacing(spacing)
        self.body.addWidget(self.title)
        self.body.addSpacing(10 - spacing)

    def add(self, *widgets: QWidget) -> None:
        """Puts rows below those already there."""
        for widget in widgets:
            self.body.addWidget(widget)


class Column(QScrollArea):
    """The column of settings at the side: groups from the top down, scrolling where they do not fit."""

    def __init__(self, width: int, edge: str = "left", name: str = "") -> None:
        super().__init__()
        self.setObjectName(name)
        self.setFixedWidth(width)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setWidgetResizable(True)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        inner = Surface("pane", edge)
        self.body = QVBoxLayout(inner)
        self.body.setContentsMargins(int(edge == "left"), 0, int(edge == "right"), 0)
        self.body.setSpacing(0)
        self.body.addStretch()
        self.setWidget(inner)

    def add(self, *widgets: QWidget) -> None:
        """Puts groups below those already there."""
        for widget in widgets:
            self.body.insertWidget(self.body.count() - 1, widget)

    def clear(self) -> None:
        """Takes all groups away."""
        while self.body.count() > 1:
            item = self.body.takeAt(0)
            widget = item.widget() if item else None
            if widget is not None:
                widget.hide()
                widget.deleteLater()


class Card(Surface):
    """A framed area with its title, and quiet facts beside it, which give way first; `head` takes more."""

    def __init__(self, title: str = "", facts: str = "", name: str = "", short: str = "") -> None:
        """short: the title where there is little room."""
        super().__init__("card", name=name)
        self.setAccessibleName(title)
        self.body = QVBoxLayout(self)
        self.body.setContentsMargins(14, theme.M, 14, theme.M)
        self.body.setSpacing(theme.S)
        self.head = QHBoxLayout()
        self.head.setSpacing(theme.M)
        self.title = Text(title, size=theme.TITLE, bold=True, short=short or title)
        self.facts = Text(facts, tone="quiet", size=theme.TITLE)
        if title:
            self.head.addWidget(self.title)
            self.head.addWidget(self.facts)
            self.head.addStretch()
            self.body.addLayout(self.head)

    def add(self, inner: QWidget | QLayout, stretch: int = 0) -> None:
        """Puts something below what is already there."""
        if isinstance(inner, QWidget):
            self.body.addWidget(inner, stretch)
        else:
            self.body.addLayout(inner, stretch)
