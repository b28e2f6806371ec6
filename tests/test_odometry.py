"""Camera paths whose errors are known beforehand."""

from __future__ import annotations

import numpy as np
import pytest

from odometry import (
    align,
    compose,
    read_poses,
    score_path,
    score_table,
    snippet_errors,
    subsequence_errors,
    write_poses,
)
from utils import UserError


def turn(yaw: float) -> np.ndarray:
    """A rotation about y, (3, 3): of what lies ahead (z) towards the right (x)."""
    c, s = np.cos(yaw), np.sin(yaw)
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def drive(frames: int, step: float = 1.0, yaw: float = 0.0) -> np.ndarray:
    """A path that goes `step` ahead, then turns right by `yaw`, from frame to frame."""
    motion = np.eye(4)
    motion[:3, :3], motion[:3, 3] = turn(yaw), [0, 0, step]
    path = [np.eye(4)]
    for _ in range(frames - 1):
        path.append(path[-1] @ motion)
    return np.array(path)


def moved(path: np.ndarray, scale: float) -> np.ndarray:
    """The same path in another unit and other axes."""
    world = np.eye(4)
    world[:3, :3] = turn(0.7) @ np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    world[:3, 3] = 3, -20, 5
    path = path.copy()
    path[:, :3, 3] *= scale
    return world @ path


def scaled(path: np.ndarray, scale: float) -> np.ndarray:
    path = path.copy()
    path[:, :3, 3] *= scale
    return path


def circle(frames: int = 1000) -> np.ndarray:
    return drive(frames, 1.0, 2 * np.pi / 500)


# ---- motions to a path -------------------------------------------------------------------------


def test_a_camera_that_drives_ahead_gains_z_and_turning_right_bends_towards_x():
    """Driving ahead brings points nearer: next_T_this takes from z."""
    motion = np.eye(4)
    motion[2, 3] = -2
    np.testing.assert_allclose(compose(np.array([motion] * 3))[:, 2, 3], [0, 2, 4, 6])
    right = np.linalg.inv(drive(2, 1.0, 0.1)[1])
    path = compose(np.array([right] * 3))
    np.testing.assert_allclose(path, drive(4, 1.0, 0.1), atol=1e-12)
    assert (np.diff(path[:, 0, 3])[1:] > 0).all()


# ---- alignment ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [circle(), drive(50)], ids=["circle", "straight"])
def test_scale_axes_and_origin_are_undone(path):
    aligned, scale = align(moved(path, 0.05), path)
    assert scale == pytest.approx(20)
    np.testing.assert_allclose(aligned[:, :3, 3], path[:, :3, 3], atol=1e-9)
    if path[-1, 0, 3]:  # a straight path can be rolled about itself
        np.testing.assert_allclose(aligned, path, atol=1e-9)


def test_a_mirrored_path_is_rotated_not_mirrored():
    path = drive(80, 1.0, 0.03)
    path[:, 1, 3] = 5 * np.sin(np.arange(80))
    mirror = path.copy()
    mirror[:, 0, 3] *= -1
    aligned, scale = align(mirror, path)
    assert np.linalg.det(aligned[0, :3, :3]) == pytest.approx(1)
    assert scale > 0
    assert np.abs(aligned - path)[:, :3, 3].max() > 1


def test_a_prediction_that_never_moves_is_aligned_to_the_centre():
    path = circle(500)
    score, aligned = score_path(path, np.tile(np.eye(4), (500, 1, 1)))
    np.testing.assert_allclose(aligned[:, :3, 3], np.tile(path[:, :3, 3].mean(0), (500, 1)))
    assert score.ate == pytest.approx(500 / (2 * np.pi), rel=1e-4)  # the radius
    assert score.t_err == pytest.approx(100, abs=40)


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [circle(), drive(1000)], ids=["circle", "straight"])
def test_a_perfect_path_in_another_unit_and_axes_has_no_error(path):
    score, _ = score_path(path, moved(path, 0.01))
    values = [score.snippet_ate, score.snippet_ate_std, score.t_err, score.r_err, score.ate]
    np.testing.assert_allclose(values, 0, atol=1e-6)


def test_snippet_error_by_hand():
    """True positions 0 1 2 3 4; predicted 0 1 2 3 5 in another unit: s = 34 / 39 in that unit."""
    truth, predicted = drive(5), drive(5)
    predicted[4, 2, 3] = 5
    predicted[:, :3, 3] *= 0.01
    residual = 34 / 39 * np.array([0, 1, 2, 3, 5]) - np.arange(5)
    expected = np.sqrt((residual**2).sum()) / 5
    np.testing.assert_allclose(snippet_errors(truth, predicted), [expected])


