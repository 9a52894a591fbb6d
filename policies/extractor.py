"""Features for stable-baselines3's own policies: the relative, symmetry-aware ones that the cloned policies see."""

from __future__ import annotations

import gymnasium
import torch
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from infoatlas_rl.maniskill.states import STATE_DIM
from policies.conditioning import CONDITION_SIZE
from policies.scene import SYMMETRIES, Scene, features

CONDITION_SCALE = 0.1
"""Offsets to a key state are seen as tanh(offset / 0.1 m)."""


class SceneFeatures(BaseFeaturesExtractor):
    """100-D states, then the condition of ``KeyStateConditioning`` and the action of ``ResidualActions`` where there are.

    Pass it as ``policy_kwargs={"features_extractor_class": SceneFeatures, "features_extractor_kwargs": {"task": "PickCube"}}``.

    Args:
        observation_space: of ``StateEnv``, wrapped or not.
        task: whose symmetry is used.
    """

    def __init__(self, observation_space: gymnasium.spaces.Box, task: str) -> None:
        blank = torch.zeros(1, STATE_DIM)
        size = features(Scene.from_states(blank), SYMMETRIES[task]).shape[-1]
        super().__init__(observation_space, size + observation_space.shape[0] - STATE_DIM)
        self.symmetry = SYMMETRIES[task]

    def forward(self, observations: Tensor) -> Tensor:
        extra = observations[..., STATE_DIM:]
        if extra.shape[-1] >= CONDITION_SIZE:
            offset = torch.tanh(extra[..., : CONDITION_SIZE - 1] / CONDITION_SCALE)
            extra = torch.cat([offset, extra[..., CONDITION_SIZE - 1 :]], -1)
        return torch.cat([features(Scene.from_states(observations[..., :STATE_DIM]), self.symmetry), extra], -1)
