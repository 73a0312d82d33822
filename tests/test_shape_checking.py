"""The shapes that annotations promise are checked while tests run."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import TypeCheckError

from avatars.body import load_body
from avatars.geometry.camera import Camera
from avatars.geometry.rotations import matrix_from_axis_angle
from avatars.rasterizer.gaussians import Gaussians


def gaussians(n_colors: int) -> Gaussians:
    return Gaussians(torch.zeros(5, 3), torch.ones(5, 4), torch.ones(5, 3), torch.ones(5), torch.zeros(n_colors, 3))


def test_a_wrong_shape_is_refused_by_the_functions_of_checked_packages():
    assert matrix_from_axis_angle(torch.zeros(7, 3)).shape == (7, 3, 3)
    with pytest.raises(TypeCheckError, match="axis_angle"):
        matrix_from_axis_angle(torch.zeros(7, 4))


def test_fields_that_disagree_are_refused_by_the_dataclasses_of_checked_packages():
    assert len(gaussians(5)) == 5
    with pytest.raises(TypeCheckError, match="colors"):
        gaussians(4)


def test_betas_of_one_person_go_with_expressions_of_each_frame_and_not_with_poses_of_22_joints():
    body = load_body()
    betas, expression = torch.zeros(body.n_betas), torch.zeros(2, body.n_expression)
    assert body.pose(torch.zeros(2, 55, 3), betas, expression=expression).joints.shape == (2, 55, 3)
    with pytest.raises(TypeCheckError, match="poses"):
        body.pose(torch.zeros(2, 22, 3), betas)


def test_a_whole_number_is_also_a_float():
    assert Camera.level(focal_px=50, size_hw=(8, 8)).size_hw == (8, 8)


def test_a_test_of_our_own_errors_can_go_without(unchecked):
    assert len(gaussians(4).colors) == 4
