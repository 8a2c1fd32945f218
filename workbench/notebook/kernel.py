"""What the kernel can do for the panel, in a line for people."""

from __future__ import annotations

import sys
from importlib import metadata

OLDEST = (7, 1)
DEAF = (
    "While a cell runs, these controls wait and pictures stand still: this page or kernel does not use subshells. "
    "It takes JupyterLab 4.4 or newer with Settings › Kernels › Kernel Comms over subshells not set to Disabled."
)


def kernel_note() -> str:
    """Empty, or what will not work here and what helps."""
    if not in_kernel():
        return (
            "The panel needs a notebook: run this in JupyterLab 4.4 or newer. "
            "Without one, the command imagen-workbench opens the same controls in a window."
        )
    try:
        version = metadata.version("ipykernel")
    except metadata.PackageNotFoundError:  # another kernel that speaks Jupyter's protocol
        return ""
    if _parts(version) < OLDEST:
        return (
            f"While a cell runs, these controls wait and pictures stand still: ipykernel {version} is older than 7.1. "
            "Run pip install -U ipykernel and restart the kernel."
        )
    return ""


def in_kernel() -> bool:
    """Whether this process is a kernel that a page talks to."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


def _parts(version: str) -> tuple[int, ...]:
    """ "7.1.0rc1" → (7, 1)."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