def test_snippets_slide_and_start_in_their_own_axes():
    """A wrong turn between two frames spoils the snippets that hold both, and no other."""
    truth = drive(20)
    predicted = compose(np.linalg.inv([
        drive(2, 1.0, 0.5 if i == 9 else 0.0)[1] for i in range(19)
    ]))  # fmt: skip
    wrong = snippet_errors(truth, predicted) > 1e-9
    # The turn comes with frame 10, and shows in a position from frame 11 on.
    assert np.flatnonzero(wrong).tolist() == [7, 8, 9]


def test_snippets_of_a_standing_camera():
    assert (snippet_errors(np.tile(np.eye(4), (6, 1, 1)), drive(6)) == 0).all()
    still = snippet_errors(drive(6), np.tile(np.eye(4), (6, 1, 1)))
    np.testing.assert_allclose(still, np.sqrt(30) / 5)


def test_one_percent_of_scale_is_one_percent_of_translation():
    """A metre a frame: a sub-sequence of 100 m ends at the first frame beyond, 101 m away."""
    shares, angles = subsequence_errors(drive(1001), scaled(drive(1001), 1.01))
    starts = np.arange(0, 1001, 10)
    expected = [0.01 * (length + 1) / length
                for start in starts for length in range(100, 900, 100)
                if start + length + 1 <= 1000]  # fmt: skip
    np.testing.assert_allclose(shares, expected)
    np.testing.assert_allclose(angles, 0, atol=1e-9)


def test_a_constant_bias_of_the_yaw():
    """The angle grows by the bias each frame; positions lie on a polygon inscribed in a circle."""
    bias = 1e-4
    shares, angles = subsequence_errors(drive(151), drive(151, yaw=bias))
    n = 101  # frames of a sub-sequence of 100 m
    end = np.exp(1j * bias * np.arange(n)).sum()  # z + i x, each step turned by what went before
    np.testing.assert_allclose(angles, n * bias / 100)
    np.testing.assert_allclose(shares, abs(end - n) / 100)
    assert len(shares) == 5  # from frames 0 10 20 30 40


def test_the_mean_over_all_subsequences_in_percent_and_degrees():
    """On a circle a wrong scale is undone by the alignment; a bias of the yaw is not."""
    truth = circle()
    score, _ = score_path(truth, scaled(truth, 1.5))
    assert score.t_err == pytest.approx(0, abs=1e-9)
    bias = 1e-3
    score, aligned = score_path(truth, drive(1000, 1.0, 2 * np.pi / 500 + bias))
    shares, angles = subsequence_errors(truth, aligned)
    assert score.t_err == pytest.approx(100 * shares.mean())
    assert score.r_err == pytest.approx(100 * np.degrees(angles).mean())
    # Just over 1e-3 rad a metre, since sub-sequences end just beyond their length.
    assert score.r_err == pytest.approx(np.degrees(0.1), rel=0.02)


def test_less_than_100_m_has_no_relative_errors():
    score, _ = score_path(drive(50), drive(50))
    assert np.isnan([score.t_err, score.r_err]).all()
    table = score_table([("06", 50, score), ("11", 7, None)]).splitlines()
    assert table[-2].split() == ["06", "50", "0.0000", "0.0000", "-", "-", "0.00"]
    assert table[-1].split() == ["11", "7", "-", "-", "-", "-", "-"]


# ---- files -------------------------------------------------------------------------------------


def test_a_path_comes_back_from_its_file(tmp_path):
    path = moved(circle(30), 0.3)
    write_poses(tmp_path / "new/09.txt", path)
    np.testing.assert_allclose(read_poses(tmp_path / "new/09.txt"), path, atol=1e-8)
    first = (tmp_path / "new/09.txt").read_text().splitlines()[0].split()
    np.testing.assert_allclose([float(x) for x in first], path[0, :3].ravel(), atol=1e-8)


@pytest.mark.parametrize("row", ["1 2 3", "a" + " 0" * 11, "nan" + " 0" * 11])
def test_a_row_that_is_no_pose_is_named(tmp_path, row):
    path = tmp_path / "09.txt"
    path.write_text("1 0 0 0 0 1 0 0 0 0 1 0\n" + row + "\n")
    with pytest.raises(UserError, match=f"row 2 of {path} is no pose: twelve numbers"):
        read_poses(path)


def test_missing_and_empty_files(tmp_path):
    with pytest.raises(UserError, match="cannot read"):
        read_poses(tmp_path / "09.txt")
    (tmp_path / "09.txt").write_text("")
    with pytest.raises(UserError, match="is empty"):
        read_poses(tmp_path / "09.txt")
