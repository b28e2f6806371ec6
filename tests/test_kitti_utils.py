"""Calibration files, laser scans and depth maps."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from kitti_utils import (
    generate_depth_map,
    load_velodyne,
    read_calib_file,
    read_depth_png,
    splat_nearest,
)
from utils import UserError

SIZE = (12, 20)
FOCAL, CX, CY = 10.0, 10.0, 6.0
CAMERA = f"""calib_time: 09-Jan-2012 13:57:47
corner_dist: 9.950000e-02
S_rect_02: {SIZE[1]}.0 {SIZE[0]}.0
R_rect_00: 1 0 0 0 1 0 0 0 1
P_rect_02: {FOCAL} 0 {CX} 0 0 {FOCAL} {CY} 0 0 0 1 0
P_rect_03: {FOCAL} 0 {CX} {-2 * FOCAL} 0 {FOCAL} {CY} 0 0 0 1 0
"""
# The scanner's x forward, y left, z up as the camera's x right, y down, z forward, 1 m ahead.
LASER = "calib_time: 15-Mar-2012 11:37:16\nR: 0 -1 0 0 0 -1 1 0 0\nT: 0 0 -1\n"


@pytest.fixture
def calib_dir(tmp_path):
    (tmp_path / "calib_cam_to_cam.txt").write_text(CAMERA)
    (tmp_path / "calib_velo_to_cam.txt").write_text(LASER)
    return tmp_path


def write_scan(folder, *points):
    path = folder / "scan.bin"
    np.array([(*point, 0.5) for point in points], dtype=np.float32).tofile(path)
    return path


def slow_depth_map(rows, columns, depth, shape):
    """The rule as the data set's documentation words it, one group at a time."""
    result = np.zeros(shape)
    groups = {}
    for row, column, value in zip(rows, columns, depth, strict=True):
        result[row, column] = value
        groups.setdefault(row * (shape[1] - 1) + column - 1, []).append((row, column, value))
    for members in groups.values():
        if len(members) > 1:
            row, column, _ = members[0]
            result[row, column] = min(value for _, _, value in members)
    return np.where(result < 0, 0, result)


def test_rows_of_a_calibration_file(calib_dir):
    values = read_calib_file(calib_dir / "calib_cam_to_cam.txt")
    assert set(values) == {"corner_dist", "S_rect_02", "R_rect_00", "P_rect_02", "P_rect_03"}
    assert values["S_rect_02"].tolist() == [20, 12]
    assert values["P_rect_03"].dtype == np.float64


def test_a_point_is_seen_where_the_camera_has_it(calib_dir):
    # 5 m ahead of the scanner, 4 m of the camera; 1.2 m left, 0.8 m up. Pixels count from 1.
    scan = write_scan(calib_dir, (5, 1.2, 0.8))
    column, row = int(CX - 1.2 * FOCAL / 4) - 1, int(CY - 0.8 * FOCAL / 4) - 1
    depth = generate_depth_map(calib_dir, scan)
    assert depth.shape == SIZE
    assert depth.dtype == np.float64
    assert np.argwhere(depth).tolist() == [[row, column]]
    assert depth[row, column] == pytest.approx(4)
    forward = generate_depth_map(calib_dir, scan, vel_depth=True)
    assert forward[row, column] == pytest.approx(5)
    # Camera 3 stands 2 m further right: the point moves left by half a focal length.
    right = generate_depth_map(calib_dir, scan, cam=3)
    assert np.argwhere(right).tolist() == [[row, column - 5]]


def test_points_behind_beside_and_unprojectable_leave_no_trace(calib_dir):
    scan = write_scan(calib_dir, (-5, 0, 0), (5, 50, 0), (1, 0, 0), (1, 1, 0), (0.5, 0, 0))
    depth = generate_depth_map(calib_dir, scan)
    # The last one lies before the scanner but behind the camera: a negative depth, so none.
    assert not depth.any()
    assert not np.signbit(depth).any()


