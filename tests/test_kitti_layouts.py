"""KITTI's other layouts: odometry sequences, and raw drives with improved ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augmentations import Augmentation, CropBox
from datasets import build_dataset
from datasets.keys import FrameKey
from datasets.splits import split_lines
from tests.dots import POINTS, misses, write_dot
from utils import UserError

SIZE = (32, 64)
DRIVE = "2011_09_26/2011_09_26_drive_0002_sync"


@pytest.fixture
def odometry(tmp_path) -> Path:
    """Sequence 9, four frames of both cameras; the grey level is 10 camera + frame."""
    for camera in (2, 3):
        folder = tmp_path / f"sequences/09/image_{camera}"
        folder.mkdir(parents=True)
        for frame in range(4):
            picture = Image.new("RGB", (124, 37), (10 * camera + frame,) * 3)
            picture.save(folder / f"{frame:06d}.png")
    return tmp_path


@pytest.mark.parametrize(("line", "camera"), [("9 1 l", 2), ("09 1 r", 3), ("9 1", 2)])
def test_odometry_frames(odometry, line, camera):
    dataset = build_dataset("kitti_odom", odometry, [line], *SIZE, (0, -1, 1, "s"), is_train=True)
    dataset.draw = lambda _: Augmentation()
    sample = dataset[0]
    for frame in (0, -1, 1):
        assert (sample[FrameKey("color", frame, 0)] == 10 * camera + 1 + frame).all()
    assert (sample[FrameKey("color", "s", 0)] == 10 * (5 - camera) + 1).all()
    assert sample["stereo_T"][0, 3] == pytest.approx(-0.1 if camera == 2 else 0.1)
    np.testing.assert_allclose(sample["K"][0, :3], [0.58 * 64, 0, 32])


def test_odometry_lists():
    train = split_lines("kitti_odom", "odom", "train")
    assert train == split_lines("kitti", "odom", "train")
    assert len(split_lines("kitti_odom", "odom", "test_09")) == 1590


def test_a_list_of_raw_drives_is_no_odometry(odometry, tmp_path):
    lines = split_lines("kitti_odom", "eigen_zhou", "train")[:1]
    with pytest.raises(UserError, match="expected for example '9 0 l'"):
        build_dataset("kitti_odom", odometry, lines, *SIZE)
    (tmp_path / "train_files.txt").write_text(f"9 1 l\n\n{DRIVE} 2 l\n")
    with pytest.raises(UserError, match=r"train_files.txt:3: .* expected for example '9 0 l'"):
        split_lines("kitti_odom", str(tmp_path), "train")


def test_frames_beyond_the_end_are_named(odometry):
    lines = [f"9 {frame} l" for frame in range(1, 9)]
    with pytest.raises(UserError) as raised:
        build_dataset("kitti_odom", odometry, lines, *SIZE)
    sentence = str(raised.value)
    path = f"{odometry}/sequences/09/image_2"
    assert sentence.startswith(f"frame 1 of the split line '9 3 l' is missing: {path}/000004.png")
    others = [f"{path}/{frame:06d}.png" for frame in (5, 6, 7)]
    assert sentence.endswith(f"; also missing: {', '.join(others)} and 2 more")


def test_odometry_has_no_depth(odometry):
    with pytest.raises(UserError, match="KITTIOdometryDataset has no ground truth"):
        build_dataset("kitti_odom", odometry, ["9 1 l"], *SIZE).ground_truth()


@pytest.fixture
def improved(tmp_path) -> Path:
    """A drive with two frames; depth maps of different sizes, for the right camera too."""
    for camera, frame in ((2, 5), (2, 6), (3, 5)):
        name = f"image_{camera:02d}"
        folders = [tmp_path / DRIVE / name / "data",
                   tmp_path / DRIVE / "proj_depth/groundtruth" / name]  # fmt: skip
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (124, 37)).save(folders[0] / f"{frame:010d}.png")
        depth = np.full((37, 124 + frame), 256 * camera + 64 * frame, np.uint16)
        Image.fromarray(depth).save(folders[1] / f"{frame:010d}.png")
    return tmp_path


def test_improved_depth_is_read_in_list_order(improved):
    lines = [f"{DRIVE} 6 l", f"{DRIVE} 5 r", f"{DRIVE} 5"]
    depths = build_dataset("kitti_depth", improved, lines, *SIZE, frame_ids=(0,)).ground_truth()
    assert [depth.shape for depth in depths] == [(37, 130), (37, 129), (37, 129)]
    assert [depth.max() for depth in depths] == [3.5, 4.25, 3.25]
    assert all(depth.dtype == np.float32 for depth in depths)


def test_missing_and_damaged_depth_is_named(improved):
    lines = [f"{DRIVE} 6 l", f"{DRIVE} 5 l"]
    dataset = build_dataset("kitti_depth", improved, lines, *SIZE, frame_ids=(0,))
    path = improved / DRIVE / "proj_depth/groundtruth/image_02/0000000005.png"
    depths = dataset.ground_truth()
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=f"cannot read the depth map {path}"):
        depths[1]
    Image.new("RGB", (8, 8)).save(path)
    with pytest.raises(UserError, match=f"{path} is no 16-bit grey PNG"):
        depths[1]
    path.unlink()
    with pytest.raises(UserError, match=f"ground truth is missing for 1 of 2 test images: {path}"):
        dataset.ground_truth()


def test_lists_and_formats_of_raw_drives_are_shared():
    lines = split_lines("kitti_depth", "eigen_benchmark", "test")
    assert lines == split_lines("kitti", "eigen_benchmark", "test")
    assert len(lines) == 652


# ---- cameras of their own ------------------------------------------------------------------


def row(key: str, *numbers: float) -> str:
    return f"{key}: {' '.join(map(str, numbers))}\n"


def write_day(root: Path, date: str, cameras: dict[int, tuple], size=(400, 200)) -> None:
    """A day's calibration: fx, fy, cx, cy of each camera, in pixels of (width, height)."""
    text = "calib_time: 09-Jan-2012 13:57:47\n"
    for number, (fx, fy, cx, cy) in cameras.items():
        text += row(f"S_rect_{number:02d}", *size)
        text += row(f"P_rect_{number:02d}", fx, 0, cx, -40, 0, fy, cy, 0.5, 0, 0, 1, 0.01)
    (root / date).mkdir(parents=True, exist_ok=True)
    (root / date / "calib_cam_to_cam.txt").write_text(text)


