"""`python -m datasets.check --dataset folder`: counts, motion, verdicts."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from datasets.folder_check import SAMPLES, describe_motion, verdicts
from datasets.motion import apparent_motion
from tests.test_datasets_check import run as check_anything
from tests.tiny_folder import write_camera, write_depth, write_folder, write_list


def texture(seed: int = 0, width: int = 480, height: int = 160) -> Image.Image:
    """Blobs a few pixels wide, which can be followed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def window(picture: Image.Image, left: int, top: int = 0) -> Image.Image:
    return picture.crop((left, top, left + 400, top + 140))


# ---- motion ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("x", "y"), [(0, 0), (1, 0), (5, 0), (0, 4), (12, 9)])
def test_a_picture_that_slides_moves_by_as_much(x, y):
    wide = texture()
    moved = apparent_motion(window(wide, 20), window(wide, 20 + x, y))
    assert moved == pytest.approx(np.hypot(x, y) / 400, abs=0.1 / 400)


@pytest.mark.parametrize("second", [texture(1), Image.new("RGB", (400, 140))], ids=["cut", "dark"])
def test_what_cannot_be_followed_is_no_motion(second):
    assert apparent_motion(window(texture(), 0), window(second.convert("RGB"), 0)) is None


def test_a_blank_wall_has_nothing_to_follow():
    blank = Image.new("RGB", (400, 140), (90, 90, 90))
    assert apparent_motion(blank, blank) is None


# ---- verdicts --------------------------------------------------------------------------------


def test_verdicts_by_hand():
    still = [0.2] * 12 + [5.0] * 88
    assert list(verdicts(600, still, 640)) == [
        "only 600 training samples: expect overfitting; people report needing 5,000 or more",
        "12% of frames hardly move (below 1 px): nothing is learned from them; prepare_video.py "
        "--min_motion 1 leaves them out",
    ]
    (narrow,) = verdicts(SAMPLES, still, 192)  # 1 of 192 pixels is 3.3 of 640
    assert narrow.endswith("prepare_video.py --min_motion 3.3 leaves them out")
    assert list(verdicts(SAMPLES, [5.0] * 100, 640)) == []
    fast, lost = verdicts(SAMPLES, [5.0] * 80 + [200.0] * 10 + [None] * 10, 640)
    assert fast.startswith("10% of frames move by more than 15% of the width")
    assert lost.startswith("10% of frames could not be followed")


def test_the_distribution_by_hand():
    text = describe_motion([*map(float, range(11)), None], 640)
    assert text.startswith("motion to the next frame, pixels at width 640, of 12 frames: ")
    assert text.endswith("median 5.0, 10% below 1.0, 10% above 9.0; 1 not followed")
    assert describe_motion([None], 64).endswith("of 1 frames: 1 not followed")


# ---- the command -----------------------------------------------------------------------------


def run(capsys, monkeypatch, tmp_path, *flags: object) -> tuple[int, list[str], str]:
    """Exit code, printed lines and stderr of the command, at width 64."""
    given = ("--dataset", "folder", "--output", tmp_path / "sheet.png", *flags)
    return check_anything(capsys, monkeypatch, *given)


def slide(root, steps) -> None:
    """A clip whose frames are so many pixels, of 400, to the right of each other."""
    (root / "clip").mkdir(parents=True)
    wide, left = texture(width=640), 0
    for number, step in enumerate([0, *steps]):
        left += step
        window(wide, left).save(root / f"clip/{number}.png")
    write_camera(root / "intrinsics.txt", (240, 240, 200, 70), (400, 140))
    write_list(root / "train_files.txt", ["clip"], range(1, len(steps)))


