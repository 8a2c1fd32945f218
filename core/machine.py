"""This machine: devices, threads, number formats, memory."""

from __future__ import annotations

import functools
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .errors import RecipeError
from .runs.folder import environment

if TYPE_CHECKING:
    from .recipe import Training


def choose_device(name: str) -> torch.device:
    """`auto` takes cuda, then mps, then cpu. Raises RecipeError where the one that is named is not there."""
    there = devices()
    if name == "auto":
        return torch.device(there[0])
    if name not in there:
        raise RecipeError(
            f"{name} is not on this machine", field="training.device", fix=f"Choose auto or {', '.join(there)}"
        )
    return torch.device(name)


def devices() -> list[str]:
    """Device types that work here, the fastest first."""
    found = []
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return [*found, "cpu"]


def choose_precision(settings: Training, device: torch.device) -> torch.dtype | None:
    """The short number format inside the network, or None for float32."""
    if settings.precision == "bfloat16":
        return torch.bfloat16
    if settings.precision == "auto" and has_fast_bfloat16(device):
        return torch.bfloat16
    return None


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 itself."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    if device.type != "cpu":
        return False
    flags = cpu_flags()
    return "avx512_bf16" in flags or "amx_bf16" in flags or "bf16" in flags


@functools.cache
def cpu_flags() -> frozenset[str]:
    """What the processor says that it can do, where the system tells."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return frozenset(lines[0].partition(":")[2].split()) if lines else frozenset()


def set_threads() -> int:
    """Gives torch all cores (or OMP_NUM_THREADS); called once, when the worker starts. Returns their number."""
    chosen = os.environ.get("OMP_NUM_THREADS", "")
    count = int(chosen) if chosen.isdigit() and int(chosen) > 0 else max(1, available_cores())
    if torch.get_num_threads() != count:
        torch.set_num_threads(count)
    return count


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def described_device(device: torch.device, autocast: torch.dtype | None) -> str:
    """ "cpu · 2 threads · bfloat16"."""
    parts = [device.type]
    if device.type == "cpu":
        count = torch.get_num_threads()
        parts.append("1 thread" if count == 1 else f"{count} threads")
    parts.append(str(autocast or torch.float32).removeprefix("torch."))
    return " · ".join(parts)


def environment_now(device: torch.device, autocast: torch.dtype | None) -> dict[str, Any]:
    """What exactness depends on, beside recipe and batch layout."""
    return {
        **environment(),
        "device": device.type,
        "device_name": torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor(),
        "threads": torch.get_num_threads(),
        "precision": str(autocast or torch.float32).removeprefix("torch."),
    }


def memory_here() -> int:
    """Bytes of memory that this machine has; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return 0


def memory_held() -> int:
    """Bytes of memory that this process holds; 0 where the system does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
