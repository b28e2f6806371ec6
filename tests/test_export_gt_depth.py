"""Ground truth from laser scans and depth maps into an archive."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

import datasets.splits
from export_gt_depth import main
from kitti_utils import generate_depth_map
from tests.test_kitti_utils import CAMERA, LASER, SIZE
from utils import UserError

DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"


@pytest.fixture
def kitti(tmp_path):
    """Three scans, and a list of three in another order, one for the right camera."""
    day = tmp_path / "kitti/2011_09_26"
    scans = tmp_path / "kitti" / DRIVE / "velodyne_points/data"
    scans.mkdir(parents=True)
    (day / "calib_cam_to_cam.txt").write_text(CAMERA)
    (day / "calib_velo_to_cam.txt").write_text(LASER)
    rng = np.random.default_rng(0)
    for frame in range(3):
        points = rng.uniform((2, -5, -2, 0), (30, 5, 2, 1), (500, 4)).astype(np.float32)
        points.tofile(scans / f"{frame:010d}.bin")
    split = tmp_path / "split"
    split.mkdir()
    (split / "test_files.txt").write_text(f"{DRIVE} 2 l\n{DRIVE} 0 r\n{DRIVE} 1 l\n")
    return tmp_path


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_folders_list_is_exported_in_order(kitti, capsys, workers):
    main(["--data_path", str(kitti / "kitti"), "--split", str(kitti / "split"),
          "--num_workers", workers])  # fmt: skip
    output = kitti / "split/gt_depths.npz"
    assert capsys.readouterr().out == f"3 ground truth depth maps: {output}\n"
    with zipfile.ZipFile(output) as written:  # as any other reader sees it
        assert written.testzip() is None
        assert {each.compress_type for each in written.infolist()} == {zipfile.ZIP_DEFLATED}
    archive = np.load(output)
    assert archive.files == ["depth_00000", "depth_00001", "depth_00002"]
    for name, (frame, camera) in zip(archive.files, [(2, 2), (0, 3), (1, 2)], strict=True):
        scan = kitti / "kitti" / DRIVE / f"velodyne_points/data/{frame:010d}.bin"
        expected = generate_depth_map(kitti / "kitti/2011_09_26", scan, camera, vel_depth=True)
        assert archive[name].dtype == np.float32
        assert np.count_nonzero(expected) > 20
        np.testing.assert_array_equal(archive[name], expected.astype(np.float32))


def test_the_improved_ground_truth_may_differ_in_size(kitti, monkeypatch):
    root = kitti / "splits"
    (root / "kitti").mkdir(parents=True)
    (root / "kitti/eigen_benchmark.txt").write_text("[test] l\n2011_09_26_drive_0002: 5 3\n")
    monkeypatch.setattr(datasets.splits, "SPLITS", root)
    monkeypatch.setattr(datasets.splits.split_lines, "__defaults__", (root,))
    folder = kitti / "kitti" / DRIVE / "proj_depth/groundtruth/image_02"
    folder.mkdir(parents=True)
    values = {5: np.full(SIZE, 512, np.uint16), 3: np.full((3, 4), 257, np.uint16)}
    for frame, value in values.items():
        Image.fromarray(value).save(folder / f"{frame:010d}.png")
    arguments = ["--data_path", str(kitti / "kitti"), "--split", "eigen_benchmark"]
    main(arguments)
    archive = np.load(root / "kitti/eigen_benchmark/gt_depths.npz")
    np.testing.assert_array_equal(archive["depth_00000"], values[5] / 256)
    np.testing.assert_array_equal(archive["depth_00001"], values[3] / 256)
    main([*arguments, "--output", str(kitti / "elsewhere.npz")])
    assert np.load(kitti / "elsewhere.npz").files == archive.files


def test_missing_scans_are_counted_before_any_work(kitti):
    for frame in (0, 1):
        (kitti / "kitti" / DRIVE / f"velodyne_points/data/{frame:010d}.bin").unlink()
    with pytest.raises(UserError, match=r"0000000000\.bin does not exist \(and 1 more"):
        main(["--data_path", str(kitti / "kitti"), "--split", str(kitti / "split")])
    assert not (kitti / "split/gt_depths.npz").exists()


def test_a_broken_scan_leaves_no_archive(kitti):
    (kitti / "kitti" / DRIVE / "velodyne_points/data/0000000001.bin").write_bytes(b"\0" * 17)
    for workers in ("1", "2"):
        with pytest.raises(UserError, match=r"0000000001\.bin is cut short"):
            main(["--data_path", str(kitti / "kitti"), "--split", str(kitti / "split"),
                  "--num_workers", workers])  # fmt: skip
    assert [path.name for path in (kitti / "split").iterdir()] == ["test_files.txt"]


def test_a_missing_root_and_an_unknown_split_are_named(kitti):
    with pytest.raises(UserError, match="nowhere does not exist"):
        main(["--data_path", str(kitti / "nowhere"), "--split", str(kitti / "split")])
    with pytest.raises(UserError, match="kitti has no split 'eigan'"):
        main(["--data_path", str(kitti / "kitti"), "--split", "eigan"])
    with pytest.raises(UserError, match="kitti eigen_zhou has no 'test' list"):
        main(["--data_path", str(kitti / "kitti"), "--split", "eigen_zhou"])
