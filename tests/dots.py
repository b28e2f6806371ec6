"""A dot where a camera sees a known point, and where a sample shows it: cameras with known answers.

Pixels have extent: the picture's left edge is at 0, its right one at its width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from augmentations import CropBox
from datasets.keys import FrameKey
from view_synthesis import crop_camera

POINTS = np.array([[-1.5, 0.4, 5.0], [0.2, -0.3, 4.0], [0.6, 0.5, 6.0]])  # metres, in the camera


def write_dot(
    path: Path, camera: Sequence[float], size: tuple[int, int], point: np.ndarray
) -> None:
    """A grey picture of (width, height) with a bright dot where the camera sees the point.

    camera: fx, fy, cx, cy in pixels.
    """
    fx, fy, cx, cy = camera
    x, y = fx * point[0] / point[2] + cx, fy * point[1] / point[2] + cy
    width, height = size
    assert 0 < x < width
    assert 0 < y < height
    rows, columns = np.mgrid[:height, :width] + 0.5
    dot = np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * (width / 60) ** 2))
    grey = (255 * dot).round().astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.repeat(grey[..., None], 3, 2)).save(path)


def shown_at(picture: torch.Tensor) -> np.ndarray:
    """(x, y) of the dot in a uint8 picture (3, H, W), the centre of what is bright."""
    weight = picture[0].double().numpy()
    weight[weight < 64] = 0
    rows, columns = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(weight * columns).sum(), (weight * rows).sum()]) / weight.sum()


def seen_at(K: torch.Tensor, point: np.ndarray) -> np.ndarray:
    """(x, y) where a camera (4, 4) of a sample sees the point."""
    pixel = K[:3, :3].double().numpy() @ point
    return pixel[:2] / pixel[2]


def misses(sample: Mapping, point: np.ndarray, flip: bool, crop: CropBox | None) -> list[float]:
    """Pixels from where the sample's camera sees the point to where its pictures show it, in the
    full picture and, where there is one, in the crop.

    In the mirrored world x is turned; a crop's camera is the full one's after `crop_camera`.
    """
    world = point * [-1 if flip else 1, 1, 1]
    found = [np.abs(seen_at(sample["K"], world) - shown_at(sample[FrameKey("color", 0, 0)])).max()]
    if crop is not None:
        size = sample[FrameKey("color", 0, 0)].shape[-2:]
        Rc = crop_camera(sample["crop"][None], sample["K"][None], *size)[0].numpy()
        shown = shown_at(sample[FrameKey("color_local", 0, 0)])
        found.append(np.abs(seen_at(sample["K"], Rc @ world) - shown).max())
    return found
