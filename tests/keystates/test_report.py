"""The report is one page that shows its pictures."""

import shutil
import subprocess

import numpy as np
import pytest

pytest.importorskip("hydra")


from infoatlas_rl.keystates.report import write_report
from infoatlas_rl.tables import Table

BROWSER = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None)


@pytest.mark.skipif(BROWSER is None, reason="no headless browser: apt-get install chromium")
def test_the_report_shows_its_pictures_in_a_browser(tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.imsave(tmp_path / "red.png", np.full((60, 200, 3), [1.0, 0, 0]))
    sections = [("A table", "of one row", Table(["a", "b"], [["<1>", "2"]])), ("A picture", "red", tmp_path / "red.png")]
    write_report(tmp_path / "report.html", "Key states of <nothing>", "An introduction.", sections)
    (tmp_path / "red.png").unlink()  # the report holds it
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    page = (tmp_path / "report.html").as_uri()
    shot = [f"--screenshot={tmp_path / 'shot.png'}", "--window-size=800,800", page]
    subprocess.run([BROWSER, *options, *shot], check=True, capture_output=True, timeout=120)
    shown = plt.imread(tmp_path / "shot.png")[..., :3]
    assert ((shown[..., 0] > 0.9) & (shown[..., 1:] < 0.1).all(-1)).sum() > 10_000
    text = subprocess.run([BROWSER, *options, "--dump-dom", page], check=True, capture_output=True, text=True, timeout=120).stdout
    assert "Key states of &lt;nothing&gt;" in text