def test_the_nearest_of_points_that_meet_is_kept(calib_dir):
    for points in ([(9, 0, 0), (5, 0, 0), (7, 0, 0)], [(5, 0, 0), (9, 0, 0)]):
        depth = generate_depth_map(calib_dir, write_scan(calib_dir, *points))
        assert depth[depth > 0].tolist() == pytest.approx([4])


def test_the_end_of_a_row_and_the_start_of_the_next_count_as_one_pixel():
    # (row 2, last column) and (row 3, column 0) share the key.
    rows, columns = np.array([2, 3, 3, 2]), np.array([19, 0, 0, 19])
    depth = splat_nearest(rows, columns, np.array([8.0, 3.0, 6.0, 7.0]), SIZE)
    assert depth[2, 19] == 3  # of the group's first point: the smallest of all four
    assert depth[3, 0] == 6  # the other keeps its own last point
    assert np.count_nonzero(depth) == 2


@pytest.mark.parametrize("shape", [(1, 2), (3, 2), (5, 7), (20, 30)])
@pytest.mark.parametrize("seed", range(10))
def test_any_points_give_what_the_slow_rule_gives(seed, shape):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(0, 400))
    rows, columns = rng.integers(0, shape[0], count), rng.integers(0, shape[1], count)
    depth = rng.normal(20, 15, count)
    if seed % 2:  # crowd the border columns, and let depths tie
        columns = np.where(rng.random(count) < 0.7, (shape[1] - 1) * (columns % 2), columns)
        depth = np.round(depth)
    expected = slow_depth_map(rows, columns, depth, shape)
    np.testing.assert_array_equal(splat_nearest(rows, columns, depth, shape), expected)


def test_a_scan_cut_short_or_missing_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read the laser scan .*none\.bin"):
        load_velodyne(tmp_path / "none.bin")
    for content in (b"", b"\0" * 20, b"\0" * 17):
        (tmp_path / "scan.bin").write_bytes(content)
        with pytest.raises(UserError, match=r"the laser scan .*scan\.bin is cut short"):
            load_velodyne(tmp_path / "scan.bin")


def test_a_missing_calibration_is_named(calib_dir):
    scan = write_scan(calib_dir, (5, 0, 0))
    (calib_dir / "calib_velo_to_cam.txt").write_text("R: 1 2 3\nT: 0 0 0\n")
    with pytest.raises(UserError, match=r"calib_velo_to_cam\.txt has no row 'R' of 9 numbers"):
        generate_depth_map(calib_dir, scan)
    (calib_dir / "calib_cam_to_cam.txt").unlink()
    with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt"):
        generate_depth_map(calib_dir, scan)


@pytest.mark.parametrize("pixels", ["inf 12", "0 12", "20 -12", "1e9 1e9"])
def test_pictures_that_cannot_be_are_named(calib_dir, pixels):
    path = calib_dir / "calib_cam_to_cam.txt"
    path.write_text(CAMERA.replace(f"{SIZE[1]}.0 {SIZE[0]}.0", pixels))
    with pytest.raises(UserError, match=r"calib_cam_to_cam\.txt has .*S_rect_02"):
        generate_depth_map(calib_dir, write_scan(calib_dir, (5, 0, 0)))


def test_improved_ground_truth_is_in_metres(tmp_path):
    values = np.array([[0, 256, 2560], [1, 65535, 384]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "depth.png")
    depth = read_depth_png(tmp_path / "depth.png")
    assert depth.dtype == np.float32
    np.testing.assert_array_equal(depth, values / 256)


def test_a_colour_picture_is_no_depth_map(tmp_path):
    Image.new("RGB", (4, 3)).save(tmp_path / "colour.png")
    with pytest.raises(UserError, match=r"colour\.png is no 16-bit grey PNG"):
        read_depth_png(tmp_path / "colour.png")
    (tmp_path / "broken.png").write_bytes(b"none")
    with pytest.raises(UserError, match=r"cannot read the depth map .*broken\.png"):
        read_depth_png(tmp_path / "broken.png")
