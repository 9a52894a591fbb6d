"""Frames of a step of a demonstration: rendered where there is a rendering device, drawn from the recorded states elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from infoatlas_rl.maniskill.demos import Demonstration
from infoatlas_rl.maniskill.envs import make_env
from infoatlas_rl.maniskill.panda import forward_kinematics
from infoatlas_rl.maniskill.states import pose_matrix
from infoatlas_rl.maniskill.tasks import Task

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8860B", "#000000")
"""One per concept."""


@dataclass(frozen=True)
class Mark:
    """A point that is drawn into a frame: where the gripper is expected at the next key state, say."""

    position: Array
    """``(3,)``, m, in the world."""
    concept: int
    """Decides the colour."""


class Camera(Protocol):
    """What makes a frame of a step of a demonstration."""

    def frame(self, demo: Demonstration, step: int, mark: Mark | None = None) -> Image: ...

    def close(self) -> None: ...


def open_camera(task: Task) -> Camera:
    """Rendered frames where there is a rendering device, drawings elsewhere."""
    try:
        return RenderedFrames(task)
    except RuntimeError:
        return DrawnFrames(task)


class RenderedFrames:
    """Frames of the simulator.

    Raises:
        RuntimeError: there is no rendering device.
    """

    def __init__(self, task: Task) -> None:
        self.env = make_env(task, render=True)
        self._seed: int | None = None

    def frame(self, demo: Demonstration, step: int, mark: Mark | None = None) -> Image:
        if self._seed != demo.seed:
            self.env.reset(seed=demo.seed)
            self._seed = demo.seed
        state = {kind: {name: v[step : step + 1] for name, v in group.items()} for kind, group in demo.env_states.items()}
        self.env.unwrapped.set_state_dict(_tensors(state))
        image = self.env.render()[0].cpu().numpy()
        return image if mark is None else self._draw_mark(image, mark)

    def _draw_mark(self, image: Image, mark: Mark) -> Image:
        from PIL import Image as Pillow
        from PIL import ImageDraw

        camera = self.env.unwrapped.scene.human_render_cameras["render_camera"].get_params()
        extrinsic, intrinsic = (camera[name][0].cpu().numpy() for name in ("extrinsic_cv", "intrinsic_cv"))
        u, v, depth = intrinsic @ (extrinsic[:3] @ np.append(mark.position, 1))
        u, v, radius, width = u / depth, v / depth, len(image) / 30, max(len(image) // 90, 1)
        picture = Pillow.fromarray(image)
        draw = ImageDraw.Draw(picture)
        for r, colour, thickness in ((radius + width, "white", 3 * width), (radius, COLOURS[mark.concept % len(COLOURS)], width)):
            draw.ellipse((u - r, v - r, u + r, v + r), outline=colour, width=thickness)
        return np.asarray(picture)

    def close(self) -> None:
        self.env.close()


class DrawnFrames:
    """The links of the Panda and the objects, drawn from the recorded states without a renderer."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self._figure = pyplot().figure(figsize=(3.2, 3.2), dpi=100)

    def frame(self, demo: Demonstration, step: int, mark: Mark | None = None) -> Image:
        self._figure.clear()
        axis = self._figure.add_subplot(projection="3d", position=(0, 0, 1, 1))
        for name, values in demo.env_states["articulations"].items():
            if name.startswith("panda") and values.shape[-1] == 31:
                links = _links(values[step : step + 1])
                axis.plot(*_arm(links).T, "-o", color="0.35", lw=2.5, ms=3)
                for finger in _fingers(links):
                    axis.plot(*finger.T, "-", color="0.1", lw=3)
        colours = iter(("#D55E00", "#009E73", "#0072B2", "#CC79A7", "#E69F00"))
        sizes = {part.object: part.geometry.half_size for part in self.task.first}
        if demo.geometry is not None:
            sizes[self.task.object] = demo.geometry.half_size
        for row, (name, values) in enumerate(_things(demo).items()):
            pose = pose_matrix(values[step : step + 1].reshape(1, -1))[0]
            half = sizes.get(name, np.full(3, 0.02))
            colour = next(colours, "0.5")
            _draw_box(axis, pose, half, colour)
            part = "object: " if name in self.task.objects else "target: " if name in self.task.targets else ""
            axis.text2D(
                0.02, 0.02 + 0.05 * row, f"{part}{name}", transform=axis.transAxes, color=colour, fontsize=9, weight="bold"
            )
        if mark is not None:
            style = {"marker": "o", "markersize": 11, "markerfacecolor": "none", "markeredgewidth": 2}
            axis.plot(*np.reshape(mark.position, (3, 1)), color=COLOURS[mark.concept % len(COLOURS)], **style)
        (x, y, _), half = _view(demo)
        axis.set(xlim=(x - half, x + half), ylim=(y - half, y + half), zlim=(0, 2 * half))
        axis.view_init(elev=22, azim=-55)
        axis.set_xticklabels([])
        axis.set_yticklabels([])
        axis.set_zticklabels([])
        self._figure.canvas.draw()
        return np.asarray(self._figure.canvas.buffer_rgba())[..., :3].copy()

    def close(self) -> None:
        pyplot().close(self._figure)


def _things(demo: Demonstration) -> dict[str, NDArray[np.float32]]:
    """The actors ``{name: (t, 13)}`` that are no furniture."""
    return {name: values for name, values in demo.env_states["actors"].items() if name not in ("ground", "table-workspace")}


def _view(demo: Demonstration) -> tuple[Array, float]:
    """Centre ``(3,)`` and half width, in m, of what the gripper and the actors pass through."""
    robot = next((v for name, v in demo.env_states["articulations"].items() if name.startswith("panda")), None)
    hand = [] if robot is None else [_links(robot.reshape(len(robot), -1)[::5])["hand"][:, :3, 3]]
    passed = np.concatenate([*hand, *(values.reshape(len(values), -1)[:, :3] for values in _things(demo).values())])
    low, high = passed.min(0), passed.max(0)
    return (low + high) / 2, max(0.15, float((high - low).max()) / 2 + 0.03)


def _arm(links: dict[str, Array]) -> Array:
    return np.stack([links[name][0, :3, 3] for name in ("base", "link3", "link4", "link5", "link7", "hand")])


def _fingers(links: dict[str, Array]) -> list[Array]:
    hand = links["hand"][0]
    tips = []
    for name in ("left_finger", "right_finger"):
        base = links[name][0, :3, 3]
        tips.append(np.stack([hand[:3, 3], base, base + 0.045 * hand[:3, 2]]))
    return tips


def _links(robot: Array) -> dict[str, Array]:
    base = pose_matrix(robot[:, :7])
    return {"base": base, **forward_kinematics(robot[:, 13:22].astype(np.float64), base)}


def _draw_box(axis: Any, pose: Array, half: Array, colour: str) -> None:
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half
    corners = corners @ pose[:3, :3].T + pose[:3, 3]
    for i in range(8):
        for bit in (1, 2, 4):
            if not i & bit:
                axis.plot(*np.stack([corners[i], corners[i | bit]]).T, color=colour, lw=1.4)


def _tensors(state: dict[str, Any]) -> dict[str, Any]:
    import torch

    return {key: _tensors(value) if isinstance(value, dict) else torch.from_numpy(value) for key, value in state.items()}


def pyplot() -> Any:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    return plt
