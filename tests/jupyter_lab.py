"""A real JupyterLab in a real Chromium, for tests and screenshots.

    with lab() as server, browser() as chromium:
        notebook = open_notebook(server, chromium, ["import time", "time.sleep(60)"])
        notebook.run(0)                  # returns when the cell is done; an error in it is raised
        notebook.start(1)                # returns when the cell is running
        notebook.interrupt()

Everything the server and the kernel read or write lies in one temporary folder, so a person's settings
are neither used nor touched, and leaving the context ends every process that was started.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Browser, Locator, Page, sync_playwright

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

CHROMIUM = shutil.which("chromium") or "/usr/bin/chromium"
CHROMIUM_ARGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
KERNEL = "test-kernel"  # a name of its own: in a virtual environment the environment's own python3 goes first
PATIENCE = 120.0  # seconds: a shared machine may be slow, and nothing here waits longer than it must

SETTINGS: dict[str, dict[str, Any]] = {
    "@jupyterlab/apputils-extension/notification": {
        "checkForUpdates": False,
        "fetchNews": "false",
        "doNotDisturbMode": True,
    },
    "@jupyterlab/apputils-extension/themes": {"adaptive-theme": False, "theme": "JupyterLab Light"},
    "@jupyterlab/docmanager-extension/plugin": {"autosave": False},
    # every output stays in the page, so that a test may look at one that is scrolled away
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
}


class LabError(RuntimeError):
    """The server did not start, or a cell failed."""


@dataclass
class Server:
    """A running server. `log` holds its last lines, for messages."""

    url: str
    root: Path
    process: subprocess.Popen[str]
    log: deque[str] = field(default_factory=lambda: deque(maxlen=400))

    def api(self, path: str) -> Any:
        """What the server's own interface answers, e.g. `api("api/kernels")`."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:  # noqa: S310 (localhost)
            return json.load(answer)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _environment(home: Path, *, theme: str, python: str, extra: Mapping[str, str]) -> dict[str, str]:
    """A process environment in which Jupyter and IPython know only `home`."""
    settings = SETTINGS | {
        "@jupyterlab/apputils-extension/themes": {
            "adaptive-theme": False,
            "theme": f"JupyterLab {theme.capitalize()}",
        }
    }
    for name, value in settings.items():
        _write(home / "settings" / f"{name}.jupyterlab-settings", value)
    # announcements are a plugin of their own: the first start would ask about news in any case
    _write(
        home / "config/labconfig/page_config.json",
        {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}},
    )
    _write(
        home / f"data/kernels/{KERNEL}/kernel.json",
        {
            "argv": [python, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": "Test",
            "language": "python",
            # as in ipykernel's own kernelspec; without it the interrupt button does nothing on some systems
            "interrupt_mode": "signal",
            "metadata": {"supported_features": ["kernel subshells"]},
        },
    )
    places = {
        "JUPYTER_CONFIG_DIR": "config",
        "JUPYTER_DATA_DIR": "data",
        "JUPYTER_RUNTIME_DIR": "runtime",
        "JUPYTERLAB_SETTINGS_DIR": "settings",
        "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython",
    }
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "JPY_", "PYTEST_"))}
    return clean | {name: str(home / folder) for name, folder in places.items()} | dict(extra)


