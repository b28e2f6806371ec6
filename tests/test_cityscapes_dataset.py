"""Cityscapes: prepared triplets, raw test frames, their cameras and true depth."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from augmentations import Augmentation
from datasets import build_dataset
from datasets.cache import PictureCache
from datasets.keys import FrameKey, SampleIndex
from utils import UserError

SIZE = (32, 96)
LINE = "ulm ulm_000001_000002"
CAMERA = "1131.25,0.,543.75,0.,1130.5,256.125,0.,0.,1."
TEST_LINES = [f"bonn bonn_000000_{number:06d}" for number in range(3)]


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A triplet whose frames -1, 0, 1 are grey, 50, 100, 150, darker on the left."""
    (tmp_path / "ulm").mkdir()
    grey = np.repeat([50, 100, 150], 48)[:, None] + np.linspace(-20, 20, 128)[None]
    Image.fromarray(grey.astype(np.uint8)).convert("RGB").save(tmp_path / f"ulm/{LINE[4:]}.png")
    (tmp_path / f"ulm/{LINE[4:]}_cam.txt").write_text(CAMERA)
    return tmp_path


@pytest.fixture
def raw(tmp_path) -> Path:
    """Three test frames, bright where the bonnet is."""
    for folder in ("leftImg8bit_sequence", "camera"):
        (tmp_path / folder / "test/bonn").mkdir(parents=True)
    picture = np.full((64, 128), 90, np.uint8)
    picture[48:] = 255
    intrinsic = {"fx": 2260.0, "fy": 2262.0, "u0": 1096.0, "v0": 513.0}
    for line in TEST_LINES:
        path = f"test/bonn/{line[5:]}"
        Image.fromarray(picture).save(tmp_path / f"leftImg8bit_sequence/{path}_leftImg8bit.png")
        camera = tmp_path / f"camera/{path}_camera.json"
        camera.write_text(json.dumps({"extrinsic": {}, "intrinsic": intrinsic}))
    return tmp_path


def training_set(root: Path, **options):
    return build_dataset("cityscapes", root, [LINE], *SIZE, is_train=True, **options)


def raw_set(root: Path, **options):
    return build_dataset("cityscapes", root, TEST_LINES, *SIZE, frame_ids=(0,), **options)


# ---- training --------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", [False, True])
def test_a_triplet_is_taken_apart(prepared, flip):
    dataset = training_set(prepared, frame_ids=(0, 1, -1))
    dataset.draw = lambda _: Augmentation(flip=flip)
    sample = dataset[0]
    for frame in (-1, 0, 1):
        picture = sample[FrameKey("color", frame, 0)].float()
        assert abs(picture.mean() - (100 + 50 * frame)) < 1.5
        darker, brighter = picture[..., 0].mean(), picture[..., -1].mean()
        assert (darker < brighter) != flip
    cx = 543.75 / 1024
    expected = [[1131.25 / 1024, 0, 1 - cx if flip else cx], [0, 1130.5 / 384, 256.125 / 384]]
    K = sample["K"][:2, :3].numpy()
    np.testing.assert_allclose(K, np.multiply(expected, [[96], [32]]), rtol=1e-6)


def test_a_triplet_is_decoded_once(prepared, monkeypatch):
    import datasets.cityscapes_dataset as module

    read, paths = module.load_rgb, []
    monkeypatch.setattr(module, "load_rgb", lambda path: paths.append(path) or read(path))
    training_set(prepared)[0]
    assert len(paths) == 1


@pytest.mark.parametrize("fast", [False, True])
def test_the_cache_keeps_the_frames_of_a_triplet_apart(prepared, tmp_path, fast):
    cache = PictureCache(tmp_path / "cache", gigabytes=1)
    for epoch in range(2):
        for options in ({}, {"cache": cache}):
            dataset = training_set(prepared, frame_ids=(0, 1, -1), fast_resize=fast, **options)
            sample = dataset[SampleIndex(epoch, 0)]
            levels = [sample[FrameKey("color", frame, 0)].float().mean() for frame in (-1, 0, 1)]
            assert levels == pytest.approx([50, 100, 150], abs=1.5)


def test_further_neighbours_and_partners_are_not_there(prepared):
    with pytest.raises(UserError, match="has no frame -2, 2: its frames are -1, 0, 1"):
        training_set(prepared, frame_ids=(0, -2, 2))
    with pytest.raises(UserError, match="no stereo partner"):
        training_set(prepared, frame_ids=(0, "s"))


@pytest.mark.parametrize("line", ["ulm", "ulm ulm_000001", "ulm ulm_000001_000002 l"])
def test_a_malformed_line_is_shown(prepared, line):
    with pytest.raises(UserError, match="expected for example 'ulm ulm_000002_000025'"):
        build_dataset("cityscapes", prepared, [line], *SIZE, is_train=True)


