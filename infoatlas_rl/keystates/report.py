"""A report of key states as one HTML file that needs no network: tables, and pictures inside it."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from infoatlas_rl.files import replace_file
from infoatlas_rl.tables import Table

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1000px; margin: 2rem auto; padding: 0 1rem; color: #222; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
table { border-collapse: collapse; margin: 0.6rem 0; } td, th { padding: 0.2rem 0.7rem; text-align: right; }
th { border-bottom: 1px solid #999; } td:first-child, th:first-child { text-align: left; }
img { max-width: 100%; } .note { color: #666; font-size: 0.9rem; }
"""


def write_report(path: Path, title: str, intro: str, sections: Sequence[tuple[str, str, Table | Path]]) -> None:
    """Write ``title``, ``intro`` and sections ``(heading, note, table or picture)``; missing pictures are left out."""
    body = [f"<h1>{escape(title)}</h1>", f"<p>{escape(intro)}</p>"]
    for heading, note, content in sections:
        if isinstance(content, Path):
            if not content.is_file():
                continue
            kind = "gif" if content.suffix == ".gif" else "png"
            data = base64.b64encode(content.read_bytes()).decode()
            inner = f'<img alt="{escape(heading)}" src="data:image/{kind};base64,{data}">'
        else:
            inner = content.html()
        body.append(f"<h2>{escape(heading)}</h2>\n{inner}\n<p class=note>{escape(note)}</p>")
    head = f"<meta charset=utf-8><title>{escape(title)}</title><style>{_STYLE}</style>"
    page = ["<!doctype html>", f"<html lang=en><head>{head}</head><body>", *body, "</body></html>", ""]
    with replace_file(path) as temporary:
        temporary.write_text("\n".join(page), encoding="utf-8")
