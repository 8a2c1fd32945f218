"""One self-contained HTML page about a run: no script, no link outside, its pictures carry their recipes."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Figure:
    """png: its bytes; alt: what it shows, for those who cannot see it; caption: HTML-free text."""

    png: bytes
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Part:
    """A titled part of the page. rows: (name, value) of a small table; table: a wider one, its header first."""

    title: str
    text: str = ""
    figures: tuple[Figure, ...] = ()
    rows: tuple[tuple[str, str], ...] = ()
    table: tuple[tuple[str, ...], ...] = ()
    code: str = ""


STYLE = """
:root { --page:#f4f4f5; --pane:#fbfbfc; --line:#dcdde0; --text:#1d1f23; --quiet:#63676f; --accent:#1768b8 }
@media (prefers-color-scheme: dark) {
  :root { --page:#1b1c1e; --pane:#232427; --line:#36383d; --text:#e6e7e9; --quiet:#9a9da4; --accent:#4c9be8 }
}
body { margin:0; background:var(--page); color:var(--text); font:13px/1.5 Inter,system-ui,sans-serif }
main { max-width:760px; margin:0 auto; padding:24px 16px 48px }
h1 { font-size:18px; margin:0 0 4px } h2 { font-size:14px; margin:0 0 8px }
p { margin:0 0 8px } .quiet, figcaption, th { color:var(--quiet) }
section { background:var(--pane); border:1px solid var(--line); border-radius:6px; padding:16px; margin-top:16px }
figure { margin:8px 0 0 } img { max-width:100%; height:auto; display:block; border-radius:2px }
figcaption { font-size:11px; margin-top:4px }
table { border-collapse:collapse; font-variant-numeric:tabular-nums }
th { text-align:left; font-weight:normal; padding:2px 24px 2px 0 } td { padding:2px 24px 2px 0 }
pre { overflow:auto; margin:8px 0 0; font-size:11px; line-height:1.4 }
"""


def page(title: str, subtitle: str, parts: Sequence[Part]) -> str:
    """The whole page as HTML text."""
    inside = "\n".join(_part(part) for part in parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n"
        f'<h1>{html.escape(title)}</h1>\n<p class="quiet">{html.escape(subtitle)}</p>\n'
        f"{inside}\n</main></body></html>\n"
    )


def _part(part: Part) -> str:
    lines = ["<section>", f"<h2>{html.escape(part.title)}</h2>"]
    if part.text:
        lines.append(f"<p>{html.escape(part.text)}</p>")
    if part.rows:
        rows = "".join(
            f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>" for name, value in part.rows
        )
        lines.append(f"<table>{rows}</table>")
    if part.table:
        lines.append(_table(*part.table))
    for figure in part.figures:
        encoded = base64.b64encode(figure.png).decode("ascii")
        lines.append(f'<figure><img alt="{html.escape(figure.alt)}" src="data:image/png;base64,{encoded}">')
        if figure.caption:
            lines.append(f"<figcaption>{html.escape(figure.caption)}</figcaption>")
        lines.append("</figure>")
    if part.code:
        lines.append(f"<details><summary>Recipe</summary><pre>{html.escape(part.code)}</pre></details>")
    lines.append("</section>")
    return "\n".join(lines)


def _table(header: Sequence[str], *rows: Sequence[str]) -> str:
    lines = ["<table>", "<tr>" + "".join(f'<th scope="col">{html.escape(name)}</th>' for name in header) + "</tr>"]
    for name, *values in rows:
        cells = "".join(f"<td>{html.escape(value)}</td>" for value in values)
        lines.append(f'<tr><th scope="row">{html.escape(name)}</th>{cells}</tr>')
    lines.append("</table>")
    return "\n".join(lines)
