"""Run ManiSkill's physics on machines without any rendering device.

SAPIEN creates materials and render bodies while it loads robots and builds actors, and each of those needs a Vulkan
device: ``gym.make`` fails with "failed to find a rendering device" even with ``render_backend="none"``. Physics and
state observations need none of it. On a machine without a rendering device, and only there, :func:`ensure_simulator`
replaces

- ``RenderMaterial`` by a plain bag of attributes,
- the ``add_*_visual*`` methods of ``ActorBuilder`` by methods that do nothing,
- ``ActorBuilder.build_render_component`` by one that builds none.

Collision shapes, masses, joints and controllers are untouched, so trajectories are the same with and without.
"""

from __future__ import annotations

import functools
import warnings
from typing import Any


@functools.cache
def rendering_device() -> str | None:
    """Name of the rendering device, or None where there is none. Asks Vulkan once, by making a material."""
    with warnings.catch_warnings():
        # SAPIEN brings a Vulkan loader of its own and says so.
        warnings.filterwarnings("ignore", message="Failed to find system libvulkan")
        import sapien

    try:
        sapien.render.RenderMaterial()
    except RuntimeError:
        return None
    try:
        return sapien.render.RenderSystem().device.name
    except (RuntimeError, AttributeError):
        return "unnamed device"


@functools.cache
def ensure_simulator() -> bool:
    """Make ``gym.make`` of ManiSkill work on this machine; returns whether frames can be rendered."""
    if rendering_device() is not None:
        return True
    import sapien
    import sapien.wrapper.actor_builder as actor_builder
    import sapien.wrapper.urdf_loader as urdf_loader

    sapien.render.RenderMaterial = urdf_loader.RenderMaterial = _Material
    for name in dir(actor_builder.ActorBuilder):
        if name.startswith("add_") and "_visual" in name:
            setattr(actor_builder.ActorBuilder, name, _add_nothing)
    actor_builder.ActorBuilder.build_render_component = _build_nothing
    return False


class _Material:
    """Stands in for ``sapien.render.RenderMaterial``: keeps what is set, renders nothing."""

    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("set_"):
            return lambda value: setattr(self, name.removeprefix("set_"), value)
        raise AttributeError(name)


def _add_nothing(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self


def _build_nothing(self: Any) -> None:
    return None
