"""Laser scans to depth maps, against the published implementation's."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from kitti_utils import generate_depth_map

CASES = ["small", "kitti"]


@pytest.mark.parametrize("case", CASES)
def test_depth_maps_have_the_published_pixels_and_values(goldens, tmp_path, case):
    recipe = goldens.json("laser_depth")
    expected = goldens.npz("laser_depth")
    settings = recipe["cases"][case]
    size = settings["size"]
    scan = goldens.recipes.laser_scan(recipe["seed"], settings["n"], *size)
    scan.tofile(tmp_path / "scan.bin")
    texts = goldens.recipes.calib_texts(*size)
    for name, text in zip(("calib_cam_to_cam.txt", "calib_velo_to_cam.txt"), texts, strict=True):
        (tmp_path / name).write_text(text)
    digest = hashlib.sha256(b"float32" + str(scan.shape).encode() + scan.tobytes()).hexdigest()
    assert digest == settings["scan_sha256"]

    maps = [name for name in settings if name.startswith("cam")]
    assert maps
    for name in maps:
        camera, forward = int(name[3]), name.endswith("forward1")
        depth = generate_depth_map(tmp_path, tmp_path / "scan.bin", camera, vel_depth=forward)
        assert depth.dtype == np.float64
        assert list(depth.shape) == settings[name]["shape"]
        index = np.flatnonzero(depth)
        np.testing.assert_array_equal(index, expected[f"{case}/{name}/index"])
        values = depth.ravel()[index].astype(np.float32)
        np.testing.assert_array_equal(values, expected[f"{case}/{name}/value"])