def test_two_folders_with_their_cameras_motion_and_verdicts(tmp_path, capsys, monkeypatch):
    slide(tmp_path / "A", [10] * 9)
    slide(tmp_path / "B", [10, 10, 0, 10, 10])
    write_camera(tmp_path / "B/intrinsics.txt", (300, 300, 180, 60), (400, 140))
    roots = (tmp_path / "A", tmp_path / "B")
    code, lines, _ = run(capsys, monkeypatch, tmp_path, "--data_path", *roots)
    assert code == 0
    first, second = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    assert first[:4] == [
        f"train list {roots[0]}: 8 lines, 8 with all of their files; 10 files expected, 10 found",
        "camera at 64x32, pixels, over 8 of its lines: fx 38.40, fy 54.86, cx 32.00, cy 16.00",
        "1 clips with targets, pictures of 400x140",
        "motion to the next frame, pixels at width 64, of 8 frames: median 1.6, 10% below 1.6, 10% "
        "above 1.6; 0 not followed",
    ]
    assert "fx 48.00, fy 68.57, cx 28.80, cy 13.71" in "\n".join(lines)
    assert any("25% of frames hardly move" in line for line in lines)
    assert not any("hardly move" in line for line in first)
    assert second
    assert Image.open(tmp_path / "sheet.png")


def test_folders_without_a_camera_are_shown_and_judged(tmp_path, capsys, monkeypatch):
    roots = tmp_path / "A", tmp_path / "B"
    for root in roots:
        slide(root, [10] * 9)
    (roots[0] / "intrinsics.txt").unlink()
    write_camera(roots[1] / "intrinsics.txt", (240, 240, 300, 70), (400, 140))
    code, lines, _ = run(capsys, monkeypatch, tmp_path, "--data_path", *roots)
    text = "\n".join(lines)
    assert code == 0
    assert "camera at 64x32: not known\n1 clips with targets, pictures of 400x140" in text
    assert "verdict: no camera is known of clip: train with --learn_intrinsics" in text
    assert "verdict: clip: cx of the camera is at 0.75 of the width, far from the middle" in text
    assert text.count("only 16 training samples") == 2  # of both together
    assert Image.open(tmp_path / "sheet.png")


def test_what_a_folder_lacks_is_named(tmp_path, capsys, monkeypatch):
    root = write_folder(tmp_path / "root", val=(2, 5))
    write_depth(root, "clip", (2,))
    (root / "clip/0000000004.png").unlink()
    code, lines, _ = run(capsys, monkeypatch, tmp_path, "--data_path", root)
    text = "\n".join(lines)
    assert code == 1
    assert f"missing: {root}/clip/0000000004.png; {root}/clip has 7 frames from 0 to 7" in text
    assert "ground truth is missing for 1 of 2 test images" in text
    (root / "train_files.txt").unlink()
    code, lines, _ = run(capsys, monkeypatch, tmp_path, "--data_path", root, "--only", "train")
    assert code == 1
    assert "python prepare_video.py" in lines[0]


def test_pictures_of_two_sizes_are_found(tmp_path, capsys, monkeypatch):
    root = write_folder(tmp_path / "root")
    Image.new("RGB", (75, 24)).save(root / "clip/0000000004.png")
    code, lines, _ = run(capsys, monkeypatch, tmp_path, "--data_path", root)
    assert code == 1
    assert any("0000000004.png is 75x24" in line for line in lines)


@pytest.mark.parametrize(("flags", "sentence"), [
    (["--data_path", "A", "--split", "A"], "--split is of published data sets"),
    (["--data_path", "nowhere"], "the data folder nowhere does not exist"),
    (["--data_path", "A", "A"], "give folders apart from each other"),
    (["--dataset", "kitti", "--data_path", "A", "B"], "--data_path takes one folder"),
])  # fmt: skip
def test_bad_usage(tmp_path, capsys, monkeypatch, flags, sentence):
    (tmp_path / "A").mkdir()
    monkeypatch.chdir(tmp_path)
    code, lines, error = run(capsys, monkeypatch, tmp_path, *flags)
    assert (code, lines) == (2, [])
    assert sentence in error
    assert len(error.splitlines()) == 1
