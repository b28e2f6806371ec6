"""Folders of frames: names, cameras, several roots at once, true depth, and what bad input says."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augmentations import Augmentation, CropBox
from datasets import build_dataset
from datasets.folder_dataset import FolderDataset
from datasets.folder_lists import folder_lines
from datasets.keys import FrameKey
from tests.dots import POINTS, misses, write_dot
from tests.tiny_folder import CAMERA, SIZE, write_camera, write_depth, write_folder, write_list
from utils import UserError

HEIGHT, WIDTH = 96, 192


def opened(*roots: Path, part: str = "train", frame_ids=(0, -1, 1), **options) -> FolderDataset:
    names = [str(root) for root in roots]
    lines = folder_lines(names, [part])
    return build_dataset("folder", names, lines, 32, 64, frame_ids, is_validation=True, **options)


def refused(*roots: Path, **options) -> str:
    with pytest.raises(UserError) as raised:
        opened(*roots, **options)
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence


# ---- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize("clip", ["clip", "a/b", "my holiday", "Straße 日本/día 2"])
@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG"])
def test_clips_of_any_name_and_kind_of_picture(tmp_path, clip, ending):
    dataset = opened(write_folder(tmp_path / "root", [clip], ending=ending))
    assert len(dataset) == 6
    frames = [dataset[2][FrameKey("color", frame, 0)] for frame in (-1, 0, 1)]
    paths = [tmp_path / "root" / clip / f"{number:010d}{ending}" for number in (2, 3, 4)]
    for frame, path in zip(frames, paths, strict=True):
        expected = Image.open(path).convert("RGB").resize((64, 32), Image.Resampling.LANCZOS)
        assert np.array_equal(frame.permute(1, 2, 0).numpy(), np.asarray(expected))


def test_padding_may_differ_within_a_clip(tmp_path):
    root = write_folder(tmp_path / "root", frames=range(8, 12))
    for frame in range(8, 12):
        (root / f"clip/{frame:010d}.png").rename(root / f"clip/{frame}.png")
    (root / "clip/notes.txt").write_text("no frame")
    (root / "clip/cover.png").write_text("no frame")
    dataset = opened(root)
    assert [Path(dataset.image_path(dataset.refs[0], frame)).name for frame in (-1, 0, 1)] == [
        "8.png", "9.png", "10.png"]  # fmt: skip


# ---- cameras ---------------------------------------------------------------------------------


def test_a_clips_own_camera_wins_over_its_roots(tmp_path):
    root = write_folder(tmp_path / "root", ["a", "b"])
    write_camera(root / "b/intrinsics.txt", (120, 96, 60, 30))
    dataset = opened(root)
    own = {ref.clip: dataset.intrinsics(ref) for ref in dataset.refs}
    width, height = SIZE
    assert own == {
        "a": (CAMERA[0] / width, CAMERA[1] / height, CAMERA[2] / width, CAMERA[3] / height),
        "b": (120 / width, 96 / height, 60 / width, 30 / height),
    }


def test_a_camera_without_a_size_is_for_the_pictures_that_are_there(tmp_path):
    root = write_folder(tmp_path / "root", camera=None)
    write_camera(root / "intrinsics.txt", CAMERA, size=None)
    sized = write_folder(tmp_path / "sized")
    assert torch.equal(opened(root)[0]["K"], opened(sized)[0]["K"])


@pytest.mark.parametrize("text", [
    "87 92.16 75 24", "# of a phone\n87, 92.16,\n75, 24 # centre", "87,0,75\n0,92.16,24\n0,0,1",
    "# size: 150x48\n87\n92.16\n75\n24", "\ufeff8.7e1\t92.16 75 24\r\n",
])  # fmt: skip
def test_every_spelling_of_a_camera(tmp_path, text):
    root = write_folder(tmp_path / "root", camera=None)
    (root / "intrinsics.txt").write_text(text, encoding="utf-8")
    expected = opened(write_folder(tmp_path / "plain"))[0]["K"]
    assert torch.equal(opened(root)[0]["K"], expected)


@pytest.mark.parametrize("text", [
    "", "# nothing", "87 92 75", "87 92 75 24 1", "f 92 75 24", "87 1 75 0 92 24 0 0 1",
    "nan 1 1 1",
])  # fmt: skip
def test_what_is_no_camera(tmp_path, text):
    root = write_folder(tmp_path / "root", camera=None)
    (root / "intrinsics.txt").write_text(text)
    assert f"{root}/intrinsics.txt" in refused(root)


def dots(root: Path, camera, size, point) -> Path:
    """A clip of three frames with a dot where the camera sees the point."""
    for frame in range(3):
        write_dot(root / f"clip/{frame:04d}.png", camera, size, point)
    write_camera(root / "intrinsics.txt", camera, size)
    write_list(root / "train_files.txt", ["clip"], [1])
    return root


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("point", POINTS, ids=["left", "middle", "right"])
def test_two_roots_each_with_its_own_camera_through_flips_and_crops(tmp_path, flip, point):
    """Against where the cameras, both off their centres, put a dot; half a pixel is the family's
    K, another the two grids of a crop."""
    roots = [dots(tmp_path / "A", (300, 310, 170, 110), (400, 200), point),
             dots(tmp_path / "B", (420, 400, 400, 190), (720, 360), point)]  # fmt: skip
    names = list(map(str, roots))
    dataset = build_dataset("folder", names, folder_lines(names, ["train"]), HEIGHT, WIDTH,
                            is_train=True, local_crop=True)  # fmt: skip
    boxes = [CropBox(1.25, 120, 240, y0, x0) for y0, x0 in itertools.product((8, 16), (12, 36))]
    for index, box in itertools.product(range(2), boxes):
        dataset.draw = lambda _, box=box: Augmentation(flip=flip, crop=box)
        full, crop = misses(dataset[index], point, flip, box)
        assert full < 0.8
        assert crop < 1.4
    first, second = (dataset[index]["K"] for index in range(2))
    assert abs(first[0, 2] - second[0, 2]) > 20  # pixels: one camera for both would be far off


def test_cameras_need_not_be_known(tmp_path):
    known = write_folder(tmp_path / "known")
    unknown = write_folder(tmp_path / "unknown", camera=None)
    assert "K" in opened(known, camera_required=False)[0]
    both = opened(known, unknown, camera_required=False)
    assert not any("K" in both[index] for index in (0, 11))
    assert both.own_cameras() == []


# ---- several roots ---------------------------------------------------------------------------


def test_lists_of_several_roots_follow_each_other(tmp_path):
    roots = [write_folder(tmp_path / "A"), write_folder(tmp_path / "B", frames=range(100, 104))]
    dataset = opened(*roots)
    assert dataset.lines == [f"{tmp_path}/A/clip {n}" for n in range(1, 7)] + [
        f"{tmp_path}/B/clip {n}" for n in (101, 102)]  # fmt: skip
    assert dataset.image_path(dataset.refs[6], -1) == f"{tmp_path}/B/clip/0000000100.png"


def test_what_tells_lists_and_cameras_apart_is_not_where_they_lie(tmp_path):
    roots = [write_folder(tmp_path / name) for name in ("A", "B")]
    before = opened(*roots)
    (tmp_path / "moved").mkdir()
    moved = [root.rename(tmp_path / "moved" / root.name) for root in roots]
    after = opened(*moved)
    assert after.own_lines() == before.own_lines()
    assert after.own_cameras() == before.own_cameras()
    write_camera(moved[1] / "clip/intrinsics.txt", (88.0, *CAMERA[1:]))
    assert opened(*moved).own_cameras() != before.own_cameras()
    write_list(moved[0] / "train_files.txt", ["clip"], [2, 1])
    assert opened(*moved).own_lines() != before.own_lines()


def test_a_root_without_a_validation_list_is_left_out(tmp_path):
    roots = [write_folder(tmp_path / "A"), write_folder(tmp_path / "B", val=[3])]
    assert opened(*roots, part="val").lines == [f"{tmp_path}/B/clip 3"]
    assert "holds no val_files.txt" in refused(roots[0], part="val")


# ---- true depth ------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".png", ".npy"])
def test_true_depth_in_the_order_of_the_list(tmp_path, ending):
    root = write_folder(tmp_path / "root", ["a/b"], val=(2, 5))
    depths = write_depth(root, "a/b", (2, 5), ending)
    truth = opened(root, part="val", frame_ids=(0,)).ground_truth()
    np.testing.assert_array_equal(np.stack(truth), depths.astype(np.float32))


def test_true_depth_of_two_roots_each_in_its_own_scale(tmp_path):
    roots = [write_folder(tmp_path / name, val=(2,)) for name in ("A", "B")]
    for root, scale in zip(roots, (None, 1000), strict=True):
        write_depth(root, "clip", (2,))
        if scale:
            (root / "depth/scale.txt").write_text(f"{scale}\n")
    first, second = opened(*roots, part="val").ground_truth()
    np.testing.assert_allclose(first, second / 256 * 1000, rtol=1e-6)


def test_missing_true_depth_is_counted(tmp_path):
    root = write_folder(tmp_path / "root", val=(2, 5))
    write_depth(root, "clip", (2,))
    with pytest.raises(UserError, match=r"missing for 1 of 2 test images: .*/clip/0000000005"):
        opened(root, part="val").ground_truth()


@pytest.mark.parametrize("text", ["", "many", "0", "-1", "inf", "1 2"])
def test_a_scale_that_is_no_number(tmp_path, text):
    root = write_folder(tmp_path / "root", val=(2,))
    write_depth(root, "clip", (2,))
    (root / "depth/scale.txt").write_text(text)
    with pytest.raises(UserError, match=r"depth/scale.txt must hold one number above 0"):
        opened(root, part="val").ground_truth()


# ---- bad input -------------------------------------------------------------------------------


def test_a_missing_neighbour(tmp_path):
    root = write_folder(tmp_path / "root")
    (root / "clip/0000000003.png").unlink()
    sentence = refused(root)
    assert f"frame 1 of the split line 'clip 2' is missing: {root}/clip/0000000003.png" in sentence
    assert f"{root}/clip has 7 frames from 0 to 7" in sentence


def test_a_list_that_begins_with_the_first_frame(tmp_path):
    root = write_folder(tmp_path / "root", frames=range(4))
    write_list(root / "train_files.txt", ["clip"], [0])
    assert "frame -1 of the split line 'clip 0' is missing" in refused(root)


def test_a_clip_that_is_not_there(tmp_path):
    root = write_folder(tmp_path / "root")
    write_list(root / "train_files.txt", ["other"], [1])
    assert "holds no pictures whose names are numbers" in refused(root)


def test_two_pictures_of_one_number(tmp_path):
    root = write_folder(tmp_path / "root")
    (root / "clip/3.jpg").write_bytes((root / "clip/0000000003.png").read_bytes())
    assert "holds 0000000003.png and 3.jpg, both frame 3" in refused(root)


@pytest.mark.parametrize("line", ["clip", "clip one", "7", "clip 1.5", "clip -1"])
def test_a_malformed_line_is_located(tmp_path, line):
    root = write_folder(tmp_path / "root")
    (root / "train_files.txt").write_text(f"clip 1\n\n{line}\n")
    assert f"train_files.txt:3: {line!r} is no line" in refused(root)


@pytest.mark.parametrize("clip", ["../other", "/other"])
def test_a_line_that_leads_out_of_its_root(tmp_path, clip):
    root = write_folder(tmp_path / "root")
    (root / "train_files.txt").write_text(f"{clip} 1\n")
    assert "leads out of" in refused(root)


def test_no_list(tmp_path):
    root = write_folder(tmp_path / "root", ["a b"])
    (root / "train_files.txt").unlink()
    sentence = refused(root)
    assert "holds pictures and no train_files.txt" in sentence
    assert f"python prepare_video.py {root} --out DIR" in sentence
    (tmp_path / "empty").mkdir()
    assert "no train_files.txt and no pictures" in refused(tmp_path / "empty")


def test_no_camera(tmp_path):
    root = write_folder(tmp_path / "root", camera=None)
    sentence = refused(root)
    assert f"{root}/intrinsics.txt" in sentence
    assert "--learn_intrinsics" in sentence


def test_a_camera_of_pictures_of_another_size(tmp_path):
    root = write_folder(tmp_path / "root")
    write_camera(root / "intrinsics.txt", np.array(CAMERA) * 2, (300, 96))
    sentence = refused(root)
    assert "is 150x48 (width x height)" in sentence
    assert f"{root}/intrinsics.txt is the camera of pictures of 300x96" in sentence


def test_two_sizes_under_one_camera(tmp_path):
    root = write_folder(tmp_path / "root", ["a", "b"])
    write_camera(root / "intrinsics.txt", CAMERA, size=None)
    for path in (root / "b").iterdir():
        Image.open(path).resize((75, 24)).save(path)
    assert f"{root}/b/0000000001.png is 75x24" in refused(root)


def test_a_picture_of_another_size_within_a_clip_is_named_when_it_is_read(tmp_path):
    root = write_folder(tmp_path / "root")
    path = root / "clip/0000000004.png"
    Image.open(path).resize((75, 24)).save(path)
    dataset = opened(root)
    assert len(dataset[0]["color", 0, 0])
    with pytest.raises(UserError, match=f"{path} is 75x24"):
        dataset[2]


@pytest.mark.parametrize("frame", [1, 2, 3])
def test_a_clip_without_a_camera_has_one_size_too(tmp_path, frame):
    root = write_folder(tmp_path / "root", camera=None)
    path = root / f"clip/{frame + 1:010d}.png"
    Image.open(path).resize((75, 24)).save(path)
    dataset = opened(root, camera_required=False)
    first = f"{root}/clip/0000000001.png is 150x48"
    with pytest.raises(UserError, match=f"{path} is 75x24 .*{first}"):
        dataset[frame - 1]


def test_grey_pictures_of_16_bits_are_scaled(tmp_path):
    root = write_folder(tmp_path / "root")
    for path in (root / "clip").iterdir():
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16)
        Image.fromarray(grey * 257).save(path)
    picture = opened(root).load_frames(opened(root).refs[0])[0]
    with Image.open(root / "clip/0000000001.png") as image:
        expected = (np.asarray(image) / 257).round()
    assert expected.std() > 20
    np.testing.assert_array_equal(np.asarray(picture)[..., 1], expected)


@pytest.mark.parametrize(("camera", "word"), [
    ((20, 92, 75, 24), "fx 0.133333 times"), ((87, 92, 75, 60), "cy 1.25 times"),
])  # fmt: skip
def test_a_camera_that_cannot_be_one(tmp_path, camera, word):
    root = write_folder(tmp_path / "root", camera=camera)
    sentence = refused(root)
    assert f"{root}/intrinsics.txt" in sentence
    assert word in sentence


def test_roots_in_each_other(tmp_path):
    root = write_folder(tmp_path / "root")
    inner = write_folder(root / "inner")
    assert "lies in, the other" in refused(root, inner)
    assert "lies in, the other" in refused(root, root)
    assert "does not exist" in refused(root, tmp_path / "nowhere")
