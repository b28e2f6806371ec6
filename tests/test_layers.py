"""The differentiable pieces against hand-made cases, loops and identities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from layers import (
    backproject,
    disp_to_depth,
    inverse_motion,
    mean_3x3,
    project,
    rotation_from_axis_angle,
    sample_at_pixels,
    ssim_dissimilarity,
    transformation_from_parameters,
    window_moments,
)


def camera(fx: float, fy: float, cx: float, cy: float) -> torch.Tensor:
    """K (1, 4, 4) in pixels, float64."""
    K = torch.eye(4, dtype=torch.float64)
    K[0, 0], K[1, 1], K[0, 2], K[1, 2] = fx, fy, cx, cy
    return K[None]


def test_disparity_runs_linearly_in_inverse_depth_between_the_limits():
    disp = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    scaled_disp, depth = disp_to_depth(disp, 0.5, 4.0)
    assert_close(scaled_disp, torch.tensor([0.25, 1.125, 2.0], dtype=torch.float64))
    assert_close(depth, torch.tensor([4.0, 1 / 1.125, 0.5], dtype=torch.float64))


def test_a_quarter_turn_about_z_takes_x_to_y():
    rotation = rotation_from_axis_angle(torch.tensor([0.0, 0.0, math.pi / 2]))
    expected = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert_close(rotation, expected, atol=1e-6, rtol=0)


def test_rotations_are_the_exponential_of_the_cross_product():
    axis_angle = torch.randn(5, 2, 3, generator=torch.Generator().manual_seed(0)).double()
    x, y, z = axis_angle.unbind(-1)
    o = torch.zeros_like(x)
    cross = torch.stack([o, -z, y, z, o, -x, -y, x, o], -1).unflatten(-1, (3, 3))
    expected = torch.matrix_exp(cross)
    assert_close(rotation_from_axis_angle(axis_angle), expected, atol=1e-6, rtol=0)


def test_no_rotation_has_a_finite_gradient():
    axis_angle = torch.zeros(1, 3, requires_grad=True)
    rotation = rotation_from_axis_angle(axis_angle)
    assert_close(rotation[0], torch.eye(3))
    rotation.sum().backward()
    assert axis_angle.grad.isfinite().all()


def test_a_motion_rotates_and_then_translates():
    axis_angle, translation = torch.tensor([0, 0, math.pi / 2]), torch.tensor([1.0, 2.0, 3.0])
    moved = transformation_from_parameters(axis_angle, translation) @ torch.tensor([1.0, 0, 0, 1])
    assert_close(moved, torch.tensor([1.0, 3.0, 3.0, 1.0]), atol=1e-6, rtol=0)


def test_the_inverted_motion_undoes_the_motion():
    axis_angle, translation = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(1))
    motion = transformation_from_parameters(axis_angle.double(), translation.double())
    back = transformation_from_parameters(axis_angle.double(), translation.double(), invert=True)
    eye = torch.eye(4, dtype=torch.float64).expand(4, 4, 4)
    assert_close(back @ motion, eye, atol=1e-6, rtol=0)


def test_a_point_is_seen_where_the_pinhole_says():
    K = camera(100, 200, 50, 20)
    points = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64)[None]
    ahead = torch.eye(4, dtype=torch.float64)
    ahead[2, 3] = 1.0  # the other camera is a unit further back: z is 5 there
    pixels = project(points, K, torch.stack([torch.eye(4, dtype=torch.float64), ahead])[None])
    expected = torch.tensor([[[75.0, 120.0]], [[70.0, 100.0]]], dtype=torch.float64)[None]
    assert_close(pixels, expected, atol=1e-4, rtol=0)


def test_backprojection_has_the_depth_and_lands_on_its_pixel():
    K = camera(30, 40, 3.2, 1.9)
    depth = torch.rand(1, 1, 4, 6, dtype=torch.float64) * 5 + 1
    points = backproject(depth, torch.linalg.inv(K))
    assert_close(points[:, 2], depth.flatten(1))
    pixels = project(points, K, torch.eye(4, dtype=torch.float64)[None, None])
    pixels = pixels.view(4, 6, 2)
    assert_close(pixels[2, 5], torch.tensor([5.0, 2.0], dtype=torch.float64), atol=1e-5, rtol=0)
    assert_close(pixels[3, 0], torch.tensor([0.0, 3.0], dtype=torch.float64), atol=1e-5, rtol=0)


def test_sampling_reads_pixel_centres_halves_and_the_border():
    image = torch.tensor([[0.0, 1.0, 5.0], [2.0, 4.0, 6.0]])[None, None]
    pixels = torch.tensor([[[0.0, 0.0], [2.0, 1.0], [0.5, 0.5], [-3.0, 1.0], [9.0, -9.0]]])[None, 0]
    values = sample_at_pixels(image, pixels[:, None])[0, 0, 0]
    assert_close(values, torch.tensor([0.0, 6.0, 1.75, 2.0, 5.0]))


def test_the_3x3_mean_reflects_borders():
    images = np.random.default_rng(0).random((2, 3, 4, 5))
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="reflect")
    expected = sum(padded[..., y : y + 4, x : x + 5] for y in range(3) for x in range(3)) / 9
    assert_close(mean_3x3(torch.from_numpy(images)), torch.from_numpy(expected))


def test_ssim_of_equal_pictures_is_perfect():
    image = torch.rand(2, 3, 6, 7)
    assert_close(ssim_dissimilarity(image, image), torch.zeros_like(image), atol=1e-6, rtol=0)


@pytest.mark.parametrize(("a", "b"), [(0.2, 0.8), (0.0, 1.0), (0.5, 0.4)])
def test_ssim_of_constant_pictures_is_its_luminance_term(a, b):
    expected = (1 - (2 * a * b + 1e-4) / (a * a + b * b + 1e-4)) / 2
    shape = (1, 3, 5, 6)
    value = ssim_dissimilarity(
        torch.full(shape, a, dtype=torch.float64), torch.full(shape, b, dtype=torch.float64)
    )
    assert_close(value, torch.full(shape, expected, dtype=torch.float64), atol=1e-9, rtol=0)


def test_ssim_of_a_window_by_its_definition():
    rng = np.random.default_rng(1)
    x, y = rng.random((2, 5, 6))
    a, b = x[1:4, 2:5], y[1:4, 2:5]  # the window of pixel (2, 3); population moments
    mean_a, mean_b = a.mean(), b.mean()
    cov = ((a - mean_a) * (b - mean_b)).mean()
    similar = (2 * mean_a * mean_b + 1e-4) * (2 * cov + 9e-4)
    total = (mean_a**2 + mean_b**2 + 1e-4) * (a.var() + b.var() + 9e-4)
    value = ssim_dissimilarity(torch.from_numpy(x)[None, None], torch.from_numpy(y)[None, None])
    assert value[0, 0, 2, 3].item() == pytest.approx((1 - similar / total) / 2, abs=1e-9)


def test_several_pictures_share_a_target():
    images, target = torch.rand(2, 4, 3, 6, 7), torch.rand(2, 3, 6, 7)
    together = ssim_dissimilarity(images, target[:, None])
    for n in range(4):
        assert_close(together[:, n], ssim_dissimilarity(images[:, n], target))


def test_gradients_of_ssim_are_finite_differences():
    generator = torch.Generator().manual_seed(0)
    shape = {"dtype": torch.float64, "generator": generator}
    images = torch.rand(2, 2, 1, 4, 5, **shape).requires_grad_()
    target = torch.rand(2, 1, 1, 4, 5, **shape)
    assert torch.autograd.gradcheck(lambda x: ssim_dissimilarity(x, target), images)


def test_moments_of_a_target_may_be_known_before():
    images, target = torch.rand(2, 4, 3, 6, 7), torch.rand(2, 1, 3, 6, 7)
    moments = window_moments(target)
    assert_close(ssim_dissimilarity(images, target, moments), ssim_dissimilarity(images, target))
    window = target[1, 0, 2, 1:4, 3:6]
    assert moments[0][1, 0, 2, 2, 4].item() == pytest.approx(window.mean().item(), abs=1e-6)
    variance = window.var(correction=0).item()
    assert moments[1][1, 0, 2, 2, 4].item() == pytest.approx(variance, abs=1e-6)


def test_pooling_of_other_devices_is_the_same_mean():
    """A GPU pools where the CPU adds; both, on the CPU."""
    images = torch.rand(2, 3, 6, 7, dtype=torch.float64)
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1), mode="reflect")
    assert_close(torch.nn.functional.avg_pool2d(padded, 3, 1), mean_3x3(images))


def test_the_way_back_of_a_motion_undoes_it():
    motion = transformation_from_parameters(torch.randn(3, 2, 3), torch.randn(3, 2, 3))
    eye = torch.eye(4).expand(3, 2, 4, 4)
    assert_close(inverse_motion(motion) @ motion, eye, atol=1e-5, rtol=0)
