"""KITTI's tree as JPEG: the same layout, whole files, only what is missing."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datasets import build_dataset, to_jpeg
from datasets.files import load_rgb
from datasets.keys import FrameKey
from tests.tiny_kitti import DRIVE, picture_path, write_kitti
from utils import UserError

LINES = [f"{DRIVE} {frame} l" for frame in (1, 2)]


@pytest.fixture
def kitti(tmp_path: Path) -> Path:
    """Four frames of two cameras, a calibration, a scan, and a depth map."""
    root = write_kitti(tmp_path, frames=4) / "raw"
    (root / "2011_09_26/calib_cam_to_cam.txt").write_text("S_rect_02: 150 48\n")
    for name in ("velodyne_points/data/0000000001.bin",
                 "proj_depth/groundtruth/image_02/0000000001.png"):  # fmt: skip
        path = root / DRIVE / name
        path.parent.mkdir(parents=True)
        path.write_bytes(b"1234")
    return root


def convert(root: Path, out: Path, workers: int = 1) -> None:
    to_jpeg.main(["--data_path", str(root), "--out", str(out), "--num_workers", str(workers)])


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


def test_a_converted_tree_is_trained_from(kitti: Path, tmp_path: Path, capsys):
    convert(kitti, tmp_path / "jpg")
    assert "8 pictures are in" in capsys.readouterr().out
    names = {f"{DRIVE}/image_{camera}/data/{frame:010d}.jpg"
             for camera in ("02", "03") for frame in range(4)}  # fmt: skip
    assert files_of(tmp_path / "jpg").keys() == names | {"2011_09_26/calib_cam_to_cam.txt"}
    png, jpg = (
        build_dataset("kitti", root, LINES, 32, 64, (0, -1, 1, "s"), is_train=True, jpg=is_jpg)
        for root, is_jpg in ((kitti, False), (tmp_path / "jpg", True))
    )
    key = FrameKey("color", "s", 0)
    difference = png[0][key].int() - jpg[0][key].int()
    assert 0 < difference.abs().float().mean() < 4


def test_quality_and_subsampling(kitti: Path, tmp_path: Path):
    convert(kitti, tmp_path / "jpg")
    expected = tmp_path / "by_hand.jpg"
    load_rgb(picture_path(tmp_path, 1)).save(expected, quality=92, subsampling=2)
    found = tmp_path / "jpg" / DRIVE / "image_02/data/0000000001.jpg"
    assert found.read_bytes() == expected.read_bytes()
    with Image.open(found) as image:
        assert [layer[1:3] for layer in image.layer] == [(2, 2), (1, 1), (1, 1)]


def test_workers_change_nothing(kitti: Path, tmp_path: Path):
    convert(kitti, tmp_path / "one")
    convert(kitti, tmp_path / "two", workers=2)
    assert files_of(tmp_path / "one") == files_of(tmp_path / "two")


def test_only_what_is_missing_is_made(kitti: Path, tmp_path: Path, monkeypatch):
    out = tmp_path / "jpg"
    convert(kitti, out)
    before = files_of(out)
    (out / DRIVE / "image_02/data/0000000002.jpg").unlink()
    decoded = []
    monkeypatch.setattr(to_jpeg, "load_rgb", lambda path: decoded.append(path) or load_rgb(path))
    convert(kitti, out)
    assert decoded == [picture_path(tmp_path, 2)]
    assert files_of(out) == before


def test_a_run_that_dies_leaves_no_half_file(kitti: Path, tmp_path: Path, monkeypatch):
    save, out = Image.Image.save, tmp_path / "jpg"

    def dying(image, path, **options):
        save(image, path, **options)
        Path(path).write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(Image.Image, "save", dying)
    with pytest.raises(UserError, match="cannot write"):
        convert(kitti, out)
    assert not list(out.rglob("*.jpg"))


def test_a_damaged_picture_costs_only_itself(kitti: Path, tmp_path: Path, capsys):
    picture_path(tmp_path, 2).write_bytes(b"none")
    with pytest.raises(UserError, match=r"1 pictures are damaged.*0000000002\.png"):
        convert(kitti, tmp_path / "jpg")
    assert "7 pictures are in" in capsys.readouterr().out
    shutil.copy(picture_path(tmp_path, 1), picture_path(tmp_path, 2))
    convert(kitti, tmp_path / "jpg")
    assert len(list((tmp_path / "jpg").rglob("*.jpg"))) == 8


def test_odometry_pictures_are_found_too(tmp_path: Path):
    path = tmp_path / "odometry/sequences/09/image_2/000001.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    convert(tmp_path / "odometry", tmp_path / "jpg")
    assert files_of(tmp_path / "jpg").keys() == {"sequences/09/image_2/000001.jpg"}


def test_wrong_folders_are_named(kitti: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"none does not exist"):
        convert(tmp_path / "none", tmp_path / "jpg")
    with pytest.raises(UserError, match=r"lies in --data_path"):
        convert(kitti, kitti / "jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty has no colour pictures"):
        convert(tmp_path / "empty", tmp_path / "jpg")
