"""Rendered sequences in the layout of KITTI's odometry benchmark.

`sequences/NN/` holds image_2 (left), image_3 (right), calib.txt, times.txt and, which KITTI lacks,
depth_2/NNNNNN.npy (float32, metres, 0 for the sky); `poses/NN.txt` the left camera's poses in the
axes of its first frame. The held-out street is sequence 09, the first that the benchmark's users
test on.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rendering.kitti_raw import STEREO_BASELINE, nominal_intrinsics, rigid
from rendering.plan import Plan, lines, start_folder
from rendering.raycast import render
from rendering.scene import Scene

HELD_OUT = 9
PERIOD = 0.1  # seconds from frame to frame
NEIGHBOURS = 1


def sequence(number: int, plan: Plan) -> int:
    """The sequence of a street: 9 for the one held out, the others from 0 on without the 9."""
    if number == plan.held_out:
        return HELD_OUT
    return number - 1 if number <= HELD_OUT else number


def folder(number: int, plan: Plan) -> str:
    """What is there, below the root, when a street is whole."""
    return f"sequences/{sequence(number, plan):02d}"


def write_street(root: Path, number: int, scene: Scene, world_T_cam: NDArray, plan: Plan) -> None:
    """Render every frame of a sequence, left and right; its folder appears last.

    world_T_cam: (frames, 4, 4), the left camera's poses. Raises OSError if it cannot be written.
    """
    height, width = plan.height, plan.width
    whole = root / folder(number, plan)
    partial = start_folder(whole)
    for kind in ("image_2", "image_3", "depth_2"):
        (partial / kind).mkdir()
    K = nominal_intrinsics(height, width)
    left_T_right = rigid(np.eye(3), [STEREO_BASELINE, 0, 0])
    for frame, pose in enumerate(world_T_cam):
        left = render(scene, pose, K, height, width)
        right = render(scene, pose @ left_T_right, K, height, width)
        Image.fromarray(left.image).save(partial / f"image_2/{frame:06d}.png", compress_level=1)
        Image.fromarray(right.image).save(partial / f"image_3/{frame:06d}.png", compress_level=1)
        np.save(partial / f"depth_2/{frame:06d}.npy", left.depth)
    (partial / "calib.txt").write_text(_calibration(K))
    np.savetxt(partial / "times.txt", PERIOD * np.arange(len(world_T_cam)), fmt="%.6e")
    first_T_cam = np.linalg.inv(world_T_cam[0]) @ world_T_cam
    poses = root / "poses" / f"{whole.name}.txt"
    poses.parent.mkdir(exist_ok=True)
    np.savetxt(poses, first_T_cam[:, :3].reshape(-1, 12), fmt="%.12e")
    partial.replace(whole)


def _calibration(K: NDArray) -> str:
    """P0 to P3, (3, 4) each: grey and coloured pictures come from the same two places here."""
    projections = []
    for offset in (0.0, -STEREO_BASELINE):
        projections.append(np.concatenate([K, [[K[0, 0] * offset], [0], [0]]], axis=1))
    rows = [f"P{camera}: " + " ".join(f"{value:.12e}" for value in projections[camera % 2].ravel())
            for camera in range(4)]
    return lines(rows)


def files(plan: Plan) -> dict[str, str]:
    """The training list, left and right, by path below the root; tests take whole sequences."""
    train = [f"{sequence(number, plan)} {frame} {side}" for number in plan.training
             for frame in plan.targets(NEIGHBOURS) for side in "lr"]
    return {"train_files.txt": lines(train)}
