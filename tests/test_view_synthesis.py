"""Warps with known answers, and the camera of a crop against what the crop's pixels show."""

from __future__ import annotations

import random

import pytest
import torch
from torch.testing import assert_close

from augmentations import CropBox, draw_augmentation
from layers import transformation_from_parameters
from view_synthesis import crop_camera, crop_motion, intrinsics_at, warp

CAMERAS = {  # fractions of the size: fx, fy, cx, cy
    "kitti": (0.58, 1.92, 0.5, 0.5),
    "cityscapes": (1.1, 2.93, 0.536, 0.668),
    "low and left": (0.7, 1.5, 0.45, 0.55),
}


def camera(fx, fy, cx, cy, height=1, width=1) -> torch.Tensor:
    """K (1, 4, 4), float64, in pixels of (height, width)."""
    K = torch.eye(4, dtype=torch.float64)
    K[0, :3] = torch.tensor([fx, 0, cx]) * width
    K[1, :3] = torch.tensor([0, fy, cy]) * height
    return K[None]


def smooth_picture(height: int, width: int) -> torch.Tensor:
    """(1, 1, 3, height, width) of slow waves, one frame of one sample."""
    y, x = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    waves = [torch.sin(0.2 * x + n) + torch.cos(0.15 * y - n) for n in range(3)]
    return torch.stack(waves)[None, None]


def shifted(x: float = 0, y: float = 0, z: float = 0) -> torch.Tensor:
    """A motion (1, 1, 4, 4) without rotation."""
    motion = torch.eye(4, dtype=torch.float64)
    motion[:3, 3] = torch.tensor([x, y, z])
    return motion[None, None]


def test_a_camera_that_stands_still_sees_its_own_image():
    image, K = torch.rand(1, 1, 3, 12, 20, dtype=torch.float64), camera(0.6, 1.9, 0.5, 0.4, 12, 20)
    depth = torch.rand(1, 1, 12, 20, dtype=torch.float64) * 30 + 1
    warped = warp(image, depth, shifted(), K, torch.linalg.inv(K))
    assert_close(warped, image, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("x", "y"), [(0.5, 0), (0, -0.25), (-1, 0.5)])
def test_a_sideways_step_moves_a_wall_by_f_t_over_z(x, y):
    image, K = smooth_picture(16, 24), camera(0.5, 0.75, 0.5, 0.5, 16, 24)
    depth = torch.full((1, 1, 16, 24), 3.0, dtype=torch.float64)
    warped = warp(image, depth, shifted(x, y), K, torch.linalg.inv(K))
    columns, rows = round(12 * x / 3), round(12 * y / 3)  # whole pixels
    assert columns or rows
    expected = torch.roll(image, (-rows, -columns), (-2, -1))
    seen = (slice(None),) * 3 + (slice(4, 12), slice(6, 18))  # away from what wraps around
    assert_close(warped[seen], expected[seen], atol=1e-5, rtol=0)


def test_each_source_and_each_sample_has_its_own_motion_and_camera():
    sources = torch.rand(2, 3, 3, 8, 12, dtype=torch.float64)
    depth = torch.rand(2, 1, 8, 12, dtype=torch.float64) + 1
    K = torch.cat([camera(0.6, 1.9, 0.5, 0.5, 8, 12), camera(1.1, 2.2, 0.54, 0.6, 8, 12)])
    motions = torch.randn(2, 3, 3, generator=torch.Generator().manual_seed(0)).double() * 0.1
    motions = transformation_from_parameters(motions * 0.1, motions)
    together = warp(sources, depth, motions, K, torch.linalg.inv(K))
    for b in range(2):
        for n in range(3):
            alone = warp(
                sources[b : b + 1, n : n + 1],
                depth[b : b + 1],
                motions[b : b + 1, n : n + 1],
                K[b : b + 1],
                torch.linalg.inv(K[b : b + 1]),
            )
            assert_close(together[b, n], alone[0, 0])


def test_intrinsics_shrink_with_the_picture():
    K = camera(0.58, 1.92, 0.5, 0.6, 64, 96)
    half, inv_half = intrinsics_at(K, torch.linalg.inv(K), 96, 48)
    assert_close(half, camera(0.58, 1.92, 0.5, 0.6, 32, 48))
    assert_close(inv_half @ half, torch.eye(4, dtype=torch.float64)[None])
    assert intrinsics_at(K, half, 96, 96) == (K, half)


