"""Warping a rendered sample of any data set with its true depth and poses, as training would."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from augmentations import CropBox
from layers import backproject, project
from view_synthesis import crop_camera, crop_motion, warp

FLOOR = 0.02  # mean absolute difference of grey values left by resampling, in [0, 1]


def true_motions(poses: Mapping[int | str, np.ndarray], flip: bool) -> Tensor:
    """src_T_tgt (1, N, 4, 4) of all frames but 0, in the mirrored world where flipped.

    poses: world_T_cam by frame.
    """
    mirror = np.diag([-1.0, 1, 1, 1]) if flip else np.eye(4)
    sources = [np.linalg.inv(pose) for frame, pose in poses.items() if frame != 0]
    motions = [mirror @ cam_T_world @ poses[0] @ mirror for cam_T_world in sources]
    return torch.from_numpy(np.stack(motions)).float()[None]


def depth_at(
    depth: np.ndarray, size: tuple[int, int], flip: bool, crop: CropBox | None
) -> tuple[Tensor, Tensor]:
    """True depth in the view's own camera, and where it is known and smooth, (1, 1, *size).

    depth: (h, w) of the native picture, 0 where unknown.
    """
    native = depth.shape
    depth = depth[:, ::-1] if flip else depth
    resized = (crop.height, crop.width) if crop else size
    corner = (crop.y0, crop.x0) if crop else (0, 0)

    def around(axis: int) -> list[np.ndarray]:
        """Native rows or columns one and three quarters of a pixel before, at and after each."""
        step = native[axis] / resized[axis]
        place = (corner[axis] + np.arange(size[axis]) + 0.5) * step - 0.5
        reach = max(3, round(1.75 * step))
        return [np.clip(np.round(place + shift).astype(int), 0, native[axis] - 1)
                for shift in (-reach, 0, reach)]

    near = [depth[rows][:, columns] for rows in around(0) for columns in around(1)]
    here = near[4]
    distant = 0.6 * depth.max()
    smooth = (np.min(near, 0) > 0) & (np.max(near, 0) < 1.15 * np.min(near, 0)) & (here < distant)
    extent = (size[1] - 1) / (crop.width - 1) if crop else 1.0
    here = np.where(here > 0, here, 1.0) * extent
    return torch.from_numpy(here).float()[None, None], torch.from_numpy(smooth)[None, None]


def warp_errors(
    sample: Mapping, depth: np.ndarray, motions: Tensor, flip: bool = False,
    crop: CropBox | None = None, K: Tensor | None = None,
) -> tuple[list[float], list[float]]:
    """Mean |target - warped| and |target - source| of each source, over visible pixels.

    sample: of a training data set, drawn with this flip and crop; motions: (1, N, 4, 4) of the
    sources in its order; depth: as for `depth_at`; K: (1, 4, 4) instead of the sample's.
    """
    kind = "color" if crop is None else "color_local"
    frames = [key.frame for key in sample
              if isinstance(key, tuple) and key.kind == kind and key.scale == 0]
    images = {frame: sample[kind, frame, 0].float()[None] / 255 for frame in frames}
    size = tuple(images[0].shape[-2:])
    K = sample["K"][None] if K is None else K
    inv_K = torch.linalg.inv(K)
    if crop is not None:
        motions = crop_motion(motions, crop_camera(sample["crop"][None], K, *size))
    depth, known = depth_at(depth, size, flip, crop)
    sources = torch.stack([image for frame, image in images.items() if frame != 0], 1)
    warped = warp(sources, depth, motions, K, inv_K)
    pixels = project(backproject(depth, inv_K), K, motions).unflatten(2, size)
    limit = torch.tensor([size[1] - 1.0, size[0] - 1.0])
    inside = ((pixels > 0) & (pixels < limit)).all(-1)
    after, before = [], []
    for n in range(sources.shape[1]):
        seen = (known[0, 0] & inside[0, n] & _unoccluded(images[0], warped[0, n]))[None]
        after.append((images[0] - warped[:, n]).abs().mean(1)[seen].mean().item())
        before.append((images[0] - sources[:, n]).abs().mean(1)[seen].mean().item())
    return after, before


def _unoccluded(target: Tensor, warped: Tensor) -> Tensor:
    """Leaves out the worst twentieth: what a nearer thing hides from the source."""
    error = (target[0] - warped).abs().mean(0)
    return error <= error.flatten().quantile(0.95)
