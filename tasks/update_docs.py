"""Write the figures of README.md and docs/ from the committed results.

    python tasks/update_docs.py            # rewrite the marked sections
    python tasks/update_docs.py check=true # fail where one is out of date

A section stands between ``<!-- figures: NAME -->`` and ``<!-- end -->``; everything between is generated.
"""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig

from infoatlas_rl.files import replace_file
from infoatlas_rl.tasks.shell.options import hydra_main
from infoatlas_rl.tasks.suites.sections import ROOT, SECTIONS

FILES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")), "pretrained/README.md")


def render(name: str) -> str:
    """The text of a file with every marked section generated anew; links are made relative to the file."""
    up = {"docs": "", "pretrained": "../docs/"}.get(Path(name).parent.name, "docs/")

    def section(match: re.Match[str]) -> str:
        kind = match.group(1)
        if kind not in SECTIONS:
            raise ValueError(f"unknown section {kind!r}; there are {', '.join(SECTIONS)}")
        return f"<!-- figures: {kind} -->\n{SECTIONS[kind]().replace('](docs/', f']({up}')}\n<!-- end -->"

    return re.sub(r"<!-- figures: ([\w-]+) -->\n.*?<!-- end -->", section, (ROOT / name).read_text(), flags=re.DOTALL)


def outdated() -> list[str]:
    """Files whose sections differ from the committed results."""
    return [name for name in FILES if render(name) != (ROOT / name).read_text()]


@hydra_main("update_docs")
def main(cfg: DictConfig) -> None:
    names = outdated()
    if cfg.check and names:
        raise ValueError(f"out of date: {', '.join(names)}; run python tasks/update_docs.py")
    for name in names:
        text = render(name)
        with replace_file(ROOT / name) as temporary:
            temporary.write_text(text)
    print(f"rewritten: {', '.join(names) or 'nothing'}")


if __name__ == "__main__":
    main()
