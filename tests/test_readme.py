"""What the README shows runs as it is pasted."""

import re
import subprocess
import sys

import pytest

from tests.conftest import ROOT


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL))
def test_snippets_run_as_they_are_pasted(code, tmp_path):
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    estimate, loss = answer.stdout.splitlines()
    # The interval of the printed estimate holds the printed truth.
    low, high = map(float, re.search(r"90 %: ([\d.]+) to ([\d.]+)", estimate).groups())
    assert low <= 1.53 <= high
    assert all(float(number) != 0 for number in loss.split())


def test_links_lead_to_files():
    for name in ("README.md", "CONTRIBUTING.md", *(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))):
        text = (ROOT / name).read_text()
        for target in re.findall(r"\]\(([^)#\s]+)", text):
            if "://" not in target:
                assert ((ROOT / name).parent / target).exists(), f"{name} leads to {target}"


def test_the_snippet_of_analysis_runs(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/analysis.md").read_text(), flags=re.DOTALL)
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "conditional MI = " in answer.stdout
    assert "p = 0.00125" in answer.stdout
