"""Plugins of other people, for tests: as if a package of theirs were installed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def install(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    package: str,
    code: str,
    *,
    datasets: dict[str, str] | None = None,
    schemes: dict[str, str] | None = None,
) -> None:
    """Puts a module and its entry points ({name: class}) where Python looks for packages."""
    module = package.replace("-", "_")
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / f"{module}.py").write_text(textwrap.dedent(code), encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n", encoding="utf-8")
    groups = {"imagen_workbench.datasets": datasets or {}, "imagen_workbench.conditioning": schemes or {}}
    lines = []
    for group, entries in groups.items():
        lines += [f"[{group}]", *(f"{name} = {module}:{kind}" for name, kind in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))


def pip_install(package: Path, site: Path) -> None:
    """Installs a package's folder into another one, as pip does into site-packages."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    options = ["--no-index", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, "--target", str(site), str(package)], check=True, capture_output=True)
