"""Settings of any kind and size: a configuration that holds what it was given, or one line that names the field."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import Any

import pytest
from hypothesis import strategies as st

from infoatlas_rl import InfoAtlasConfig
from infoatlas_rl.baselines.infonet import InfoNetConfig
from infoatlas_rl.baselines.mist import MISTConfig
from infoatlas_rl.baselines.paper import PaperConfig
from infoatlas_rl.keystates.settings import KeyStateConfig
from infoatlas_rl.pretraining.atlas import AtlasConfig
from infoatlas_rl.pretraining.head import CalibrateConfig
from infoatlas_rl.pretraining.infonet import InfoNetTraining
from infoatlas_rl.pretraining.mist import MISTTraining
from infoatlas_rl.pretraining.trainer import PretrainConfig
from tests.hostile.conftest import cases, refused

pytest.importorskip("mani_skill")
pytest.importorskip("stable_baselines3")

from infoatlas_rl.policies.cloning import CloningConfig
from infoatlas_rl.policies.dataset import Displacement
from infoatlas_rl.policies.learner import CurveConfig, LearnerConfig
from infoatlas_rl.policies.policy import PolicyConfig
from infoatlas_rl.policies.training import ValidationConfig

NEEDED = {PolicyConfig: {"task": "PickCube", "key_states": 4}, LearnerConfig: {"task": "PickCube", "options": {}}}
CONFIGS = (
    *(
        InfoAtlasConfig,
        InfoNetConfig,
        MISTConfig,
        MISTTraining,
        PaperConfig,
        KeyStateConfig,
        AtlasConfig,
        CalibrateConfig,
        InfoNetTraining,
    ),
    *(PretrainConfig, CloningConfig, Displacement, PolicyConfig, CurveConfig, LearnerConfig, ValidationConfig),
)
HOSTILE = st.one_of(
    st.sampled_from([0, -1, 1, 2, 10**400, -(2**63), math.nan, math.inf, -math.inf, 0.5, 1e-320, -0.0, True, None]),
    st.sampled_from(["", "1", "none", "../..", "__import__('os').system('false')", "${oc.env:HOME}", "\n", b"x", 1j]),
    st.sampled_from([[], [1], [None], [math.nan], {}, {"a": 1}, (), object]),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.lists(st.floats() | st.none(), max_size=3),
)


@st.composite
def settings_of(draw: Any) -> tuple[type, dict[str, Any]]:
    kind = draw(st.sampled_from(CONFIGS))
    names = draw(st.lists(st.sampled_from([field.name for field in fields(kind)]), min_size=1, max_size=3, unique=True))
    return kind, {name: draw(HOSTILE) for name in names}


@cases(given_settings=settings_of())
def test_settings_are_kept_or_refused(given_settings):
    kind, changed = given_settings
    try:
        config = kind(**NEEDED.get(kind, {}) | changed)
    except (ValueError, TypeError) as error:
        return refused(error, *changed)
    for name, value in changed.items():
        assert isinstance(value, int | float | str | list | dict | tuple | type(None)), (name, value)
        assert not isinstance(value, float) or math.isfinite(value), (name, value)
        assert asdict(config)[name] == value
