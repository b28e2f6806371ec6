"""Rendered drives in the layout of KITTI's depth benchmark: raw data with improved ground truth.

To what `kitti_raw` writes, each drive adds proj_depth/groundtruth/image_02 and image_03: 16-bit
PNGs, metres times 256, known at every pixel up to `kitti_raw.IMPROVED_RANGE`.
"""

from __future__ import annotations

from pathlib import Path

from numpy.typing import NDArray

from rendering import kitti_raw
from rendering.kitti_raw import NEIGHBOURS, files, folder
from rendering.plan import Plan
from rendering.scene import Scene

__all__ = ["NEIGHBOURS", "files", "folder", "write_street"]


def write_street(root: Path, number: int, scene: Scene, world_T_cam: NDArray, plan: Plan) -> None:
    """As `kitti_raw.write_street`, with the improved ground truth."""
    kitti_raw.write_street(root, number, scene, world_T_cam, plan, improved=True)
