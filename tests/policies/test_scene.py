"""Poses, symmetries and features of scenes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infoatlas_rl.maniskill.tasks import SYMMETRIES, get_task
from infoatlas_rl.policies.scene import (
    ROTATIONS,
    Pose,
    Scene,
    features,
    frames,
    rotation_matrix,
    rotation_vector,
    symmetry_of,
)
from tests.conftest import random_states

CUBE, PEG = symmetry_of(get_task("PickCube")), symmetry_of(get_task("PegInsertion"))


def turned_object(scene, rotation):
    """The same object, described by another of its frames; its tip stays where it is."""
    return replace(scene, object=Pose(scene.object.position, scene.object.rotation @ rotation), tip=scene.tip @ rotation)


def test_rotation_vectors_and_matrices_are_inverse():
    vectors = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    vectors = vectors / vectors.norm(dim=-1, keepdim=True) * torch.linspace(0, 3.0, 200)[:, None]
    matrices = rotation_matrix(vectors)
    torch.testing.assert_close(matrices @ matrices.mT, torch.eye(3).expand(200, 3, 3), atol=1e-5, rtol=0)
    # near pi the sine is small and float32 leaves 1e-3
    torch.testing.assert_close(rotation_vector(matrices), vectors, atol=1e-3, rtol=0)


def test_half_a_turn_has_an_axis():
    axes = torch.nn.functional.normalize(torch.tensor([[0, 0, 1.0], [1, 0, 0], [1, -2, 0.5], [-0.3, 0.2, -0.9]]), dim=-1)
    for short in (0.0, 1e-5, 3e-4, 2e-3):
        matrices = rotation_matrix((torch.pi - short) * axes)
        found = rotation_vector(matrices)
        torch.testing.assert_close(found.norm(dim=-1), torch.full((4,), torch.pi - short), atol=2e-3, rtol=0)
        torch.testing.assert_close(rotation_matrix(found), matrices, atol=2e-3, rtol=0)
    # Among others, which are as before.
    mixed = torch.cat([matrices, rotation_matrix(0.5 * axes)])
    torch.testing.assert_close(rotation_vector(mixed)[4:], 0.5 * axes, atol=1e-5, rtol=0)


def test_offsets_lead_from_one_pose_to_the_other():
    scenes = Scene.from_states(random_states(50))
    reached = scenes.tcp.offset_by(scenes.object.offset_from(scenes.tcp))
    torch.testing.assert_close(reached.position, scenes.object.position)
    torch.testing.assert_close(reached.rotation, scenes.object.rotation, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("symmetry", "size"), [(CUBE, 24), (PEG, 4)])
def test_features_and_frames_do_not_change_when_an_object_is_turned_to_look_the_same(symmetry, size):
    scene = Scene.from_states(random_states(40))
    if symmetry is CUBE:  # a cube's tip is its centre
        scene = replace(scene, tip=torch.zeros_like(scene.tip))
    assert len(symmetry.rotations) == size
    expected, near = features(scene, symmetry), frames(scene, symmetry)
    for rotation in symmetry.rotations:
        turned = turned_object(scene, rotation)
        torch.testing.assert_close(features(turned, symmetry), expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(frames(turned, symmetry).offsets, near.offsets, atol=2e-3, rtol=0)


def test_a_peg_that_is_turned_around_looks_different():
    scene = Scene.from_states(random_states(40))
    backwards = torch.diag(torch.tensor([-1.0, -1.0, 1.0]))
    assert (features(turned_object(scene, backwards), PEG) - features(scene, PEG)).abs().amax(-1).min() > 0.05


def test_the_target_frame_is_where_the_gripper_has_to_go():
    """Moving the gripper there, with the object held, brings the tip to the target and aligns it."""
    scene = Scene.from_states(random_states(40))
    offset = frames(scene, PEG).offsets[:, 1]
    arrived = scene.displaced(offset, torch.ones(40, 1, dtype=torch.bool))
    tip = arrived.object.position + (arrived.object.rotation @ scene.tip.unsqueeze(-1)).squeeze(-1)
    torch.testing.assert_close(tip, scene.target.position, atol=1e-4, rtol=0)
    # up to a symmetry of the peg, whose x axis is unique
    torch.testing.assert_close(arrived.object.rotation[:, :, 0], scene.target.rotation[:, :, 0], atol=1e-3, rtol=0)


def test_every_symmetry_is_a_group_of_rotations():
    assert set(ROTATIONS) == set(SYMMETRIES)
    assert [len(ROTATIONS[name]) for name in SYMMETRIES] == [1, 24, 4]
    for rotations in ROTATIONS.values():
        products = torch.einsum("aij,bjk->abik", rotations, rotations).flatten(0, 1)
        assert (torch.cdist(products.flatten(1), rotations.flatten(1)).amin(1) == 0).all()
