"""Pictures of emoji and their names."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn")

from infoatlas_rl.tasks.suites import emoji

NOTO = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")


def test_names_with_words_in_common_are_near():
    names = [f"{what} {where} face" for what in ("grinning", "crying", "angry") for where in ("cat", "moon", "sun")] * 20
    names += [f"number{number // 2}" for number in range(200)]
    names += [f"flag of {place}" for place in ("north", "south")] * 20
    words = emoji._words(names)
    assert words.shape == (len(names), emoji.WORDS)

    def apart(a, b):
        return np.linalg.norm(words[a] - words[b])

    assert apart(0, 9) == pytest.approx(0, abs=1e-3)  # the same name
    assert apart(0, 1) < apart(0, len(names) - 1)  # two cats and a flag


def test_a_font_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"nothing\.ttf is not there: suite=emoji draws with Noto Color Emoji .*emoji_font=FILE"):
        emoji.pairs(tmp_path / "nothing.ttf")


@pytest.mark.skipif(not NOTO.is_file(), reason="Debian's fonts-noto-color-emoji is not installed")
def test_pictures_are_in_colour_and_as_many_as_names():
    pictures, names = emoji.pairs(NOTO)
    assert len(pictures) == len(names) > 1000
    assert pictures.shape[1] == 3 * emoji.SIDE**2
    assert 0 <= float(pictures.min()) < float(pictures.max()) <= 1
    red, green = pictures.view(len(pictures), -1, 3)[..., :2].mean(1).T
    assert (red != green).float().mean() > 0.5
