"""The suite that both faces share, in the real window; and what only a window has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from face_scenarios import FaceScenarios
from imagen_workbench.workbench.desktop import theme
from qt_face import QtFace

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PySide6.QtWidgets import QApplication
    from pytestqt.qtbot import QtBot

pytestmark = pytest.mark.window


class TestDesktop(FaceScenarios):
    @pytest.fixture
    def face(self, qtbot: QtBot, qapp: QApplication, monkeypatch: pytest.MonkeyPatch) -> Iterator[QtFace]:
        theme.apply(qapp, dark=True)
        face = QtFace(qtbot, monkeypatch)
        yield face
        face.close()