DAYS = {
    "2011_09_26": {2: (300, 310, 170, 110), 3: (300, 310, 190, 110)},
    "2011_09_28": {2: (320, 330, 215, 85), 3: (320, 330, 215, 90)},
}


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("date", DAYS)
@pytest.mark.parametrize(("side", "camera"), [("l", 2), ("r", 3)])
def test_a_days_own_camera_through_flips_and_crops(tmp_path, date, side, camera, flip):
    """Against where that camera puts a dot; the tolerances: tests/test_folder_dataset.py."""
    drive = f"{date}/{date}_drive_0001_sync"
    for day, cameras in DAYS.items():
        write_day(tmp_path, day, cameras)
    box = CropBox(1.25, 120, 240, 12, 30)
    for point in POINTS:
        path = tmp_path / f"{drive}/image_{camera:02d}/data/0000000001.png"
        write_dot(path, DAYS[date][camera], (400, 200), point)
        dataset = build_dataset("kitti", tmp_path, [f"{drive} 1 {side}"], 96, 192, (0,),
                                is_train=True, kitti_intrinsics="calib")  # fmt: skip
        dataset.draw = lambda _: Augmentation(flip=flip, crop=box)
        full, crop = misses(dataset[0], point, flip, box)
        assert full < 0.8
        assert crop < 1.4


def test_an_odometry_sequences_own_camera(odometry):
    text = row("P2", 60, 0, 55, 4, 0, 62, 20, 0, 0, 0, 1, 0)
    text += row("P3", 60, 0, 50, 4, 0, 62, 21, 0, 0, 0, 1, 0)
    (odometry / "sequences/09/calib.txt").write_text(text)
    lines = ["9 1 l", "9 1 r"]
    dataset = build_dataset("kitti_odom", odometry, lines, *SIZE, (0,), kitti_intrinsics="calib")
    left, right = (dataset[index]["K"][:2, :3].numpy() for index in range(2))
    np.testing.assert_allclose(left, np.array([[60, 0, 55], [0, 62, 20]]) * [[64 / 124], [32 / 37]],
                               rtol=1e-6)  # fmt: skip
    np.testing.assert_allclose(right[:, 2], [50 * 64 / 124, 21 * 32 / 37], rtol=1e-6)
    assert len(dataset.own_cameras()) == 2


def test_nominal_cameras_need_no_file(odometry):
    assert build_dataset("kitti_odom", odometry, ["9 1 l"], *SIZE, (0,)).own_cameras() == []


def test_a_calibration_that_is_missing_or_incomplete_is_named(odometry):
    given = (odometry, ["9 1 l"], *SIZE, (0,))
    path = odometry / "sequences/09/calib.txt"
    with pytest.raises(UserError, match=f"{path} does not exist: --kitti_intrinsics calib"):
        build_dataset("kitti_odom", *given, kitti_intrinsics="calib")
    path.write_text("P2: 1 2 3\n")
    with pytest.raises(UserError, match=f"{path} has no row 'P2' of 12 numbers"):
        build_dataset("kitti_odom", *given, kitti_intrinsics="calib")
