"""The policy: normaliser, network, and how its chunks of commands are carried out.

``policy.predict(obs, state, episode_start, deterministic)`` has the signature of stable-baselines3, so that SB3's
``evaluate_policy`` runs it: observations are the 100-D states of ``StateEnv``, actions those of ``pd_ee_delta_pose`` or
``pd_joint_delta_pos``, and ``state`` carries the recent steps and the rest of the chunk from call to call.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from infoatlas_rl.checks import check_kinds
from infoatlas_rl.maniskill.states import LAYOUT, STATE_DIM, STATE_INDEX
from infoatlas_rl.maniskill.tasks import Task, describe, task_of
from infoatlas_rl.policies.control import CONTROL_MODE, JOINT_MODE, Joints, to_action, to_joint_action
from infoatlas_rl.policies.dataset import KEY_SIZE, Batch
from infoatlas_rl.policies.network import KeyStateTransformer
from infoatlas_rl.policies.scene import Frames, Pose, Scene, features, frames, pose_in_states, raw_features, symmetry_of, turned
from infoatlas_rl.weights import WeightsError, read_model, write_model

FORMAT = "infoatlas-policy-1"
"""Changes whenever an older file would be read but act differently."""

STATE_LAYOUT = f"{STATE_DIM}-D {hashlib.sha256(repr([part[:2] for part in LAYOUT]).encode()).hexdigest()[:8]}"
"""Names the layout of the states that a policy reads."""

FEATURES = ("relative", "raw")

WORLD_SIZE, FRAME_SIZE = 6, 5
"""A pose as the network writes it: an offset in the world, and for every frame its shares of position and rotation (2) and an
offset in it (3)."""
KEY_REST = 5
"""What is written of a key state besides its pose: translation of the object (3), width of the gripper, logit of being past."""


@dataclass(frozen=True)
class PolicyConfig:
    """Shape of a policy, and what it was made for."""

    task: Any
    """Its name; of a task that is no built-in one, its whole description, so that a policy's file needs nothing beside it."""
    key_states: int
    control_mode: str = CONTROL_MODE
    state_layout: str = STATE_LAYOUT
    features: str = "relative"
    """relative; or raw: joints and poses in the world, no frames, no displaced samples, no targets in hindsight, as in CoTPC."""
    context: int = 4
    """Recent steps that are seen."""
    chunk: int = 16
    """Commands that are decoded at once."""
    execute: int = 8
    """Commands of a chunk that are carried out before the next one is decoded."""
    width: int = 128
    depth: int = 3
    heads: int = 4

    def __post_init__(self) -> None:
        check_kinds(self, "policy.")
        object.__setattr__(self, "task", describe(task_of(self.task)))
        if self.state_layout != STATE_LAYOUT:
            raise ValueError(f"the policy has state_layout {self.state_layout!r}, this version of the code {STATE_LAYOUT!r}")
        for name, accepted in (("features", FEATURES), ("control_mode", (CONTROL_MODE, JOINT_MODE))):
            if getattr(self, name) not in accepted:
                raise ValueError(f"policy.{name}={getattr(self, name)} is unknown; choose one of {', '.join(accepted)}")
        if self.joints and self.features != "raw":
            raise ValueError(
                f"policy.control_mode={JOINT_MODE} commands joints, which know no object or target: it goes with "
                "policy.features=raw"
            )
        for name in ("key_states", "context", "chunk", "execute", "width", "depth", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"policy.{name} has to be at least 1, not {getattr(self, name)}")
        if self.width % self.heads:
            raise ValueError(f"policy.width={self.width} has to be a multiple of policy.heads={self.heads}")
        if self.execute > self.chunk:
            raise ValueError(f"policy.execute={self.execute}: no more can be carried out than policy.chunk={self.chunk} holds")

    @property
    def joints(self) -> bool:
        """Commands are positions of joints."""
        return self.control_mode == JOINT_MODE

    @property
    def offset_size(self) -> int:
        """Numbers of a command without the gripper: an offset of the pose, or of the joints."""
        return 7 if self.joints else 6


