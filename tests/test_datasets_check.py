"""`python -m datasets.check`: what it counts, how it ends, and what its contact sheet shows."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

import options
from datasets import build_dataset, check, contact_sheet
from datasets.check_options import TEST_LISTS, TRAIN_SPLITS, parse_options
from datasets.keys import FrameKey
from tests import tiny_benchmarks, tiny_kitti, tiny_pose
from tests.test_kitti_layouts import write_day
from tests.tiny_model import save_picture
from utils import UserError, run_script

HEIGHT, WIDTH = 32, 64


def run(capsys, monkeypatch, *flags: object) -> tuple[int, list[str], str]:
    """Exit code, printed lines and stderr of the command, at a small size."""
    words = ["check", *map(str, flags), "--height", str(HEIGHT), "--width", str(WIDTH)]
    monkeypatch.setattr("sys.argv", words)
    code = 0
    try:
        run_script(check.main)
    except SystemExit as stop:
        code = stop.code
    printed = capsys.readouterr()
    return code, printed.out.splitlines(), printed.err


@pytest.fixture
def kitti(tmp_path) -> list[str]:
    """The flags for a whole KITTI with lists of its own; its sheet is tmp_path/out/sheet.png."""
    root = tiny_kitti.write_kitti(tmp_path)
    return ["--dataset", "kitti", "--data_path", root / "raw", "--split", root / "split",
            "--output", tmp_path / "out/sheet.png"]  # fmt: skip


def test_everything_is_there(kitti, tmp_path, capsys, monkeypatch):
    code, lines, _ = run(capsys, monkeypatch, *kitti)
    camera = "fx 37.12, fy 61.44, cx 32.00, cy 16.00"
    split = tmp_path / "split"
    assert code == 0
    assert lines[:5] == [
        f"train list {split}: 6 lines, 6 with all of their files; 8 files expected, 8 found",
        f"camera at 64x32, pixels, over 6 of its lines: {camera}",
        f"test list {split}: 3 lines, 3 with all of their files; 3 files expected, 3 found",
        f"camera at 64x32, pixels, over 3 of its lines: {camera}",
        "ground truth: 3 depth maps, one a line",
    ]
    assert lines[-2:] == ["everything is there", f"contact sheet: {tmp_path}/out/sheet.png"]


def test_the_sheet_shows_samples_and_their_augmentations(kitti, tmp_path, capsys, monkeypatch):
    code, lines, _ = run(capsys, monkeypatch, *kitti, "--use_stereo")
    names = "frame 0, frame -1, frame 1, frame s, crop, colours changed, reshuffled"
    assert code == 0
    assert lines[-3].startswith(f"contact sheet, from left to right: {names}; ")
    assert lines[-3].count(tiny_kitti.DRIVE) == check.ROWS
    sheet = np.asarray(Image.open(tmp_path / "out/sheet.png")).astype(int)
    gap = contact_sheet.GAP
    assert sheet.shape == (4 * (HEIGHT + gap) + gap, 7 * (WIDTH + gap) + gap, 3)
    assert (sheet[:gap] == 255).all()
    assert (sheet[:, :gap] == 255).all()
    rows = sheet[gap:].reshape(4, HEIGHT + gap, -1, 3)[:, :HEIGHT, gap:]
    tiles = rows.reshape(4, HEIGHT, 7, WIDTH + gap, 3)[..., :WIDTH, :].transpose(0, 2, 1, 3, 4)
    first = build_dataset("kitti", tmp_path / "raw", [f"{tiny_kitti.DRIVE} 1 l"], HEIGHT, WIDTH,
                          (0, -1, 1, "s"))[0]  # fmt: skip
    straight = first[FrameKey("color", 0, 0)].permute(1, 2, 0).numpy()
    target, *others, crop, changed, reshuffled = tiles[0]
    assert (target == straight).all() or (target == straight[:, ::-1]).all()
    assert all(abs(target - other).max() > 20 for other in (*others, crop))
    assert all((row[0] != row[5]).any() for row in tiles)  # in every row colours change
    assert (reshuffled != changed).any()
    for part in (changed, reshuffled):  # the same pixels in other places
        assert (np.sort(part.reshape(-1, 3), 0) == np.sort(changed.reshape(-1, 3), 0)).all()


def test_a_days_own_camera(kitti, tmp_path, capsys, monkeypatch):
    flags = (*kitti, "--kitti_intrinsics", "calib")
    code, lines, _ = run(capsys, monkeypatch, *flags)
    assert code == 1
    assert "2011_09_26/calib_cam_to_cam.txt does not exist" in lines[1]
    write_day(tmp_path / "raw", "2011_09_26", {2: (90, 96, 60, 18)}, (150, 48))
    code, lines, _ = run(capsys, monkeypatch, *flags)
    assert code == 0
    assert "fx 38.40, fy 64.00, cx 25.60, cy 12.00" in lines[1]


def test_missing_files_are_counted_and_named(kitti, tmp_path, capsys, monkeypatch):
    for frame in (0, 5, 6, 7):
        tiny_kitti.picture_path(tmp_path, frame).unlink()
    (tmp_path / "split/gt_depths.npz").unlink()
    code, lines, _ = run(capsys, monkeypatch, *kitti)
    folder = tmp_path / "raw" / tiny_kitti.DRIVE / "image_02/data"
    assert code == 1
    assert lines[0].endswith("6 lines, 2 with all of their files; 8 files expected, 4 found")
    named = ", ".join(f"{folder}/{frame:010d}.png" for frame in (0, 5, 6))
    assert lines[1] == f"missing: {named} and 1 more"
    assert lines[3].endswith("3 lines, 2 with all of their files; 3 files expected, 2 found")
    assert "gt_depths.npz is missing: make it with `python export_gt_depth.py" in lines[6]
    assert lines[-2] == "something is missing or damaged: see above"
    height = 2 * (HEIGHT + contact_sheet.GAP) + contact_sheet.GAP  # of the two whole lines
    assert Image.open(tmp_path / "out/sheet.png").height == height


def test_pictures_of_the_other_kind(kitti, tmp_path, capsys, monkeypatch):
    for path in tmp_path.rglob("image_0*/data/*.png"):
        path.rename(path.with_suffix(".jpg"))
    code, lines, _ = run(capsys, monkeypatch, *kitti)
    assert code == 1
    assert "8 files expected, 0 found" in lines[0]
    assert lines[1].endswith("; there is a .jpg file of that name, which --jpg reads")
    assert lines[-1] == "no contact sheet"
    assert not (tmp_path / "out").exists()
    assert run(capsys, monkeypatch, *kitti, "--jpg")[0] == 0


def test_a_damaged_picture_is_named_and_no_sheet_written(kitti, tmp_path, capsys, monkeypatch):
    path = tiny_kitti.picture_path(tmp_path, 0)
    path.write_bytes(path.read_bytes()[:90])
    code, lines, _ = run(capsys, monkeypatch, *kitti)
    assert code == 1
    assert lines[-3].startswith(f"damaged: cannot read the image {path}")
    assert lines[-1] == "no contact sheet"
    assert not (tmp_path / "out").exists()


def test_truth_that_does_not_fit_the_list(kitti, tmp_path, capsys, monkeypatch):
    tiny_kitti.write_list(tmp_path / "split/test_files.txt", (1, 3))
    code, lines, _ = run(capsys, monkeypatch, *kitti, "--only", "test")
    assert code == 1
    assert "gt_depths.npz holds 3 depth maps for 2 lines" in lines[2]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--dataset", "kiti"], "argument --dataset: invalid choice: 'kiti'"),
        (["--data_path", "nowhere"], "the data folder nowhere does not exist"),
        (["--split", "eigen_zou"], "kitti has no split 'eigen_zou': choose"),
        (["--split", "."], "has no list to look for"),
        (["--height", "100"], "'100' is no multiple of 32"),
        (["--dataset", "nyuv2", "--jpg"], "--jpg is for KITTI's layouts"),
        (["--dataset", "cityscapes"], "give --data_path_pre"),
        (["--data_path_pre", "."], "--data_path_pre is for cityscapes"),
        (["--output", "sheet.jpg"], "expected a name that ends in .png"),
        (["--dataset", "make3d", "--only", "train"], "Make3D is for testing alone"),
    ],
)
def test_bad_usage(kitti, flags, sentence, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path / "raw")
    monkeypatch.setattr("sys.argv", ["check", *map(str, kitti), *flags])
    with pytest.raises(SystemExit) as stop:
        run_script(check.main)
    printed = capsys.readouterr()
    assert stop.value.code == 2
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert sentence in printed.err
    assert len(printed.err.splitlines()) == 1


@pytest.mark.parametrize("name", ["nyuv2", "make3d", "cityscapes"])
def test_test_sets(name, tmp_path, capsys, monkeypatch):
    getattr(tiny_benchmarks, f"write_{name}")(tmp_path)
    given = ["--dataset", name, "--data_path", tmp_path, "--output", tmp_path / "sheet.png"]
    given += [] if name == "make3d" else ["--only", "test"]
    code, lines, _ = run(capsys, monkeypatch, *given)
    count = tiny_benchmarks.COUNTS[name]
    assert code == 0
    assert f"{count} lines, {count} with all of their files" in lines[0]
    assert (lines[1] == "camera at 64x32: not known") == (name == "make3d")
    assert lines[2] == f"ground truth: {count} depth maps, one a line"
    size = (WIDTH + 2 * contact_sheet.GAP, count * (HEIGHT + 4) + 4)
    assert Image.open(tmp_path / "sheet.png").size == size


def test_cameras_of_cityscapes_differ(tmp_path, capsys, monkeypatch):
    tiny_benchmarks.write_cityscapes(tmp_path / "raw")
    split, names = tmp_path / "split", ["ulm_000000_000001", "ulm_000000_000002"]
    for i, name in enumerate(names):
        save_picture(tmp_path / f"pre/ulm/{name}.png", i, 3 * 24, 64)
        camera = tmp_path / f"pre/ulm/{name}_cam.txt"
        camera.write_text(f"{1024 + 16 * i},0,512,0,1000,256,0,0,1")
    split.mkdir()
    (split / "train_files.txt").write_text("\n".join(f"ulm {name}" for name in names))
    given = ["--dataset", "cityscapes", "--data_path", tmp_path / "raw", "--split", split,
             "--data_path_pre", tmp_path / "pre", "--output", tmp_path / "sheet.png"]  # fmt: skip
    code, lines, _ = run(capsys, monkeypatch, *given)
    assert code == 0
    assert "fx 64.00 to 65.00, fy 83.33, cx 32.00, cy 21.33" in lines[1]
    assert Image.open(tmp_path / "sheet.png").size == (6 * (WIDTH + 4) + 4, 2 * (HEIGHT + 4) + 4)
    (tmp_path / f"pre/ulm/{names[1]}_cam.txt").write_text("1,2")
    code, lines, _ = run(capsys, monkeypatch, *given)
    assert code == 1
    assert "missing or damaged: the camera" in lines[1]


def test_a_default_list_that_has_yet_to_be_made(tmp_path, capsys, monkeypatch):
    tiny_benchmarks.write_nyuv2(tmp_path)
    monkeypatch.setattr("datasets.splits.split_lines.__defaults__", (tmp_path / "splits",))
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits/nyuv2.txt").write_text("[test]\n1\n")
    given = ["--dataset", "nyuv2", "--data_path", tmp_path, "--output", tmp_path / "sheet.png"]
    code, lines, _ = run(capsys, monkeypatch, *given)
    assert code == 1
    assert lines[0].startswith("train list: missing: nyuv2 has no 'train' list")
    assert "python -m datasets.nyuv2_list" in lines[0]
    assert lines[-1] == f"contact sheet: {tmp_path / 'sheet.png'}"


def test_odometry_is_tested_against_poses(tmp_path, capsys, monkeypatch):
    tiny_pose.write_sequence(tmp_path, "06", range(4))
    (tmp_path / "test_files.txt").write_text("".join(f"6 {frame} l\n" for frame in range(4)))
    (tmp_path / "poses").mkdir()
    poses = tmp_path / "poses/06.txt"
    rows = ["1 0 0 0 0 1 0 0 0 0 1 0\n"] * 4
    poses.write_text("".join(rows))
    given = ["--dataset", "kitti_odom", "--data_path", tmp_path, "--split", tmp_path,
             "--output", tmp_path / "sheet.png"]  # fmt: skip
    code, lines, _ = run(capsys, monkeypatch, *given)
    assert code == 0
    assert lines[2] == "true poses: all there"
    poses.write_text("".join(rows[:3]))
    code, lines, _ = run(capsys, monkeypatch, *given)
    assert code == 1
    assert lines[2] == f"missing or damaged: {poses} holds 3 poses, none for frame 3"


def test_a_published_list_of_a_root_that_lacks_all(tmp_path, capsys, monkeypatch):
    given = ["--dataset", "kitti_odom", "--data_path", tmp_path, "--output", tmp_path / "sheet.png"]
    code, lines, _ = run(capsys, monkeypatch, *given)
    assert code == 1
    assert [line.split(":")[0] for line in lines if " list " in line] == [
        "train list odom", "test_09 list odom", "test_10 list odom"]  # fmt: skip
    tested = next(line for line in lines if line.startswith("test_09"))
    assert "1,590 lines, 0 with all of their files; 1,591 files expected, 0 found" in tested
    assert not (tmp_path / "sheet.png").exists()


def test_lists_are_those_of_training():
    assert TRAIN_SPLITS == options.DATASETS
    assert set(TEST_LISTS) == set(options.DATASETS) | set(options.TEST_SETS)
    given = parse_options(["--dataset", "kitti", "--data_path", "x"])
    trained = options.train_options(["--data_path", "x"])
    assert (given.height, given.width) == (trained.height, trained.width)


def test_a_refused_line_is_located(kitti, tmp_path):
    (tmp_path / "split/train_files.txt").write_text(f"{tiny_kitti.DRIVE} 1 l\nnonsense\n")
    with pytest.raises(UserError, match=r"train_files.txt:2: 'nonsense' is no line"):
        check.main([*map(str, kitti)])
