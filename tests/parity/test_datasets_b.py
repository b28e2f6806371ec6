"""Samples of NYUv2, Cityscapes, Make3D and KITTI odometry, against the published code's."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from augmentations import draw_augmentation, reshuffle
from datasets import build_dataset
from datasets.keys import FrameKey
from tests.parity.test_datasets import assert_same_camera, assert_same_picture

# The crop is read off the native picture here, and cut from the resized one there.
CROP_TOLERANCE = 1
UNDISTORTION_TOLERANCE = 2
TRAINING_CASES = ["train_a", "train_flip"]


def sha256(array: np.ndarray) -> str:
    head = f"{array.dtype.name}{array.shape}"
    return hashlib.sha256(head.encode() + array.tobytes()).hexdigest()


def sample_of(name: str, case: dict, size: tuple[int, int], root: Path, line: str) -> dict:
    """A training sample with the recorded draws."""
    crop = {"local_crop": True, "patch_reshuffle": len(case["draws"]) == 7}
    dataset = build_dataset(name, root, [line], *size, is_train=True, **crop)
    drawn = draw_augmentation(iter(case["draws"]).__next__, *size, **crop)
    dataset.draw = lambda _: drawn
    return dataset[0]


def recorded(goldens, prefix: str) -> dict[str, np.ndarray]:
    arrays = goldens.npz("datasets")
    return {key[len(prefix) :]: arrays[key] for key in arrays.files if key.startswith(prefix)}


def unmirrored(K: np.ndarray, width: int) -> np.ndarray:
    """The published mirroring leaves the principal point where it was."""
    K = K.copy()
    K[0, 2] = width - K[0, 2]
    return K


def assert_near(actual: np.ndarray, expected: np.ndarray, tolerance: int, few: float) -> None:
    """uint8 pictures: within the tolerance, and different in a share of few pixels at most."""
    difference = np.abs(actual.astype(int) - expected)
    assert difference.max() <= tolerance
    assert (difference > 0).mean() <= few


# ---- NYUv2 -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def nyuv2(goldens, tmp_path_factory) -> tuple[Path, str]:
    """Nine frames and a test image; the line of the nine."""
    root = tmp_path_factory.mktemp("nyu")
    recipes, seed = goldens.recipes, goldens.json("datasets")["seed"]
    names = []
    for i in range(9):
        names.append(f"{i}.ppm")
        picture = recipes.picture(seed + 330, 480, 640, du=1.5 * i)
        Image.fromarray(picture).save(root / names[-1])
    (root / "nyu_test").mkdir()
    depth = recipes.Scene(seed + 321, 480, 640, 1).at(np.arange(480), np.arange(640))[0]
    with h5py.File(root / "nyu_test/00001.h5", "w") as file:
        file["rgb"] = recipes.picture(seed + 320, 480, 640).transpose(2, 0, 1)
        file["depth"] = (0.5 + 9 * depth).astype(np.float32)
    return root, " ".join(names)


@pytest.mark.parametrize("name", TRAINING_CASES)
def test_nyuv2_training_samples(goldens, nyuv2, name):
    case = goldens.json("datasets")["nyu"][name]
    expected = recorded(goldens, f"nyu/{name}/")
    size = expected["color/0/0"].shape[1:]
    sample = sample_of("nyuv2", case, size, *nyuv2)
    for kind, frame in ((kind, f) for kind in ("color", "color_local") for f in (0, -1, 1)):
        picture = sample[FrameKey(kind, frame, 0)].numpy()
        stated = case[f"{kind}/{frame}/0"]
        assert list(picture.shape) == stated["stats"]["shape"]
        np.testing.assert_allclose(picture.mean(), stated["stats"]["mean"], atol=0.1)
        if kind == "color":
            assert sha256(picture) == stated["sha256 of uint8"]
        if f"{kind}/{frame}/0" in expected:
            assert_near(picture, expected[f"{kind}/{frame}/0"], UNDISTORTION_TOLERANCE, few=0.1)
    K = sample["K"].numpy()
    K = unmirrored(K, size[1]) if case["flip"] else K
    np.testing.assert_allclose(K, expected["K"], rtol=2e-6)
    np.testing.assert_allclose(np.linalg.inv(K), expected["inv_K"], rtol=2e-6, atol=1e-7)
    np.testing.assert_allclose(sample["inv_K"].double() @ sample["K"].double(), np.eye(4),
                               atol=1e-5)  # fmt: skip


def test_nyuv2_test_samples(goldens, nyuv2):
    case, expected = goldens.json("datasets")["nyu"]["test"], recorded(goldens, "nyu/test/")
    size = case["rgb"][1:]
    dataset = build_dataset("nyuv2", nyuv2[0], ["nyu_test/00001.h5"], *size, frame_ids=(0,))
    picture = dataset[0][FrameKey("color", 0, 0)]
    assert_same_picture(picture, expected["rgb"])
    assert sha256(picture.numpy()) == case["rgb_sha256 of uint8"]
    (depth,) = dataset.ground_truth()
    assert list(depth.shape) == case["depth"]
    np.testing.assert_array_equal(depth[::16, ::16], expected["depth_sub"])
    assert sha256(depth) == case["depth_sha256"]


# ---- Cityscapes ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cityscapes(goldens, tmp_path_factory) -> Path:
    """A prepared triplet, and a raw test frame with its camera."""
    root = tmp_path_factory.mktemp("cityscapes")
    facts = goldens.json("datasets")
    picture, seed = goldens.recipes.picture, facts["seed"]
    city = "test/berlin"
    for folder in ("ulm", f"leftImg8bit_sequence/{city}", f"camera/{city}"):
        (root / folder).mkdir(parents=True)
    triplet = np.concatenate([picture(seed + 340, 96, 256, du=2 * i) for i in (-1, 0, 1)])
    Image.fromarray(triplet).save(root / "ulm/ulm_000001_000002.png")
    (root / "ulm/ulm_000001_000002_cam.txt").write_text(facts["cityscapes"]["cam_txt"])
    frame = "berlin_000000_000019"
    Image.fromarray(picture(seed + 350, 128, 256)).save(
        root / f"leftImg8bit_sequence/{city}/{frame}_leftImg8bit.png"
    )
    camera = json.dumps(facts["cityscapes"]["test"]["camera.json"])
    (root / f"camera/{city}/{frame}_camera.json").write_text(camera)
    return root


@pytest.mark.parametrize("name", TRAINING_CASES)
def test_cityscapes_training_samples(goldens, cityscapes, name):
    case = goldens.json("datasets")["cityscapes"][name]
    expected = recorded(goldens, f"cityscapes/{name}/")
    size = expected["color/0/0"].shape[1:]
    line = "ulm ulm_000001_000002"
    sample = sample_of("cityscapes", case, size, cityscapes, line)
    for kind, frame in ((kind, f) for kind in ("color", "color_local") for f in (0, -1, 1)):
        tolerance = CROP_TOLERANCE if kind == "color_local" else 0
        picture = sample[FrameKey(kind, frame, 0)].numpy()
        assert_near(picture, expected[f"{kind}/{frame}/0"], tolerance, few=0.1)
    target = sample[FrameKey("color", 0, 0)]
    shuffled = reshuffle(target[None], sample["cut"][None])[0].numpy()
    np.testing.assert_array_equal(shuffled, expected["color_reshuffle/0/0"])
    height, width = size
    assert [width - sample["cut"][1], height - sample["cut"][0]] == expected["split_xy"].tolist()
    ratio, resized_height, resized_width, y0, x0 = sample["crop"].tolist()
    np.testing.assert_allclose(ratio, expected["ratio_local"][0], rtol=1e-6)
    for axis, resized, start, length in (
        ("grid_x", resized_width, x0, width), ("grid_y", resized_height, y0, height),
    ):  # fmt: skip
        grid = -1 + 2 * (start + np.arange(length)) / (resized - 1)
        np.testing.assert_allclose(grid, expected[axis], rtol=1e-6, atol=1e-12)
    K = sample["K"].numpy()
    K = unmirrored(K, width) if case["flip"] else K
    np.testing.assert_allclose(K, expected["K/0"], rtol=2e-6)
    np.testing.assert_allclose(np.linalg.inv(K), expected["inv_K/0"], rtol=2e-6, atol=1e-7)


def test_cityscapes_test_samples(goldens, cityscapes):
    expected = recorded(goldens, "cityscapes/test/")
    size = expected["color/0/0"].shape[1:]
    line = "berlin berlin_000000_000019"
    sample = build_dataset("cityscapes", cityscapes, [line], *size, frame_ids=(0,))[0]
    assert_same_picture(sample[FrameKey("color", 0, 0)], expected["color/0/0"])
    assert_same_camera(sample, expected, 1)


# ---- Make3D and KITTI odometry ---------------------------------------------------------------


def test_make3d(goldens, tmp_path):
    facts, expected = goldens.json("datasets"), recorded(goldens, "make3d/")
    recipes, seed, name = goldens.recipes, facts["seed"], "op1-p-077t000"
    for folder in ("Test134", "Gridlaserdata"):
        (tmp_path / folder).mkdir()
    picture = Image.fromarray(recipes.picture(seed + 360, 2272, 1704, noise=0))
    picture.save(tmp_path / f"Test134/img-{name}.jpg", format="png", compress_level=1)
    grid = np.zeros((55, 305, 4))
    grid[..., 3] = 1 + 60 * recipes.Scene(seed + 361, 55, 305, 1).at(range(55), range(305))[0]
    savemat(tmp_path / f"Gridlaserdata/depth_sph_corr-{name}.mat", {"Position3DGrid": grid})

    size = facts["make3d"]["keys"]["color"][0][1:]
    dataset = build_dataset("make3d", tmp_path, [name], *size, frame_ids=(0,))
    sample = dataset[0]
    assert sample.keys() == {FrameKey("color", 0, 0), "index"}
    assert_same_picture(sample[FrameKey("color", 0, 0)], expected["color"])
    (depth,) = dataset.ground_truth()
    np.testing.assert_allclose(depth, expected["depth"], rtol=2e-6)
    stats = facts["make3d"]["depth_stats"]
    assert list(depth.shape) == stats["shape"]
    np.testing.assert_allclose(np.abs(depth.astype(float)).sum(), stats["sum_abs"], rtol=1e-6)


def test_kitti_odometry(goldens, tmp_path):
    facts = goldens.json("datasets")
    path = tmp_path / facts["kitti_odom"]["path"]
    path.parent.mkdir(parents=True)
    native = goldens.recipes.picture(facts["seed"] + 302, *facts["kitti_pictures"]["size"])
    Image.fromarray(native).save(path)
    lines = [facts["kitti_odom"]["line"]]
    sample = build_dataset("kitti_odom", tmp_path, lines, *facts["size"], frame_ids=(0,))[0]
    picture = sample[FrameKey("color", 0, 0)].numpy()
    assert sha256(picture) == facts["kitti_odom"]["sha256 of uint8 [3,H,W]"]