class CropScene:
    """Points behind random pixels of a random crop, and where crop and full picture see them."""

    def __init__(self, box: CropBox, K: torch.Tensor, size: tuple[int, int], seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.K, (height, width) = K, size
        self.crop = torch.tensor([box], dtype=torch.float64)
        self.grow = torch.tensor([box.width / width, box.height / height], dtype=torch.float64)
        self.corner = torch.tensor([box.x0, box.y0], dtype=torch.float64)
        span = torch.tensor([width - 1, height - 1], dtype=torch.float64)
        self.in_crop = torch.rand(100, 2, generator=generator, dtype=torch.float64) * span
        z = 2 + 48 * torch.rand(100, generator=generator, dtype=torch.float64)
        self.points = z * self.rays((self.in_crop + self.corner + 0.5) / self.grow - 0.5)

    def rays(self, pixels: torch.Tensor) -> torch.Tensor:
        """Pixels (P, 2) to rays (3, P) of unit depth."""
        return (
            torch.linalg.inv(self.K[0, :3, :3])
            @ torch.cat([pixels, torch.ones_like(pixels[:, :1])], 1).T
        )

    def seen(self, points: torch.Tensor) -> torch.Tensor:
        """Points (3, P) to pixels (P, 2) through K."""
        pixels = self.K[0, :3, :3] @ points
        return (pixels[:2] / pixels[2]).T

    def in_crop_of(self, full_pixels: torch.Tensor) -> torch.Tensor:
        """Where the resized crop shows a full picture's content: pixels have extent 1."""
        return (full_pixels + 0.5) * self.grow - 0.5 - self.corner

    def residual(self, motion: torch.Tensor, Rc: torch.Tensor) -> torch.Tensor:
        """Pixels (P, 2) by which the crop's motion misses what the full picture's motion shows."""
        R, t = motion[0, 0, :3, :3], motion[0, 0, :3, 3:]
        truth = self.in_crop_of(self.seen(R @ self.points + t))
        local = crop_motion(motion, Rc)[0, 0]
        points = self.points[2] * Rc[0, 2, 2] * self.rays(self.in_crop)
        return self.seen(local[:3, :3] @ points + local[:3, 3:]) - truth


def random_scenes(intrinsics, size=(96, 320), count=60):
    """Crops as drawn in training."""
    uniform, K = random.Random(0).random, camera(*intrinsics, *size)
    for seed in range(count):
        yield CropScene(draw_augmentation(uniform, *size, local_crop=True).crop, K, size, seed)


def small_motion(seed: int) -> torch.Tensor:
    """0.01 rad about a random axis and half a unit ahead."""
    axis = torch.randn(3, generator=torch.Generator().manual_seed(seed)).double()
    ahead = torch.tensor([0, 0, -0.5], dtype=torch.float64)
    return transformation_from_parameters(0.01 * axis / axis.norm(), ahead)[None, None]


@pytest.mark.parametrize("name", CAMERAS)
def test_the_crops_motion_moves_its_pixels_as_the_full_one_does(name):
    scenes = random_scenes(CAMERAS[name])
    residuals = torch.stack([
        scene.residual(small_motion(seed), crop_camera(scene.crop, scene.K, 96, 320))
        for seed, scene in enumerate(scenes)
    ])  # fmt: skip
    assert residuals.abs().max() < 0.7
    assert residuals.square().mean().sqrt() < 0.1


@pytest.mark.parametrize("name", CAMERAS)
def test_the_crops_camera_sees_a_point_at_its_pixel(name):
    # The grid of corners against the grid of extents costs a constant part of a pixel more here.
    misses = torch.stack([
        scene.seen(crop_camera(scene.crop, scene.K, 96, 320)[0] @ scene.points) - scene.in_crop
        for scene in random_scenes(CAMERAS[name])
    ])  # fmt: skip
    assert misses.abs().max() < 1.1
    assert misses.square().mean().sqrt() < 0.5


def test_the_published_camera_is_the_case_of_a_centred_principal_point():
    """Off the centre it misses by pixels, which is why this one differs."""
    worst = 0.0
    for seed, scene in enumerate(random_scenes(CAMERAS["cityscapes"], (192, 512))):
        Rc = crop_camera(scene.crop, scene.K, 192, 512)
        _, _, resized_width, _, x0 = scene.crop[0]
        center = (x0 + 511 / 2) / (resized_width - 1)
        centred = camera(1.1, 2.93, 0.5, 0.5, 192, 512)
        published = crop_camera(scene.crop, centred, 192, 512)
        assert_close(published[0, 0, 2], (0.5 - center) / 1.1, atol=1e-7, rtol=0)
        assert scene.residual(small_motion(seed), Rc).abs().max() < 0.7
        worst = max(worst, scene.residual(small_motion(seed), published).abs().max().item())
    assert worst > 5


def test_every_sample_has_the_crop_camera_of_its_own_intrinsics():
    boxes = [(1.5, 96, 144, 10, 20), (1.3, 83, 124, 3, 0)]
    crop = torch.tensor(boxes, dtype=torch.float64)
    K = torch.cat([camera(*CAMERAS[name], 64, 96) for name in ("kitti", "cityscapes")])
    together = crop_camera(crop, K.float(), 64, 96)
    assert together.dtype == torch.float64
    for b in range(2):
        alone = crop_camera(crop[b : b + 1], K.float()[b : b + 1], 64, 96)
        assert torch.equal(together[b], alone[0])


def test_the_crops_motion_is_the_conjugate_formed_in_double_precision():
    motion = transformation_from_parameters(*torch.randn(2, 2, 3, 3) * 0.1)
    crop = torch.tensor([(1.5, 96, 144, 10, 20), (1.3, 83, 124, 3, 0)], dtype=torch.float64)
    K = torch.cat([camera(*CAMERAS[name], 64, 96) for name in ("kitti", "cityscapes")])
    Rc = crop_camera(crop, K, 64, 96)
    local = crop_motion(motion, Rc)
    assert local.dtype == motion.dtype
    for b in range(2):
        for n in range(3):
            R, t = motion[b, n, :3, :3].double(), motion[b, n, :3, 3].double()
            assert_close(local[b, n, :3, 3], (Rc[b] @ t).float(), atol=0, rtol=1e-6)
            undone = torch.linalg.inv(Rc[b]) @ local[b, n, :3, :3].double() @ Rc[b]
            assert_close(undone, R, atol=1e-6, rtol=0)
            assert local[b, n, 3].tolist() == [0, 0, 0, 1]


def test_no_motion_is_no_motion_in_the_crop():
    crop = torch.tensor([(1.7, 108, 163, 31, 5)], dtype=torch.float64)
    Rc = crop_camera(crop, camera(*CAMERAS["cityscapes"], 64, 96), 64, 96)
    assert_close(crop_motion(torch.eye(4)[None, None], Rc)[0, 0], torch.eye(4), atol=1e-7, rtol=0)
