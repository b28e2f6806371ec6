"""What the tests of camera paths share: a winding path, and frames of it as grey pictures."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image

FRAMES = 20


def true_path() -> np.ndarray:
    """world_T_cam (FRAMES, 4, 4): ahead by about a metre a frame, to the right and then back."""
    path = [np.eye(4)]
    for i in range(FRAMES - 1):
        yaw = 0.1 * np.cos(i / 5)
        c, s = np.cos(yaw), np.sin(yaw)
        motion = np.array([[c, 0, s, 0.05], [0, 1, 0, -0.02 * i], [-s, 0, c, 1 + 0.02 * i],
                           [0, 0, 0, 1]])  # fmt: skip
        path.append(path[-1] @ motion)
    return np.array(path)


def write_sequence(root: Path, name: str, frames: Iterable[int]) -> None:
    """Frame i of an odometry sequence has grey level i."""
    folder = root / f"sequences/{name}/image_2"
    folder.mkdir(parents=True)
    for frame in frames:
        Image.new("RGB", (124, 37), (frame,) * 3).save(folder / f"{frame:06d}.png")
