"""Textured street scenes whose depth is known exactly, rendered in NumPy.

`scene` says what a world is made of, `raycast` what a camera or a laser sees of it, `textures` and
`street` make streets. Each layout of files is a module on top with the same three functions, which
`LAYOUTS` lists: `write_street` makes a street's files, `folder` names what is there when it is
whole, `files` the lists and whatever else there is once; NEIGHBOURS is how many frames a training
frame needs on either side, None where there is nothing to train on.
"""

from rendering import cityscapes, kitti_depth, kitti_odom, kitti_raw, make3d, nyuv2
from rendering.kitti_raw import STEREO_BASELINE, nominal_intrinsics
from rendering.plan import Plan
from rendering.raycast import Rendered, render, scan
from rendering.scene import Ellipsoid, Faces, Patch, Scene, frustum
from rendering.street import CAMERA_HEIGHT, Street, drive_poses

LAYOUTS = {
    "kitti": kitti_raw,
    "kitti_depth": kitti_depth,
    "kitti_odom": kitti_odom,
    "cityscapes": cityscapes,
    "nyuv2": nyuv2,
    "make3d": make3d,
}

__all__ = [
    "CAMERA_HEIGHT", "LAYOUTS", "STEREO_BASELINE", "Ellipsoid", "Faces", "Patch", "Plan",
    "Rendered", "Scene", "Street", "drive_poses", "frustum", "nominal_intrinsics", "render", "scan",
]
