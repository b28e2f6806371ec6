"""Rendered drives in the layout of KITTI's raw data, with the truth beside them.

`DATE/DATE_drive_NNNN_sync/` holds image_02 (left), image_03 (right), velodyne_points and, which
KITTI lacks, depth_02/data/NNNNNNNNNN.npy (float32, metres, 0 for the sky) and poses.txt
(world_T_cam of the left camera, the 12 numbers of its first three rows per frame). Where asked for,
it has the improved ground truth too (`kitti_depth`).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rendering.plan import Plan, lines, start_folder
from rendering.raycast import CAMERA_AXES, render, scan
from rendering.scene import Scene

STEREO_BASELINE = 0.54  # metres; the 0.1 of the training's stereo pose, so depths are times 5.4
DATE = "2026_01_01"
# Right above the camera: a point's distance forward of the scanner is its depth for the camera.
LASER_IN_CAMERA = np.array([0.0, -0.08, 0.0])  # metres
IMPROVED_RANGE = 80.0  # metres; KITTI's improved ground truth ends about there
NEIGHBOURS = 1


def nominal_intrinsics(height: int, width: int) -> NDArray[np.float64]:
    """The camera assumed for all KITTI drives, (3, 3), in pixels of a picture of this size."""
    return np.array([[0.58 * width, 0, 0.5 * width], [0, 1.92 * height, 0.5 * height], [0, 0, 1]])


def drive_name(number: int) -> str:
    """Folder of a drive below the data root, as split lines spell it."""
    return f"{DATE}/{DATE}_drive_{number:04d}_sync"


def folder(number: int, plan: Plan) -> str:  # noqa: ARG001
    """What is there, below the root, when a street is whole."""
    return drive_name(number)


def write_street(
    root: Path, number: int, scene: Scene, world_T_cam: NDArray, plan: Plan, improved: bool = False
) -> None:
    """Render every frame of a drive, left and right, and write its folder, whole or not at all.

    world_T_cam: (frames, 4, 4), the left camera's poses; the right one stands STEREO_BASELINE to
    its right. improved: write the improved ground truth as well. Raises OSError if the folder
    cannot be written.
    """
    height, width = plan.height, plan.width
    partial = start_folder(root / drive_name(number))
    for kind in ("image_02", "image_03", "velodyne_points", "depth_02"):
        (partial / kind / "data").mkdir(parents=True)
    K = nominal_intrinsics(height, width)
    cam_T_laser = rigid(CAMERA_AXES, LASER_IN_CAMERA)
    left_T_right = rigid(np.eye(3), [STEREO_BASELINE, 0, 0])
    for frame, pose in enumerate(world_T_cam):
        left = render(scene, pose, K, height, width)
        right = render(scene, pose @ left_T_right, K, height, width)
        name = f"data/{frame:010d}"
        # The lightest compression: ten percent larger files in a third of the time.
        Image.fromarray(left.image).save(partial / f"image_02/{name}.png", compress_level=1)
        Image.fromarray(right.image).save(partial / f"image_03/{name}.png", compress_level=1)
        np.save(partial / f"depth_02/{name}.npy", left.depth)
        scan(scene, pose @ cam_T_laser).tofile(partial / f"velodyne_points/{name}.bin")
        if improved:
            write_improved(partial, f"image_02/{frame:010d}.png", left.depth)
            write_improved(partial, f"image_03/{frame:010d}.png", right.depth)
    np.savetxt(partial / "poses.txt", world_T_cam[:, :3].reshape(-1, 12), fmt="%.12e")
    partial.replace(root / drive_name(number))


def write_improved(drive: Path, name: str, depth: NDArray) -> None:
    """A frame's improved ground truth: 16 bits, metres times 256, 0 where there is none."""
    path = drive / "proj_depth" / "groundtruth" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    known = np.where(depth <= IMPROVED_RANGE, depth, 0)
    Image.fromarray(np.rint(known * 256).astype(np.uint16)).save(path)


def files(plan: Plan) -> dict[str, str]:
    """The day's calibration and the lists, left and right for training, by path below the root."""
    train = [f"{drive_name(number)} {frame:010d} {side}" for number in plan.training
             for frame in plan.targets(NEIGHBOURS) for side in "lr"]
    test = [f"{drive_name(plan.held_out)} {frame:010d} l" for frame in plan.test_frames]
    texts = calibration(plan.height, plan.width)
    return {f"{DATE}/{name}": text for name, text in texts.items()} | {
        "split/train_files.txt": lines(train), "split/test_files.txt": lines(test)}


def calibration(height: int, width: int) -> dict[str, str]:
    """Texts of the day's calibration files by name, for pictures of (height, width).

    KITTI counts pixels from 1 (readers subtract it after projecting), so the principal point
    is one more here than in `nominal_intrinsics`.
    """
    K = nominal_intrinsics(height, width)
    K[:2, 2] += 1
    projections = {}
    for camera, offset in (("02", 0.0), ("03", -STEREO_BASELINE)):
        shift = np.array([[K[0, 0] * offset], [0.0], [0.0]])
        projections[f"P_rect_{camera}"] = np.concatenate([K, shift], axis=1)
    cameras = {"S_rect_02": [width, height], "S_rect_03": [width, height],
               "R_rect_00": np.eye(3), **projections}
    return {
        "calib_cam_to_cam.txt": _rows(cameras),
        "calib_velo_to_cam.txt": _rows({"R": CAMERA_AXES, "T": LASER_IN_CAMERA}),
    }


def _rows(values: dict) -> str:
    """Rows `KEY: numbers` under the time that KITTI's files begin with."""
    rows = ["calib_time: 01-Jan-2026 00:00:00"]
    rows += [f"{key}: " + " ".join(f"{v:.12e}" for v in np.ravel(value))
             for key, value in values.items()]
    return "\n".join(rows) + "\n"


def rigid(rotation: NDArray, translation: NDArray | list) -> NDArray[np.float64]:
    """A (4, 4) transform from its rotation (3, 3) and translation (3,)."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix
