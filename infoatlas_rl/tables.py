"""Tables of figures: rendered once, shown on a terminal, in Markdown and in HTML."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Table:
    """Cells as text; ``**bold**`` and backticks are Markdown's, and left out where they mean nothing."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    """What has to be said below."""
    title: str = ""

    def text(self) -> str:
        """Columns under their titles, the first one to the left."""
        lines = [[_plain(cell) for cell in line] for line in (self.header, *self.rows)]
        widths = [max(len(line[i]) for line in lines) for i in range(len(self.header))]
        body = []
        for first, *rest in lines:
            cells = (cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))
            body.append("  ".join(["", first.ljust(widths[0]), *cells]).rstrip())
        return "\n".join([*([_plain(self.title)] if self.title else []), *body, *([_plain(self.note)] if self.note else []), ""])

    def markdown(self) -> str:
        lines = [self.header, ["---"] * len(self.header), *self.rows]
        body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        head = f"### {self.title}\n\n" if self.title else ""
        return f"{head}{body}\n\n{self.note}" if self.note else head + body

    def html(self) -> str:
        lines = ["<tr>" + "".join(f"<th>{escape(_plain(cell))}</th>" for cell in self.header) + "</tr>"]
        lines += ["<tr>" + "".join(f"<td>{escape(_plain(cell))}</td>" for cell in row) + "</tr>" for row in self.rows]
        return "<table>\n" + "\n".join(lines) + "\n</table>"


def _plain(text: str) -> str:
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("**", "").replace("`", "")
