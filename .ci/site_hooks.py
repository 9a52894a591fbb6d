"""Hooks of mkdocs: README is the front page; links out of docs/ are shown as the path that they name, roles of reST as the name
that they refer to; links of notebooks are those of pages."""

import re
from pathlib import Path

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[1]


def on_files(files, config):
    text = (ROOT / "README.md").read_text().replace("](docs/", "](")
    files.append(File.generated(config, "index.md", content=re.sub(r"\]\((?=[A-Zp])(?!http)", "](../", text)))
    return files


def on_page_markdown(markdown, **_):
    return re.sub(r"\[([^\]]+)\]\(\.\./([^)]+)\)", r"\1 (`\2`)", markdown)


def on_page_content(html, **_):
    html = re.sub(r":(?:func|class|meth|data|mod|attr|exc):(<code>)(~?[\w.]+)</code>", _named, html)
    return re.sub(r"<p>::</p>|::(?=</p>\s*<div class=\"(?:language|highlight))", "", html)


def on_post_page(output, page, **_):
    """Links of notebooks, which mkdocs leaves as they are: a page is one folder deeper than its file."""
    if not page.file.src_uri.endswith(".ipynb"):
        return output
    return re.sub(r'href="([\w./-]+)\.(?:md|ipynb)(#[\w-]+)?"', lambda link: f'href="../{link[1]}/{link[2] or ""}"', output)


def _named(role):
    start, name = role.groups()
    return f"{start}{name.lstrip('~').rpartition('.')[2] if name.startswith('~') else name}</code>"