class PolicyState(NamedTuple):
    """What :meth:`KeyStatePolicy.predict` hands from call to call; n environments."""

    observations: NDArray[np.float32]
    """``(n, context, 100)``"""
    gripper: NDArray[np.float32]
    """``(n, context)``, the command before each of them."""
    commands: NDArray[np.float32]
    """``(n, chunk, 13)``: position, rotation matrix, gripper; or ``(n, chunk, 8)``: joints, gripper."""
    cursor: NDArray[np.int64]
    """``(n,)``, commands of the chunk that were carried out."""
    keys: NDArray[np.float32]
    """``(n, k, 8)``: gripper position, object position, width, probability that it is past."""


class KeyStatePolicy(nn.Module):
    """A policy for one task. Build it with a :class:`PolicyConfig`, or read it with :meth:`load`."""

    def __init__(self, config: PolicyConfig) -> None:
        super().__init__()
        self.config = config
        self.task: Task = task_of(config.task)
        self.symmetry = symmetry_of(self.task)
        inputs = self._features(Scene.from_states(torch.zeros(1, STATE_DIM))).shape[-1] + 1
        pose = WORLD_SIZE + FRAME_SIZE * (0 if config.features == "raw" else 2)
        command = config.offset_size if config.joints else pose
        self.network = KeyStateTransformer(
            inputs,
            context=config.context,
            key_states=config.key_states,
            key_size=pose + KEY_REST,
            chunk=config.chunk,
            command_size=command + 1,
            width=config.width,
            depth=config.depth,
            heads=config.heads,
        )
        self.register_buffer("input_mean", torch.zeros(inputs))
        self.register_buffer("input_scale", torch.ones(inputs))
        self.register_buffer("command_scale", torch.ones(config.chunk, config.offset_size))
        self.register_buffer("key_scale", torch.ones(KEY_SIZE))

    def forward(self, scenes: Scene, gripper: Tensor) -> tuple[Tensor, Tensor]:
        """Commands ``(b, chunk, 7 or 8)`` and key states ``(b, k, 11)`` from steps ``(b, context)``; see :meth:`decode`."""
        return self.decode(scenes, *self.network(self.inputs(scenes, gripper)))

    def decode(self, scenes: Scene, commands: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What the network wrote, as poses.

        A pose is an offset from the gripper now, and written as a sum: shares of the way to the object and to the target, and
        offsets in the frames of world, object and target. Where a share is 1, displacements of the gripper are undone exactly.
        Joints are offsets, without frames.

        Returns:
            Commands ``(b, chunk, 7)``: translation (m), rotation vector (rad), logit of closing; or ``(b, chunk, 8)``: joints
            (rad), logit. Key states ``(b, k, 11)``: see ``dataset.KEY_SIZE``; the last one is a logit.
        """
        near = frames(scenes[:, -1:], self.symmetry)
        if self.config.features == "raw":
            near = Frames(near.offsets[..., :0, :], near.rotations[..., :0, :, :])
        key_pose, rest = _pose(keys, near, self.key_scale[:6]), keys[..., WORLD_SIZE + FRAME_SIZE * near.offsets.shape[-2] :]
        key_states = torch.cat([key_pose, rest * self.key_scale[6:]], -1)  # the scale of the logit is 1
        offset = commands[..., :-1] * self.command_scale if self.config.joints else _pose(commands, near, self.command_scale)
        return torch.cat([offset, commands[..., -1:]], -1), key_states

    def inputs(self, scenes: Scene, gripper: Tensor) -> Tensor:
        """Normalised features ``(b, context, f)`` of recent steps."""
        steps = torch.cat([self._features(scenes), gripper], -1)
        return ((steps - self.input_mean) / self.input_scale).clamp(-5, 5)

    def _features(self, scenes: Scene) -> Tensor:
        return raw_features(scenes) if self.config.features == "raw" else features(scenes, self.symmetry)

    def save(self, path: Path, record: dict[str, Any]) -> None:
        """Write the policy with a record of how it was made."""
        write_model(path, self, FORMAT, record)

    @classmethod
    def load(cls, path: Path | str, task: str | None = None, *, key_states: bool = False) -> KeyStatePolicy:
        """Read a policy, in evaluation mode, for acting in ``task`` if that is given.

        Args:
            key_states: its predictions of key states are needed.

        Raises:
            WeightsError: no such file, or a policy for another task, control mode, state layout or version of the code;
                the message names both sides and the command that trains one that fits. Or one trained without key states,
                where they are needed.
        """
        policy, record = cls.load_with_record(path, task)
        if key_states and record.get("config", {}).get("training", {}).get("key_weight") == 0:
            raise WeightsError(
                f"{path} was trained without key states and predicts none; take one that was trained with them: "
                f"tasks/train_policy.py env={policy.task.name} keystates=infoatlas"
            )
        return policy

    @classmethod
    def load_with_record(cls, path: Path | str, task: str | None = None) -> tuple[KeyStatePolicy, dict[str, Any]]:
        """As :meth:`load`, with the record of how the policy was made."""
        script = f"tasks/train_policy.py env={task or 'TASK'}"
        policy, record = read_model(Path(path), FORMAT, lambda config: cls(PolicyConfig(**config)), script)
        if task is not None and policy.task.name != task:
            raise WeightsError(f"{path} is a policy for {policy.task.name}, not for {task}; train one with {script}")
        return policy.eval().requires_grad_(False), record

    @torch.no_grad()
    def fit_normaliser(self, batch: Batch) -> None:
        """Take the scales of inputs and outputs from a large batch."""
        steps = torch.cat([self._features(batch.scenes), batch.gripper], -1).flatten(0, 1)
        self.input_mean.copy_(steps.mean(0))
        self.input_scale.copy_(steps.std(0).clamp_min(1e-2))

        # One scale for the three components of a vector: directions keep their meaning.
        def scale(x: Tensor, together: int = 3) -> Tensor:
            rms = x.unflatten(-1, (-1, together)).square().mean((0, -1)).sqrt()
            return rms.clamp_min(1e-3).repeat_interleave(together, -1)

        self.command_scale.copy_(scale(batch.commands, together=7 if self.config.joints else 3))
        self.key_scale[:9].copy_(scale(batch.keys[..., :9].flatten(0, 1)))
        self.key_scale[9] = 0.04

    # --- acting ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        observation: NDArray[np.float32],
        state: PolicyState | None = None,
        episode_start: NDArray[np.bool_] | None = None,
        deterministic: bool = True,
    ) -> tuple[NDArray[np.float32], PolicyState]:
        """Act in one environment or in n.

        Args:
            observation: ``(100,)`` or ``(n, 100)``, states.
            state: what the call before returned; None in the first one.
            episode_start: ``(n,)``, which environments have been reset since then.
            deterministic: for SB3's sake; the policy always is.

        Returns:
            Actions of ``pd_ee_delta_pose``, ``(7,)`` or ``(n, 7)``, or of ``pd_joint_delta_pos``, ``(8,)`` or ``(n, 8)``, in
            [-1, 1], and the state for the next call.

        Raises:
            ValueError: observations of another shape, or that are not finite, or no states; or the policy's own commands are
                not finite.
        """
        obs = np.asarray(observation, np.float32)
        single = obs.ndim == 1
        if obs.ndim not in (1, 2) or obs.shape[-1] != STATE_DIM:
            raise ValueError(
                f"observations have shape {obs.shape}, the policy takes ({STATE_DIM},) or (n, {STATE_DIM}) states; make the "
                "environment with infoatlas_rl.policies.environment.StateEnv"
            )
        obs = np.atleast_2d(obs)
        if not np.isfinite(obs).all():
            raise ValueError("observations have to be finite; the simulator has diverged, or the environment is another one")
        n, c = len(obs), self.config
        fresh = np.zeros(n, bool) if episode_start is None else np.asarray(episode_start, bool)
        if state is None:
            fresh = np.ones(n, bool)
            state = PolicyState(
                np.zeros((n, c.context, STATE_DIM), np.float32),
                np.ones((n, c.context), np.float32),
                np.zeros((n, c.chunk, 8 if c.joints else 13), np.float32),
                np.full(n, c.execute),
                np.zeros((n, c.key_states, 8), np.float32),
            )
        history = np.concatenate([state.observations[:, 1:], obs[:, None]], 1)
        last = np.take_along_axis(state.commands[..., -1], np.maximum(state.cursor - 1, 0)[:, None], 1)
        gripper = np.concatenate([state.gripper[:, 1:], last], 1)
        commands, keys, cursor = state.commands.copy(), state.keys.copy(), state.cursor.copy()
        history[fresh], gripper[fresh], cursor[fresh] = obs[fresh, None], 1.0, c.execute
        due = cursor >= c.execute
        if due.any():
            commands[due], keys[due] = self._decide(torch.tensor(history[due]), torch.tensor(gripper[due]))
            cursor[due] = 0
        now = torch.tensor(commands[np.arange(n), cursor])
        if c.joints:
            here = Joints(torch.from_numpy(obs[:, STATE_INDEX["qpos"]][:, :7]))
            action = to_joint_action(Joints(now[:, :7]), now[:, 7:], here).numpy()
        else:
            command = Pose(now[:, :3], now[:, 3:12].unflatten(-1, (3, 3)))
            action = to_action(command, now[:, 12:], pose_in_states(torch.from_numpy(obs), "tcp")).numpy()
        if not np.isfinite(action).all():
            if _without_rotation(history):
                raise ValueError("the observations are no 100-D states: some of their quaternions are zero")
            raise ValueError("the policy has diverged: what it commands in these states is not finite; train it again")
        return (action[0] if single else action), PolicyState(history, gripper, commands, cursor + 1, keys)

    def _decide(self, observations: Tensor, gripper: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        device = self.input_mean.device
        scenes = Scene.from_states(observations.to(device))
        commands, keys = self(scenes, gripper.unsqueeze(-1).to(device))
        tcp = scenes.tcp[:, -1:]
        if self.config.joints:
            target = [Joints(scenes.joints[:, -1:]).offset_by(commands[..., :-1]).positions]
        else:
            pose = tcp.offset_by(commands[..., :-1])
            target = [pose.position, pose.rotation.flatten(-2)]
        grip = 1 - 2 * (commands[..., -1:] > 0).float()
        object_position = scenes.object.position[:, -1:] + keys[..., 6:9]
        world = [tcp.position + keys[..., :3], object_position, keys[..., 9:10], keys[..., 10:].sigmoid()]
        return torch.cat([*target, grip], -1).cpu().numpy(), torch.cat(world, -1).cpu().numpy()


def _without_rotation(states: NDArray[np.float32]) -> bool:
    """Whether a quaternion of states ``(..., 100)`` is zero."""
    names = [name for name, *_ in LAYOUT if name.endswith("_quaternion")]
    return any((np.abs(states[..., STATE_INDEX[name]]).max(-1) == 0).any() for name in names)


def _pose(written: Tensor, near: Frames, scale: Tensor) -> Tensor:
    """Offsets ``(b, m, 6)`` from the gripper, of what was written ``(b, m, 6 + 5 frames or more)`` in units of ``scale``."""
    count = near.offsets.shape[-2]
    world, shares, local = written[..., : 6 + 5 * count].split([6, 2 * count, 3 * count], -1)
    shares, local = shares.unflatten(-1, (count, 2)), local.unflatten(-1, (count, 3))
    position = (shares[..., :1] * near.offsets[..., :3]).sum(-2)
    rotation = (shares[..., 1:] * near.offsets[..., 3:]).sum(-2)
    within = turned(local, near.rotations).sum(-2)
    return torch.cat([position + (world[..., :3] + within) * scale[..., :3], rotation + world[..., 3:] * scale[..., 3:]], -1)
