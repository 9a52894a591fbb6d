"""All pictures of what discovery found, and the report that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.keystates.report import write_report
from infoatlas_rl.keystates.trajectories import column_scales
from infoatlas_rl.maniskill import pictures
from infoatlas_rl.maniskill.cameras import RenderedFrames, open_camera
from infoatlas_rl.maniskill.findings import Findings
from infoatlas_rl.maniskill.states import STATE_INDEX
from infoatlas_rl.maniskill.trajectories import Source

SHOWN = 3
"""Trajectories in the timeline."""
FILMED = 4
"""Demonstrations on the contact sheet; the first one is the film."""


def draw_overview(out: Path, findings: Findings) -> Path:
    """Write ``timeline.png``, ``mi_profile.png``, of demonstrations also ``contact_sheet.png`` and ``keystates.gif``, and
    ``report.html`` with all of them; returns the report."""
    source, finder = findings.source, findings.finder
    _draw_timeline(out / "timeline.png", findings)
    used = f"from {len(findings.profile.pointwise)} of the demonstrations"
    pictures.mi_profile(
        out / "mi_profile.png",
        f"{source.name}: MI of states {finder.config.delta} ticks apart, {used}",
        findings.profile.time,
        findings.profile.mean,
        [float(np.mean(finder.clock.show(column))) for column in findings.key_states.steps.T],
        _event_phases(findings),
    )
    frames = "" if source.demos is None else f"Frames are {_draw_frames(out, findings)}."
    intro = f"{len(source)} demonstrations from {source.about['path']}, {finder.concepts} key states."
    sections: list[tuple[str, str, Any]] = []
    if findings.scores:
        note = "Within 5 steps; discovery never sees them."
        sections.append(("Agreement with ground-truth events", note, findings.score_table()))
    sections += [
        ("Key states", "Time: mean and standard deviation, as a share of the trajectory.", findings.concept_table()),
        ("MI profile on the common clock", "Grey: the middle 80 % of the events' times.", out / "mi_profile.png"),
        ("A demonstration, pausing at its key states", frames, out / "keystates.gif"),
        ("Key states of some demonstrations", frames, out / "contact_sheet.png"),
        ("Timeline", "Bands are stages; the key state that ends one has its number.", out / "timeline.png"),
    ]
    write_report(out / "report.html", f"Key states of {source.name}", intro, sections)
    return out / "report.html"


def _draw_timeline(path: Path, findings: Findings) -> None:
    source = findings.source
    name, curves = _curves(source)
    panels = [
        pictures.Panel(
            source.labels[row], curves[row], findings.key_states.steps[row], source.events[row] if source.events else {}
        )
        for row in range(min(SHOWN, len(source)))
    ]
    dotted = ", ground-truth events dotted" if source.events else ""
    pictures.timeline(
        path, f"{source.name}: stages and the key states that end them{dotted}", name, findings.stages, panels, findings.measured
    )


def _draw_frames(out: Path, findings: Findings) -> str:
    """Contact sheet and film; returns how the frames were made."""
    camera = open_camera(findings.source.demos.task)
    shown = findings.source.demos.demonstrations[:FILMED]
    rows = findings.key_states.steps[: len(shown)]
    pictures.contact_sheet(
        out / "contact_sheet.png",
        [[camera.frame(demo, int(step)) for step in steps] for demo, steps in zip(shown, rows, strict=True)],
        [[f"key state {k + 1}, step {step}" for k, step in enumerate(steps)] for steps in rows],
        [f"demonstration {demo.episode_id}" for demo in shown],
        [range(rows.shape[1])] * len(shown),
    )
    pictures.animation(out / "keystates.gif", camera, shown[0], rows[0], stages=findings.stages)
    camera.close()
    return "rendered" if isinstance(camera, RenderedFrames) else "drawn: there is no rendering device here"


def _curves(source: Source) -> tuple[str, list[NDArray]]:
    """What is drawn of a demonstration, and the curves."""
    if source.demos is not None and source.demos.task.object is not None:
        return "gripper (cm)", [100 * states[:, STATE_INDEX["gripper_width"]][:, 0] for states in source.states[:SHOWN]]
    scale = column_scales(source.trajectories)[1]
    return "speed", [np.linalg.norm(np.gradient(states / scale, axis=0), axis=1) for states in source.trajectories[:SHOWN]]


def _event_phases(findings: Findings) -> dict[str, NDArray]:
    """Event to its times on the clock."""
    out = {}
    happened = findings.source.events or []
    for name in {name: None for events in happened for name in events}:
        steps = np.array([-1 if events.get(name) is None else events[name] for events in happened])
        out[name] = findings.finder.clock.show(np.maximum(steps, 0))[steps >= 0]
    return {name: times for name, times in out.items() if len(times)}
