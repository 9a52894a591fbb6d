"""Pictures of key states: timelines, the MI profile, a sheet of frames, an animation, curves."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.files import replace_file
from infoatlas_rl.maniskill.cameras import COLOURS, Camera, Image, Mark, pyplot
from infoatlas_rl.maniskill.demos import Demonstration

Array = NDArray[np.float64]
_MI_COLOUR = "#8856a7"
FILM = 480
"""Width and height of a film, in pixels."""


@dataclass(frozen=True)
class Panel:
    """One demonstration in the timeline."""

    title: str
    curve: Array
    """Value at every step."""
    key_steps: NDArray[np.int64]
    events: Mapping[str, int | None]


@dataclass(frozen=True)
class Measured:
    """The information along the clock that key states were placed by."""

    times: Array
    """``(T,)``, as shares of the demonstration."""
    information: Array
    """``(T,)``, nats."""
    placed: Array
    """``(K - 1,)``: times of all key states but the last one."""
    told: Array
    """``(K - 1,)``, nats."""


def timeline(
    path: Path,
    title: str,
    curve: str,
    stages: Sequence[str],
    panels: Sequence[Panel],
    measured: Measured | None,
) -> None:
    """Demonstrations over time: a band for every stage, one curve, ground-truth events (dotted). Below it what key states were
    placed by.

    Args:
        curve: what the curves of the panels are, with the unit.
        stages: what happens in each of the K stages; the key state that ends one has its number.
        measured: what key states were placed by, if that is information.
    """
    plt = pyplot()
    count = len(panels) + (measured is not None)
    figure, axes = plt.subplots(count, 1, figsize=(10, 1.45 * count + 1.1), squeeze=False)
    colours = [COLOURS[k % len(COLOURS)] for k in range(len(stages))]
    for axis, panel in zip(axes[:, 0], panels):
        length = len(panel.curve)
        begins = [0, *panel.key_steps[:-1]]
        for k, (begin, end, colour) in enumerate(zip(begins, panel.key_steps, colours, strict=True)):
            axis.axvspan(begin, end, color=colour, alpha=0.22, lw=0)
            axis.axvline(end, color=colour, lw=2)
            axis.text(
                end, 0.03, f"{k + 1} ", transform=axis.get_xaxis_transform(), fontsize=9, ha="right", color=colour, weight="bold"
            )
        axis.plot(panel.curve, color="0.15", lw=1.6)
        axis.set_xlim(0, length - 1)
        axis.set_ylim(min(0.0, float(panel.curve.min())), float(panel.curve.max()) * 1.12 + 1e-9)
        for number, (name, step) in enumerate(panel.events.items()):
            if step is not None:
                axis.axvline(step, color="0.3", ls=":", lw=1.2)
                _label_above(axis, step, name, number)
        axis.set_title(panel.title, fontsize=8, loc="left", pad=14)
        axis.set_ylabel(curve, fontsize=7)
    axes[len(panels) - 1, 0].set_xlabel("step", fontsize=8)
    if measured is not None:
        axis = axes[-1, 0]
        axis.plot(measured.times, measured.information, color="0.15", lw=1.6)
        for k, (when, told) in enumerate(zip(measured.placed, measured.told, strict=True)):
            axis.axvline(when, color=colours[k], lw=1, alpha=0.5)
            axis.plot(when, told, "o", color=colours[k], ms=6)
            axis.annotate(
                f"{k + 1}", (when, told), (4, 2), textcoords="offset points", fontsize=8, color=colours[k], weight="bold"
            )
        axis.set_xlim(0, 1)
        axis.set_ylim(0, 1.25 * float(measured.information.max()) + 1e-9)
        axis.set_xlabel("time on the common clock (share of the demonstration)", fontsize=8)
        axis.set_ylabel("nats", fontsize=7)
        axis.set_title("what the end of a stage there would tell about the motion around it", fontsize=8, loc="left")
    bands = [plt.Rectangle((0, 0), 1, 1, color=colour, alpha=0.5) for colour in colours]
    names = [f"{k + 1} {name}" for k, name in enumerate(stages)]
    height = figure.get_figheight()
    place = {"loc": "upper center", "bbox_to_anchor": (0.5, 1 - 0.25 / height)}
    figure.legend(bands, names, **place, ncol=min(len(names), 6), fontsize=8, frameon=False)
    figure.suptitle(title, fontsize=10, y=1 - 0.06 / height)
    figure.tight_layout(rect=(0, 0, 1, 1 - 0.55 / height))
    _save(figure, path)


def mi_profile(
    path: Path, title: str, phase: Array, profile: Array, key_phases: Sequence[float], event_phases: Mapping[str, Array]
) -> None:
    """MI(s_t; s_(t - delta)) on the common clock, with key states (solid) and where events lie (middle 80 %, dotted median).

    Args:
        phase: ``(p,)``, mean time of the ticks, as a share of the trajectory.
        profile: ``(p,)``, nats.
        key_phases: of the K key states.
        event_phases: event to its times on the clock, one per demonstration.
    """
    plt = pyplot()
    figure, axis = plt.subplots(figsize=(9, 3.4))
    axis.plot(phase, profile, color=_MI_COLOUR, lw=1.8)
    axis.set_xlabel("time on the common clock (share of the trajectory)")
    axis.set_ylabel("MI (nats)", color=_MI_COLOUR)
    axis.set_xlim(0, 1.01)
    axis.set_ylim(0, float(profile.max()) * 1.2)
    for number, (name, times) in enumerate(event_phases.items()):
        low, median, high = np.quantile(times, [0.1, 0.5, 0.9])
        axis.axvspan(low, high, color="0.85", lw=0, label=None if number else "event, middle 80 % of demonstrations")
        axis.axvline(median, color="0.3", ls=":", lw=1.2, label=None if number else "its median")
        _label_above(axis, median, name, number)
    for concept, when in enumerate(key_phases):
        colour = COLOURS[concept % len(COLOURS)]
        axis.axvline(when, color=colour, lw=2.2, alpha=0.85, label=None if concept else "key state")
        axis.text(when, axis.get_ylim()[1] * 0.02, f"{concept + 1}", fontsize=9, ha="right", color=colour)
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.18), ncol=3, fontsize=8, frameon=False)
    axis.set_title(title, fontsize=10, pad=26)
    figure.tight_layout()
    _save(figure, path)


def _label_above(axis: Any, x: float, name: str, number: int) -> None:
    """The name of an event over its line; every second one higher, as neighbours may be close."""
    place = axis.get_xaxis_transform()
    axis.text(x, 1.01, name + "\n" * (number % 2), fontsize=7, va="bottom", ha="center", color="0.3", transform=place)


def contact_sheet(
    path: Path,
    frames: Sequence[Sequence[Image | None]],
    titles: Sequence[Sequence[str]],
    rows: Sequence[str],
    concepts: Sequence[Sequence[int | None]],
) -> None:
    """Frames of the key states, one row per demonstration.

    Args:
        frames: None leaves a place empty but for its title.
        rows: titles of the rows.
        concepts: decide the colours of the borders; None: grey.
    """
    plt = pyplot()
    columns = len(frames[0])
    figure, axes = plt.subplots(len(frames), columns, figsize=(2.1 * columns, 2.25 * len(frames)), squeeze=False)
    for row, images in enumerate(frames):
        for column, image in enumerate(images):
            axis, concept = axes[row, column], concepts[row][column]
            axis.set_xticks([])
            axis.set_yticks([])
            if image is None:
                axis.text(0.5, 0.5, titles[row][column], fontsize=7, ha="center", va="center", color="0.5")
            else:
                axis.imshow(image)
                axis.set_title(titles[row][column], fontsize=7, pad=2)
            colour = "0.6" if concept is None else COLOURS[concept % len(COLOURS)]
            for side in axis.spines.values():
                side.set(color=colour, linewidth=2, visible=image is not None)
        axes[row, 0].set_ylabel(rows[row], fontsize=7)
    figure.tight_layout()
    _save(figure, path)


def animation(
    path: Path,
    camera: Camera,
    demo: Demonstration,
    key_steps: NDArray[np.int64],
    every: int = 3,
    marks: Sequence[Mark | None] | None = None,
    stages: Sequence[str] = (),
) -> None:
    """A GIF of a demonstration that pauses at its key states, each named by the stage that it ends; ``marks``, one per step, are
    drawn in."""
    from PIL import Image as Pillow
    from PIL import ImageDraw

    keys = {int(step): number for number, step in reversed(list(enumerate(key_steps)))}
    frames, durations = [], []
    for step in sorted({*range(0, len(demo), every), len(demo) - 1, *keys}):
        picture = Pillow.fromarray(camera.frame(demo, step, marks[step] if marks else None)).convert("RGB").resize((FILM, FILM))
        draw = ImageDraw.Draw(picture)
        colour = COLOURS[keys[step] % len(COLOURS)] if step in keys else "black"
        draw.text((8, 6), f"step {step}", fill=colour, font_size=16)
        if step in keys:
            ended = f": {stages[keys[step]]}" if stages else ""
            draw.text((8, 26), f"key state {keys[step] + 1}{ended}", fill=colour, font_size=18)
            draw.rectangle((0, 0, FILM - 1, FILM - 1), outline=colour, width=6)
        frames.append(picture.quantize(96))
        durations.append(1000 if step in keys else 60)
    with replace_file(path) as temporary:
        frames[0].save(temporary, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def curves_with_intervals(
    path: Path,
    panels: Mapping[str, Mapping[str, Sequence[tuple[float, float, float, float]]]],
    x_label: str,
    y_label: str,
    *,
    log_x: bool = False,
) -> None:
    """Rates with their intervals: a panel for every task, a curve of (x, rate, low, high) for every arm, side by side."""
    plt = pyplot()
    from matplotlib.ticker import EngFormatter

    size = (4.6 * len(panels) + 1, 4.0)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, sharey=True, layout="constrained")
    colours = dict(zip(dict.fromkeys(name for arms in panels.values() for name in arms), COLOURS, strict=False))
    shown: dict[str, Any] = {}
    for axis, (title, arms) in zip(axes[0], panels.items(), strict=True):
        for number, (name, points) in enumerate(arms.items()):
            if points:
                x, rate, low, high = np.array(sorted(points)).T
                bars = np.clip([rate - low, high - rate], 0, None)
                aside = number - (len(arms) - 1) / 2
                x = x * 1.03**aside if log_x else x + 0.007 * aside * x.max()
                style = {"fmt": "o-", "color": colours[name], "lw": 1.8, "ms": 4, "capsize": 3, "elinewidth": 1}
                shown[name] = axis.errorbar(x, rate, bars, label=name, **style)
        axis.set(title=textwrap.fill(title, 32), xlabel=x_label, ylim=(-0.02, 1.02))
        if log_x:
            axis.set_xscale("log")
            ticks = sorted({point[0] for arms in panels.values() for points in arms.values() for point in points})
            axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.minorticks_off()
        else:
            axis.xaxis.set_major_formatter(EngFormatter(sep=""))
        axis.grid(alpha=0.3)
    axes[0, 0].set_ylabel(y_label)
    figure.legend(handles=list(shown.values()), loc="outside lower center", ncols=len(shown))
    path.parent.mkdir(parents=True, exist_ok=True)
    _save(figure, path)


def _save(figure: Any, path: Path) -> None:
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    pyplot().close(figure)
    with replace_file(path) as temporary:
        temporary.write_bytes(buffer.getvalue())