@contextmanager
def lab(
    *, python: str = sys.executable, theme: str = "light", environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Runs JupyterLab of this interpreter on a free port of localhost; `python` runs the kernels."""
    home = Path(tempfile.mkdtemp(prefix="lab-"))
    root = home / "notebooks"
    root.mkdir()
    port = _free_port()
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--ServerApp.port={port}",
        "--ServerApp.port_retries=0",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={root}",
        "--IdentityProvider.token=",
        "--ServerApp.password=",
        "--ServerApp.allow_origin=*",
        "--LabApp.expose_app_in_browser=True",
        "--LabApp.extension_manager=readonly",
        "--LabServerApp.extra_labextensions_path=[]",
    ]
    process = subprocess.Popen(
        command,
        cwd=root,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        env=_environment(home, theme=theme, python=python, extra=environment or {}),
    )
    server = Server(f"http://127.0.0.1:{port}/", root, process)
    ready = threading.Event()

    def listen() -> None:
        assert process.stderr is not None
        with process.stderr:
            for line in process.stderr:
                server.log.append(line)
                if "is running at" in line:
                    ready.set()
        ready.set()

    listener = threading.Thread(target=listen, name="lab-log", daemon=True)
    listener.start()
    try:
        if not ready.wait(PATIENCE) or process.poll() is not None:
            raise LabError("JupyterLab did not start:\n" + "".join(server.log))
        yield server
    finally:
        _stop(server)
        listener.join(PATIENCE)
        shutil.rmtree(home, ignore_errors=True)


def _stop(server: Server) -> None:
    """Asks the server to end, which ends its kernels first; kills what is left."""
    process = server.process
    started = _descendants(process.pid)  # a kernel has a session of its own, and no parent once the server is gone
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    for pid, born in started.items():
        if _stat(pid).get("born") == born:  # and not another process that has its number by now
            os.kill(pid, signal.SIGKILL)


def _stat(pid: int) -> dict[str, str]:
    """State, parent and time of birth of a process (Linux; elsewhere, or when it is gone, nothing)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return {}
    return {"parent": fields[1], "born": fields[19]} if fields[0] != "Z" else {}


def _descendants(leader: int) -> dict[int, str]:
    """Process ids below the leader, each with its time of birth."""
    known = {int(p.name): _stat(int(p.name)) for p in Path("/proc").glob("[0-9]*")}
    found: dict[int, str] = {}
    line = [leader]
    while line:
        parent = str(line.pop())
        for pid, stat in known.items():
            if stat.get("parent") == parent and pid not in found:
                found[pid] = stat["born"]
                line.append(pid)
    return found


@contextmanager
def browser(*, headless: bool = True) -> Iterator[Browser]:
    """The system's Chromium with a profile that ends with it."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_ARGS, headless=headless)
        try:
            yield chromium
        finally:
            chromium.close()


class Notebook:
    """A notebook in a page of its own. Cells are counted from 0, as are outputs."""

    def __init__(self, page: Page, server: Server, path: str):
        self.page, self.server, self.path = page, server, path
        self.console: deque[str] = deque(maxlen=200)
        page.on("console", lambda m: self.console.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: self.console.append(f"pageerror: {e}"))

    def open(self) -> None:
        """(Re)loads the page; returns when its kernel is there, be it busy or idle."""
        self.page.goto(f"{self.server.url}doc/tree/{self.path}")
        # the panel is not yet the current widget when the page is loaded, and a busy kernel never says idle
        self.page.wait_for_function(
            """() => {
                const nb = globalThis.jupyterapp?.shell?.currentWidget;
                const kernel = nb?.sessionContext?.session?.kernel;
                globalThis.__nb = nb;
                return kernel && kernel.connectionStatus === 'connected' && ['idle', 'busy'].includes(kernel.status)
                    && nb.content.widgets.length > 0 && nb.content.widgets.every(w => w.isAttached);
            }"""
        )

    def cell(self, index: int) -> Locator:
        return self.page.locator(".jp-Notebook .jp-Cell").nth(index)

    def running(self, index: int) -> bool:
        return self.page.evaluate("(i) => __nb.content.widgets[i].model.executionState === 'running'", index)

    def output(self, index: int) -> Locator:
        """The output area of a cell."""
        return self.cell(index).locator(".jp-Cell-outputArea")

    def add(self, code: str) -> int:
        """Appends a code cell; its index."""
        return self.page.evaluate(
            """(source) => {
                const shared = __nb.content.model.sharedModel;
                shared.insertCell(shared.cells.length, { cell_type: 'code', source, metadata: {} });
                return shared.cells.length - 1;
            }""",
            code,
        )

    def start(self, index: int) -> None:
        """Runs a cell; returns when the kernel says that it is running it (or has run it)."""
        self.page.evaluate(
            """async (index) => {
                const nb = __nb.content, kernel = __nb.sessionContext.session.kernel;
                nb.activeCellIndex = index;
                const id = nb.activeCell.model.id;
                const begun = new Promise(resolve => {
                    const watch = (_, message) => {
                        if (message.header.msg_type !== 'execute_input') return;
                        kernel.iopubMessage.disconnect(watch);
                        resolve();
                    };
                    kernel.iopubMessage.connect(watch);
                });
                (globalThis.__runs ??= {})[id] = jupyterapp.commands.execute('notebook:run-cell');
                await begun;
            }""",
            index,
        )

    def wait(self, index: int, timeout: float = PATIENCE) -> str:
        """Waits until a started cell is done; the text of its outputs. Raises LabError with its traceback."""
        self.page.wait_for_function(
            "(i) => /^[0-9]+$/.test(__nb.content.widgets[i].inputPrompt?.executionCount"
            " ?? __nb.content.widgets[i].model.executionCount)"
            " && __nb.content.widgets[i].model.executionState !== 'running'",
            arg=index,
            timeout=timeout * 1000,
        )
        outputs = self.page.evaluate("(i) => __nb.content.widgets[i].model.outputs.toJSON()", index)
        text = []
        for output in outputs:
            if output["output_type"] == "error":
                raise LabError(re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(output["traceback"])))
            text.append(output.get("text") or output.get("data", {}).get("text/plain", ""))
        return "".join("".join(part) for part in text)

    def run(self, index: int, timeout: float = PATIENCE) -> str:
        """Runs a cell to its end; the text of its outputs."""
        self.start(index)
        return self.wait(index, timeout)

    def execute(self, code: str) -> str:
        """Appends a cell and runs it to its end; the text of its outputs."""
        return self.run(self.add(code))

    def interrupt(self) -> None:
        """The stop button: KeyboardInterrupt in the cell that runs."""
        self.page.evaluate("() => __nb.sessionContext.session.kernel.interrupt()")

    def save(self) -> None:
        """Saves the notebook, so that a reload shows its outputs (what widgets hold lives in the kernel)."""
        self.page.evaluate("() => __nb.context.save()")

    def theme(self, name: str) -> None:
        """Changes to "light" or "dark"; returns when the page shows it."""
        self.page.evaluate(
            "(theme) => jupyterapp.commands.execute('apputils:change-theme', { theme })",
            f"JupyterLab {name.capitalize()}",
        )
        flag = "true" if name == "light" else "false"
        self.page.wait_for_selector(f'body[data-jp-theme-light="{flag}"]', state="attached")

    def close(self) -> None:
        """Closes the page and ends its kernel."""
        self.page.evaluate("() => __nb.sessionContext.shutdown()")
        self.page.context.close()

    def screenshot(self, path: Path | str, index: int | None = None) -> None:
        """A picture of the page, or of one cell's output."""
        target = self.page if index is None else self.output(index)
        target.screenshot(path=path)


def open_notebook(
    server: Server,
    chromium: Browser,
    cells: Sequence[str],
    *,
    name: str = "test.ipynb",
    width: int = 1280,
    height: int = 900,
    scale: float = 1.0,
) -> Notebook:
    """Writes a notebook and opens it in a new page; end with `notebook.close()`."""
    document = {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {"kernelspec": {"name": KERNEL, "display_name": "Test", "language": "python"}},
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{i}",
                "metadata": {},
                "source": source,
                "outputs": [],
                "execution_count": None,
            }
            for i, source in enumerate(cells)
        ],
    }
    _write(server.root / name, document)
    context = chromium.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
    context.set_default_timeout(PATIENCE * 1000)
    notebook = Notebook(context.new_page(), server, name)
    notebook.open()
    return notebook
