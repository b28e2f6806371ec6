"""Warping against the truth: with true depth, pose and K, a rendered source becomes the target.

Everything goes through the data set and `view_synthesis` as in training: the resize, the mirror
image, the crop, the stereo partner, for a centred and an off-centre camera.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from augmentations import Augmentation, CropBox
from datasets.mono_dataset import MonoDataset
from layers import sample_at_pixels
from rendering import STEREO_BASELINE, Street, drive_poses, render
from tests.rendered_truth import FLOOR, true_motions, warp_errors
from view_synthesis import warp

NATIVE, SIZE = (160, 480), (96, 288)
CAMERAS = {"centred": (0.58, 1.92, 0.5, 0.5), "off-centre": (0.7, 1.6, 0.44, 0.57)}
CROPS = {
    "full": None,
    "crop": CropBox(1.5, 144, 432, 30, 100),
    "corner crop": CropBox(1.9, 182, 547, 0, 250),
}
FRAMES = (0, -1, 1, "s")


@cache
def rendered(camera: str) -> tuple[dict, dict, np.ndarray]:
    """Pictures and world_T_cam by frame, and the target's true depth, at native size."""
    fx, fy, cx, cy = CAMERAS[camera]
    height, width = NATIVE
    K = np.array([[fx * width, 0, cx * width], [0, fy * height, cy * height], [0, 0, 1]])
    street, drive = Street(5, length=90), drive_poses(5, 12)
    right = np.eye(4)
    right[0, 3] = STEREO_BASELINE
    poses = {0: drive[8], -1: drive[7], 1: drive[9], "s": drive[8] @ right}
    views = {frame: render(street, pose, K, height, width) for frame, pose in poses.items()}
    return {f: Image.fromarray(v.image) for f, v in views.items()}, poses, views[0].depth


def pixel_intrinsics(camera: str, size: tuple[int, int]) -> Tensor:
    """K (1, 4, 4) of a camera, not mirrored, for pictures of (height, width)."""
    fx, fy, cx, cy = CAMERAS[camera]
    K = torch.eye(4)[None]
    K[0, 0, 0], K[0, 0, 2] = fx * size[1], cx * size[1]
    K[0, 1, 1], K[0, 1, 2] = fy * size[0], cy * size[0]
    return K


class Rendered(MonoDataset):
    """One sample, straight from the renderer, with a chosen augmentation."""

    def __init__(self, camera: str, flip: bool, crop: CropBox | None) -> None:
        self.camera, self.drawn = camera, Augmentation(flip=flip, crop=crop)
        super().__init__(".", ["0"], *SIZE, FRAMES, is_train=True)

    def parse(self, line):
        return line

    def check_files(self):
        pass

    def intrinsics(self, ref):  # noqa: ARG002
        return CAMERAS[self.camera]

    def stereo_offset(self, ref):  # noqa: ARG002
        return -STEREO_BASELINE  # in metres, as the renderer's poses are

    def load_frames(self, ref):  # noqa: ARG002
        return rendered(self.camera)[0]

    def draw(self, where):  # noqa: ARG002
        return self.drawn


def errors(camera: str, flip: bool, view: str, K: Tensor | None = None) -> tuple[list, list]:
    """Mean |target - warped| and |target - source| of each source, over visible pixels."""
    _, poses, depth = rendered(camera)
    sample = Rendered(camera, flip, CROPS[view])[0]
    neighbours = true_motions({frame: poses[frame] for frame in (0, -1, 1)}, flip)
    motions = torch.cat([neighbours, sample["stereo_T"][None, None]], 1)
    return warp_errors(sample, depth, motions, flip, CROPS[view], K)


@pytest.mark.parametrize("view", CROPS)
@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("camera", CAMERAS)
def test_true_depth_and_pose_give_back_the_target(camera, flip, view):
    after, before = errors(camera, flip, view)
    assert max(after) < FLOOR
    assert all(a < 0.5 * b for a, b in zip(after, before, strict=True))


@pytest.mark.parametrize("view", CROPS)
def test_a_flip_that_forgets_the_principal_point_is_seen(view):
    K = pixel_intrinsics("off-centre", SIZE)
    right, _ = errors("off-centre", True, view)
    wrong, _ = errors("off-centre", True, view, K)
    assert sum(wrong) > 1.3 * sum(right)


def test_a_camera_that_stands_still_sees_its_own_image():
    images, _, _ = rendered("centred")
    image = torch.from_numpy(np.asarray(images[0]).copy()).permute(2, 0, 1)[None].float() / 255
    K = pixel_intrinsics("off-centre", NATIVE)
    depth = 1 + 50 * torch.rand(1, 1, *NATIVE, generator=torch.Generator().manual_seed(0))
    warped = warp(image[:, None], depth, torch.eye(4)[None, None], K, torch.linalg.inv(K))
    torch.testing.assert_close(warped[:, 0], image, rtol=0, atol=2e-4)
    centre = sample_at_pixels(image, torch.tensor([[[[3.0, 2.0]]]]))
    torch.testing.assert_close(centre[0, :, 0, 0], image[0, :, 2, 3])
