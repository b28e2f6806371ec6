"""Single building blocks of geometry and losses against the golden values."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from evaluation import depth_errors
from layers import (
    backproject,
    disp_to_depth,
    project,
    sample_at_pixels,
    ssim_dissimilarity,
    transformation_from_parameters,
)
from losses import edge_aware_smoothness, mean_normalised, photometric_error, scale_invariant_log

TOLERANCE = {"rtol": 1e-5, "atol": 1e-6}


@pytest.fixture(scope="module")
def golden(goldens):
    return {name: torch.from_numpy(value) for name, value in goldens.npz("geometry").items()}


@pytest.mark.parametrize(("suffix", "max_depth"), [("", 100.0), ("_nyu", 10.0)])
def test_disparity_to_depth(golden, suffix, max_depth):
    scaled_disp, depth = disp_to_depth(golden["disp"], 0.1, max_depth)
    assert_close(scaled_disp, golden["scaled_disp" + suffix], **TOLERANCE)
    assert_close(depth, golden["depth" + suffix], **TOLERANCE)


@pytest.mark.parametrize("invert", [False, True])
def test_pose_vectors_to_matrices(golden, invert):
    axis_angle, translation = golden["axisangle"][:, 0], golden["translation"][:, 0]
    matrix = transformation_from_parameters(axis_angle, translation, invert)
    assert_close(matrix, golden[f"matrix_invert{int(invert)}"], **TOLERANCE)


def test_points_pixels_and_warped_picture(golden):
    batch, _, height, width = golden["image"].shape
    K = golden["K"].expand(batch, 4, 4)
    inv_K = golden["inv_K"].expand(batch, 4, 4)
    points = backproject(golden["depth"], inv_K)
    assert_close(points, golden["points"], **TOLERANCE)
    pixels = project(points, K, golden["matrix_invert0"][:batch, None])
    pixels = pixels.view(batch, height, width, 2)
    span = torch.tensor([width - 1, height - 1])
    assert_close(2 * pixels / span - 1, golden["pixels"], rtol=0, atol=1e-5)
    assert_close(sample_at_pixels(golden["image"], pixels), golden["warped"], rtol=0, atol=1e-5)


def test_photometric_error(golden):
    x, y = golden["ssim_x"], golden["ssim_y"]
    assert_close(ssim_dissimilarity(x, y), golden["ssim"], rtol=0, atol=1e-4)
    assert_close(photometric_error(x[:, None], y), golden["reprojection"], rtol=0, atol=1e-4)


def test_smoothness(golden):
    disp, image = golden["disp"], golden["image"]
    assert_close(edge_aware_smoothness(disp, image), golden["smooth_plain"], **TOLERANCE)
    normalised = edge_aware_smoothness(mean_normalised(disp), image)
    assert_close(normalised, golden["smooth_mean_normalised"], **TOLERANCE)


def test_scale_invariant_log(golden):
    a, b, mask = golden["si_pred"], golden["si_target"], golden["si_mask"].bool()
    assert_close(scale_invariant_log(a, b), golden["si_log"].float(), **TOLERANCE)
    each = torch.stack([scale_invariant_log(a[i : i + 1], b[i : i + 1]) for i in range(len(a))])
    assert_close(each, golden["si_log_each"].float(), **TOLERANCE)
    plain_variance = scale_invariant_log(a, b, variance_focus=1.0)
    assert_close(plain_variance, golden["si_log_lambda1"].float(), **TOLERANCE)
    assert_close(scale_invariant_log(a, b, mask), golden["si_log_masked"].float(), **TOLERANCE)


def test_depth_errors(golden):
    errors = depth_errors(golden["depth_errors_gt"], golden["depth_errors_pred"])
    assert errors == pytest.approx(golden["depth_errors"].tolist(), rel=1e-5)