@pytest.mark.parametrize("ending", [".png", "_cam.txt"])
def test_a_missing_file_is_found_before_training(prepared, ending):
    (prepared / f"ulm/{LINE[4:]}{ending}").unlink()
    with pytest.raises(UserError, match=f"'{LINE}' is missing: .*{ending} does not exist"):
        training_set(prepared)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "cannot read the camera {path}: could not convert"),
        ("1131.25,0.,543", "{path} holds 3 numbers, expected the nine of fx,0,cx"),
        # The published flags' default size, 416x128, and 1024x256.
        ("459.6,0.,222.8,0.,282.6,64.1,0.,0.,1.", "--img_width 1024 --img_height 512"),
        ("1131.,0.,548.4,0.,565.3,128.2,0.,0.,1.", "--img_width 1024 --img_height 512"),
    ],
)
def test_a_camera_that_does_not_fit_is_named(prepared, text, said):
    path = prepared / f"ulm/{LINE[4:]}_cam.txt"
    path.write_text(text)
    with pytest.raises(UserError) as raised:
        training_set(prepared)[0]
    assert said.format(path=path) in str(raised.value)


def test_ragged_triplets_are_named(prepared):
    Image.new("RGB", (128, 145)).save(prepared / f"ulm/{LINE[4:]}.png")
    with pytest.raises(UserError, match=rf"{LINE[4:]}.png is 145 rows high, which are not three"):
        training_set(prepared)[0]


# ---- test ------------------------------------------------------------------------------------


def test_the_bonnet_is_cut_off_and_the_camera_is_read(raw):
    sample = raw_set(raw)[1]
    assert (sample[FrameKey("color", 0, 0)] == 90).all()
    expected = [[2260 / 2048, 0, 1096 / 2048], [0, 2262 / 768, 513 / 768]]
    K = sample["K"][:2, :3].numpy()
    np.testing.assert_allclose(K, np.multiply(expected, [[96], [32]]), rtol=1e-6)
    assert sample["index"] == 1


def test_a_missing_camera_is_found_before_the_run(raw):
    path = raw / f"camera/test/bonn/{TEST_LINES[1][5:]}_camera.json"
    path.unlink()
    with pytest.raises(UserError, match=f"the camera of the split line .* missing: {path} does"):
        raw_set(raw)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"intrinsic": {"fx": 1, "fy": 1, "u0": null}}',
        f'{{"intrinsic": {{"fx": 1{"0" * 400}}}}}',
        "[1]",
        pytest.param("[" * 100_000, id="nested"),
    ],
)
def test_a_damaged_camera_is_named(raw, text):
    path = raw / f"camera/test/bonn/{TEST_LINES[1][5:]}_camera.json"
    path.write_text(text)
    with pytest.raises(UserError, match=f"the camera {path} needs fx, fy, u0 and v0"):
        raw_set(raw)[1]


@pytest.mark.parametrize("fx", ["0", "-1", "NaN", "1e999"])
def test_a_camera_that_cannot_be_is_named(raw, fx):
    path = raw / f"camera/test/bonn/{TEST_LINES[1][5:]}_camera.json"
    path.write_text(f'{{"intrinsic": {{"fx": {fx}, "fy": 1, "u0": 1, "v0": 1}}}}')
    with pytest.raises(UserError, match=f"the camera {path} cannot be one: its fx"):
        raw_set(raw)[1]


# ---- true depth ------------------------------------------------------------------------------


def save_depths(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        np.save(folder / f"{index:03d}_depth.npy", np.full((64, 128), index, np.float64))
    return folder


def test_depth_maps_are_counted_in_list_order(raw, tmp_path):
    depths = raw_set(raw).ground_truth(save_depths(tmp_path / "gt", 3))
    assert [(d.shape, d.dtype, d.max()) for d in depths] == [((64, 128), np.float32, i)
                                                             for i in range(3)]  # fmt: skip


def test_numbers_beyond_999_have_four_digits(raw, tmp_path):
    folder = save_depths(tmp_path / "gt", 1001)
    dataset = build_dataset("cityscapes", raw, [TEST_LINES[0]] * 1001, *SIZE, frame_ids=(0,))
    depths = dataset.ground_truth(folder)
    assert depths.paths[1000].name == "1000_depth.npy"
    assert depths[1000].max() == 1000


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "ground truth is missing for 2 of 3 test images: .*001_depth.npy, .*002_depth.npy"),
        (5, "gt holds 5 depth maps for 3 test images"),
    ],
)
def test_a_wrong_number_of_depth_maps_is_said(raw, tmp_path, count, said):
    with pytest.raises(UserError, match=said):
        raw_set(raw).ground_truth(save_depths(tmp_path / "gt", count))


def test_missing_published_depth_says_where_it_is(raw, monkeypatch, tmp_path):
    import datasets.cityscapes_dataset as module

    monkeypatch.setattr(module, "GROUND_TRUTH", tmp_path / "none")
    with pytest.raises(UserError, match=r"3 of 3 test images: .*; unzip gt_depths_cityscapes.zip"):
        raw_set(raw).ground_truth()


@pytest.mark.parametrize("damage", ["cut", "cube", "words", "objects"])
def test_a_damaged_depth_map_is_named(raw, tmp_path, damage):
    folder = save_depths(tmp_path / "gt", 3)
    path = folder / "001_depth.npy"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:1000])
    else:
        arrays = {"cube": np.zeros((2, 3, 4)), "words": np.full((2, 3), "far")}
        np.save(path, arrays.get(damage, np.full((2, 3), None)))
    with pytest.raises(UserError, match=str(path)):
        raw_set(raw).ground_truth(folder)[1]
