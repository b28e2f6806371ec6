"""The demo's renderer as a script: the KITTI raw layout, its lists, starting again, refusals."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import render_demo
from datasets import build_dataset
from kitti_utils import generate_depth_map
from rendering import drive_poses
from utils import UserError

SETTINGS = ["--streets", "2", "--frames", "4", "--height", "48", "--width", "156"]
DATE = "2026_01_01"
DRIVE = f"{DATE}/{DATE}_drive_{{:04d}}_sync"


@pytest.fixture(scope="module")
def rendered(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "streets"
    render_demo.main(["--out", str(out), *SETTINGS])
    return out


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_layout_is_kittis_with_the_truth_beside_it(rendered):
    names = set(contents(rendered))
    expected = {"rendering.json", "split/train_files.txt", "split/test_files.txt",
                f"{DATE}/calib_cam_to_cam.txt", f"{DATE}/calib_velo_to_cam.txt"}
    for drive in (1, 2):
        folder = DRIVE.format(drive)
        expected.add(f"{folder}/poses.txt")
        for frame in range(4):
            expected |= {f"{folder}/{kind}/data/{frame:010d}.{suffix}" for kind, suffix in (
                ("image_02", "png"), ("image_03", "png"), ("velodyne_points", "bin"),
                ("depth_02", "npy"))}
    assert names == expected


def test_pictures_depth_and_poses(rendered):
    folder = rendered / DRIVE.format(2)
    with Image.open(folder / "image_03/data/0000000003.png") as image:
        assert (image.mode, image.size) == ("RGB", (156, 48))
    depth = np.load(folder / "depth_02/data/0000000003.npy")
    assert (depth.dtype, depth.shape) == (np.float32, (48, 156))
    poses = np.loadtxt(folder / "poses.txt").reshape(4, 3, 4)
    np.testing.assert_allclose(poses, drive_poses(2, 4)[:, :3], atol=1e-11)


def test_the_last_street_is_held_out(rendered):
    train = (rendered / "split/train_files.txt").read_text().splitlines()
    test = (rendered / "split/test_files.txt").read_text().splitlines()
    assert train == [f"{DRIVE.format(1)} {frame:010d} {side}" for frame in (1, 2) for side in "lr"]
    assert test == [f"{DRIVE.format(2)} {frame:010d} l" for frame in (0, 3)]


def test_the_training_data_set_reads_every_line(rendered):
    lines = (rendered / "split/train_files.txt").read_text().splitlines()
    dataset = build_dataset("kitti", rendered, lines, 32, 64, frame_ids=(0, -1, 1, "s"))
    assert [dataset[i]["color", "s", 0].shape for i in range(len(lines))] == [(3, 32, 64)] * 4


def test_the_laser_lands_on_the_true_depth(rendered):
    folder = rendered / DRIVE.format(1)
    laser = generate_depth_map(rendered / DATE, folder / "velodyne_points/data/0000000002.bin")
    depth = np.load(folder / "depth_02/data/0000000002.npy")
    hit = laser > 0
    assert hit.mean() > 0.3
    assert np.median(np.abs(laser[hit] / depth[hit] - 1)) < 0.02


def test_equal_settings_give_equal_files_and_another_seed_others(rendered, tmp_path):
    render_demo.main(["--out", str(tmp_path / "again"), *SETTINGS])
    assert contents(tmp_path / "again") == contents(rendered)
    render_demo.main(["--out", str(tmp_path / "other"), *SETTINGS, "--seed", "1"])
    picture = f"{DRIVE.format(1)}/image_02/data/0000000000.png"
    assert (tmp_path / "other" / picture).read_bytes() != (rendered / picture).read_bytes()


def test_started_again_it_renders_only_what_is_missing(rendered, tmp_path, capsys):
    out = tmp_path / "streets"
    shutil.copytree(rendered, out)
    kept, lost = (out / DRIVE.format(n) for n in (1, 2))
    interrupted = lost.with_name(f".{lost.name}.partial")
    lost.rename(interrupted)
    (interrupted / "image_02/data/0000000003.png").unlink()
    before = kept.stat().st_mtime_ns
    render_demo.main(["--out", str(out), *SETTINGS])
    assert "1 rendered now" in capsys.readouterr().out
    assert contents(out) == contents(rendered)
    assert kept.stat().st_mtime_ns == before


@pytest.mark.parametrize(("options", "words"), [
    (["--streets", "1"], "--streets 1"),
    (["--frames", "2"], "--frames 2"),
    (["--seed", "7"], "other settings"),
])
def test_settings_it_cannot_use_are_refused(rendered, options, words):
    with pytest.raises(UserError, match=words):
        render_demo.main(["--out", str(rendered), *SETTINGS, *options])


def test_a_folder_of_someone_elses_is_left_alone(tmp_path):
    (tmp_path / "precious.txt").write_text("mine")
    with pytest.raises(UserError, match=r"was not made by render_demo\.py"):
        render_demo.main(["--out", str(tmp_path), *SETTINGS])
    assert contents(tmp_path) == {"precious.txt": b"mine"}


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_file_in_the_way_is_named(tmp_path, place):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="file"):
        render_demo.main(["--out", str(tmp_path / place), *SETTINGS])
