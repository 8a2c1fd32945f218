"""Numbers as people write and read them."""

from __future__ import annotations

import re

GROUPED = re.compile(r"[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?")


def read_number(text: str) -> float | None:
    """12,000 or 1.5 or 1,5 or −2 or 2e-3; None where it is no finite number."""
    plain = text.strip().replace("\N{MINUS SIGN}", "-").replace("\N{NO-BREAK SPACE}", "").replace(" ", "")
    plain = plain.replace(",", "" if GROUPED.fullmatch(plain) else ".")
    try:
        value = float(plain)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def short_count(count: int) -> str:
    """1_100_000 → "1.1 M"; 12_000 → "12 k"."""
    if count >= 1_000_000:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.0f} k" if count >= 1_000 else str(count)


def spoken_time(seconds: float) -> str:
    """185 → "3 min 5 s"; 42 → "42 s"; 7384 → "2 h 3 min"."""
    whole = max(0, round(seconds))
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    if whole >= 60:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole} s"


def spoken_bytes(count: int) -> str:
    """1_181_116_006 → "1.1 GB"; 0 → ""."""
    if count >= 1 << 30:
        return f"{count / (1 << 30):.1f} GB"
    return f"{count / (1 << 20):.0f} MB" if count else ""
