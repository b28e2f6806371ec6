"""KITTI samples for given files and given draws, against the published implementation's."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from augmentations import draw_augmentation, reshuffle
from datasets.keys import FrameKey, SampleIndex
from datasets.kitti_dataset import KITTIDataset, KITTIRawDataset, KITTIRef

DRIVE = "2011_09_26/2011_09_26_drive_0001_sync"
EVALUATION_CASES = ["test_scales1", "test_scales4"]
TRAINING_CASES = [
    "train_a", "train_flip", "train_stereo", "train_stereo_flip", "train_plain_flip",
    "train_local_only", "train_reshuffle_only",
]  # fmt: skip


@pytest.fixture(scope="module")
def kitti_root(goldens, tmp_path_factory) -> Path:
    """Three frames of both cameras, by the recipe."""
    root = tmp_path_factory.mktemp("kitti")
    facts = goldens.json("datasets")
    for camera in (2, 3):
        folder = root / DRIVE / f"image_{camera:02d}" / "data"
        folder.mkdir(parents=True)
        for frame in range(3):
            picture = goldens.recipes.picture(
                facts["seed"] + 300 + camera, *facts["kitti_pictures"]["size"],
                dv=0.5 * frame, du=3 * frame,
            )  # fmt: skip
            Image.fromarray(picture).save(folder / f"{frame:010d}.png")
    return root


class WithGivenDraws(KITTIRawDataset):
    """Draws what was recorded."""

    draws: tuple[float, ...] = ()

    def draw(self, where: SampleIndex):  # noqa: ARG002
        return draw_augmentation(
            iter(self.draws).__next__, self.height, self.width,
            local_crop=self.local_crop, patch_reshuffle=self.patch_reshuffle,
        )  # fmt: skip


def training_sample(goldens, root: Path, case: dict) -> dict:
    height, width = goldens.json("datasets")["size"]
    options = case["options"]
    dataset = WithGivenDraws(
        root, [case["line"]], height, width, case["frames"], case["num_scales"], is_train=True,
        local_crop=options.get("local_crop", False), pyramid_of_sources=True,
        patch_reshuffle=options.get("patch_reshuffle", False),
    )  # fmt: skip
    dataset.draws = case["draws"]
    return dataset[0]


def assert_same_picture(actual: torch.Tensor, expected: np.ndarray) -> None:
    assert actual.dtype == torch.uint8
    assert tuple(actual.shape) == expected.shape
    assert np.abs(actual.numpy().astype(int) - expected).max() <= 1


def assert_same_camera(sample: dict, expected: dict[str, np.ndarray], num_scales: int) -> None:
    """K and inv_K of scale 0; of further scales, its rows in pixels that are twice as large."""
    for scale in range(num_scales):
        shrink = np.diag([0.5**scale, 0.5**scale, 1, 1])
        K, inv_K = sample["K"].numpy(), sample["inv_K"].numpy()
        np.testing.assert_allclose(shrink @ K, expected[f"K/{scale}"], rtol=2e-6)
        inv_K = inv_K @ np.linalg.inv(shrink)
        np.testing.assert_allclose(inv_K, expected[f"inv_K/{scale}"], rtol=2e-6, atol=1e-7)


def recorded(goldens, case: str) -> dict[str, np.ndarray]:
    arrays = goldens.npz("datasets")
    prefix = f"kitti/{case}/"
    return {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}


@pytest.mark.parametrize("name", TRAINING_CASES)
def test_training_samples(goldens, kitti_root, name):
    case = goldens.json("datasets")["kitti"][name]
    expected = recorded(goldens, name)
    sample = training_sample(goldens, kitti_root, case)
    assert_same_camera(sample, expected, case["num_scales"])

    pictures = [key.split("/") for key in expected if key.startswith(("color/", "color_local/"))]
    keys = {
        FrameKey(kind, frame if frame == "s" else int(frame), int(scale))
        for kind, frame, scale in pictures
    }
    assert keys == {key for key in sample if isinstance(key, FrameKey)}
    for key in keys:
        assert_same_picture(sample[key], expected["/".join(map(str, key))])

    if "grid_x" in expected:
        ratio, resized_height, resized_width, y0, x0 = sample["crop"].tolist()
        height, width = sample[FrameKey("color", 0, 0)].shape[1:]
        assert [resized_height, resized_width] == case["resized_hw"]
        np.testing.assert_allclose(ratio, expected["ratio_local"][0], rtol=1e-6)
        for axis, resized, start, size in (
            ("grid_x", resized_width, x0, width), ("grid_y", resized_height, y0, height),
        ):  # fmt: skip
            grid = -1 + 2 * (start + np.arange(size)) / (resized - 1)
            np.testing.assert_allclose(grid, expected[axis], rtol=1e-6, atol=1e-12)
    assert ("crop" in sample) == ("grid_x" in expected)

    if "split_xy" in expected:
        height, width = sample[FrameKey("color", 0, 0)].shape[1:]
        split_xy = [width - int(sample["cut"][1]), height - int(sample["cut"][0])]
        assert split_xy == expected["split_xy"].tolist()
        shuffled = reshuffle(sample[FrameKey("color", 0, 0)][None], sample["cut"][None])[0]
        assert_same_picture(shuffled, expected["color_reshuffle/0/0"])
    assert ("cut" in sample) == ("split_xy" in expected)

    if "stereo_T" in expected:
        np.testing.assert_allclose(sample["stereo_T"].numpy(), expected["stereo_T"], rtol=2e-6)
    assert ("stereo_T" in sample) == ("stereo_T" in expected)


@pytest.mark.parametrize("name", EVALUATION_CASES)
def test_evaluation_samples(goldens, kitti_root, name):
    expected = recorded(goldens, name)
    size = goldens.json("datasets")["size"]
    num_scales = sum(key.startswith("K/") for key in expected)
    dataset = KITTIRawDataset(kitti_root, [f"{DRIVE} 1 l"], *size, (0,), num_scales)
    sample = dataset[0]
    assert_same_camera(sample, expected, num_scales)
    assert_same_picture(sample[FrameKey("color", 0, 0)], expected["color/0/0"])
    assert set(sample) == {FrameKey("color", 0, 0), "K", "inv_K", "index"}

    # Only training looks at smaller scales: they are made there, here without a mirroring.
    train = WithGivenDraws(
        kitti_root, [f"{DRIVE} 1 l"], *size, (0,), num_scales, is_train=True
    )
    train.draws = (0.0, 0.0)
    for scale in range(num_scales):
        picture = train[0][FrameKey("color", 0, scale)]
        assert_same_picture(picture, expected[f"color/0/{scale}"])


def test_the_odometry_layout_differs_by_its_paths_alone(goldens, tmp_path):
    class Odometry(KITTIDataset):
        def image_path(self, ref: KITTIRef, frame: int | str) -> str:
            camera, number = self.locate(ref, frame)
            return f"{self.data_path}/sequences/{ref.folder:0>2}/image_{camera}/{number:06d}.png"

    facts = goldens.json("datasets")
    path = tmp_path / facts["kitti_odom"]["path"]
    path.parent.mkdir(parents=True)
    native = goldens.recipes.picture(facts["seed"] + 302, *facts["kitti_pictures"]["size"])
    Image.fromarray(native).save(path)
    sample = Odometry(tmp_path, [facts["kitti_odom"]["line"]], *facts["size"], (0,))[0]
    picture = sample[FrameKey("color", 0, 0)].numpy()
    digest = hashlib.sha256(b"uint8" + str(picture.shape).encode() + picture.tobytes())
    assert digest.hexdigest() == facts["kitti_odom"]["sha256 of uint8 [3,H,W]"]
