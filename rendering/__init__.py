"""Textured street scenes whose depth is known exactly, rendered in NumPy.

`scene` says what a world is made of, `raycast` what a camera or a laser sees of it, `textures` and
`street` make streets, and each layout of files is a writer on top (`kitti_raw`).
"""

from rendering.kitti_raw import STEREO_BASELINE, nominal_intrinsics
from rendering.raycast import Rendered, render, scan
from rendering.scene import Ellipsoid, Faces, Patch, Scene, frustum
from rendering.street import CAMERA_HEIGHT, Street, drive_poses

__all__ = [
    "CAMERA_HEIGHT", "STEREO_BASELINE", "Ellipsoid", "Faces", "Patch", "Rendered", "Scene",
    "Street", "drive_poses", "frustum", "nominal_intrinsics", "render", "scan",
]
