"""Suite ``emoji``: pictures and their names, as noise grows. The second of the self-consistency experiments, on real pairs.

Pictures are the glyphs of Noto Color Emoji, a font of Debian (SIL Open Font License); names are those of Unicode, which are part
of Python, as weighted words in 50 dimensions. As in suite ``selfconsistency`` there is no truth but the order.
"""

from __future__ import annotations

import unicodedata
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig
from torch import Tensor

from infoatlas_rl.tasks.suites.loss_data import require_packages
from infoatlas_rl.tasks.suites.selfconsistency import compare, table, with_noise

__all__ = ["run", "table"]

SIDE = 24
"""Pixels of a picture's side."""
WORDS = 50
"""Dimensions of a name."""
SIZE, GLYPH = 109, (136, 128)
"""Of the font, whose glyphs are pictures, and of a glyph, in pixels."""
FIRST = 0x203C
"""Below it are digits and letters."""
PARTS = {0x20E3, 0x200D, *range(0xFE00, 0xFE10), *range(0x1F1E6, 0x1F200), *range(0x1F3FB, 0x1F400), *range(0xE0000, 0xE0080)}
"""What is no picture of its own: joiners, variants, letters of flags, tones of skin."""


def run(cfg: DictConfig) -> dict[str, Any]:
    require_packages([])
    pictures, names = pairs(Path(cfg.emoji_font))
    what = f"emoji, {SIDE} x {SIDE} coloured pixels, and their names in {WORDS} dimensions"
    return compare(cfg, "emoji", what, partial(with_noise, pictures, names))


def pairs(font: Path) -> tuple[Tensor, Tensor]:
    """Pictures ``(n, 3 * 24 * 24)`` in [0, 1] and names ``(n, 50)`` of all emoji of a single character.

    Raises:
        ValueError: the font is not there.
    """
    if not font.is_file():
        raise ValueError(
            f"{font} is not there: suite=emoji draws with Noto Color Emoji (Debian: apt install fonts-noto-color-emoji), or name "
            "the file with emoji_font=FILE"
        )
    from fontTools.ttLib import TTFont
    from PIL import ImageFont

    codes = [code for code in sorted(TTFont(font).getBestCmap()) if code >= FIRST and code not in PARTS]
    named = {chr(code): unicodedata.name(chr(code), "").lower() for code in codes}
    opened = ImageFont.truetype(font, SIZE)
    drawn = {character: _draw(opened, character) for character, name in named.items() if name}
    drawn = {character: picture for character, picture in drawn.items() if picture.std() > 0}
    if not drawn:
        raise ValueError(f"{font} has no emoji that Pillow can draw; name Noto Color Emoji with its pictures, emoji_font=FILE")
    pictures = torch.from_numpy(np.stack([picture.ravel() for picture in drawn.values()]).astype(np.float32))
    return pictures, torch.from_numpy(_words([named[character] for character in drawn]))


def _draw(font: Any, character: str) -> np.ndarray:
    from PIL import Image, ImageDraw

    picture = Image.new("RGBA", GLYPH, "white")
    ImageDraw.Draw(picture).text((0, 0), character, font=font, embedded_color=True)
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR), dtype=np.float64) / 255


def _words(names: list[str]) -> np.ndarray:
    """The principal components of how often words are in names, rare ones weighing more."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    counts = TfidfVectorizer(min_df=2).fit_transform(names)
    return TruncatedSVD(WORDS, random_state=0).fit_transform(counts).astype(np.float32)
